# shellcheck shell=bash disable=SC2154 # $work, $gateway, $project are test.sh's
# Sourced by test.sh: a load that knows what it did, scaling and killing while it runs.

load_workers=() load_accounts=8

metric() { # CONTAINER PORT PATTERN: the sum of its samples
    docker exec "$1" curl -fsS -m 3 "http://127.0.0.1:$2/metrics" |
        awk -v p="$3" '$0 ~ p && !/^#/ { sum += $NF } END { printf "%d\n", sum }'
}
# Deposits of 1.00, each with a key of its own: one that got no answer is sent again with the same key.
load() { # WORKER
    local n=0 account status tries
    while [ -d "$work" ] && [ ! -e "$work/stop" ]; do
        account=load-$1-$((n % load_accounts))
        tries=0
        while :; do
            status=$(curl -s -m 10 -o "$work/load-$1.answer" -w '%{http_code}' -H 'Content-Type: application/json' \
                -H "Idempotency-Key: $1-$n" -d '{"amount": "1.00"}' "$gateway/accounts/$account/deposit")
            [ "$status" != 200 ] || break
            tries=$((tries + 1))
            case $status in 503 | 000) ;; *) echo "$account: $status $(cat "$work/load-$1.answer")" >>"$work/wrong" ;; esac
            if [ "$tries" -gt 300 ]; then echo "$account: no answer" >>"$work/wrong"; return 1; fi
            sleep 0.2
        done
        echo "$account $tries" >>"$work/load-$1"
        n=$((n + 1))
    done
}
load_start() { # WORKERS
    local worker i
    for worker in $(seq "$1"); do
        for i in $(seq 0 $((load_accounts - 1))); do
            curl -s -o /dev/null -H 'Content-Type: application/json' -d "{\"id\": \"load-$worker-$i\"}" "$gateway/accounts"
        done
        load "$worker" &
        load_workers+=($!)
    done
}
wait_for_load() {
    [ ${#load_workers[@]} = 0 ] || wait "${load_workers[@]}"
    load_workers=()
}
load_stop() {
    touch "$work/stop"
    wait_for_load
    sort "$work"/load-? | awk '{ n++; if ($2 > 0) late++; if ($2 > most) most = $2 }
        END { printf "  %d deposits; %d of them were answered only when repeated, one %d times\n", n, late, most }'
}
balances_are_right() {
    local account count
    if [ -s "$work/wrong" ]; then sort "$work/wrong" | uniq -c | tail; return 1; fi
    cut -d' ' -f1 "$work"/load-[0-9] | sort | uniq -c >"$work/counts"
    [ -s "$work/counts" ] || return 1
    while read -r count account; do
        within 60 balance_is "$account" "$count.00" && continue
        echo "$account is not $count.00 but $(curl -sS -m 5 "$gateway/accounts/$account")"
        compose exec -T relay daybook-relay status
        compose exec -T projector daybook-projector status
        return 1
    done <"$work/counts"
    cat "$work/counts"
}

scale_to() { # PROJECTORS COMMAND-APIS
    compose up -d --no-recreate --scale "projector=$1" --scale "command-api=$2" || return 1
    within 60 all_healthy && running projector "$1" && running command-api "$2"
}
takes_part() { # SERVICE PORT PATTERN
    local id sum
    for id in $(containers "$1"); do
        sum=$(metric "$id" "$2" "$3") || return 1
        echo "$1 $id: $sum"
        [ "$sum" -gt 0 ] || return 1
    done
}
all_take_part() {
    within 60 takes_part projector 8084 '^daybook_projector_events_applied_total' &&
        within 30 takes_part command-api 8081 '^daybook_events_appended_total'
}

restarts() { docker inspect -f '{{.RestartCount}}' "$1"; }
came_back() { # CONTAINER RESTARTS
    [ "$(restarts "$1")" -gt "$2" ] && [ "$(docker inspect -f '{{.State.Running}}' "$1")" = true ] && all_healthy
}
kill_hard() { # CONTAINER: as a crash does; the engine's own kill counts as a wish and is not undone
    local pid
    pid=$(docker inspect -f '{{.State.Pid}}' "$1") && [ "$pid" -gt 1 ] && kill -KILL "$pid"
}
strike() { # SERVICE
    local id before deposits
    id=$(containers "$1" | head -1)
    before=$(restarts "$id")
    kill_hard "$id" || return 1
    within 90 came_back "$id" "$before" || { compose logs --tail=15 "$1"; return 1; }
    deposits=$(cat "$work"/load-[0-9] | wc -l)
    within 30 goes_on "$deposits"
}
strike_together() { # SERVICE…: these, and the active relay
    local service strikes=() code=0
    strike_relay &
    strikes+=($!)
    for service in "$@"; do
        strike "$service" &
        strikes+=($!)
    done
    for service in "${strikes[@]}"; do wait "$service" || code=1; done
    return $code
}
goes_on() { # DEPOSITS: more than those were accepted
    [ "$(cat "$work"/load-[0-9] | wc -l)" -gt "$1" ]
}
active_relay() {
    local id
    for id in $(containers relay); do
        if [ "$(docker exec "$id" curl -sS -m 3 http://127.0.0.1:8083/ready | jq -r .status)" = ready ]; then
            echo "$id"
            return 0
        fi
    done
    return 1
}
publishes() { # CONTAINER
    [ "$(metric "$1" 8083 '^daybook_relay_events_published_total')" -gt 0 ]
}
strike_relay() {
    local old before other
    old=$(active_relay) || return 1
    other=$(containers relay | grep -v "^$old")
    before=$(restarts "$old")
    kill_hard "$old" || return 1
    within 60 publishes "$other" || return 1
    within 60 came_back "$old" "$before"
}
