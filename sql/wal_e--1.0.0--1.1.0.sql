\echo Use "ALTER EXTENSION wal_e UPDATE" to load this file. \quit

-- A running server keeps the library that it was started with, and PostgreSQL does not look
-- at the functions of a script. Here it does, so that one that is too old is noticed.
DO $$
BEGIN
    SET LOCAL check_function_bodies = on;
    CREATE OR REPLACE FUNCTION @extschema@.wale_backup_mark(backup_name text, permanent boolean)
    RETURNS void
    AS 'MODULE_PATHNAME', 'wale_backup_mark_wrapper'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
EXCEPTION WHEN undefined_function THEN
    RAISE EXCEPTION USING
        ERRCODE = 'object_not_in_prerequisite_state',
        MESSAGE = 'the library of wal_e in this server is older than version 1.1.0',
        DETAIL = SQLERRM || '.',
        HINT = 'Restart the server, so that it loads the library that is installed, and try again. '
            'If that does not help, install wal_e 1.1.0.';
END
$$;

COMMENT ON FUNCTION wale_backup_mark(text, boolean) IS
'makes a base backup permanent, so that no deletion removes it, or an ordinary one again';

CREATE OR REPLACE FUNCTION wale_wal_show(
    OUT timeline bigint,
    OUT parent_timeline bigint,
    OUT switch_lsn pg_lsn,
    OUT first_segment text,
    OUT last_segment text,
    OUT segments bigint,
    OUT missing bigint,
    OUT status text,
    OUT encryption text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'wale_wal_show_wrapper'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE ROWS 10;

COMMENT ON FUNCTION wale_wal_show() IS
'a row for each timeline of the archive: what it has of it, and what it lacks';

CREATE OR REPLACE FUNCTION wale_wal_verify(
    OUT timeline bigint,
    OUT first_segment text,
    OUT last_segment text,
    OUT segments bigint,
    OUT status text,
    OUT advice text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'wale_wal_verify_wrapper'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE ROWS 10;

COMMENT ON FUNCTION wale_wal_verify() IS
'all WAL from the oldest usable base backup up to now, in ranges that are found, in flight, missing or lost';

CREATE OR REPLACE FUNCTION wale_wal_repair(
    OUT segment text,
    OUT outcome text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'wale_wal_repair_wrapper'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE ROWS 10;

COMMENT ON FUNCTION wale_wal_repair() IS
'archives again what the archive lacks and this server still has: a row for each segment';

CREATE OR REPLACE FUNCTION wale_recovery_window(
    OUT timeline bigint,
    OUT from_time timestamptz,
    OUT to_time timestamptz,
    OUT from_lsn pg_lsn,
    OUT to_lsn pg_lsn,
    OUT backup_name text,
    OUT ends_because text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'wale_recovery_window_wrapper'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE ROWS 10;

COMMENT ON FUNCTION wale_recovery_window() IS
'to which moments a restore is possible: a row for each unbroken stretch';

CREATE OR REPLACE FUNCTION wale_retain(
    full_backups integer DEFAULT NULL,
    dry_run boolean DEFAULT true,
    recovery_window interval DEFAULT NULL,
    calendar text DEFAULT NULL,
    OUT object_name text,
    OUT kind text,
    OUT bytes bigint,
    OUT action text,
    OUT reason text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'wale_retain_wrapper'
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE ROWS 100;

COMMENT ON FUNCTION wale_retain(integer, boolean, interval, text) IS
'a row for each group of objects, and whether it is kept: so many of the newest full backups, every moment of a recovery window, and so many daily, weekly, monthly and yearly backups; nothing is deleted in a dry run';

CREATE OR REPLACE FUNCTION wale_delete_before(
    backup_name text,
    dry_run boolean DEFAULT true,
    OUT object_name text,
    OUT kind text,
    OUT bytes bigint,
    OUT action text,
    OUT reason text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'wale_delete_before_wrapper'
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE ROWS 100;

COMMENT ON FUNCTION wale_delete_before(text, boolean) IS
'the same for what is older than a base backup';

CREATE OR REPLACE FUNCTION wale_backup_delete(
    backup_name text,
    dry_run boolean DEFAULT true,
    OUT object_name text,
    OUT kind text,
    OUT bytes bigint,
    OUT action text,
    OUT reason text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'wale_backup_delete_wrapper'
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE ROWS 100;

COMMENT ON FUNCTION wale_backup_delete(text, boolean) IS
'the same for one base backup, and those that are deltas of it';

CREATE OR REPLACE FUNCTION wale_delete_garbage(
    dry_run boolean DEFAULT true,
    OUT object_name text,
    OUT kind text,
    OUT bytes bigint,
    OUT action text,
    OUT reason text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'wale_delete_garbage_wrapper'
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE ROWS 100;

COMMENT ON FUNCTION wale_delete_garbage(boolean) IS
'the same for what is left of base backups that never became complete, and WAL that none needs';

CREATE OR REPLACE FUNCTION wale_job_history(
    OUT job text,
    OUT slot timestamptz,
    OUT attempt bigint,
    OUT hostname text,
    OUT started_at timestamptz,
    OUT finished_at timestamptz,
    OUT ok boolean,
    OUT detail text,
    OUT bytes bigint)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'wale_job_history_wrapper'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE ROWS 1000;

COMMENT ON FUNCTION wale_job_history() IS
'what servers did by schedule, newest first';

CREATE OR REPLACE FUNCTION wale_report()
RETURNS text
AS 'MODULE_PATHNAME', 'wale_report_wrapper'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;

COMMENT ON FUNCTION wale_report() IS
'one page of HTML about the archive and this server: base backups, WAL, recovery window, retention, runs, checks';

-- They are made anew, with another argument and with other columns: who was granted them is not
-- any more.
DO $$
DECLARE
    granted record;
BEGIN
    FOR granted IN
        SELECT anew.signature, pg_catalog.string_agg(
            CASE WHEN acl.grantee OPERATOR(pg_catalog.=) 0::pg_catalog.oid THEN 'PUBLIC'
                ELSE acl.grantee::pg_catalog.regrole::pg_catalog.text END, ', ') AS grantees
        FROM (VALUES
            ('@extschema@.wale_backup_push(text, boolean, boolean, boolean)'::pg_catalog.regprocedure,
                'wale_backup_push(text, boolean, boolean, boolean, boolean)'),
            ('@extschema@.wale_backup_list()'::pg_catalog.regprocedure,
                'wale_backup_list()')) AS anew (proc, signature),
            pg_catalog.pg_proc AS proc, pg_catalog.aclexplode(proc.proacl) AS acl
        WHERE proc.oid OPERATOR(pg_catalog.=) anew.proc::pg_catalog.oid
            AND acl.grantee OPERATOR(pg_catalog.<>) proc.proowner
        GROUP BY anew.signature
    LOOP
        -- A script's notices are not shown.
        RAISE WARNING USING
            MESSAGE = pg_catalog.format(
                '%s() is made anew, and has to be granted again',
                pg_catalog.split_part(granted.signature, '(', 1)),
            HINT = pg_catalog.format(
                'GRANT EXECUTE ON FUNCTION %s.%s TO %s;',
                '@extschema@', granted.signature, granted.grantees);
    END LOOP;
END
$$;

DROP FUNCTION wale_backup_list();

CREATE FUNCTION wale_backup_list(
    OUT backup_name text,
    OUT backup_type text,
    OUT start_time timestamptz,
    OUT finish_time timestamptz,
    OUT timeline bigint,
    OUT start_lsn pg_lsn,
    OUT stop_lsn pg_lsn,
    OUT pg_version integer,
    OUT system_identifier numeric,
    OUT uncompressed_bytes bigint,
    OUT compressed_bytes bigint,
    OUT permanent boolean,
    OUT hostname text,
    OUT data_directory text,
    OUT damage text,
    OUT encryption text,
    OUT encryption_key text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'wale_backup_list_encryption_wrapper'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;

COMMENT ON FUNCTION wale_backup_list() IS
'the base backups of the prefix, oldest first';

DROP FUNCTION wale_backup_push(text, boolean, boolean, boolean);

CREATE FUNCTION wale_backup_push(
    label text DEFAULT 'wal_e',
    fast boolean DEFAULT true,
    permanent boolean DEFAULT false,
    wait boolean DEFAULT true,
    incremental boolean DEFAULT false)
RETURNS text
AS 'MODULE_PATHNAME', 'wale_backup_push_incremental_wrapper'
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;

COMMENT ON FUNCTION wale_backup_push(text, boolean, boolean, boolean, boolean) IS
'takes a base backup and returns its name; with wait => false as soon as it has begun (a caller that waits holds a snapshot); with incremental => true one that has only what changed since the latest';

CREATE OR REPLACE FUNCTION wale_backup_chains(
    OUT backup_name text,
    OUT delta_from text,
    OUT full_backup text,
    OUT deltas integer,
    OUT restore_bytes bigint,
    OUT cluster_bytes bigint,
    OUT saved_bytes bigint)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'wale_backup_chains_wrapper'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;

COMMENT ON FUNCTION wale_backup_chains() IS
'what each base backup builds on, what a restore of it reads, and what it saves';

-- Who may call them is a matter of GRANT.
REVOKE EXECUTE ON FUNCTION wale_backup_list() FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION wale_backup_push(text, boolean, boolean, boolean, boolean) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION wale_backup_chains() FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION wale_backup_mark(text, boolean) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION wale_retain(integer, boolean, interval, text) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION wale_wal_show() FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION wale_wal_verify() FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION wale_wal_repair() FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION wale_recovery_window() FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION wale_delete_before(text, boolean) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION wale_backup_delete(text, boolean) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION wale_delete_garbage(boolean) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION wale_job_history() FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION wale_report() FROM PUBLIC;
