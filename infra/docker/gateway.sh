#!/bin/sh
# The gateway in a container: nginx before all replicas that the names COMMAND_API and QUERY_API
# (host:port) stand for. The names are looked up every second; when the answer changed, nginx reads its
# configuration again, which loses no request. `check` is the container's health check.
set -eu
lib=$(dirname "$0")
state=/tmp/gateway
command_api=${COMMAND_API:-command-api:8081}
query_api=${QUERY_API:-query-api:8082}
port=${GATEWAY_PORT:-8080}

if [ "${1:-}" = check ]; then
    scheme=http
    [ -z "${DAYBOOK_TLS_CERTIFICATE:-}" ] || scheme=https
    # By the container's own address the certificate's name can't fit.
    exec curl -fsSk -m 2 -o /dev/null "$scheme://127.0.0.1:$port/health"
fi

say() { printf 'gateway: %s\n' "$*" >&2; }
addresses_of() { # host:port → address:port …
    getent ahostsv4 "${1%:*}" | awk -v port="${1##*:}" '$2 == "STREAM" { print $1 ":" port }' | sort -u |
        tr '\n' ' '
}
look_up() { commands=$(addresses_of "$command_api") queries=$(addresses_of "$query_api"); }
render() {
    GATEWAY_LISTEN=0.0.0.0:$port GATEWAY_STATE=$state GATEWAY_COMMAND_APIS=$commands \
        GATEWAY_QUERY_APIS=$queries GATEWAY_ACCESS_LOG=${GATEWAY_ACCESS_LOG:-} \
        "$lib/render.sh" >$state/nginx.conf.new && mv $state/nginx.conf.new $state/nginx.conf
}

mkdir -p $state
while look_up && { [ -z "$commands" ] || [ -z "$queries" ]; }; do
    say "waiting for $command_api and $query_api to have addresses"
    sleep 1
done
render
nginx -e stderr -p $state -c $state/nginx.conf &
nginx=$!
# Requests in hand are finished.
trap 'kill -QUIT $nginx 2>/dev/null' TERM INT QUIT
known="$commands/ $queries"
say "before $known"
while kill -0 $nginx 2>/dev/null; do
    sleep 1 &
    wait $! || true
    look_up
    # A name without an address: nothing better to do than what was known.
    if [ -n "$commands" ] && [ -n "$queries" ] && [ "$commands/ $queries" != "$known" ]; then
        if render; then
            kill -HUP $nginx
            known="$commands/ $queries"
            say "before $known"
        fi
    fi
done
code=0
wait $nginx || code=$?
exit $code
