#!/usr/bin/env bash
# The tutorial that demo.sh runs, as the server's user, in an empty directory of
# its own, with the programs of PostgreSQL and wal_e on PATH. Each command is
# printed as a user would type it, and then run.
set -euo pipefail

here=$PWD
prefix=file://$here/archive

bold='' dim='' reset=''
if [ -t 1 ]; then
    bold=$'\e[1m' dim=$'\e[2m' reset=$'\e[0m'
fi

say() { printf '\n%s# %s%s\n' "$dim" "$1" "$reset"; }

run() {
    printf '%s$ %s%s\n' "$bold" "$1" "$reset"
    if ! eval "$1"; then
        printf '\nThis command failed: %s\n' "$1" >&2
        tail -n 30 "$here"/*.log >&2 || true
        exit 1
    fi
}

# The state of a database in a few lines: rows and a checksum of every table.
fingerprint() {
    psql -qX -v ON_ERROR_STOP=1 <<'SQL'
SELECT 'accounts' AS "table", count(*) AS rows, sum(hashtextextended(t::text, 0)) AS checksum FROM pgbench_accounts t
UNION ALL SELECT 'branches', count(*), sum(hashtextextended(t::text, 0)) FROM pgbench_branches t
UNION ALL SELECT 'history', count(*), sum(hashtextextended(t::text, 0)) FROM pgbench_history t
UNION ALL SELECT 'tellers', count(*), sum(hashtextextended(t::text, 0)) FROM pgbench_tellers t
ORDER BY 1;
SQL
}

# A user would look again from time to time.
wait_for_end_of_recovery() {
    local deadline=$((SECONDS + 120))
    until [ "$(psql -XAtc 'SELECT pg_is_in_recovery()' 2>/dev/null)" = f ]; do
        if [ "$SECONDS" -ge "$deadline" ]; then
            printf '\nThe restored server did not reach its target within two minutes.\n' >&2
            tail -n 30 restored.log >&2
            exit 1
        fi
        sleep 0.2
    done
}

say 'A new server, with the five lines that wal_e needs.'
run "initdb -D primary -U postgres --auth=trust --data-checksums --no-sync >initdb.log"
run "mkdir archive bulk"
run "cat >>primary/postgresql.conf <<END
shared_preload_libraries = 'wal_e'
archive_mode = on
archive_library = 'wal_e'
archive_timeout = 60
wal_e.prefix = '$prefix'
END"
# Not needed by wal_e: only a socket, and in this directory, so that no other
# server of this machine is in the way.
cat >>primary/postgresql.conf <<END
listen_addresses = ''
unix_socket_directories = '$here'
max_wal_size = 1GB
END
run "pg_ctl -D primary -l primary.log --silent start"
run "psql -c 'CREATE EXTENSION wal_e'"

say 'Some data: a million accounts, in a tablespace of their own.'
run "psql -c \"CREATE TABLESPACE bulk LOCATION '$here/bulk'\""
run "pgbench --initialize --quiet --scale=10 --tablespace=bulk --index-tablespace=bulk 2>&1 | tail -n 1"

say 'A base backup, while the server runs.'
run "psql -c 'SELECT wale_backup_push()'"
run "psql -x -c 'SELECT * FROM wale_backup_list()'"

say 'Life goes on after the backup; what happens is in the WAL, and the WAL is archived.'
run "pgbench --client=4 --time=5 2>&1 | grep 'actually processed'"
printf '%s$ psql <fingerprint.sql%s\n' "$bold" "$reset"
before=$(fingerprint)
printf '%s\n' "$before"
moment=$(psql -XAtc 'SELECT clock_timestamp()')

say "It is $moment. One moment later, a mistake:"
run "psql -c 'DROP TABLE pgbench_accounts'"
run "psql -c 'SELECT count(*) FROM pgbench_accounts' || true"

say 'Stop the damaged server; its last WAL is archived on the way out.'
run "pg_ctl -D primary --silent -m fast stop"

say 'What is there to restore? This needs no server.'
run "wal-e --file-prefix $prefix backup-list"

say 'Restore to the moment before, with the tablespace in another place, and start it.'
run "wal-e --file-prefix $prefix backup-fetch $here/restored LATEST \\
    --tablespace-mapping $here/bulk=$here/bulk-restored \\
    --recovery-target-time '$moment' --recovery-target-action promote"
run "pg_ctl -D restored -l restored.log --silent start"
wait_for_end_of_recovery
run "psql -c 'SELECT pg_is_in_recovery()'"

say 'Is it as it was?'
printf '%s$ psql <fingerprint.sql%s\n' "$bold" "$reset"
after=$(fingerprint)
printf '%s\n' "$after"
run "psql -c '\\db'"

run "pg_ctl -D restored --silent -m fast stop"

if [ "$before" != "$after" ]; then
    printf '\nThe restored data is NOT what it was.\n' >&2
    diff <(printf '%s\n' "$before") <(printf '%s\n' "$after") >&2 || true
    exit 1
fi
printf '\n%sThe table is there again: row counts and checksums are equal to those before the mistake.%s\n' \
    "$bold" "$reset"
