# shellcheck shell=bash
# Sourced by test.sh: a Docker engine, and Compose.
#
# An engine that answers is used. Otherwise Debian's packages are installed and one is started with a
# socket and folders of its own; engine_stop ends exactly that one. Its images stay in the cache, so that
# the next run is quick.

engine_folder=${DAYBOOK_CACHE:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/daybook}/docker
engine_run=/run/daybook-docker
engine_log=build/compose/engine.log
engine_pid=
project=${project:-daybook}

engine_answers() { timeout 20 docker version >/dev/null 2>&1; }

engine_start() { # 0: an engine answers; 3: none can run here, and why was said
    local driver
    if command -v docker >/dev/null && engine_answers; then
        echo "engine: the one that runs here, $(docker version -f '{{.Server.Version}}')"
        return 0
    fi
    if [ "$(id -u)" != 0 ]; then
        echo 'engine: none answers, and only root can start one' >&2
        return 3
    fi
    scripts/packages.sh ensure engine || return 3
    mkdir -p "$engine_folder" "$engine_run"
    export DOCKER_HOST=unix://$engine_run/docker.sock
    if engine_answers; then # kept by an earlier run
        engine_pid=$(cat "$engine_run/dockerd.pid")
        echo "engine: the one that an earlier run kept, $(docker version -f '{{.Server.Version}}')"
        return 0
    fi
    for driver in '' vfs; do
        setsid dockerd --data-root "$engine_folder" --exec-root "$engine_run/exec" \
            --pidfile "$engine_run/dockerd.pid" --host "$DOCKER_HOST" \
            ${driver:+--storage-driver "$driver"} >"$engine_log" 2>&1 </dev/null 7>&- &
        engine_pid=$!
        for _ in $(seq 240); do
            if engine_answers; then
                echo "engine: started Debian's docker.io $(docker version -f '{{.Server.Version}}')," \
                    "storage $(docker info -f '{{.Driver}}'), cgroups v$(docker info -f '{{.CgroupVersion}}')"
                return 0
            fi
            kill -0 "$engine_pid" 2>/dev/null || break
            sleep 0.25
        done
        engine_stop
    done
    echo "engine: dockerd can't run on this machine; its last words:" >&2
    grep -E 'level=(error|fatal)|^failed|denied|not permitted' "$engine_log" | tail -n 5 | cut -c1-300 >&2
    return 3
}

engine_stop() {
    [ -n "$engine_pid" ] || return 0
    kill -TERM "$engine_pid" 2>/dev/null || true
    for _ in $(seq 150); do
        # A child that ended is there until it is waited for.
        case $(sed -n 's/^State:\t\(.\).*/\1/p' "/proc/$engine_pid/status" 2>/dev/null) in Z | '') break ;; esac
        sleep 0.1
    done
    engine_pid=
}

# COMPOSE, when set, is the command to use. Else v2 where it is there, else docker-compose 1.29, which is
# installed where neither is.
compose_find() {
    if [ -z "${COMPOSE:-}" ]; then
        if docker compose version >/dev/null 2>&1; then COMPOSE='docker compose'; else COMPOSE=docker-compose; fi
    fi
    # shellcheck disable=SC2086 # a command of one or two words
    $COMPOSE version >/dev/null 2>&1 || scripts/packages.sh ensure compose || return 1
    # shellcheck disable=SC2086 # a command of one or two words
    echo "compose: $COMPOSE, $($COMPOSE version 2>/dev/null | head -1)"
}
compose() {
    # shellcheck disable=SC2086 # a command of one or two words
    $COMPOSE --env-file build/compose/empty.env -p "$project" "$@"
}
compose_all() { # all that there can be of it
    compose -f docker-compose.yml -f infra/docker/traces.yml --profile observability "$@"
}
