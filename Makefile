# Daybook's build. `make help` lists what there is.
#
# One library of everything under common/, one archive per process (all but its main.c, so that tests can link it), one
# executable per process. Variants live side by side: build/release, build/address-undefined, build/thread, …

SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
.DELETE_ON_ERROR:
.SECONDARY:

SANITIZE ?=
comma := ,
VARIANT := $(if $(SANITIZE),$(subst $(comma),-,$(SANITIZE)),release)
B := build/$(VARIANT)

CC ?= gcc
ifeq ($(origin CC),default)
CC := gcc
endif
# hiredis speaks TLS from 1.0 on, where it was built so.
REDIS_TLS := $(shell pkg-config --exists hiredis_ssl 2>/dev/null && echo -lhiredis_ssl -lssl)
STD := -std=c17 -D_GNU_SOURCE $(if $(REDIS_TLS),-DHAVE_REDIS_TLS) -I. $(shell pkg-config --cflags-only-I libpq hiredis 2>/dev/null | sed "s/-I/-isystem /g")
WARN := -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion -Wstrict-prototypes \
    -Wmissing-prototypes -Wcast-qual -Wpointer-arith -Wwrite-strings -Wvla -Wundef -Wformat=2 \
    -Wswitch-enum -Wnull-dereference -fno-common -fstack-protector-strong -Werror
ifneq (,$(findstring gcc,$(CC)))
WARN += -Wlogical-op -Wduplicated-cond -Wduplicated-branches
endif
OPT := $(if $(SANITIZE),-O1 -g -fno-omit-frame-pointer -fsanitize=$(SANITIZE),-O2 -g -D_FORTIFY_SOURCE=2)
# gcc reports possible null dereferences inside sanitizer-instrumented code that do not exist in the source.
OPT += $(if $(SANITIZE),-Wno-null-dereference -Wno-maybe-uninitialized)
CFLAGS_ALL := $(STD) $(WARN) $(OPT) -MMD -MP $(CFLAGS)
LDFLAGS_ALL := $(if $(SANITIZE),-fsanitize=$(SANITIZE)) -Wl,--as-needed -pthread $(LDFLAGS)
LIBS := $(REDIS_TLS) -lmicrohttpd -lpq -lrdkafka -lhiredis -lcurl -lcrypto -ljansson -lpthread -lm
TEST_LIBS = $(CRITERION) $(LIBS)
# A record is some twenty allocations in librdkafka, kept until it is acknowledged, a read as many in
# hiredis and libmicrohttpd: jemalloc takes and frees them for a third less of the relay's time and
# some 6 % of the query API's. (The sanitizers bring an allocator of their own.)
LIBS_relay := $(if $(SANITIZE),,-ljemalloc)
LIBS_query-api := $(LIBS_relay)
# The same on the way back, kept until all lanes have had it.
LIBS_projector := $(LIBS_relay)

obj = $(patsubst %,$(B)/obj/%.o,$(basename $(1)))
find = $(sort $(shell find $(1) -name '*.c' 2>/dev/null))

