#!/usr/bin/env bash
# Runs the fuzzers, one after the other, on working copies of their corpora.
#
#   scripts/fuzz.sh [NAME…]       all of tests/fuzz/fuzz_*.c when none is named
#
# FUZZ_SECONDS (60): how long each runs. FUZZ_SEED: where its randomness starts (0: by the clock). New
# inputs stay in build/fuzz/corpus, what made one fail in build/fuzz/failures. One line each, then
# "N passed, M failed"; exit 1 when one failed.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
seconds=${FUZZ_SECONDS:-60}
out=build/fuzz
export ASAN_OPTIONS=${ASAN_OPTIONS:-abort_on_error=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-halt_on_error=1,print_stacktrace=1}

names=("$@")
if [ ${#names[@]} = 0 ]; then
    for source in tests/fuzz/fuzz_*.c; do
        name=${source##*/fuzz_}
        names+=("${name%.c}")
    done
fi
for name in "${names[@]}"; do
    [ -f "tests/fuzz/fuzz_$name.c" ] || { echo "fuzz: there is no tests/fuzz/fuzz_$name.c" >&2; exit 1; }
done
scripts/packages.sh ensure build fuzz || exit 1
mkdir -p "$out"
cc=${FUZZ_CC:-clang}
probe='#include <stdint.h>
#include <stddef.h>
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) { (void)data; (void)size; return 0; }'
if ! command -v "$cc" >/dev/null; then
    echo "fuzz: there is no $cc: the fuzzers need clang with libFuzzer (FUZZ_CC names another)" >&2
    exit 1
elif ! "$cc" -x c -fsanitize=fuzzer,address,undefined - -o "$out/probe" <<<"$probe" 2>"$out/probe.log"; then
    echo "fuzz: $cc can't build fuzzers: it lacks libFuzzer and the sanitizers (libclang-rt-*-dev of its version); see $out/probe.log" >&2
    exit 1
fi
make -s -j"$(nproc)" FUZZ_CC="$cc" "${names[@]/#/$out/bin/}" || exit 1

fuzz() { # NAME: runs it; its whole output is in the log
    local name=$1 log=$out/$1.log corpus=$out/corpus/$1 options=()
    mkdir -p "$corpus" "$out/failures"
    if [ -f "tests/fuzz/corpus/$name.dict" ]; then options+=("-dict=tests/fuzz/corpus/$name.dict"); fi
    "$out/bin/$name" -max_total_time="$seconds" -seed="${FUZZ_SEED:-0}" -timeout=10 -rss_limit_mb=1024 \
        -print_final_stats=1 -artifact_prefix="$out/failures/$name-" "${options[@]}" \
        "$corpus" "tests/fuzz/corpus/$name" >"$log" 2>&1
}

passed=0 failed=0
for name in "${names[@]}"; do
    if fuzz "$name"; then
        passed=$((passed + 1))
        runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$out/$name.log")
        echo "ok      fuzz:$name ($runs inputs)"
    else
        failed=$((failed + 1))
        echo "FAILED  fuzz:$name: $out/$name.log"
        grep -aE 'ERROR|SUMMARY|runtime error|failed|Test unit written' "$out/$name.log" | head -5 | sed 's/^/        /'
    fi
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
