#!/usr/bin/env bash
# docker-compose.yml, as it is, with a real Docker engine.
#
#   tests/compose/test.sh [short|full]
#
# Provides engine and images (engine.sh, images.sh), builds ours, brings the stack up, plays the story
# through the gateway, scales and strikes it under load, looks inside, turns on what it needs where others
# can reach it, and takes it down. `short` strikes several at once, and leaves out the deaths of
# PostgreSQL and Kafka, and the return after `down`.
#
# COMPOSE='docker compose' or docker-compose chooses the command; KEEP=1 leaves stack and engine running.
# Exit 1: something failed; 3: no engine can run here, and it was said why.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
form=${1:-full}
case $form in short | full) ;; *) echo 'usage: tests/compose/test.sh [short|full]' >&2; exit 2 ;; esac
export DAYBOOK_VERSION=test
project=${DAYBOOK_COMPOSE_PROJECT:-daybook-test}
offset=${DAYBOOK_TEST_PORT_OFFSET:-10000}
export DAYBOOK_GATEWAY_PORT=$((8080 + offset)) DAYBOOK_PROMETHEUS_PORT=$((9090 + offset))
export DAYBOOK_GRAFANA_PORT=$((3000 + offset))
export no_proxy=127.0.0.1,localhost NO_PROXY=127.0.0.1,localhost
gateway=http://localhost:$DAYBOOK_GATEWAY_PORT
mkdir -p build/compose
work=$(mktemp -d)
log=build/compose/test.log
: >"$log"
# What a user's .env would say is not for this test (engine.sh).
: >build/compose/empty.env
begun=$SECONDS passed=0 failed=0
exec 6>&1

# shellcheck source=tests/compose/engine.sh
. tests/compose/engine.sh
# shellcheck source=tests/compose/images.sh
. tests/compose/images.sh
# shellcheck source=tests/compose/story.sh
. tests/compose/story.sh
# shellcheck source=tests/compose/strike.sh
. tests/compose/strike.sh
# shellcheck source=tests/compose/exposed.sh
. tests/compose/exposed.sh

# COMMAND's output goes to the log; its last lines are shown when it fails.
check() { # NAME COMMAND…
    local name=$1 from=$EPOCHREALTIME
    shift
    printf '\n== %s\n' "$name" >>"$log"
    if "$@" >"$work/output" 2>&1; then
        passed=$((passed + 1))
        awk -v n="$name" -v a="$from" -v b="$EPOCHREALTIME" 'BEGIN { printf "ok      %-72s %6.1f s\n", n, b - a }'
        cat "$work/output" >>"$log"
        return 0
    fi
    failed=$((failed + 1))
    echo "FAILED  $name"
    cat "$work/output" >>"$log"
    tail -n 15 "$work/output" | cut -c1-300 | sed 's/^/    /'
    return 1
}
within() { # SECONDS COMMAND…
    local limit=$((SECONDS + $1))
    shift
    until "$@" >"$work/last" 2>&1; do
        [ $SECONDS -lt $limit ] || { cat "$work/last"; return 1; }
        sleep 0.3
    done
    cat "$work/last"
}

finish() {
    # Once, and also out of a check whose output goes elsewhere.
    trap '' INT TERM
    trap - EXIT
    exec >&6 2>&1
    touch "$work/stop"
    wait_for_load
    if [ "${KEEP:-}" = 1 ]; then
        echo "kept: $gateway, DOCKER_HOST=${DOCKER_HOST:-} $COMPOSE -p $project"
    else
        docker rm -f "$collector" >/dev/null 2>&1
        compose_all down -v --remove-orphans -t 5 >>"$log" 2>&1
        images_remove
        engine_stop
    fi
    rm -rf "$work"
    echo "compose test ($form): $((SECONDS - begun)) s"
    echo "$passed passed, $failed failed"
    [ "$failed" = 0 ] && [ "$passed" -gt 0 ]
    exit
}

engine_start || exit 3
scripts/packages.sh ensure compose-test observability || exit 1
compose_find || exit 1
trap finish EXIT
trap 'failed=$((failed + 1)); finish' INT TERM
# What an earlier run may have left.
docker rm -f "$collector" >/dev/null 2>&1
compose_all down -v --remove-orphans -t 1 >>"$log" 2>&1

play() { # read as a whole before it begins
    echo "== images"
    local from=$SECONDS
    images_provide postgres redis kafka prometheus node-exporter || { failed=1; exit; }
    echo "  ($((SECONDS - from)) s)"
    check 'the file is valid' compose config -q || exit
    check 'each image is built by one service' each_image_is_built_once
    check 'none of ours is looked for at a registry' ours_are_never_pulled
    check 'what can be chosen stands in .env.example' choices_are_shown
    check 'our images are built' compose build || exit
    docker images --filter "reference=daybook/*:$DAYBOOK_VERSION" --format '{{.Repository}} {{.Size}}' |
        sort | sed 's/^/  /'
    check 'no secret goes into a build' no_secret_goes_into_a_build
    check 'who may call has to be said before others can' publishing_has_to_be_meant

    echo "== up"
    check 'up, which builds what is not there, and all are healthy' up_by_itself || exit
    check 'only the gateway is published' only_these_are_published 8080
    check 'no rights, read-only, limits, restart' containers_are_confined
    check 'no secret in any environment or command' no_secret_is_shown
    check 'who has no business with a server does not reach it' networks_are_apart
    check 'the five requests' five_requests
    check 'refusals, repeats and the past' further_requests

    echo "== under load"
    check 'Prometheus looks on; no other port is published, no rights are added' observability_start
    load_start 4
    check 'three projectors and two command APIs' scale_to 3 2
    check 'each projector has partitions, each command API commands' all_take_part
    if [ "$form" = full ]; then
        check 'the active relay is killed: the other takes over, it comes back' strike_relay
        check 'a command API is killed: it comes back' strike command-api
        check 'a projector is killed: it comes back' strike projector
        check 'Redis is killed: it comes back' strike redis
        check 'PostgreSQL is killed: it comes back' strike postgres
        check 'Kafka is killed: it comes back' strike kafka
    else
        check 'a relay, a command API, a projector and Redis are killed: they come back' \
            strike_together command-api projector redis
    fi
    check 'one projector and one command API again' scale_to 1 1
    load_stop
    check 'each deposit counted once, none was lost' balances_are_right
    check 'the topic equals the log' compose exec -T relay daybook-relay verify
    check 'the read models equal the log' compose exec -T projector daybook-projector verify

    echo "== inside"
    check 'Prometheus sees all of it' observability
    if official "$(image_of grafana)"; then
        check 'Grafana has the dashboard' dashboard
    else
        echo "NOT TESTED: Grafana was not started, its image can't be had here; the dashboard's queries were, above"
    fi

    echo "== where others can reach it: TLS, keys, rates, traces"
    check 'up with TLS, keys and traces, and all are healthy' expose
    check 'without a key 401, with the wrong one 403, also for metrics' callers_are_asked_who_they_are
    check 'keys come and go with their file' keys_change_while_it_runs
    check 'a rate for each caller' a_rate_for_each_caller
    check 'Prometheus has a key' prometheus_has_a_key
    check 'one trace of a request, from all four, at the collector' traces_arrive

    if [ "$form" = full ]; then
        echo "== data"
        check 'down and up with other passwords: all is still there' down_and_up
    fi
    echo "== down"
    if [ "${KEEP:-}" != 1 ]; then check 'nothing is left' take_down; fi
}
play
