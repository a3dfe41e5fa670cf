# shellcheck shell=bash disable=SC2154 # $work, $gateway, $project are test.sh's
# Sourced by test.sh: bringing up and down, what the containers may, and what users ask.

containers() { # [SERVICE]
    docker ps -q --filter "label=com.docker.compose.project=$project" \
        ${1:+--filter "label=com.docker.compose.service=$1"}
}
service_of() { docker inspect -f '{{index .Config.Labels "com.docker.compose.service"}}' "$1"; }
all_healthy() {
    local id health
    for id in $(containers); do
        health=$(docker inspect -f '{{if .State.Health}}{{.State.Health.Status}}{{else}}healthy{{end}}' "$id")
        [ "$health" = healthy ] || { echo "$(service_of "$id") is $health"; return 1; }
    done
}
running() { # SERVICE NUMBER
    local count
    count=$(containers "$1" | wc -l)
    [ "$count" = "$2" ] || { echo "$1: $count run"; return 1; }
}
bring_up() {
    local service
    compose up -d || { compose logs --tail=20; return 1; }
    within 90 all_healthy || { compose logs --tail=20; return 1; }
    for service in postgres redis kafka command-api projector query-api gateway; do
        running "$service" 1 || return 1
    done
    running relay 2
    compose ps
}
# As on a machine where nothing was built: `up` builds what it needs, and asks no registry for it. (What
# the images consist of stays, so that it is quick.)
up_by_itself() {
    # shellcheck disable=SC2046 # names
    docker rmi --no-prune $(our_images) || return 1
    [ -z "$(our_images)" ] || return 1
    bring_up
}
our_images() { docker images --filter "reference=daybook/*:$DAYBOOK_VERSION" --format '{{.Repository}}:{{.Tag}}'; }
take_down() {
    docker rm -f "$collector" >/dev/null 2>&1
    compose_all down -v --remove-orphans -t 10 || return 1
    [ -z "$(docker ps -aq --filter "label=com.docker.compose.project=$project")" ] &&
        [ -z "$(docker volume ls -q --filter "label=com.docker.compose.project=$project")" ] &&
        [ -z "$(docker network ls -q --filter "label=com.docker.compose.project=$project")" ]
}
# Other passwords, too: whoever has lost the first ones, or given them away, can go on.
down_and_up() {
    local before first_of_query first_of_redis
    first_of_query=$(first_password QUERY) && first_of_redis=$(first_password REDIS) || return 1
    docker rm -f "$collector" >/dev/null 2>&1
    compose_all down -t 20 || return 1
    DAYBOOK_PASSWORD_MIGRATOR=the-migrators-second \
        DAYBOOK_PASSWORD_COMMAND=the-commands-second DAYBOOK_PASSWORD_QUERY=the-querys-second \
        DAYBOOK_PASSWORD_PROJECTOR=the-projectors-second DAYBOOK_PASSWORD_RELAY=the-relays-second \
        DAYBOOK_PASSWORD_REDIS=the-operators-second DAYBOOK_PASSWORD_REDIS_QUERY=second-of-the-query \
        DAYBOOK_PASSWORD_REDIS_PROJECTOR=second-of-the-projector bring_up >/dev/null || return 1
    passwords_are_the_second && first_passwords_are_refused "$first_of_query" "$first_of_redis" || return 1
    before=$(curl -fsS "$gateway/accounts/account123" | jq .version) || return 1
    [ "$before" -ge 6 ] || return 1
    expect 200 ".version == $before + 1" -H 'Content-Type: application/json' -d '{"amount": "1"}' \
        "$gateway/accounts/account123/deposit" || return 1
    expect 200 .balance "$gateway/accounts/account123?min_version=$((before + 1))&timeout_ms=10000" || return 1
    balances_are_right
}

