#!/usr/bin/env bash
# Dependencies point one way: base ← domain ← ports ← adapters and processes ← main.
# Checked by the includes of every source: each folder may include only from those listed for it, and
# a third-party header only where it is at home. Prints each violation, exits 1 if there is one.
set -euo pipefail
cd "$(dirname "$0")/.."

allowed() { # FILE: what it may include, as a regular expression of folders
    case $1 in
    common/base/*) echo 'common/base' ;;
    common/config/*) echo 'common/(base|config)' ;;
    common/auth/*) echo 'common/(auth|base|config|runtime)' ;;
    common/domain/*) echo 'common/(base|domain)' ;;
    common/ports/*) echo 'common/(base|domain|ports)' ;;
    common/runtime/*) echo 'common/(base|config|runtime)' ;;
    common/http/*) echo 'common/(auth|base|runtime|http)' ;;
    common/adapters/*) echo 'common/(base|config|domain|ports|runtime|adapters)' ;;
    command-api/relay/main.c) echo 'common/[a-z]+|command-api/relay' ;;
    command-api/main.c) echo 'common/[a-z]+|command-api' ;;
    projector/main.c) echo 'common/[a-z]+|projector' ;;
    query-api/main.c) echo 'common/[a-z]+|query-api' ;;
    command-api/relay/*) echo 'common/(base|config|domain|ports|runtime|http)|command-api/relay' ;;
    command-api/*) echo 'common/(base|config|domain|ports|runtime|http)|command-api' ;;
    projector/projections/*) echo 'common/(base|domain|ports)' ;;
    projector/*) echo 'common/(auth|base|config|domain|ports|runtime|http)|projector(/projections)?' ;;
    query-api/*) echo 'common/(base|config|domain|ports|runtime|http)|query-api(/queries)?' ;;
    *) echo '' ;;
    esac
}
third_party() { # HEADER: where it may be included
    case $1 in
    microhttpd.h) echo 'common/http/http_daemon.c' ;;
    libpq-fe.h) echo 'common/adapters/' ;;
    librdkafka/*) echo 'common/adapters/' ;;
    hiredis.h | async.h | hiredis/*) echo 'common/adapters/' ;;
    jansson.h) echo '' ;;
    curl/*) echo 'common/adapters/' ;;
    openssl/*) echo 'common/a' ;; # auth, adapters
    criterion/*) echo 'tests/' ;;
    *) echo any ;;
    esac
}

bad=0
while read -r file; do
    case $file in tests/*) continue ;; esac # tests see everything
    pattern="^($(allowed "$file"))/[^/]+\$"
    while read -r kind header; do
        if [ "$kind" = '"' ]; then
            if ! [[ $header =~ $pattern ]]; then
                echo "layering: $file includes $header"
                bad=1
            fi
        else
            home=$(third_party "$header")
            if [ "$home" != any ] && [[ $file != "$home"* ]]; then
                echo "layering: $file includes <$header>, which belongs to $home"
                bad=1
            fi
        fi
    done < <(sed -n 's/^#include \(["<]\)\([^">]*\)[">].*/\1 \2/p' "$file")
done < <(git ls-files --cached --others --exclude-standard '*.c' '*.h')
[ $bad = 0 ] && echo 'layering: ok'
exit $bad
