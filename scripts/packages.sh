#!/usr/bin/env bash
# Installs the Debian packages that are missing, and only those.
#
#   scripts/packages.sh ensure SET…     SET: build run test bench fuzz check observability
#                                      engine compose compose-test kafka-jars debootstrap
#
# Asks nothing; needs root or sudo. Starts no service: while it installs, a policy-rc.d refuses every
# start, no default PostgreSQL cluster is made, and services that came with it are not left enabled.
# Quick when nothing is missing. Exit 1 with one line when something can't be installed.
set -euo pipefail

fail() { printf 'daybook: %s\n' "$*" >&2; exit 1; }

packages_of() {
    case $1 in
    build) echo make gcc libc6-dev binutils pkg-config libpq-dev librdkafka-dev libhiredis-dev \
        libjansson-dev libmicrohttpd-dev libcurl4-openssl-dev libssl-dev libjemalloc-dev ;;
    run) echo postgresql redis-server nginx-light curl jq util-linux procps iproute2 ca-certificates
        # Kafka: a Java runtime; Maven fetches the jars where no KAFKA_HOME is given.
        [ -n "${JAVA_HOME:-}" ] || command -v java >/dev/null || echo default-jre-headless
        [ -n "${KAFKA_HOME:-}" ] || echo maven ;;
    test) echo libcriterion-dev openssl ;;
    bench) echo redis-tools webdis ;;
    fuzz) echo clang libclang-rt-dev ;; # libFuzzer comes with the compiler's runtime
    check) echo clang clang-tidy clang-format cppcheck shellcheck ;;
    engine) echo docker.io iptables ;;
    compose) echo docker-compose ;;
    compose-test) echo curl jq openssl ;;
    kafka-jars) [ -n "${KAFKA_HOME:-}" ] || echo maven ;;
    debootstrap) echo debootstrap ;;
    observability) echo prometheus prometheus-node-exporter ;;
    *) fail "packages.sh: unknown set \"$1\" (see the head of this file)" ;;
    esac
}

# The runtime of the clang that is there: the package that libclang-rt-dev only points to.
clang_runtime() {
    dpkg-query -W -f='${Depends}' clang 2>/dev/null |
        sed -n 's/.*clang-\([0-9][0-9]*\) .*/libclang-rt-\1-dev/p'
}

if [ "${1:-}" != ensure ] || [ $# -lt 2 ]; then
    fail 'usage: scripts/packages.sh ensure SET… (see the head of this file)'
fi
shift
wanted=()
for set in "$@"; do
    # shellcheck disable=SC2207 # package names have no spaces
    wanted+=($(packages_of "$set"))
done

command -v dpkg-query >/dev/null || fail 'this machine has no dpkg: install the packages by hand (see scripts/packages.sh)'
present=$(dpkg-query -W -f='${db:Status-Status} ${Package}\n' 2>/dev/null | sed -n 's/^installed //p')
missing=()
for package in "${wanted[@]}"; do
    case $package in
    nginx-light) alternatives='nginx-light nginx nginx-full nginx-extras nginx-core' ;;
    libclang-rt-dev) alternatives="libclang-rt-dev $(clang_runtime)" ;;
    *) alternatives=$package ;;
    esac
    found=
    for name in $alternatives; do
        if grep -qxF "$name" <<<"$present"; then found=1; break; fi
    done
    [ -n "$found" ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" = 0 ]; then
    as_root=()
elif command -v sudo >/dev/null; then
    as_root=(sudo)
else
    fail "missing packages: ${missing[*]}; neither root nor sudo is there to install them"
fi

log=${DAYBOOK_PACKAGES_LOG:-build/packages.log}
mkdir -p "$(dirname "$log")"
: >"$log"
echo "installing ${#missing[@]} packages: ${missing[*]}"

policy=/usr/sbin/policy-rc.d
made_policy=
restore() { [ -z "$made_policy" ] || "${as_root[@]}" rm -f "$policy"; }
trap restore EXIT
if [ ! -e "$policy" ]; then
    made_policy=1
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
    "${as_root[@]}" chmod 755 "$policy"
fi
if [[ " ${missing[*]} " == *' postgresql '* ]] && ! grep -qx postgresql-common <<<"$present"; then
    "${as_root[@]}" mkdir -p /etc/postgresql-common/createcluster.d
    echo 'create_main_cluster = false' |
        "${as_root[@]}" tee /etc/postgresql-common/createcluster.d/daybook.conf >/dev/null
fi

apt() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Dpkg::Use-Pty=0 \
    -o DPkg::Lock::Timeout=300 "$@" >>"$log" 2>&1 </dev/null; }

# Package lists may be old or absent: refresh them when the first try fails.
if ! apt install --no-install-recommends "${missing[@]}"; then
    echo 'refreshing the package lists'
    apt update || true
    if ! apt install --no-install-recommends "${missing[@]}"; then
        for package in "${missing[@]}"; do
            if ! apt-cache policy "$package" 2>/dev/null | grep -q 'Candidate: [^(]'; then
                fail "the package $package can't be installed: not known to apt — see $log"
            fi
        done
        fail "the packages can't be installed (${missing[*]}) — see $log"
    fi
fi
if command -v systemctl >/dev/null; then
    for service in postgresql redis-server nginx prometheus prometheus-node-exporter docker webdis; do
        if ! grep -qE "^$service(-light)?\$" <<<"$present"; then
            "${as_root[@]}" systemctl disable "$service" >>"$log" 2>&1 || true
        fi
    done
fi
echo 'packages installed'