COMMON_SRC := $(call find,common)
PURE_SRC := $(call find,common/base common/domain)
COMMAND_API_SRC := $(sort $(wildcard command-api/*.c))
RELAY_SRC := $(call find,command-api/relay)
PROJECTOR_SRC := $(call find,projector)
QUERY_API_SRC := $(call find,query-api)
PROCESS_SRC := $(COMMAND_API_SRC) $(RELAY_SRC) $(PROJECTOR_SRC) $(QUERY_API_SRC)
LIB_SRC := $(COMMON_SRC) $(filter-out %/main.c,$(PROCESS_SRC))
JSON_OBJ := $(patsubst %,$(B)/obj/%.o,$(wildcard command-api/*.json query-api/*.json))
LIB := $(B)/libdaybook.a

BIN := $(addprefix $(B)/bin/daybook-,command-api relay projector query-api)

SUPPORT_SRC := $(call find,tests/support)
UNIT_PURE_SRC := $(call find,tests/unit/common/base tests/unit/common/domain)
UNIT_SRC := $(filter-out $(UNIT_PURE_SRC),$(call find,tests/unit))
CONTRACT_SRC := $(call find,tests/contract)
INTEGRATION_SRC := $(call find,tests/integration)
E2E_SRC := $(call find,tests/e2e)
FAULTS_SRC := $(call find,tests/faults)
# ThreadSanitizer needs some things in other ways (tests/threads).
THREADS := $(findstring thread,$(SANITIZE))
THREADS_OBJ := $(if $(THREADS),$(call obj,$(wildcard tests/threads/*.c)))
CRITERION_OBJ := $(if $(THREADS),$(THREADS_OBJ) $(call obj,$(wildcard tests/threads/runner/*.c)))
CRITERION := $(if $(THREADS),,-lcriterion)
TEST_BIN := $(addprefix $(B)/tests/,unit-pure unit contract integration e2e faults)

all: $(BIN) ## build the four processes

$(B)/obj/%.o: %.c Makefile
	@mkdir -p $(@D)
	@echo "  CC      $<"
	@$(CC) $(CFLAGS_ALL) -c $< -o $@

# A document served by a process becomes an object with _binary_<path>_start and _end.
$(B)/obj/%.json.o: %.json
	@mkdir -p $(@D)
	@ld -r -b binary -z noexecstack -o $@ $<

$(LIB): $(call obj,$(LIB_SRC)) $(JSON_OBJ)
	@echo "  AR      $@"
	@rm -f $@ && ar rcs $@ $^

define process
$(B)/bin/daybook-$(1): $(B)/obj/$(2)/main.o $(THREADS_OBJ) $(LIB)
	@mkdir -p $$(@D)
	@echo "  LINK    $$@"
	@$(CC) -o $$@ $$^ $(LDFLAGS_ALL) $(LIBS_$(1)) $(LIBS)
endef
$(eval $(call process,command-api,command-api))
$(eval $(call process,relay,command-api/relay))
$(eval $(call process,projector,projector))
$(eval $(call process,query-api,query-api))

# The domain's tests see the base and the domain only, and link jansson and Criterion alone.
$(B)/tests/unit-pure: $(call obj,$(UNIT_PURE_SRC)) $(call obj,$(PURE_SRC)) $(CRITERION_OBJ)
	@mkdir -p $(@D)
	@echo "  LINK    $@"
	@$(CC) -o $@ $^ $(LDFLAGS_ALL) -ljansson $(CRITERION) -lm

define test_binary
$(B)/tests/$(1): $(call obj,$(2)) $(call obj,$(SUPPORT_SRC)) $(CRITERION_OBJ) $(LIB)
	@mkdir -p $$(@D)
	@echo "  LINK    $$@"
	@$(CC) -o $$@ $$^ $(LDFLAGS_ALL) $(TEST_LIBS)
endef
$(eval $(call test_binary,unit,$(UNIT_SRC)))
$(eval $(call test_binary,contract,$(CONTRACT_SRC)))
$(eval $(call test_binary,integration,$(INTEGRATION_SRC)))
$(eval $(call test_binary,e2e,$(E2E_SRC)))
$(eval $(call test_binary,faults,$(FAULTS_SRC)))

# Benchmarks: one program per tests/bench/<name>_bench.c, with the helpers beside it.
BENCH_HELPERS := $(filter-out %_bench.c,$(call find,tests/bench))
$(B)/bench/%: $(B)/obj/tests/bench/%_bench.o $(call obj,$(BENCH_HELPERS)) $(LIB)
	@mkdir -p $(@D)
	@echo "  LINK    $@"
	@$(CC) -o $@ $^ $(LDFLAGS_ALL) $(LIBS)

# A projector with a fourth projection that exists in the tests alone.
FOUR := $(B)/tests/daybook-projector-four
$(FOUR): $(call obj,$(call find,tests/projector_four)) $(B)/obj/projector/main.o $(THREADS_OBJ) $(LIB)
	@mkdir -p $(@D)
	@echo "  LINK    $@"
	@$(CC) -o $@ $^ $(LDFLAGS_ALL) $(LIBS)
$(B)/tests/integration: | $(FOUR)

tests: $(TEST_BIN) ## build the test programs

# The fuzzers: libFuzzer, so clang, whatever CC is. All objects once more, in a variant of their own;
# each tests/fuzz/fuzz_NAME.c becomes build/fuzz/bin/NAME.
FUZZ_B := build/fuzz
FUZZ_CC ?= clang
FUZZ_SECONDS ?= 60
FUZZ_SANITIZE := address,undefined
# Warnings are the other builds' affair; librdkafka's macros are GNU C, which clang tells from C17.
FUZZ_WARN := -Wall -Wextra -Wshadow -Wconversion -Wmissing-prototypes -Wvla
FUZZ_CFLAGS := $(STD) $(FUZZ_WARN) -O1 -g -fno-omit-frame-pointer -fno-sanitize-recover=all \
    -fsanitize=fuzzer-no-link$(comma)$(FUZZ_SANITIZE) -MMD -MP
FUZZ_SRC := $(call find,tests/fuzz)
FUZZ_NAMES := $(patsubst tests/fuzz/fuzz_%.c,%,$(filter tests/fuzz/fuzz_%.c,$(FUZZ_SRC)))
FUZZ_SUPPORT_SRC := $(filter-out tests/fuzz/fuzz_%.c,$(FUZZ_SRC))
fuzz_obj = $(patsubst %,$(FUZZ_B)/obj/%.o,$(basename $(1)))

$(FUZZ_B)/obj/%.o: %.c Makefile
	@mkdir -p $(@D)
	@echo "  CC      $< (fuzz)"
	@$(FUZZ_CC) $(FUZZ_CFLAGS) -c $< -o $@

$(FUZZ_B)/libdaybook.a: $(call fuzz_obj,$(LIB_SRC)) $(JSON_OBJ)
	@echo "  AR      $@"
	@rm -f $@ && ar rcs $@ $^

$(FUZZ_B)/bin/%: $(FUZZ_B)/obj/tests/fuzz/fuzz_%.o $(call fuzz_obj,$(FUZZ_SUPPORT_SRC)) $(FUZZ_B)/libdaybook.a
	@mkdir -p $(@D)
	@echo "  LINK    $@"
	@$(FUZZ_CC) -o $@ $^ -fsanitize=fuzzer$(comma)$(FUZZ_SANITIZE) -Wl,--as-needed -pthread $(LIBS)

fuzzers: $(addprefix $(FUZZ_B)/bin/,$(FUZZ_NAMES)) ## build the fuzzers

-include $(shell find $(B)/obj $(FUZZ_B)/obj -name '*.d' 2>/dev/null)

# --- the local stack (scripts/stack.sh) ---

up: ## install what is missing, build, start everything, print the addresses
	@scripts/stack.sh up

down: ## stop exactly what was started; the data stay
	@scripts/stack.sh down

status: ## each process, its health, the projection lag
	@scripts/stack.sh status

scale: ## PROJECTORS=n: change the number of projectors while everything runs
	@scripts/stack.sh scale "$(PROJECTORS)"

logs: ## the last log lines; NAME=relay for one process, FOLLOW=1 to follow
	@scripts/stack.sh logs $(NAME) $(if $(FOLLOW),-f)

reset: ## stop, and delete all data after asking (FORCE=1: without asking)
	@scripts/stack.sh reset

demo: ## bring the stack up and play a short story against it
	@scripts/stack.sh demo

# --- tests and checks ---

test: ## all tests: unit, contract, integration, end to end, on servers of their own
	@scripts/test.sh all

test-faults: ## the fault tests alone, long: DAYBOOK_FAULT_ROUNDS (20) and KILLS (200) set how long
	@DAYBOOK_FAULT_ROUNDS=$${DAYBOOK_FAULT_ROUNDS:-20} scripts/test.sh faults

test-unit: ## unit tests alone: no server, a few seconds
	@scripts/test.sh unit

bench-write: ## the write side beside pgbench and a bulk load: a table, ratios, build/bench/write.json
	@scripts/bench.sh write

bench-relay: ## the relay beside pg_recvlogical and a poller: a table, ratios, build/bench/relay.json
	@scripts/bench.sh relay

bench-query: ## reads beside redis-benchmark, webdis and a bare libmicrohttpd; read-your-write
	@scripts/bench.sh query

test-compose: ## docker-compose.yml with a real Docker engine, which is started if none runs
	@tests/compose/test.sh $(or $(FORM),full)

fuzz: ## every fuzzer for FUZZ_SECONDS (60); NAME=amount for one
	@FUZZ_SECONDS=$(FUZZ_SECONDS) scripts/fuzz.sh $(NAME)

bench-projector: ## live application and rebuild beside the naive way and a bare consumer
	@scripts/bench.sh projector

check: ## clang-format, clang-tidy, cppcheck, shellcheck, layering, headers compile alone
	@scripts/check.sh

format: ## rewrite the sources as clang-format has them
	@git ls-files '*.c' '*.h' | xargs clang-format -i

# Each header compiled by itself.
HEADERS := $(shell git ls-files '*.h' 2>/dev/null)
check-headers: $(patsubst %.h,$(B)/headers/%.ok,$(HEADERS))
$(B)/headers/%.ok: %.h
	@mkdir -p $(@D)
	@echo 'typedef int header_alone;' | $(CC) $(STD) $(WARN) -include $< -x c -fsyntax-only - && touch $@

clean: ## delete what was built; the stack's data stay
	@rm -rf build/release build/address-undefined build/thread build/fuzz build/headers

help: ## this list
	@sed -n 's/^\([a-z][a-z-]*\):.*## \(.*\)$$/\1|\2/p' Makefile | \
	    awk -F'|' '{ printf "  %-12s %s\n", $$1, $$2 }'
	@echo "  SANITIZE=address,undefined or SANITIZE=thread builds a variant beside the normal build"

.PHONY: all tests up down status scale logs reset demo test test-unit test-faults test-compose fuzz fuzzers \
    bench-write bench-relay bench-projector bench-query check check-headers format clean help
