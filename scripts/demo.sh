#!/usr/bin/env bash
# A short story against a running stack: each request, its answer, and how long the read model took.
#   scripts/demo.sh GATEWAY
set -euo pipefail
gateway=${1:?usage: scripts/demo.sh GATEWAY}
account=demo-$(date +%s)

show() { # TITLE METHOD PATH [BODY]
    local title=$1 method=$2 path=$3 body=${4:-} answer
    printf '\n\033[1m%s\033[0m\n  %s %s%s\n' "$title" "$method" "$path" "${body:+ $body}"
    answer=$(curl -s -m 10 -w '\n%{http_code} %{time_total}' -X "$method" "$gateway$path" \
        ${body:+-H 'Content-Type: application/json' -d "$body"})
    local last=${answer##*$'\n'}
    body_text=${answer%$'\n'*}
    body_text=${body_text%$'\n'}
    printf '  %s  (%s ms)\n' "${last% *}" "$(awk -v s="${last#* }" 'BEGIN { printf "%.1f", s * 1000 }')"
    jq . <<<"$body_text" | sed 's/^/  /'
}
visible() { # how long until the read model shows the version just written
    local version begin end
    version=$(jq -r .version <<<"$body_text")
    begin=$EPOCHREALTIME
    curl -fs -m 10 -o /dev/null "$gateway/accounts/$account?min_version=$version&timeout_ms=5000"
    end=$EPOCHREALTIME
    awk -v v="$version" -v a="$begin" -v b="$end" \
        'BEGIN { printf "  → version %s visible to readers %.1f ms later\n", v, (b - a) * 1000 }'
}

show 'Open an account' POST /accounts "{\"id\": \"$account\", \"owner\": \"Ada\"}"
visible
show 'Pay in 500.00' POST "/accounts/$account/deposit" '{"amount": "500.00"}'
visible
show 'Take out 150.00' POST "/accounts/$account/withdraw" '{"amount": "150.00"}'
visible
show 'Take out more than there is: refused' POST "/accounts/$account/withdraw" '{"amount": "1000.00"}'
show 'History' GET "/accounts/$account/transactions"
show 'As it was at version 2' GET "/accounts/$account/balance?version=2"
show 'Balance now' GET "/accounts/$account/balance"
