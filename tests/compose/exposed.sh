# shellcheck shell=bash disable=SC2154 # $work, $gateway, $project are test.sh's
# Sourced by test.sh: the stack as one would run it where others can reach it. TLS, keys, a rate for each
# caller, Prometheus with a key of its own, traces to a collector.

collector=$project-collector
secure=${gateway/http:/https:}

# What a user's .env would say then.
exposed() { # COMPOSE-ARGUMENTS…
    DAYBOOK_TLS_FOLDER=$work/tls DAYBOOK_TLS_CERTIFICATE=/etc/daybook/tls/cert.pem \
        DAYBOOK_TLS_KEY=/etc/daybook/tls/key.pem DAYBOOK_RATE_PER_KEY=10 DAYBOOK_AUTH=auto \
        DAYBOOK_AUTH_FOLDER=$work/auth DAYBOOK_AUTH_API_KEYS_PATH=/etc/daybook/auth/api-keys \
        DAYBOOK_TRACES_FOLDER=$work/traces OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4318 \
        OTEL_EXPORTER_OTLP_HEADERS_FILE=/etc/daybook/traces/headers OTEL_BSP_SCHEDULE_DELAY=200 \
        compose_all "$@"
}
key_line() { # NAME SCOPES KEY
    printf '%s %s sha256:%s\n' "$1" "$2" "$(printf %s "$3" | sha256sum | cut -d' ' -f1)"
}
write_keys() { # READER'S-KEY: as an operator should, by a file that takes the old one's place
    {
        key_line reader read "$1"
        key_line writer write k-writer
        key_line operator read,write,admin k-operator
        cat "$work/prometheus-line"
    } >"$work/auth/api-keys.new" && chmod 644 "$work/auth/api-keys.new" &&
        mv "$work/auth/api-keys.new" "$work/auth/api-keys"
}
expose() {
    local services='command-api relay projector query-api gateway prometheus node-exporter'
    mkdir -p "$work/tls" "$work/auth" "$work/traces"
    openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext 'subjectAltName=DNS:localhost' \
        -keyout "$work/tls/key.pem" -out "$work/tls/cert.pem" 2>/dev/null || return 1
    echo 'x-collector-key=k-collector' >"$work/traces/headers"
    chmod 755 "$work" "$work/tls" "$work/auth" "$work/traces" && chmod 644 "$work"/tls/* "$work"/traces/*
    compose run --rm -T secrets key-line >"$work/prometheus-line" || return 1
    grep -qE '^prometheus admin sha256:[0-9a-f]{64}$' "$work/prometheus-line" || { cat "$work/prometheus-line"; return 1; }
    write_keys k-reader || return 1
    # shellcheck disable=SC2086 # names
    exposed up -d $services || return 1
    docker run -d --name "$collector" --network "${project}_traces" --network-alias collector \
        --volume "$PWD/tests/compose/collector.pl:/collector.pl:ro" "$debian" perl /collector.pl || return 1
    within 60 all_healthy
}
as() { # KEY: curl's arguments
    caller=(--cacert "$work/tls/cert.pem" -H "Authorization: Bearer $1")
}
metrics_status() { # CONTAINER PORT CURL-ARGUMENTS…
    docker exec "$1" curl -s -o /dev/null -w '%{http_code}' -m 3 "${@:3}" "http://127.0.0.1:$2/metrics"
}
callers_are_asked_who_they_are() {
    local json='Content-Type: application/json' account=$secure/accounts/account123 service port id caller
    local anybody=(--cacert "$work/tls/cert.pem")
    expect 400 '.code == "bad_request"' "$gateway/accounts/account123/balance" || return 1
    expect 401 '.code == "credentials_missing"' "${anybody[@]}" "$account/balance" || return 1
    expect 401 '.code == "credentials_missing"' "${anybody[@]}" -H "$json" -d '{"amount": "1"}' "$account/deposit" || return 1
    as k-nobody
    expect 401 '.code == "credentials_invalid"' "${caller[@]}" "$account/balance" || return 1
    as k-reader
    expect 200 .balance "${caller[@]}" "$account/balance" || return 1
    expect 403 '.code == "scope_missing"' "${caller[@]}" -H "$json" -d '{"amount": "1"}' "$account/deposit" || return 1
    as k-writer
    expect 403 '.code == "scope_missing"' "${caller[@]}" "$account/balance" || return 1
    expect 200 .version "${caller[@]}" -H "$json" -d '{"amount": "1"}' "$account/deposit" || return 1
    while read -r service port; do
        id=$(containers "$service" | head -1)
        echo "$service: $(metrics_status "$id" "$port") $(metrics_status "$id" "$port" -H 'Authorization: Bearer k-reader')"
        [ "$(metrics_status "$id" "$port")" = 401 ] || return 1
        [ "$(metrics_status "$id" "$port" -H 'Authorization: Bearer k-reader')" = 403 ] || return 1
        [ "$(metrics_status "$id" "$port" -H 'Authorization: Bearer k-operator')" = 200 ] || return 1
    done <<'EOS'
command-api 8081
query-api 8082
relay 8083
projector 8084
EOS
}
answers_with() { # STATUS KEY
    as "$2"
    expect "$1" . "${caller[@]}" "$secure/accounts/account123/balance"
}
keys_change_while_it_runs() {
    local caller
    write_keys k-reader-2 || return 1
    within 10 answers_with 200 k-reader-2 && within 10 answers_with 401 k-reader
}
a_rate_for_each_caller() {
    local answered refused caller
    for _ in $(seq 40); do # in one process: quicker than the rate
        printf 'url = "%s/accounts/account123/balance"\noutput = "/dev/null"\n' "$secure"
    done >"$work/urls"
    as k-operator
    curl -s "${caller[@]}" -w '%{http_code}\n' -K "$work/urls" >"$work/statuses"
    sort "$work/statuses" | uniq -c
    answered=$(grep -c '^200' "$work/statuses") refused=$(grep -c '^429' "$work/statuses")
    echo "40 requests at once of one caller, ten a second: $answered answered, $refused refused"
    [ "$answered" -ge 10 ] && [ "$refused" -ge 5 ] && [ $((answered + refused)) = 40 ] || return 1
    answers_with 200 k-reader-2
}
scraped_since() { # SECONDS: all of it, and by now
    curl -fsS -m 5 "http://127.0.0.1:$DAYBOOK_PROMETHEUS_PORT/api/v1/targets" >"$work/targets" || return 1
    jq -r '.data.activeTargets[] | "\(.labels.job) \(.scrapeUrl) \(.health) \(.lastError)"' "$work/targets"
    jq -e --argjson from "$1" '[.data.activeTargets[]] | length >= 5 and
        all(.health == "up" and (.lastScrape[0:19] + "Z" | fromdateiso8601) > $from)' "$work/targets"
}
prometheus_has_a_key() { # who has none sees no metrics: tested above
    within 40 scraped_since "$(date +%s)"
}
trace_is_whole() { # TRACE-ID
    docker logs "$collector" 2>/dev/null >"$work/bodies"
    jq -r --arg id "$1" '.resourceSpans[] |
        (.resource.attributes[] | select(.key == "service.name").value.stringValue) as $service |
        .scopeSpans[].spans[] | select(.traceId == $id) | "\($service) \(.name)"' "$work/bodies" |
        sort | tee "$work/spans"
    [ "$(cut -d' ' -f1 "$work/spans" | sort -u | wc -l)" = 4 ]
}
traces_arrive() {
    local id caller parent
    id=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
    parent="traceparent: 00-$id-00f067aa0ba902b7-01"
    as k-operator
    sleep 1 # its rate was used up
    expect 200 .version "${caller[@]}" -H "$parent" -H 'Content-Type: application/json' -d '{"amount": "1"}' \
        "$secure/accounts/account123/deposit" || return 1
    expect 200 .balance "${caller[@]}" -H "$parent" "$secure/accounts/account123/balance" || return 1
    within 20 trace_is_whole "$id" || return 1
    [ "$(docker logs "$collector" 2>&1 >/dev/null | sort -u)" = 'key: k-collector' ]
}

# --- what is refused before anything starts ---

refuses() { # WORDS VARIABLE=VALUE…: the set-up says so, in one line
    local words=$1 output
    shift
    if output=$(docker run --rm --user 0 --network none --tmpfs /secrets/setup "${@/#/--env=}" \
        "daybook/setup:$DAYBOOK_VERSION" secrets 2>&1); then
        echo "not refused: $*"
        return 1
    fi
    echo "$output"
    [[ $output == *"$words"* ]] && [ "$(wc -l <<<"$output")" = 1 ]
}
publishing_has_to_be_meant() {
    local keys=DAYBOOK_AUTH_API_KEYS_PATH=/etc/daybook/auth/api-keys
    refuses 'lets other machines in' DAYBOOK_PUBLISH=0.0.0.0 &&
        refuses 'lets other machines in' DAYBOOK_PUBLISH=192.0.2.1 &&
        refuses 'DAYBOOK_AUTH=auto must be, too' DAYBOOK_PUBLISH=0.0.0.0 "$keys" &&
        refuses 'DAYBOOK_AUTH=auto must be, too' DAYBOOK_AUTH=off "$keys" &&
        refuses 'DAYBOOK_AUTH=auto needs' DAYBOOK_AUTH=auto &&
        refuses 'must be auto or off' DAYBOOK_AUTH=on &&
        # These go on to the next reason.
        refuses 'at least 12 characters' DAYBOOK_PUBLISH=0.0.0.0 DAYBOOK_AUTH=auto "$keys" DAYBOOK_PASSWORD_REDIS=a &&
        refuses 'at least 12 characters' DAYBOOK_PUBLISH=0.0.0.0 DAYBOOK_AUTH=off DAYBOOK_PASSWORD_REDIS=a &&
        refuses 'at least 12 characters' DAYBOOK_PUBLISH=127.0.0.1 DAYBOOK_PASSWORD_REDIS=a
}