first_password() { # NAME: the one that was made
    docker run --rm --user 0 --network none --volume "${project}_secrets-setup:/secrets:ro" --entrypoint cat \
        "daybook/setup:$DAYBOOK_VERSION" "/secrets/$1"
}
passwords_are_the_second() { # each service has been told its own
    local service file words
    while read -r service file words; do
        compose exec -T "$service" cat "/run/daybook/$file" </dev/null | grep -qF -- "$words" ||
            { echo "$service: $file does not have $words"; return 1; }
    done <<'EOF'
command-api write-url daybook_command:the-commands-second@
relay write-url daybook_relay:the-relays-second@
projector read-url daybook_projector:the-projectors-second@
projector redis-url projector:second-of-the-projector@
query-api read-url daybook_query:the-querys-second@
query-api log-url daybook_query:the-querys-second@
query-api redis-url query:second-of-the-query@
redis password the-operators-second
redis users.conf >second-of-the-query
EOF
}
in_postgres() { # PASSWORD: what the server says to the role of the query APIs
    docker exec --env "PGPASSWORD=$1" "$(containers postgres)" psql -X -A -t -h 127.0.0.1 -U daybook_query \
        -d daybook_read -c 'SELECT 1' 2>&1
}
in_redis() { docker exec --env "REDISCLI_AUTH=$1" "$(containers redis)" redis-cli ping 2>&1; } # PASSWORD
first_passwords_are_refused() { # QUERY'S REDIS'S
    in_postgres "$1"
    in_redis "$2"
    [ "$(in_postgres the-querys-second)" = 1 ] && [ "$(in_redis the-operators-second)" = PONG ] &&
        [[ $(in_postgres "$1") == *'password authentication failed'* ]] && [[ $(in_redis "$2") == *WRONGPASS* ]]
}

# --- containers ---

