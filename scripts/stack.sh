#!/usr/bin/env bash
# The local stack: PostgreSQL, Redis, Kafka, the four services and the gateway, all on loopback.
#
#   scripts/stack.sh up [--servers-only[=NAME,…]] | down | status | logs [NAME] [-f] | reset | demo | env
#   scripts/stack.sh start|stop|restart|kill NAME      (kill: SIGKILL; kafka-2: a second broker, for tests)
#   scripts/stack.sh scale NUMBER                      (of projectors)
#
# 1. An instance is named by DAYBOOK_STACK (default "local"); all its state is under
#    build/<instance>/ (DAYBOOK_STATE_DIR). Ports: infra/local.env, each + DAYBOOK_PORT_OFFSET.
# 2. A process belongs to the instance when its pid file names its pid *and* start time; nothing else
#    is ever signalled.
# 3. `up` can be run again at any time. When it fails it says so in one line, stops what this run had
#    started, and exits 1. Data survives `down`; only `reset` deletes.
# 4. Passwords are made at the first `up`, kept in secrets.env (0600) and never printed, but for `env`.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"

# Values given by the environment win over the file.
while IFS='=' read -r key value; do
    case $key in '' | \#*) continue ;; esac
    [ -n "${!key:-}" ] || printf -v "$key" '%s' "$value"
    export "${key?}"
done <infra/local.env

# A proxy set for the outside world is none for this machine.
export no_proxy=127.0.0.1,localhost NO_PROXY=127.0.0.1,localhost

stack=${DAYBOOK_STACK:-local}
state=${DAYBOOK_STATE_DIR:-$root/build/$stack}
bin=${DAYBOOK_BIN_DIR:-$root/build/release/bin}
offset=${DAYBOOK_PORT_OFFSET:-0}
logs=$state/logs
run=$state/run
port() { local name=DAYBOOK_$1_PORT; echo $((${!name} + offset)); }
gateway_port=$(port GATEWAY)
gateway_url=http${DAYBOOK_TLS_CERTIFICATE:+s}://127.0.0.1:$gateway_port
command_port=$(port COMMAND_API)
query_port=$(port QUERY_API)
relay_port=$(port RELAY)
projector_port=$(port PROJECTOR)
pg_port=$(port POSTGRES)
redis_port=$(port REDIS)
kafka_port=$(port KAFKA)
kafka_controller_port=$(port KAFKA_CONTROLLER)
# As many as the environment says, else as the last `up` started.
projectors=${PROJECTORS:-$(cat "$run/projectors" 2>/dev/null || echo 1)}

say() { printf '%s\n' "$*"; }
warn() { printf 'daybook: %s\n' "$*" >&2; }

names() {
    if [ -n "${servers_only:-}" ]; then echo "$servers_only"; return; fi
    echo postgres redis kafka
    echo command-api relay
    for i in $(seq 1 "$projectors"); do projector_name "$i"; done
    echo query-api gateway
    observability_names
}
projector_name() { if [ "$1" = 1 ]; then echo projector; else echo "projector-$1"; fi; }
port_of() {
    case $1 in
    postgres) echo "$pg_port" ;;
    redis) echo "$redis_port" ;;
    kafka) echo "$kafka_port" ;;
    kafka-2) echo $((kafka_controller_port + 1)) ;;
    command-api) echo "$command_port" ;;
    relay) echo "$relay_port" ;;
    projector) echo "$projector_port" ;;
    projector-*) echo $((projector_port + ${1#projector-} - 1)) ;;
    query-api) echo "$query_port" ;;
    gateway) echo "$gateway_port" ;;
    prometheus) echo "$prometheus_port" ;;
    node-exporter) echo "$node_exporter_port" ;;
    esac
}
port_variable_of() {
    case $1 in
    command-api) echo DAYBOOK_COMMAND_API_PORT ;;
    query-api) echo DAYBOOK_QUERY_API_PORT ;;
    node-exporter) echo DAYBOOK_NODE_EXPORTER_PORT ;;
    projector*) echo DAYBOOK_PROJECTOR_PORT ;;
    *) echo "DAYBOOK_$(tr '[:lower:]' '[:upper:]' <<<"$1")_PORT" ;;
    esac
}

# shellcheck source=scripts/observability.sh
. scripts/observability.sh

declare -A log_begin=() # NAME → size of its log when this run started it

# --- processes ---------------------------------------------------------------------------------

