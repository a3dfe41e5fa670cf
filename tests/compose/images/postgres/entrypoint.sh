#!/usr/bin/env bash
# As the official image does: the cluster is made at the first start, with POSTGRES_INITDB_ARGS and the
# password of POSTGRES_PASSWORD_FILE, and lets everybody in by POSTGRES_HOST_AUTH_METHOD.
set -euo pipefail
if [ "${1:-}" = postgres ] && [ ! -s "$PGDATA/PG_VERSION" ]; then
    [ -s "${POSTGRES_PASSWORD_FILE:-}" ] || { echo 'POSTGRES_PASSWORD_FILE is not set' >&2; exit 1; }
    # shellcheck disable=SC2086 # arguments
    initdb -D "$PGDATA" -U postgres --pwfile="$POSTGRES_PASSWORD_FILE" ${POSTGRES_INITDB_ARGS:-}
    echo "host all all all ${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}" >>"$PGDATA/pg_hba.conf"
fi
exec "$@"