only_these_are_published() { # PORT…: of containers; on loopback
    local published
    published=$(for id in $(containers); do
        docker inspect -f '{{range $port, $to := .HostConfig.PortBindings}}{{range $to}}{{.HostIp}} {{$port}}{{end}}{{end}}' "$id"
    done | grep -v '^$')
    echo "$published"
    [ "$(sort <<<"$published")" = "$(printf '127.0.0.1 %s/tcp\n' "$@" | sort)" ]
}
containers_are_confined() {
    local id service facts user read_only memory pids restart drop new
    for id in $(containers); do
        service=$(service_of "$id")
        facts=$(docker inspect -f '{{.Config.User}} {{.HostConfig.ReadonlyRootfs}} {{.HostConfig.Memory}} {{.HostConfig.PidsLimit}} {{.HostConfig.RestartPolicy.Name}} {{.HostConfig.CapDrop}} {{.HostConfig.SecurityOpt}}' "$id")
        echo "$service: $facts"
        read -r user read_only memory pids restart drop new <<<"$facts"
        case $user in '' | 0 | 0:* | root*) return 1 ;; esac
        [ "$read_only" = true ] || [ "$service" = kafka ] || return 1
        [ "$memory" -gt 0 ] && [ "$pids" -gt 0 ] && [ "$restart" = unless-stopped ] || return 1
        [ "$drop" = '[ALL]' ] && [[ $new == *no-new-privileges* ]] || return 1
        # What it says is what is: the first process has another account, and no rights.
        docker exec "$id" grep -qE '^CapEff:.*0000000000000000' /proc/1/status || return 1
    done
}
each_image_is_built_once() { # two services that build one image get in each other's way
    local twice
    twice=$(awk '/^  [a-z]/ { image = "" } /^    image:/ { image = $NF } /^    build:/ { print image }' \
        docker-compose.yml | sort | uniq -d)
    [ -z "$twice" ] || { echo "built more than once: $twice"; return 1; }
}
ours_are_never_pulled() { # somebody else may have the name at a registry
    awk '/^  [a-z]/ { service = $1 } /^    image: daybook\// { ours[service] = 1 }
        /^    pull_policy: never$/ { never[service] = 1 }
        END { for (s in ours) { n++; if (!never[s]) { print s " may be pulled"; bad = 1 } } exit bad || n < 7 }' \
        docker-compose.yml
}
choices_are_shown() { # what the files take from .env stands in .env.example
    local name names code=0
    names=$(cat docker-compose.yml infra/docker/traces.yml | grep -oE '[$][{][A-Z_]+' | cut -c3- | sort -u)
    for name in $names; do
        grep -qE "^#$name=" .env.example || { echo "$name is not in .env.example"; code=1; }
    done
    return $code
}
no_secret_goes_into_a_build() { # what users are told to put into the repository's folders
    local code=0 file files='infra/auth/api-keys.test infra/gateway/tls/key.test infra/traces/headers.test .env.test'
    for file in $files; do echo secret >"$file"; done
    # shellcheck disable=SC2016 # the build's shell's
    printf 'FROM %s\nCOPY . /context\nRUN cd /context && find . -name "*.test" && ls infra/docker/Dockerfile && [ -z "$(find . -name "*.test")" ]\n' \
        "$debian" >"$work/Dockerfile"
    docker build -q -t daybook-context:test -f "$work/Dockerfile" . || code=1
    # shellcheck disable=SC2086 # names
    rm -f $files
    docker rmi -f daybook-context:test >/dev/null 2>&1
    return $code
}
no_secret_is_shown() {
    local id shown file
    for id in $(docker ps -aq --filter "label=com.docker.compose.project=$project"); do
        docker inspect -f '{{json .Config.Env}} {{json .Config.Cmd}} {{json .Args}}' "$id"
    done >"$work/shown"
    shown=$(cat "$work/shown")
    # Those that there are.
    docker run --rm --user 0 --network none --volume "${project}_secrets-setup:/secrets:ro" --entrypoint sh \
        "daybook/setup:$DAYBOOK_VERSION" -c 'ls -ln /secrets >&2; cat /secrets/*' >"$work/secrets" || return 1
    [ "$(wc -l <"$work/secrets")" -ge 9 ] || return 1
    while read -r file; do
        if [ "${#file}" -lt 12 ] || [[ $shown == *"$file"* ]]; then return 1; fi
    done <"$work/secrets"
    # Each service's file is for its own account alone.
    docker exec "$(containers command-api | head -1)" sh -c 'ls -ln /run/daybook; cat /run/daybook/write-url >/dev/null' || return 1
    ! docker exec --user 12345 "$(containers command-api | head -1)" cat /run/daybook/write-url
}
reaches() { # SERVICE HOST PORT
    docker exec "$(containers "$1" | head -1)" timeout 2 bash -c "exec 3<>/dev/tcp/$2/$3" 2>/dev/null
}
stays_out() { # SERVICE HOST PORT: neither by the name, nor by an address, should it guess it
    local host tries=() reached=0
    for host in "$2" $(docker inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}' \
        "$(containers "$2" | head -1)"); do
        { ! reaches "$1" "$host" "$3" || { echo "$1 reaches $2 ($host)"; false; }; } &
        tries+=($!)
    done
    for host in "${tries[@]}"; do wait "$host" || reached=1; done
    return $reached
}
networks_are_apart() {
    local service host port tries=()
    while read -r service host port; do
        reaches "$service" "$host" "$port" || { echo "$service does not reach $host"; return 1; }
    done <<'EOF'
gateway command-api 8081
gateway query-api 8082
command-api postgres 5432
relay postgres 5432
relay kafka 9092
projector kafka 9092
projector redis 6379
projector postgres 5432
query-api redis 6379
query-api postgres 5432
query-api projector 8084
command-api relay 8083
postgres command-api 8081
postgres query-api 8082
redis query-api 8082
kafka relay 8083
EOF
    while read -r service host port; do
        stays_out "$service" "$host" "$port" &
        tries+=($!)
    done <<'EOF'
gateway postgres 5432
gateway redis 6379
gateway kafka 9092
command-api redis 6379
command-api kafka 9092
query-api kafka 9092
relay redis 6379
redis kafka 9092
gateway relay 8083
gateway projector 8084
command-api query-api 8082
query-api command-api 8081
query-api relay 8083
projector command-api 8081
relay query-api 8082
postgres kafka 9092
redis command-api 8081
kafka postgres 5432
kafka redis 6379
kafka query-api 8082
EOF
    for service in "${tries[@]}"; do wait "$service" || return 1; done
}