start_time_of() { # clock ticks since boot: tells a process from a later one with the same pid
    local stat
    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
    stat=${stat##*) }
    # shellcheck disable=SC2086 # fields
    set -- $stat
    echo "${20}"
}
pid_of() { # prints the pid when NAME runs
    local pid started
    read -r pid started 2>/dev/null <"$run/$1.pid" || return 1
    [ -n "$pid" ] && [ "$(start_time_of "$pid")" = "$started" ] || return 1
    # A zombie has ended.
    ! grep -q '^State:.Z' "/proc/$pid/status" 2>/dev/null || return 1
    echo "$pid"
}
# What a process that was killed from outside left behind (nginx's workers): `launch` makes each process
# the leader of a group and session of its own, and a pid is not given out again while its group exists.
orphans_of() { # NAME: the pids of its group when the leader has ended
    local pid started stat member
    read -r pid started 2>/dev/null <"$run/$1.pid" || return 0
    [ -n "$started" ] && ! pid_of "$1" >/dev/null || return 0
    for stat in /proc/[0-9]*/stat; do
        member=${stat#/proc/}
        member=${member%/stat}
        read -r stat 2>/dev/null <"$stat" || continue
        # shellcheck disable=SC2086 # fields
        set -- ${stat##*) }
        # state ppid pgrp session … starttime
        if [ "$1" != Z ] && [ "$3" = "$pid" ] && [ "$4" = "$pid" ] && [ "${20}" -ge "$started" ]; then
            echo "$member"
        fi
    done
}
end_orphans() {
    local pid
    for pid in $(orphans_of "$1"); do kill -KILL "$pid" 2>/dev/null || true; done
}
remember() { echo "$2 $(start_time_of "$2" || echo 0)" >"$run/$1.pid"; }

holder_of_port() {
    ss -Hltnp "sport = :$1" 2>/dev/null | sed -n 's/.*users:((\("[^"]*"\),pid=\([0-9]*\).*/\1 pid \2/p' | head -1
}
port_taken() { # PORT NEEDED-BY VARIABLE: says so when it is
    local who
    # A socket that nobody holds belongs to a process that is ending.
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        [ -n "$(ss -Hltn "sport = :$1" 2>/dev/null)" ] || return 1
        who=$(holder_of_port "$1")
        [ -z "$who" ] || break
        sleep 0.1
    done
    warn "port $1, needed by $2, is taken${who:+ by $who}; free it or set $3"
}
check_port_free() {
    if port_taken "$(port_of "$1")" "$1" "$(port_variable_of "$1")"; then return 1; fi
    if [ "$1" = kafka ] &&
        port_taken "$kafka_controller_port" "kafka's controller" DAYBOOK_KAFKA_CONTROLLER_PORT; then
        return 1
    fi
}
launch() { # NAME COMMAND…: in a session of its own, output to its log
    local name=$1 log=$logs/$1.log
    shift
    if [ -f "$log" ] && [ "$(stat -c %s "$log")" -gt 52428800 ]; then mv "$log" "$log.1"; fi
    log_begin[$name]=$(stat -c %s "$log" 2>/dev/null || echo 0)
    setsid "$@" >>"$log" 2>&1 </dev/null 8>&- &
    remember "$name" $!
    disown
    started_now+=("$name")
}
stop_one() { # NAME [seconds]
    local pid waited=0 limit=$((${2:-30} * 20)) signal=TERM
    pid=$(pid_of "$1") || { end_orphans "$1"; rm -f "$run/$1.pid"; return 0; }
    case $1 in postgres) signal=INT ;; gateway) signal=QUIT ;; esac
    kill -"$signal" "$pid" 2>/dev/null || true
    while pid_of "$1" >/dev/null; do
        sleep 0.05
        waited=$((waited + 1))
        if [ "$waited" -ge "$limit" ]; then
            warn "$1 (pid $pid) did not stop within ${2:-30} s: killed"
            kill -KILL -- "-$pid" 2>/dev/null || true
            sleep 0.2
            break
        fi
    done
    end_orphans "$1"
    rm -f "$run/$1.pid"
    if [ "$1" = kafka ]; then keep_class_archive || true; fi
}
show_log_end() { # NAME: the last lines of what it wrote since this run started it
    tail -c "+$((${log_begin[$1]:-0} + 1))" "$logs/$1.log" 2>/dev/null | tail -n 5 | cut -c1-300 | sed 's/^/    /' >&2 || true
}
wait_for() { # NAME CONDITION…: until it holds, the process dies, or the time is up
    local name=$1 deadline=$((SECONDS + DAYBOOK_START_TIMEOUT_S))
    shift
    until "$@" >/dev/null 2>&1; do
        if ! pid_of "$name" >/dev/null; then
            warn "$name ended while starting — see $logs/$name.log"
            show_log_end "$name"
            return 1
        fi
        if [ $SECONDS -ge $deadline ]; then
            warn "$name is not ready after $DAYBOOK_START_TIMEOUT_S s — see $logs/$name.log"
            show_log_end "$name"
            return 1
        fi
        sleep 0.1
    done
}
http_ready() { curl -fs -o /dev/null -m 2 "http://127.0.0.1:$1/$2"; }
step() { # TEXT COMMAND…: with the time it took
    local text=$1 begin=$EPOCHREALTIME
    shift
    "$@" || return 1
    awk -v t="$text" -v a="$begin" -v b="$EPOCHREALTIME" \
        'BEGIN { d = b - a; if (d >= 0.05) printf "  %-28s %5.1f s\n", t, d }'
}

# --- secrets and addresses ---------------------------------------------------------------------

load_secrets() { # makes those that are not there yet
    local name file=$state/secrets.env fresh=$state/secrets.$$
    mkdir -p "$state"
    for name in MIGRATOR COMMAND RELAY PROJECTOR QUERY REDIS REDIS_PROJECTOR REDIS_QUERY; do
        grep -qs "^PW_$name=" "$file" && continue
        (
            umask 077
            cat "$file" 2>/dev/null >"$fresh" || true
            echo "PW_$name=$(od -An -N18 -tx1 /dev/urandom | tr -d ' \n')" >>"$fresh"
        )
        mv "$fresh" "$file"
    done
    # shellcheck disable=SC1091
    . "$state/secrets.env"
    # Socket paths have at most 107 bytes: a short folder of its own, private to the account.
    socket_dir=/tmp/daybook-$(printf '%s' "$state" | sha256sum | cut -c1-12)
}
pg_url() { echo "postgresql://daybook_$1:$2@127.0.0.1:$pg_port/$3"; }
redis_url() { echo "redis://:$PW_REDIS@127.0.0.1:$redis_port/0"; }
redis_projector_url() { echo "redis://projector:$PW_REDIS_PROJECTOR@127.0.0.1:$redis_port/0"; }
redis_query_url() { echo "redis://query:$PW_REDIS_QUERY@127.0.0.1:$redis_port/0"; }

# --- servers -----------------------------------------------------------------------------------

pg_bin() {
    local dir
    if [ -z "${pg_bin_dir:-}" ]; then
        # shellcheck disable=SC2012 # version numbers, not file names
        dir=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -1)
        pg_bin_dir=${dir:-$(pg_config --bindir)}
    fi
    echo "$pg_bin_dir/$1"
}
as_postgres() { # PostgreSQL refuses to run as root
    if [ "$(id -u)" = 0 ]; then
        setpriv --reuid=postgres --regid=postgres --clear-groups "$@"
    else
        "$@"
    fi
}
superuser() { if [ "$(id -u)" = 0 ]; then echo postgres; else id -un; fi; }
# After a kill the lock file names a pid that may linger as a zombie, for ever where pid 1 doesn't reap,
# and backends need a moment to notice. A lock file is removed only when neither its process nor any
# backend (their working directory is the data directory) is left. The socket has a second lock file.
wait_for_old_postgres() { # DATA
    local pid cwd left
    [ -f "$1/postmaster.pid" ] || return 0
    read -r pid <"$1/postmaster.pid" || return 0
    for _ in $(seq 100); do
        left=
        for cwd in /proc/[0-9]*/cwd; do
            if [ "$(readlink "$cwd" 2>/dev/null)" = "$1" ]; then left=${cwd#/proc/}; fi
        done
        if [ -z "$left" ]; then
            if grep -q '^State:.Z' "/proc/$pid/status" 2>/dev/null; then
                rm -f "$1/postmaster.pid" "$socket_dir/.s.PGSQL.$pg_port.lock"
            fi
            return 0
        fi
        sleep 0.1
    done
    warn "another PostgreSQL (pid ${left%/cwd}) uses $1"
    return 1
}
start_postgres() {
    local data=$state/postgres
    mkdir -p "$data"
    mkdir -m 700 "$socket_dir" 2>/dev/null || true
    # /tmp is everybody's: a folder that somebody else put there is not used.
    if [ -L "$socket_dir" ] || [ ! -d "$socket_dir" ] ||
        ! [[ $(stat -c %U "$socket_dir") =~ ^($(superuser)|$(id -un))$ ]]; then
        warn "$socket_dir, for PostgreSQL's socket, belongs to somebody else: remove it"
        return 1
    fi
    chmod 700 "$socket_dir"
    if [ "$(id -u)" = 0 ]; then
        chown postgres:postgres "$data" "$socket_dir"
        if ! as_postgres test -x "$data"; then
            warn "the account postgres can't reach $data: set DAYBOOK_STATE_DIR to a folder that it can"
            return 1
        fi
    fi
    chmod 700 "$data"
    if [ ! -f "$data/PG_VERSION" ]; then
        find "$data" -mindepth 1 -delete
        (cd / && as_postgres "$(pg_bin initdb)" -D "$data" -U "$(superuser)" -E UTF8 \
            --locale=C.UTF-8 --auth-local=trust --auth-host=scram-sha-256) >"$logs/initdb.log" 2>&1 || {
            warn "PostgreSQL's initdb failed — see $logs/initdb.log"
            find "$data" -mindepth 1 -delete
            return 1
        }
    fi
    wait_for_old_postgres "$data" || return 1
    cp infra/postgres/postgresql.conf "$data/daybook.conf"
    cp infra/postgres/pg_hba.conf "$data/pg_hba.conf"
    chmod 644 "$data/daybook.conf" "$data/pg_hba.conf"
    grep -q "^include 'daybook.conf'" "$data/postgresql.conf" ||
        echo "include 'daybook.conf'" >>"$data/postgresql.conf"
    if [ "$(id -u)" = 0 ]; then
        launch postgres setpriv --reuid=postgres --regid=postgres --clear-groups \
            "$(pg_bin postgres)" -D "$data" -p "$pg_port" -k "$socket_dir"
    else
        launch postgres "$(pg_bin postgres)" -D "$data" -p "$pg_port" -k "$socket_dir"
    fi
}
ready_postgres() { psql -X -q -h "$socket_dir" -p "$pg_port" -U "$(superuser)" -d postgres -c 'SELECT 1'; }
prepare_databases() {
    # By the environment: arguments can be seen by every account of the machine.
    PW_MIGRATOR=$PW_MIGRATOR PW_COMMAND=$PW_COMMAND PW_RELAY=$PW_RELAY PW_PROJECTOR=$PW_PROJECTOR \
        PW_QUERY=$PW_QUERY psql -X -q -v ON_ERROR_STOP=1 -h "$socket_dir" -p "$pg_port" \
        -U "$(superuser)" -d postgres -f infra/postgres/roles.sql \
        >"$logs/roles.log" 2>&1 || { warn "the database roles can't be made — see $logs/roles.log"; return 1; }
    migrate write && migrate read
}
migrate() { # write|read
    DAYBOOK_MIGRATE_URL=$(pg_url migrator "$PW_MIGRATOR" "daybook_$1") scripts/migrate.sh "$1" | sed 's/^/  /'
}
start_redis() {
    local users
    mkdir -p "$state/redis"
    # By the shell itself: another program would be given the passwords as arguments.
    users=$(<infra/redis/users.conf)
    users=${users//@PW_REDIS@/"$PW_REDIS"}
    users=${users//@PW_REDIS_PROJECTOR@/"$PW_REDIS_PROJECTOR"}
    users=${users//@PW_REDIS_QUERY@/"$PW_REDIS_QUERY"}
    (
        umask 077
        {
            cat infra/redis/redis.conf
            printf 'port %s\ndir %s\n%s\n' "$redis_port" "$state/redis" "$users"
        } >"$state/redis/redis.conf"
    )
    launch redis redis-server "$state/redis/redis.conf"
}
ready_redis() { REDISCLI_AUTH=$PW_REDIS redis-cli -p "$redis_port" ping | grep -q PONG; }
java_bin() { if [ -n "${JAVA_HOME:-}" ]; then echo "$JAVA_HOME/bin/java"; else echo java; fi; }
class_archive() {
    echo "${DAYBOOK_CACHE:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/daybook}/kafka-classes-$(
        { scripts/kafka.sh && readlink -f "$(command -v "$(java_bin)")"; } 2>&1 | sha256sum | cut -c1-12).jsa"
}
keep_class_archive() { # after a broker has ended
    local archive
    [ -f "$state/kafka/classes.jsa" ] || return 0
    archive=$(class_archive)
    mkdir -p "${archive%/*}" && cp "$state/kafka/classes.jsa" "$archive.$$" &&
        mv "$archive.$$" "$archive" && rm -f "$state/kafka/classes.jsa"
}
# An archive of the loaded classes halves the start; a broker makes it when it first ends, and all
# stacks share it. The JVM checks that it fits and does without when it doesn't.
# The quick compiler alone, since the other one costs more in the first minutes than it brings; it may
# inline more than it does by itself. Huge pages, where the kernel gives them: in a virtual machine
# each miss of the address cache costs twice.
kafka_flags() { # ARCHIVE: sets flags
    flags=(-Xmx512m -Xms192m -Xmn128m -XX:+UseSerialGC -XX:+UseTransparentHugePages
        -XX:TieredStopAtLevel=1 -XX:+IgnoreUnrecognizedVMOptions -XX:C1MaxInlineSize=70
        -XX:C1MaxTrivialSize=12 -XX:C1MaxInlineLevel=15
        -Xshare:auto
        -Dorg.slf4j.simpleLogger.defaultLogLevel=warn
        -Dorg.slf4j.simpleLogger.showDateTime=true)
    if [ -f "$1" ]; then
        flags+=("-XX:SharedArchiveFile=$1" -Xlog:cds=off -Xlog:cds+dynamic=off)
    fi
}
start_kafka() {
    local dir=$state/kafka classpath archive flags
    classpath=$(scripts/kafka.sh) || return 1
    mkdir -p "$dir"
    sed -e "s|@KAFKA_PORT@|$kafka_port|g" -e "s|@KAFKA_CONTROLLER_PORT@|$kafka_controller_port|g" \
        -e "s|@STATE@|$state|g" infra/kafka/server.properties >"$dir/server.properties"
    archive=$(class_archive)
    kafka_flags "$archive"
    if [ ! -f "$dir/data/meta.properties" ]; then
        local id
        id=-
        # One that begins with a dash would be taken for an option.
        while [ "${id#-}" != "$id" ]; do id=$(head -c16 /dev/urandom | base64 | tr '+/' '-_' | cut -c1-22); done
        "$(java_bin)" "${flags[@]}" -cp "$classpath" kafka.tools.StorageTool format --standalone \
            -t "$id" -c "$dir/server.properties" --ignore-formatted >"$logs/kafka-format.log" 2>&1 || {
            warn "Kafka's storage can't be formatted — see $logs/kafka-format.log"
            return 1
        }
    fi
    [ -f "$archive" ] || flags+=("-XX:ArchiveClassesAtExit=$dir/classes.jsa" -Xlog:cds=off -Xlog:cds+dynamic=off)
    launch kafka "$(java_bin)" "${flags[@]}" -cp "$classpath" kafka.Kafka "$dir/server.properties"
}
start_second_kafka() { # a broker beside the first, which stays the controller
    local dir=$state/kafka-2 classpath flags
    classpath=$(scripts/kafka.sh) || return 1
    mkdir -p "$dir"
    sed -e 's|^process.roles=.*|process.roles=broker|' -e 's|^node.id=.*|node.id=2|' \
        -e 's|^listeners=.*|listeners=BROKER://127.0.0.1:@KAFKA_PORT@|' \
        -e "s|@KAFKA_PORT@|$(port_of kafka-2)|g" -e "s|@KAFKA_CONTROLLER_PORT@|$kafka_controller_port|g" \
        -e "s|@STATE@/kafka/|$dir/|g" infra/kafka/server.properties >"$dir/server.properties"
    kafka_flags "$(class_archive)"
    if [ ! -f "$dir/data/meta.properties" ]; then
        "$(java_bin)" "${flags[@]}" -cp "$classpath" kafka.tools.StorageTool format \
            -t "$(sed -n 's/^cluster.id=//p' "$state/kafka/data/meta.properties")" \
            -c "$dir/server.properties" --ignore-formatted >"$logs/kafka-2-format.log" 2>&1 || {
            warn "the second broker's storage can't be formatted — see $logs/kafka-2-format.log"
            return 1
        }
    fi
    launch kafka-2 "$(java_bin)" "${flags[@]}" -cp "$classpath" kafka.Kafka "$dir/server.properties"
}
ready_port() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
ready_kafka() { # the broker has registered and its log says so is version-bound; the port is not
    ready_port "$kafka_port"
}

# --- services and gateway ------------------------------------------------------------------------

service() { # NAME PROGRAM PORT VAR=VALUE…
    local name=$1 program=$2
    # Exported while this function runs: `env` would have the passwords in its arguments.
    local -x DAYBOOK_HTTP_ADDRESS=127.0.0.1 DAYBOOK_HTTP_PORT=$3
    shift 3
    local -x "$@"
    launch "$name" "$bin/$program"
}
start_command_api() {
    service command-api daybook-command-api "$command_port" \
        DAYBOOK_WRITE_DATABASE_URL="$(pg_url command "$PW_COMMAND" daybook_write)"
}
start_relay() {
    service relay daybook-relay "$relay_port" DAYBOOK_KAFKA_BROKERS="127.0.0.1:$kafka_port" \
        DAYBOOK_WRITE_DATABASE_URL="$(pg_url relay "$PW_RELAY" daybook_write)"
}
start_projector() {
    service "$1" daybook-projector "$(port_of "$1")" DAYBOOK_KAFKA_BROKERS="127.0.0.1:$kafka_port" \
        DAYBOOK_READ_DATABASE_URL="$(pg_url projector "$PW_PROJECTOR" daybook_read)" \
        DAYBOOK_REDIS_URL="$(redis_projector_url)"
}
start_query_api() {
    service query-api daybook-query-api "$query_port" \
        DAYBOOK_READ_DATABASE_URL="$(pg_url query "$PW_QUERY" daybook_read)" \
        DAYBOOK_LOG_DATABASE_URL="$(pg_url query "$PW_QUERY" daybook_write)" \
        DAYBOOK_REDIS_URL="$(redis_query_url)"
}
start_gateway() {
    local user=
    mkdir -p "$state/gateway"
    [ "$(id -u)" != 0 ] || user=root
    GATEWAY_LISTEN=127.0.0.1:$gateway_port GATEWAY_STATE=$state/gateway GATEWAY_USER=$user \
        GATEWAY_COMMAND_APIS=127.0.0.1:$command_port GATEWAY_QUERY_APIS=127.0.0.1:$query_port \
        GATEWAY_ACCESS_LOG=$logs/gateway-access.log \
        infra/gateway/render.sh >"$state/gateway/nginx.conf" || return 1
    launch gateway "$(command -v nginx || echo /usr/sbin/nginx)" -e stderr -p "$state/gateway" -c "$state/gateway/nginx.conf"
}

start_one() {
    end_orphans "$1"
    check_port_free "$1" || return 1
    case $1 in
    postgres) start_postgres ;;
    redis) start_redis ;;
    kafka) start_kafka ;;
    kafka-2) start_second_kafka ;;
    command-api) start_command_api ;;
    relay) start_relay ;;
    projector*) start_projector "$1" ;;
    query-api) start_query_api ;;
    gateway) start_gateway ;;
    prometheus) start_prometheus ;;
    node-exporter) start_node_exporter ;;
    *) warn "there is no process \"$1\" ($(names | tr '\n' ' '))"; return 1 ;;
    esac
}
wait_ready() {
    case $1 in
    postgres) wait_for postgres ready_postgres ;;
    redis) wait_for redis ready_redis ;;
    kafka) wait_for kafka ready_kafka ;;
    kafka-2) wait_for kafka-2 ready_port "$(port_of kafka-2)" ;;
    gateway) wait_for gateway curl -fsk -o /dev/null -m 2 "$gateway_url/health" ;;
    prometheus) wait_for prometheus http_ready "$prometheus_port" -/ready ;;
    node-exporter) wait_for node-exporter http_ready "$node_exporter_port" metrics ;;
    *) wait_for "$1" http_ready "$(port_of "$1")" ready ;;
    esac
}

