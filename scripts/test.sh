#!/usr/bin/env bash
# Runs the tests.
#
#   scripts/test.sh unit          no server, a few seconds
#   scripts/test.sh all           also each fuzzer for three seconds, and contract, integration, end to
#                                 end and faults, on a stack of its own (build/test, ports + 10000) that
#                                 is made new and taken down again
#   scripts/test.sh faults        the faults alone, on such a stack, and more of them: KILLS (200) blows
#                                 against the relays; SEED repeats their choices
#
# DAYBOOK_FAULT_ROUNDS: how often the faults' tests repeat themselves (1).
# SANITIZE=… runs the tests of that variant. KEEP=1 leaves the stack running. Prints the totals; exit
# 1 when a test failed.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
what=${1:-all}
variant=${SANITIZE:+${SANITIZE//,/-}}
out=build/${variant:-release}
export ASAN_OPTIONS=${ASAN_OPTIONS:-abort_on_error=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-halt_on_error=1,print_stacktrace=1}

case $what in
unit) binaries='unit-pure unit' ;;
all) binaries='unit-pure unit contract integration e2e faults' ;;
faults) binaries=faults ;;
*) echo 'usage: scripts/test.sh unit|all|faults' >&2; exit 2 ;;
esac
if [ "$what" = unit ]; then
    scripts/packages.sh ensure build test || exit 1
else
    scripts/packages.sh ensure build run test observability || exit 1
fi
rm -f "$out"/tests/*.log # of replicas of earlier runs, too
targets=()
for name in $binaries; do targets+=("$out/tests/$name"); done
make -s -j"$(nproc)" SANITIZE="${SANITIZE:-}" all "${targets[@]}" || exit 1

tested=0 passed=0 failing=0 failed=()
run() { # NAME [JOBS [OPTION…]]: runs a test program and adds up its totals
    local log=$out/tests/$1.log line
    "$out/tests/$1" --jobs "${2:-1}" "${@:3}" 2>&1 | tee "$log"
    local code=${PIPESTATUS[0]}
    line=$(grep -a 'Synthesis' "$log" | tail -1 | sed 's/\x1b\[[0-9;]*m//g')
    local t p f c
    t=$(sed -n 's/.*Tested: *\([0-9]*\).*/\1/p' <<<"$line")
    p=$(sed -n 's/.*Passing: *\([0-9]*\).*/\1/p' <<<"$line")
    f=$(sed -n 's/.*Failing: *\([0-9]*\).*/\1/p' <<<"$line")
    c=$(sed -n 's/.*Crashing: *\([0-9]*\).*/\1/p' <<<"$line")
    tested=$((tested + ${t:-0})) passed=$((passed + ${p:-0})) failing=$((failing + ${f:-0} + ${c:-0}))
    if [ "$code" != 0 ] || [ -z "$t" ]; then failed+=("$1"); fi
    # Found when a test's process ends, which Criterion does not look at any more.
    if grep -qa 'ERROR: LeakSanitizer' "$log"; then failed+=("$1 (leaks)"); fi
    if grep -qa 'exited during its setup or teardown' "$log"; then failed+=("$1 (an end before the end)"); fi
}

