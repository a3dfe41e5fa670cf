#!/usr/bin/env bash
# What has to happen once before the services start, and can be repeated at any time.
#
#   setup.sh secrets    fills the folders under /secrets, each of which is one service's volume
#   setup.sh migrate    makes roles and databases, applies the migrations
#   setup.sh key-line   the line for a file of API keys that lets Prometheus read the metrics
#
# A password that DAYBOOK_PASSWORD_NAME gives is taken, also in place of an earlier one; one that nobody
# gave is made, once. Each file can be read by the account of its service alone.
set -euo pipefail
umask 077

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

# Who may call is chosen by somebody, before anybody else can.
publishing_is_meant() {
    local publish=${DAYBOOK_PUBLISH:-127.0.0.1} keys=${DAYBOOK_AUTH_API_KEYS_PATH:-}${DAYBOOK_AUTH_JWT_KEYS_PATH:-}
    case ${DAYBOOK_AUTH:-}/${keys:+keys} in
    auto/keys | off/) return 0 ;;
    auto/) fail 'DAYBOOK_AUTH=auto needs DAYBOOK_AUTH_API_KEYS_PATH or DAYBOOK_AUTH_JWT_KEYS_PATH' ;;
    off/keys | /keys) fail 'a file of keys is named: DAYBOOK_AUTH=auto must be, too (or leave the file out)' ;;
    /) ;;
    *) fail "DAYBOOK_AUTH must be auto or off, is \"$DAYBOOK_AUTH\"" ;;
    esac
    case $publish in
    127.* | localhost | ::1 | '[::1]') ;;
    *) fail "DAYBOOK_PUBLISH=$publish lets other machines in: say who may call, by DAYBOOK_AUTH=auto" \
        'and a file of keys, or by DAYBOOK_AUTH=off that anybody may' ;;
    esac
}

password() { # NAME [VARIABLE]: what the environment says, else what was made earlier, else a new one
    local variable=${2:-DAYBOOK_PASSWORD_$1} file=/secrets/setup/$1
    local given=${!variable:-}
    if [ -n "$given" ]; then
        # They become parts of URLs.
        case $given in *[!A-Za-z0-9._~-]*) fail "$variable: only letters, digits and . _ ~ - may be in it" ;; esac
        [ "${#given}" -ge 12 ] || fail "$variable: at least 12 characters"
        if [ "$(cat "$file" 2>/dev/null)" != "$given" ]; then
            [ ! -s "$file" ] || say "$variable has changed: what runs takes it after \`docker compose down\` and \`up\`"
            put setup "$1" 999 "$given"
        fi
    elif [ ! -s "$file" ]; then
        put setup "$1" 999 "$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')"
    fi
    cat "$file"
}
put() { # SERVICE FILE UID TEXT: whole or not at all
    local file=/secrets/$1/$2
    printf '%s\n' "$4" >"$file.new"
    chmod 400 "$file.new"
    chown "$3:$3" "$file.new"
    mv -f "$file.new" "$file"
}
postgres_url() { echo "postgresql://daybook_$1:$2@postgres:5432/$3?application_name=daybook-$1"; }

secrets() {
    local superuser migrator command relay projector query redis redis_projector redis_query
    local grafana prometheus users
    publishing_is_meant
    # One a line: what fails inside ends it all only there.
    superuser=$(password POSTGRES)
    migrator=$(password MIGRATOR)
    command=$(password COMMAND)
    relay=$(password RELAY)
    projector=$(password PROJECTOR)
    query=$(password QUERY)
    redis=$(password REDIS)
    redis_projector=$(password REDIS_PROJECTOR)
    redis_query=$(password REDIS_QUERY)
    grafana=$(password GRAFANA)
    prometheus=$(password PROMETHEUS DAYBOOK_KEY_PROMETHEUS)
    # Folders without this cannot be entered by the accounts that own the files in them.
    chmod 755 /secrets/*
    put postgres password 999 "$superuser"
    put redis password 999 "$redis"
    # By the shell itself: another program would be given the passwords as arguments.
    users=$(</usr/local/lib/daybook/infra/redis/users.conf)
    users=${users//@PW_REDIS@/"$redis"}
    users=${users//@PW_REDIS_PROJECTOR@/"$redis_projector"}
    put redis users.conf 999 "${users//@PW_REDIS_QUERY@/"$redis_query"}"
    put command-api write-url 10001 "$(postgres_url command "$command" daybook_write)"
    put relay write-url 10002 "$(postgres_url relay "$relay" daybook_write)"
    put projector read-url 10003 "$(postgres_url projector "$projector" daybook_read)"
    put projector redis-url 10003 "redis://projector:$redis_projector@redis:6379/0"
    put query-api read-url 10004 "$(postgres_url query "$query" daybook_read)"
    put query-api log-url 10004 "$(postgres_url query "$query" daybook_write)"
    put query-api redis-url 10004 "redis://query:$redis_query@redis:6379/0"
    put prometheus key 65534 "$prometheus"
    put grafana password 472 "$grafana"
    echo 'secrets are there'
}

migrate() {
    local name migrator side
    for name in MIGRATOR COMMAND RELAY PROJECTOR QUERY; do
        printf -v "PW_$name" '%s' "$(cat "/secrets/setup/$name")"
        export "PW_${name?}"
    done
    psql -X -q -v ON_ERROR_STOP=1 -h /var/run/postgresql -U postgres -d postgres -f \
        /usr/local/lib/daybook/infra/postgres/roles.sql || fail "the roles can't be made"
    migrator=$(cat /secrets/setup/MIGRATOR)
    for side in write read; do
        DAYBOOK_MIGRATE_URL=$(postgres_url migrator "$migrator" "daybook_$side") \
            /usr/local/lib/daybook/scripts/migrate.sh "$side"
    done
    echo 'databases are up to date'
}

key_line() {
    local key
    key=$(password PROMETHEUS DAYBOOK_KEY_PROMETHEUS)
    printf 'prometheus admin sha256:%s\n' "$(printf %s "$key" | sha256sum | cut -d' ' -f1)"
}

case ${1:-} in
key-line) key_line ;;
secrets) secrets ;;
migrate) migrate ;;
*) fail 'usage: setup.sh secrets|migrate|key-line' ;;
esac