# --- subcommands ---------------------------------------------------------------------------------

started_now=()
undo() { # after a failure: what this run started, newest first
    for ((i = ${#started_now[@]} - 1; i >= 0; i--)); do stop_one "${started_now[i]}" 10; done
}
lock() {
    mkdir -p "$logs" "$run"
    exec 8>"$state/.lock"
    flock -n 8 || { warn 'another run works on this stack: waiting for it'; flock -w 300 8; } || { warn "another run holds $state/.lock"; exit 1; }
}
check_ports() { # before anything starts: nothing is to be undone for a port that was never free
    local name
    for name in $(names); do
        if ! pid_of "$name" >/dev/null; then
            end_orphans "$name"
            check_port_free "$name" || return 1
        fi
    done
}
stop_outdated() { # services whose program was built anew since they started, replicas beyond the number
    local name pid
    for name in $(names); do
        case $name in postgres | redis | kafka | gateway | prometheus | node-exporter) continue ;; esac
        pid=$(pid_of "$name") || continue
        case $(readlink "/proc/$pid/exe" 2>/dev/null) in
        *' (deleted)')
            say "  $name was built anew: restarting it"
            stop_one "$name"
            ;;
        esac
    done
    stop_beyond
}
stop_beyond() { # replicas beyond the number, at the same time
    local name
    for name in "$run"/projector-*.pid; do
        [ -e "$name" ] || continue
        name=$(basename "$name" .pid)
        [ "${name#projector-}" -le "$projectors" ] || stop_one "$name" &
    done
    wait
    if [ "$observability" != 1 ]; then
        stop_one prometheus
        stop_one node-exporter
    fi
}
start_missing() { # NAME…: those that don't run; then waits for all
    local name fresh=()
    for name in "$@"; do
        if ! pid_of "$name" >/dev/null; then
            start_one "$name" || return 1
            fresh+=("$name")
        fi
    done
    for name in ${fresh[@]+"${fresh[@]}"}; do step "$name" wait_ready "$name" || return 1; done
}
prepare() {
    scripts/packages.sh ensure build run || return 1
    if [ "$observability" = 1 ]; then scripts/packages.sh ensure observability || return 1; fi
    if [ -z "${servers_only:-}" ] && [ -z "${DAYBOOK_BIN_DIR:-}" ]; then
        step 'build' build || return 1
    fi
}
build() {
    mkdir -p build
    make -s -j"$(nproc)" all >"$logs/build.log" 2>&1 || {
        warn "the build failed — see $logs/build.log"
        show_log_end build
        return 1
    }
}
bring_up() {
    local name services=()
    if [ -z "${servers_only:-}" ]; then
        stop_outdated
        echo "$projectors" >"$run/projectors"
        echo "$observability" >"$run/observability"
    fi
    check_ports || return 1
    # shellcheck disable=SC2086 # names
    start_missing ${servers_only:-postgres redis kafka} || return 1
    step 'databases' prepare_databases || return 1
    [ -z "${servers_only:-}" ] || return 0
    for name in $(names); do
        case $name in postgres | redis | kafka) ;; *) services+=("$name") ;; esac
    done
    start_missing "${services[@]}"
}
up() {
    lock
    load_secrets
    mkdir -p "$logs" "$run"
    trap 'trap "" INT TERM HUP; warn "interrupted: stopping what this run had started"; undo; exit 130' \
        INT TERM HUP
    if ! { prepare && bring_up; }; then
        undo
        exit 1
    fi
    trap - INT TERM HUP
    exec 8>&-
    [ -z "${servers_only:-}" ] || return 0
    cat <<EOF
Daybook is up.
  gateway      $gateway_url
  command API  http://127.0.0.1:$command_port    OpenAPI /openapi/command.json at the gateway
  query API    http://127.0.0.1:$query_port    OpenAPI /openapi/query.json at the gateway
  relay        http://127.0.0.1:$relay_port    projector http://127.0.0.1:$projector_port    (/health /ready /metrics)
  logs         $logs
$([ "$observability" != 1 ] || echo "  Prometheus   http://127.0.0.1:$prometheus_port    alerts /alerts")
Try:
  curl -X POST http${DAYBOOK_TLS_CERTIFICATE:+s}://localhost:$gateway_port/accounts -H 'Content-Type: application/json' -d '{"id": "alice"}'
  curl -X POST http${DAYBOOK_TLS_CERTIFICATE:+s}://localhost:$gateway_port/accounts/alice/deposit -H 'Content-Type: application/json' -d '{"amount": "500.00"}'
  curl -X POST http${DAYBOOK_TLS_CERTIFICATE:+s}://localhost:$gateway_port/accounts/alice/withdraw -H 'Content-Type: application/json' -d '{"amount": "150.00"}'
  curl http${DAYBOOK_TLS_CERTIFICATE:+s}://localhost:$gateway_port/accounts/alice/balance
EOF
}
all_running() { # everything that has a pid file, newest kind first
    local name
    for name in prometheus node-exporter gateway query-api; do echo "$name"; done
    for name in "$run"/projector*.pid; do [ -e "$name" ] && basename "$name" .pid; done
    for name in relay command-api kafka-2 kafka redis postgres; do echo "$name"; done
}
down() {
    [ -d "$run" ] || { say 'nothing is running'; return 0; }
    lock
    local name stopped=()
    for name in $(all_running); do
        if pid_of "$name" >/dev/null; then
            stop_one "$name" 60
            stopped+=("$name")
        else
            end_orphans "$name"
        fi
    done
    rm -f "$run"/*.pid
    say "stopped: ${stopped[*]:-nothing was running}"
}
status() {
    local name pid health lag failed=0 begun up
    printf '%-14s %-8s %-7s %-10s %s\n' process pid port uptime health
    for name in $(names); do
        if pid=$(pid_of "$name"); then
            begun=$(stat -c %Y "$run/$name.pid")
            up=$(($(date +%s) - begun))s
            case $name in
            postgres | redis | kafka)
                load_secrets
                health=ready
                "ready_$name" >/dev/null 2>&1 || health='does not answer'
                ;;
            prometheus) health=$(curl -fs -m 2 "http://127.0.0.1:$prometheus_port/-/ready" >/dev/null && echo ready) || health= ;;
            node-exporter) health=$(curl -fs -m 2 "http://127.0.0.1:$node_exporter_port/metrics" >/dev/null && echo ready) || health= ;;
            gateway) health=$(curl -sk -m 2 "$gateway_url/health" | jq -r .status 2>/dev/null) || health= ;;
            *) health=$(curl -s -m 2 "http://127.0.0.1:$(port_of "$name")/ready" |
                jq -r '.status + ([.components[]? | select(.reason) | " (" + .name + ": " + .reason + ")"] | join(""))' 2>/dev/null) || health= ;;
            esac
        else
            pid=- up=- health='not running'
        fi
        case $health in ready | alive | degraded*) ;; *) failed=1 ;; esac
        printf '%-14s %-8s %-7s %-10s %s\n' "$name" "$pid" "$(port_of "$name")" "$up" "${health:-does not answer}"
    done
    for name in $(names | grep '^projector' || true); do
        lag=$(curl -s -m 2 "http://127.0.0.1:$(port_of "$name")/metrics" |
            sed -n 's/^daybook_projector_lag_events{projection="\([^"]*\)".*sink="\([^"]*\)"} \([0-9]*\)$/\1\/\2 \3/p' |
            awk '{ sum[$1] += $2 } END { for (p in sum) printf "%s %d  ", p, sum[p] }') || lag=
        [ -z "$lag" ] || say "projection lag (events), $name: $lag"
    done
    return $failed
}
show_logs() {
    local name=${1:-} follow=
    [ "${2:-}" = -f ] && follow=-f
    if [ "$name" = -f ]; then name='' follow=-f; fi
    if [ -n "$name" ] && [ ! -f "$logs/$name.log" ]; then
        # shellcheck disable=SC2012 # names of our own
        warn "there is no log $logs/$name.log ($(cd "$logs" 2>/dev/null && ls -- *.log 2>/dev/null | tr '\n' ' '))"
        return 1
    fi
    # shellcheck disable=SC2086 # $follow is a flag or nothing
    if [ -n "$name" ]; then tail -n 100 $follow "$logs/$name.log"; else tail -n 20 $follow "$logs"/*.log; fi
}
reset() {
    if [ "${FORCE:-}" != 1 ]; then
        [ -t 0 ] || { warn 'reset deletes all data: run it in a terminal, or with FORCE=1'; return 1; }
        read -r -p "delete all data under $state? [y/N] " answer
        [ "$answer" = y ] || [ "$answer" = yes ] || { say 'nothing deleted'; return 1; }
    fi
    down
    load_secrets 2>/dev/null || true
    rm -rf "${state:?}/postgres" "$state/redis" "$state/kafka" "$state/kafka-2" "$state/gateway" "$state/logs" "$state/prometheus" \
        "$state/secrets.env" "$run" "${socket_dir:?}"
    say "deleted the data under $state"
}
print_env() {
    load_secrets
    cat <<EOF
export DAYBOOK_TEST_STACK=$stack
export DAYBOOK_TEST_GATEWAY=$gateway_url
export DAYBOOK_TEST_COMMAND_API=http://127.0.0.1:$command_port
export DAYBOOK_TEST_QUERY_API=http://127.0.0.1:$query_port
export DAYBOOK_TEST_RELAY=http://127.0.0.1:$relay_port
export DAYBOOK_TEST_PROJECTOR=http://127.0.0.1:$projector_port
export DAYBOOK_TEST_COMMAND_URL=$(pg_url command "$PW_COMMAND" daybook_write)
export DAYBOOK_TEST_RELAY_URL=$(pg_url relay "$PW_RELAY" daybook_write)
export DAYBOOK_TEST_PROJECTOR_URL=$(pg_url projector "$PW_PROJECTOR" daybook_read)
export DAYBOOK_TEST_QUERY_URL=$(pg_url query "$PW_QUERY" daybook_read)
export DAYBOOK_TEST_LOG_URL=$(pg_url query "$PW_QUERY" daybook_write)
export DAYBOOK_TEST_WRITE_ADMIN_URL=$(pg_url migrator "$PW_MIGRATOR" daybook_write)
export DAYBOOK_TEST_READ_ADMIN_URL=$(pg_url migrator "$PW_MIGRATOR" daybook_read)
export DAYBOOK_TEST_SUPERUSER_URL='postgresql://$(superuser)@/daybook_write?host=$socket_dir&port=$pg_port'
export DAYBOOK_TEST_REDIS_URL=$(redis_url)
export DAYBOOK_TEST_REDIS_PROJECTOR_URL=$(redis_projector_url)
export DAYBOOK_TEST_REDIS_QUERY_URL=$(redis_query_url)
export DAYBOOK_TEST_KAFKA_BROKERS=127.0.0.1:$kafka_port
export DAYBOOK_TEST_PROMETHEUS=http://127.0.0.1:$prometheus_port
EOF
}
scale() { # NUMBER: of projectors, while everything runs
    [[ ${1:-} =~ ^[1-9][0-9]?$ ]] || { warn 'scale to how many projectors? (1 to 99)'; return 1; }
    local name wanted=()
    lock
    load_secrets
    projectors=$1
    for name in $(names | grep '^projector'); do wanted+=("$name"); done
    stop_beyond
    start_missing "${wanted[@]}" || { undo; return 1; }
    echo "$projectors" >"$run/projectors"
    write_targets
    say "projectors: $projectors"
}
one() { # start|stop|restart|kill NAME
    local pid
    [ -n "${2:-}" ] || { warn "$1 what? ($(names | tr '\n' ' '))"; return 1; }
    lock
    load_secrets
    case $1 in
    stop) stop_one "$2" ;;
    kill)
        pid=$(pid_of "$2") || { warn "$2 is not running"; return 1; }
        kill -KILL -- "-$pid"
        while pid_of "$2" >/dev/null; do sleep 0.02; done
        ;;
    restart) stop_one "$2" && start_missing "$2" ;;
    start) start_missing "$2" ;;
    esac || { undo; return 1; }
}

command=${1:-}
[ $# -gt 0 ] && shift
case $command in
up)
    case ${1:-} in
    --servers-only) servers_only='postgres redis kafka' ;;
    --servers-only=*) servers_only=${1#*=} servers_only=${servers_only//,/ } ;;
    esac
    up
    ;;
down) down ;;
status) status ;;
logs) show_logs "$@" ;;
reset) reset ;;
scale) scale "$@" ;;
demo) up && exec scripts/demo.sh "$gateway_url" ;;
env) print_env ;;
start | stop | restart | kill) one "$command" "$@" ;;
*)
    sed -n '2,7s/^# \{0,1\}//p' "$0"
    exit 2
    ;;
esac
