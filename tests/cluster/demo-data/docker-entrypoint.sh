#!/bin/sh
# Start the server named first. Where there is no PostgreSQL cluster yet, one is made, with the user, the password and
# the database that POSTGRES_USER, POSTGRES_PASSWORD and POSTGRES_DB name.
set -eu

make_cluster() {
    if [ -z "${POSTGRES_PASSWORD:-}" ]; then
        echo "POSTGRES_PASSWORD is not set: the first start needs it to make the database's user" >&2
        exit 78
    fi
    user=${POSTGRES_USER:-postgres}
    database=${POSTGRES_DB:-$user}
    # Made beside and moved at the end: a pod killed in between leaves no half cluster that looks whole.
    unfinished=$PGDATA.unfinished
    rm -rf "$unfinished"
    printf '%s' "$POSTGRES_PASSWORD" > /tmp/password
    initdb --pgdata="$unfinished" --username="$user" --pwfile=/tmp/password --auth=scram-sha-256 --auth-local=trust \
        --encoding=UTF8 --locale=C.UTF-8 --no-sync
    rm /tmp/password
    echo "host all all all scram-sha-256" >> "$unfinished/pg_hba.conf"
    if [ "$database" != postgres ]; then
        echo "CREATE DATABASE \"$database\";" | postgres --single -D "$unfinished" postgres > /dev/null
    fi
    rmdir "$PGDATA" 2>/dev/null || true
    mv -T "$unfinished" "$PGDATA"
}

case "${1:-postgres}" in
postgres)
    [ -s "$PGDATA/PG_VERSION" ] || make_cluster
    shift
    exec postgres -D "$PGDATA" -c listen_addresses='*' -c unix_socket_directories=/tmp "$@"
    ;;
*)
    exec "$@"
    ;;
esac