# --- requests ---

expect() { # STATUS JQ-FILTER CURL-ARGUMENTS…
    local status=$1 filter=$2 got
    shift 2
    got=$(curl -sS -m 20 -o "$work/answer" -w '%{http_code}' "$@") || return 1
    echo "$got $(cat "$work/answer")"
    [ "$got" = "$status" ] && jq -e "$filter" "$work/answer" >/dev/null
}
balance_is() { # ACCOUNT BALANCE
    [ "$(curl -fsS -m 5 "$gateway/accounts/$1/balance" | jq -r .balance)" = "$2" ]
}
five_requests() { # word for word, but for the port
    curl -X POST "$gateway/accounts" -H "Content-Type: application/json" -d '{"ID": "account123"}' || return 1
    curl -X POST "$gateway/accounts/account123/deposit" -H "Content-Type: application/json" -d '{"Amount": 500.00}' || return 1
    within 10 balance_is account123 500.00 || return 1
    curl -X GET "$gateway/accounts/account123/balance" -H "Content-Type: application/json" || return 1
    curl -X POST "$gateway/accounts/account123/withdraw" -H "Content-Type: application/json" -d '{"Amount": 150.00}' || return 1
    within 10 balance_is account123 350.00 || return 1
    curl -X GET "$gateway/accounts/account123/balance" -H "Content-Type: application/json"
}
further_requests() {
    local json='Content-Type: application/json'
    expect 409 '.code == "insufficient_funds"' -H "$json" -d '{"amount": "1000"}' "$gateway/accounts/account123/withdraw" &&
        expect 409 '.code == "account_exists"' -H "$json" -d '{"id": "account123"}' "$gateway/accounts" &&
        expect 404 '.code == "account_not_found"' -H "$json" -d '{"amount": "1"}' "$gateway/accounts/nobody/deposit" &&
        expect 200 '.version == 4' -H "$json" -H 'Idempotency-Key: k1' -d '{"amount": "1"}' "$gateway/accounts/account123/deposit" &&
        expect 200 '.version == 4' -H "$json" -H 'Idempotency-Key: k1' -d '{"amount": "1"}' "$gateway/accounts/account123/deposit" &&
        expect 200 '.balance == "351.00"' "$gateway/accounts/account123?min_version=4&timeout_ms=5000" &&
        expect 200 '.balance == "500.00"' "$gateway/accounts/account123/balance?version=2" &&
        expect 200 '.. | objects | has("version")' "$gateway/accounts/account123/transactions" &&
        expect 404 '.code == "not_found"' "$gateway/metrics"
}

# --- inside ---

observability_start() { # before the load: there is something to see then
    local services='prometheus node-exporter' ports='8080 9090'
    # Grafana itself only where its image can be had: it has no stand-in.
    ! official "$(image_of grafana)" || services="$services grafana" ports="$ports 3000"
    # shellcheck disable=SC2086 # names
    compose --profile observability up -d --no-recreate $services || return 1
    # shellcheck disable=SC2086 # numbers
    only_these_are_published $ports && containers_are_confined
}
observability() {
    scripts/demo.sh "$gateway" >/dev/null
    tests/observability/test.sh "http://127.0.0.1:$DAYBOOK_PROMETHEUS_PORT" || return 1
    stays_out gateway prometheus 9090 && stays_out gateway node-exporter 9100
}
dashboard() {
    local password grafana=http://127.0.0.1:$DAYBOOK_GRAFANA_PORT
    password=$(compose exec -T grafana cat /run/daybook/password) || return 1
    within 60 curl -fsS -u "admin:$password" -o /dev/null "$grafana/api/dashboards/uid/daybook"
}
