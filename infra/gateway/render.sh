#!/bin/sh
# Prints the gateway's nginx.conf: nginx.conf with what the environment says filled in.
#
#   GATEWAY_LISTEN           address:port
#   GATEWAY_STATE            folder for the pid file and temporary files, absolute
#   GATEWAY_COMMAND_APIS     host:port …   the replicas behind it, separated by spaces
#   GATEWAY_QUERY_APIS       host:port …
#   GATEWAY_ACCESS_LOG       file; default: none is written
#   GATEWAY_USER             account of the workers when started by root; default: nginx's own
#   DAYBOOK_TLS_CERTIFICATE  PEM files, certificate chain and key: both, and clients speak TLS (1.2 or
#   DAYBOOK_TLS_KEY          newer) to the same port; none: plain HTTP
#   DAYBOOK_RATE_PER_KEY     requests a second for each caller, as many at once: for the token that it
#                            sends when the services ask for one (DAYBOOK_AUTH and its files, as theirs),
#                            otherwise for its address; 0, the default: any number
#   DAYBOOK_RATE_PER_ADDRESS the same for each client address, whatever tokens it sends
#   DAYBOOK_AUTH, DAYBOOK_AUTH_API_KEYS_PATH, DAYBOOK_AUTH_JWT_KEYS_PATH
#                            what the services are told: whether a token means anything
set -eu
template=${GATEWAY_TEMPLATE:-$(dirname "$0")/nginx.conf}

fail() { printf 'gateway: %s\n' "$*" >&2; exit 1; }
number() { # NAME VALUE
    case $2 in '' | *[!0-9]* | ???????*) fail "$1 must be a whole number up to 999999, is \"$2\"" ;; esac
}
servers() { for server in $1; do printf '        server %s max_fails=0;\\n' "$server"; done; }
zone() { # NAME KEY RATE
    [ "$3" -gt 0 ] || return 0
    printf '    limit_req_zone %s zone=%s:10m rate=%sr/s;\\n    limit_req zone=%s burst=%s nodelay;\\n' \
        "$2" "$1" "$3" "$1" "$3"
}

certificate=${DAYBOOK_TLS_CERTIFICATE:-}
key=${DAYBOOK_TLS_KEY:-}
per_key=${DAYBOOK_RATE_PER_KEY:-0}
per_address=${DAYBOOK_RATE_PER_ADDRESS:-0}
number DAYBOOK_RATE_PER_KEY "$per_key"
number DAYBOOK_RATE_PER_ADDRESS "$per_address"
tls='' ssl=''
if [ -n "$certificate$key" ]; then
    if [ -z "$certificate" ] || [ -z "$key" ]; then
        fail 'DAYBOOK_TLS_CERTIFICATE and DAYBOOK_TLS_KEY: both or none'
    fi
    for file in "$certificate" "$key"; do
        case $file in *[!A-Za-z0-9/._-]*) fail "$file: not a plain path" ;; esac
        [ -r "$file" ] || fail "$file can't be read"
    done
    ssl=' ssl'
    tls="        ssl_certificate $certificate;\\n        ssl_certificate_key $key;\\n"
    tls="$tls        ssl_protocols TLSv1.2 TLSv1.3;\\n        ssl_session_cache shared:tls:4m;"
fi
# Tokens that nobody checks would let a client choose whose rate it uses up.
# shellcheck disable=SC2016 # nginx's variables
who='$binary_remote_addr'
if [ "${DAYBOOK_AUTH:-auto}" != off ] && [ -n "${DAYBOOK_AUTH_API_KEYS_PATH:-}${DAYBOOK_AUTH_JWT_KEYS_PATH:-}" ]; then
    # shellcheck disable=SC2016
    who='$caller'
fi
# shellcheck disable=SC2016
limits=$(zone per_key "$who" "$per_key")$(zone per_address '$binary_remote_addr' "$per_address")
log=off
[ -z "${GATEWAY_ACCESS_LOG:-}" ] || log="$GATEWAY_ACCESS_LOG json buffer=32k flush=1s"

sed -e "s|@STATE@|$GATEWAY_STATE|g" -e "s|@LISTEN@|$GATEWAY_LISTEN$ssl|" -e "s|@TLS@|$tls|" \
    -e "s|@USER@|${GATEWAY_USER:+user $GATEWAY_USER;}|" -e "s|@ACCESS_LOG@|$log|" \
    -e "s|@LIMITS@|$limits|" -e "s|@COMMAND_APIS@|$(servers "$GATEWAY_COMMAND_APIS")|" \
    -e "s|@QUERY_APIS@|$(servers "$GATEWAY_QUERY_APIS")|" "$template"