fuzz() { # each fuzzer counts as one test
    local log=build/test-fuzz.log line
    FUZZ_SECONDS=${FUZZ_SECONDS:-3} FUZZ_SEED=${FUZZ_SEED:-1} scripts/fuzz.sh 2>&1 | tee "$log" |
        grep -v ' passed, '
    local code=${PIPESTATUS[0]}
    line=$(grep ' passed, ' "$log")
    local p=${line%% *} f=${line#*, }
    f=${f%% *}
    tested=$((tested + ${p:-0} + ${f:-0})) passed=$((passed + ${p:-0})) failing=$((failing + ${f:-0}))
    while read -r line; do failed+=("$line"); done < <(sed -n 's/^FAILED *\(fuzz:[a-z_]*\).*/\1/p' "$log")
    if [ "$code" != 0 ] && [ "${f:-0}" = 0 ]; then failed+=(fuzz); fi
}

observability() { # Prometheus on the stack; the story gives it something to see
    local log=build/test-observability.log line
    scripts/demo.sh "$DAYBOOK_TEST_GATEWAY" >"$log" 2>&1
    tests/observability/test.sh "$DAYBOOK_TEST_PROMETHEUS" 2>&1 | tee "$log" | grep -v ' passed, '
    line=$(grep ' passed, ' "$log")
    local p=${line%% *} f=${line#*, }
    f=${f%% *}
    tested=$((tested + ${p:-0} + ${f:-0})) passed=$((passed + ${p:-0})) failing=$((failing + ${f:-0}))
    if [ "${f:-1}" != 0 ]; then failed+=(observability); fi
}

sanitizers() { # what they found in the services, which may have gone on after it, or were at their end
    local log
    for log in "build/$DAYBOOK_STACK/logs"/*.log "$out/tests"/*.log; do
        if grep -aEm1 'ERROR: (Address|Leak)Sanitizer|WARNING: ThreadSanitizer|: runtime error: ' "$log"; then
            failed+=("$log")
        fi
    done
}

read_models() { # after all that was done to the stack, they equal the log; counts as one test
    local log=$out/tests/verify.log
    tested=$((tested + 1))
    if DAYBOOK_KAFKA_BROKERS=$DAYBOOK_TEST_KAFKA_BROKERS DAYBOOK_READ_DATABASE_URL=$DAYBOOK_TEST_PROJECTOR_URL \
        DAYBOOK_REDIS_URL=$DAYBOOK_TEST_REDIS_PROJECTOR_URL "$DAYBOOK_BIN_DIR/daybook-projector" verify >"$log" 2>&1; then
        passed=$((passed + 1))
        grep -a 'differences$' "$log"
    else
        failing=$((failing + 1))
        failed+=("verify (all of it in $log)")
        head -n 100 "$log"
    fi
}

# Criterion itself leaks when it runs tests in parallel, which LeakSanitizer takes for ours.
if [ -n "$variant" ]; then jobs=1; else jobs=$(nproc); fi
if [ "$what" != faults ]; then
    echo '== layering'
    scripts/layering.sh || failed+=(layering)
    echo '== unit'
    run unit-pure "$jobs"
    run unit "$jobs"
fi
if [ "$what" = all ]; then
    echo '== fuzz'
    fuzz
fi
if [ "$what" != unit ]; then
    export DAYBOOK_STACK=test DAYBOOK_PORT_OFFSET=${DAYBOOK_TEST_PORT_OFFSET:-10000}
    export DAYBOOK_BIN_DIR=$PWD/$out/bin
    echo '== stack'
    FORCE=1 scripts/stack.sh reset >/dev/null 2>&1
    if [ "$what" = all ]; then export OBSERVABILITY=1; fi
    if scripts/stack.sh up; then
        eval "$(scripts/stack.sh env)"
        if [ "$what" = faults ]; then
            export DAYBOOK_TEST_KILLS=${KILLS:-200} DAYBOOK_TEST_SEED=${SEED:-}
        fi
        for name in $binaries; do
            case $name in unit*) continue ;; esac
            echo "== $name"
            run "$name"
            if [ "$name" = e2e ]; then
                echo '== observability'
                observability
            fi
        done
        echo '== verify'
        read_models
    else
        failed+=(stack)
    fi
    if [ "${KEEP:-}" != 1 ]; then scripts/stack.sh down; fi
    if [ -n "$variant" ]; then sanitizers; fi
fi
[ ${#failed[@]} = 0 ] || echo "failed: ${failed[*]}"
echo "$passed passed, $((failing + (${#failed[@]} > 0 && failing == 0 ? 1 : 0))) failed"
[ ${#failed[@]} = 0 ] && [ "$tested" -gt 0 ]
