#!/usr/bin/env bash
# Runs a benchmark on servers of its own (build/bench-stack, ports + 12500) and takes them down.
#
#   scripts/bench.sh write      the write side beside pgbench and a bulk load
#   scripts/bench.sh projector  live application and rebuild beside the naive way and a bare consumer
#   scripts/bench.sh relay      the relay beside pg_recvlogical and a poller
#   scripts/bench.sh query      reads beside redis-benchmark, webdis and a bare libmicrohttpd
#
# KEEP=1 leaves the servers running. Result lines read `ratio <name> <value>`; the same as JSON in
# build/bench/<name>.json. Nothing fails on a time.
set -euo pipefail
cd "$(dirname "$0")/.."
what=${1:-}
case $what in
write) servers=postgres ;;
projector) servers=postgres,redis,kafka ;;
relay) servers=postgres,kafka ;;
query) servers=all ;;
*) sed -n '2,11s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
packages='build run'
[ "$what" != query ] || packages+=' bench'
# shellcheck disable=SC2086 # words
scripts/packages.sh ensure $packages
make -s -j"$(nproc)" all "build/release/bench/$what"
mkdir -p build/bench
export DAYBOOK_STACK=bench-stack DAYBOOK_PORT_OFFSET=${DAYBOOK_BENCH_PORT_OFFSET:-12500}
export DAYBOOK_BIN_DIR=$PWD/build/release/bin
down() { [ "${KEEP:-}" = 1 ] || scripts/stack.sh down >/dev/null; }
trap down EXIT
FORCE=1 scripts/stack.sh reset >/dev/null 2>&1 || true
if [ "$servers" = all ]; then
    scripts/stack.sh up
    read -r BENCH_QUERY_API_PID _ <build/bench-stack/run/query-api.pid
    export BENCH_QUERY_API_PID
else
    scripts/stack.sh up --servers-only="$servers"
fi
eval "$(scripts/stack.sh env)"
for server in postgres redis kafka; do
    pid=0 # not needed for this one
    if [ -f "build/bench-stack/run/$server.pid" ]; then read -r pid _ <"build/bench-stack/run/$server.pid"; fi
    export "BENCH_${server^^}_PID=$pid"
done
# shellcheck disable=SC2012 # version numbers, not file names
BENCH_PGBENCH=$(ls -d /usr/lib/postgresql/*/bin/pgbench | sort -V | tail -1)
BENCH_RECVLOGICAL=${BENCH_PGBENCH%/*}/pg_recvlogical
export BENCH_PGBENCH BENCH_RECVLOGICAL
export BENCH_PORT=$((8085 + DAYBOOK_PORT_OFFSET))
ulimit -n "$(ulimit -Hn)"
"build/release/bench/$what"
