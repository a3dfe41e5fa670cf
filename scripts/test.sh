#!/usr/bin/env bash
# Runs the tests.
#
#   scripts/test.sh unit          no server, a few seconds
#   scripts/test.sh faults        the projectors' fault run alone, with DAYBOOK_FAULTS of them
#   scripts/test.sh all           also contract, integration and end to end, on a stack of its own
#                                 (build/test, ports + 10000) that is made new and taken down again
#
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
all) binaries='unit-pure unit contract integration e2e' ;;
faults) binaries='integration' ;;
*) echo 'usage: scripts/test.sh unit|all|faults' >&2; exit 2 ;;
esac
if [ "$what" = unit ]; then
    scripts/packages.sh ensure build test || exit 1
else
    scripts/packages.sh ensure build run test || exit 1
fi
targets=()
for name in $binaries; do targets+=("$out/tests/$name"); done
make -s -j"$(nproc)" SANITIZE="${SANITIZE:-}" all "${targets[@]}" || exit 1

tested=0 passed=0 failing=0 failed=()
run() { # NAME: runs a test program and adds up its totals
    local log=$out/tests/$1.log line
    "$out/tests/$1" --jobs "${2:-1}" ${3:+--filter "$3"} 2>&1 | tee "$log"
    local code=${PIPESTATUS[0]}
    line=$(grep -a 'Synthesis' "$log" | tail -1 | sed 's/\x1b\[[0-9;]*m//g')
    local t p f c
    t=$(sed -n 's/.*Tested: *\([0-9]*\).*/\1/p' <<<"$line")
    p=$(sed -n 's/.*Passing: *\([0-9]*\).*/\1/p' <<<"$line")
    f=$(sed -n 's/.*Failing: *\([0-9]*\).*/\1/p' <<<"$line")
    c=$(sed -n 's/.*Crashing: *\([0-9]*\).*/\1/p' <<<"$line")
    tested=$((tested + ${t:-0})) passed=$((passed + ${p:-0})) failing=$((failing + ${f:-0} + ${c:-0}))
    if [ "$code" != 0 ] || [ -z "$t" ]; then failed+=("$1"); fi
}

if [ "$what" != faults ]; then
    echo '== layering'
    scripts/layering.sh || failed+=(layering)
    echo '== unit'
    run unit-pure "$(nproc)"
    run unit "$(nproc)"
fi
if [ "$what" != unit ]; then
    export DAYBOOK_STACK=test DAYBOOK_PORT_OFFSET=${DAYBOOK_TEST_PORT_OFFSET:-10000}
    export DAYBOOK_BIN_DIR=$PWD/$out/bin
    echo '== stack'
    FORCE=1 scripts/stack.sh reset >/dev/null 2>&1
    if scripts/stack.sh up; then
        eval "$(scripts/stack.sh env)"
        if [ "$what" = faults ]; then
            run integration 1 'churn/*'
        else
            for name in contract integration e2e; do
                echo "== $name"
                run "$name"
            done
        fi
    else
        failed+=(stack)
    fi
    if [ "${KEEP:-}" != 1 ]; then scripts/stack.sh down; fi
fi
[ ${#failed[@]} = 0 ] || echo "failed: ${failed[*]}"
echo "$passed passed, $((failing + (${#failed[@]} > 0 && failing == 0 ? 1 : 0))) failed"
[ ${#failed[@]} = 0 ] && [ "$tested" -gt 0 ]
