#!/usr/bin/env bash
# `make demo`: builds wal_e, then shows the whole of it on a throw-away server:
# archive, back up, drop a table "by mistake", bring it back as it was.
#
# Nothing outside one temporary directory is written to, not even the PostgreSQL
# that is installed here: the server runs from a private copy of it. As root this
# script steps down to the user postgres, because PostgreSQL refuses to run as root.
set -euo pipefail

repository=$(cd "$(dirname "$0")/.." && pwd)
target=${CARGO_TARGET_DIR:-$repository/target}
cd "$repository"

if [ -z "${PG_CONFIG:-}" ]; then
    PG_CONFIG=/usr/lib/postgresql/${PG_MAJOR:-15}/bin/pg_config
    [ -x "$PG_CONFIG" ] || PG_CONFIG=pg_config
fi

bold='' reset=''
if [ -t 1 ]; then
    bold=$'\e[1m' reset=$'\e[0m'
fi

printf '%s$ make%s\n' "$bold" "$reset"
make build PG_CONFIG="$PG_CONFIG"
built=$SECONDS

as_server_user=()
if [ "$(id -u)" -eq 0 ]; then
    user=postgres
    id "$user" >/dev/null 2>&1 || user=nobody
    as_server_user=(setpriv "--reuid=$user" "--regid=$(id -g "$user")" --init-groups)
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/wal_e-demo.XXXXXX")
finish() {
    local status=$?
    trap - EXIT INT TERM
    local data
    for data in "$work"/primary "$work"/restored; do
        if [ -e "$data/postmaster.pid" ]; then
            "${as_server_user[@]}" "$bin/pg_ctl" -D "$data" -m immediate -s stop || true
        fi
    done
    rm -rf "$work"
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# PostgreSQL finds its files by a path relative to its own executable. So a copy
# of its programs, together with links to everything else, is an installation of its own.
stage() {
    local from to=$work/installation file
    for from in "$(pg --pkglibdir)" "$(pg --sharedir)" "$(pg --sharedir)/extension"; do
        mkdir -p "$to$from"
        for file in "$from"/*; do
            ln -sfn "$file" "$to$from/${file##*/}"
        done
        # The next round makes a folder of links where this one made one link.
        rm -f "$to$from/extension"
    done
    mkdir -p "$to$(pg --bindir)"
    cp "$(pg --bindir)"/{postgres,initdb,pg_ctl,psql,pgbench} "$to$(pg --bindir)/"
    make --silent install PG_CONFIG="$PG_CONFIG" DESTDIR="$to"
}
pg() { "$PG_CONFIG" "$1"; }
PG_CONFIG=$(command -v "$PG_CONFIG")
bin=$work/installation$(pg --bindir)

printf '\n%s$ make install%s     # here: into a private copy of %s\n' "$bold" "$reset" "$(pg --version)"
stage

# The server's user may not be allowed to enter the repository.
cp demo/tour.sh "$work/"
chmod -R go+rX "$work"
if [ ${#as_server_user[@]} -gt 0 ]; then
    chown "$user" "$work"
fi

cd "$work"
"${as_server_user[@]}" env -i PATH="$bin:/usr/local/bin:/usr/bin:/bin" HOME="$work" LANG=C.UTF-8 \
    TERM="${TERM:-dumb}" PGHOST="$work" PGUSER=postgres PGDATABASE=postgres PAGER= bash "$work/tour.sh"

printf '\nThe build took %d s, the demo %d s. Everything it started is stopped and removed.\n' \
    "$built" $((SECONDS - built))
