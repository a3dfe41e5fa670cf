#!/usr/bin/env bash
# Static checks: format, layering, headers that compile alone, cppcheck, clang-tidy, shellcheck.
# Runs all of them, then says which failed. Exit 1 if any did.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
scripts/packages.sh ensure build test fuzz check || exit 1

failed=()
run() { # NAME COMMAND…
    local name=$1 begin=$SECONDS
    shift
    if "$@"; then echo "ok      $name ($((SECONDS - begin)) s)"; else echo "FAILED  $name"; failed+=("$name"); fi
}
sources() { git ls-files --cached --others --exclude-standard '*.c'; }
# Criterion's macros are not for these tools; the fuzzers are plain C.
plain() { sources | awk '!/^tests\// || /^tests\/fuzz\//'; }
format() { git ls-files --cached --others --exclude-standard '*.c' '*.h' | xargs clang-format --dry-run -Werror; }
includes() { pkg-config --cflags-only-I libpq hiredis | tr ' ' '\n' | sed 's/^-I/-isystem/' | tr '\n' ' '; }
tidy() {
    # shellcheck disable=SC2046 # flags are words
    plain | xargs -P "$(nproc)" -I{} clang-tidy --quiet {} -- \
        -x c -std=c17 -D_GNU_SOURCE -I. $(includes) 2> >(grep -v 'warnings\? generated\|^Suppressed' >&2)
}
cpp() {
    plain | xargs cppcheck --quiet --std=c11 --enable=warning,performance,portability \
        --inline-suppr --error-exitcode=1 --suppress=missingIncludeSystem -I. -j "$(nproc)"
}
shell() { git ls-files --cached --others --exclude-standard '*.sh' .ci/run tests/compose/images/kafka/run | xargs shellcheck -x; }

run clang-format format
run layering scripts/layering.sh
run headers make -s -j"$(nproc)" check-headers
run cppcheck cpp
run shellcheck shell
run clang-tidy tidy
[ ${#failed[@]} = 0 ] || { echo "failed: ${failed[*]}"; exit 1; }
