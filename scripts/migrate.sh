#!/usr/bin/env bash
# Applies infra/postgres/{write,read}/NNN_*.sql in order, each in one transaction.
#
#   DAYBOOK_MIGRATE_URL=postgresql://… scripts/migrate.sh write|read
#
# A migration that was applied never changes: its hash is kept and compared. An advisory lock keeps
# two runs apart. Prints what it applies; quick when there is nothing to do.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)

fail() { printf 'daybook: %s\n' "$*" >&2; exit 1; }

side=${1:-}
url=${DAYBOOK_MIGRATE_URL:-}
case $side/$# in write/1 | read/1) ;; *) fail 'usage: DAYBOOK_MIGRATE_URL=… scripts/migrate.sh write|read' ;; esac
[ -n "$url" ] || fail 'DAYBOOK_MIGRATE_URL: the URL of the database is missing'

# Arguments can be seen by every account of the machine: the password goes by the environment, also on to psql.
if [[ $url =~ ^([a-z]+://[^:/@]+):([^/@]+)@(.*)$ ]]; then
    url=${BASH_REMATCH[1]}@${BASH_REMATCH[3]}
    # Its %XX stand for characters.
    PGPASSWORD=${BASH_REMATCH[2]//\\/\\\\}
    printf -v PGPASSWORD '%b' "${PGPASSWORD//%/\\x}"
    export PGPASSWORD
fi
sql() { psql -X -q -A -t -v ON_ERROR_STOP=1 "$url" "$@"; }

sql -c 'SET client_min_messages = warning;
    SELECT pg_advisory_xact_lock(726431);
    CREATE SCHEMA IF NOT EXISTS migrations;
    CREATE TABLE IF NOT EXISTS migrations.applied (number integer PRIMARY KEY, name text NOT NULL,
    sha256 text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())' >/dev/null ||
    fail "migrations ($side): the database can't be reached or refuses"
done=$(sql -F ' ' -c 'SELECT number, sha256 FROM migrations.applied')

for file in "$root/infra/postgres/$side"/[0-9][0-9][0-9]_*.sql; do
    name=$(basename "$file" .sql)
    number=$((10#${name%%_*}))
    hash=$(sha256sum "$file" | cut -d' ' -f1)
    known=$(sed -n "s/^$number //p" <<<"$done")
    if [ -n "$known" ]; then
        [ "$known" = "$hash" ] || fail "migrations ($side): $name was changed after it had been applied"
        continue
    fi
    # The lock first, then the look: another run may have been faster.
    sql -1 -f - <<EOF || fail "migrations ($side): $name failed"
\o /dev/null
SELECT pg_advisory_xact_lock(726431);
SELECT NOT EXISTS (SELECT FROM migrations.applied WHERE number = $number) AS missing \gset
\if :missing
INSERT INTO migrations.applied (number, name, sha256) VALUES ($number, '$name', '$hash');
\i '$file'
\echo applied $side/$name
\endif
EOF
done
