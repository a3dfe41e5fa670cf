#!/usr/bin/env bash
# Provides Apache Kafka's jars and prints the class path.
#
# KAFKA_HOME, when set, is used as it is. Otherwise the published jars (version pinned in
# infra/kafka/pom.xml) are fetched once through Maven into a cache and used from there.
# A half-finished download is never used: the folder appears by one rename.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)

fail() { printf 'daybook: %s\n' "$*" >&2; exit 1; }

if [ -n "${KAFKA_HOME:-}" ]; then
    [ -d "$KAFKA_HOME/libs" ] || fail "KAFKA_HOME is $KAFKA_HOME, but there is no $KAFKA_HOME/libs"
    echo "$KAFKA_HOME/libs/*"
    exit 0
fi
version=$(sed -n 's/.*<kafka.version>\(.*\)<\/kafka.version>.*/\1/p' "$root/infra/kafka/pom.xml")
cache=${DAYBOOK_CACHE:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/daybook}
libs=$cache/kafka-$version/libs
if [ ! -d "$libs" ]; then
    mkdir -p "$cache"
    exec 9>"$cache/.lock"
    flock 9
    if [ ! -d "$libs" ]; then
        command -v mvn >/dev/null || fail 'Kafka: mvn is missing and KAFKA_HOME is not set'
        echo "fetching Apache Kafka $version (once)" >&2
        work=$(mktemp -d "$cache/.fetch.XXXXXX")
        trap 'rm -rf "$work"' EXIT
        cp "$root/infra/kafka/pom.xml" "$work/pom.xml"
        if ! mvn -q -B -f "$work/pom.xml" dependency:copy-dependencies \
            -DoutputDirectory="$work/kafka/libs" -DincludeScope=runtime >"$cache/maven.log" 2>&1; then
            fail "Kafka $version can't be fetched — see $cache/maven.log"
        fi
        mv "$work/kafka" "$cache/kafka-$version"
    fi
fi
echo "$libs/*"
