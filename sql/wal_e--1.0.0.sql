\echo Use "CREATE EXTENSION wal_e" to load this file. \quit

CREATE FUNCTION wale_backup_push(
    label text DEFAULT 'wal_e',
    fast boolean DEFAULT true,
    permanent boolean DEFAULT false,
    wait boolean DEFAULT true)
RETURNS text
AS 'MODULE_PATHNAME', 'wale_backup_push_wrapper'
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;

COMMENT ON FUNCTION wale_backup_push(text, boolean, boolean, boolean) IS
'takes a base backup and returns its name; with wait => false as soon as it has begun (a caller that waits holds a snapshot)';

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
    OUT damage text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'wale_backup_list_wrapper'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;

COMMENT ON FUNCTION wale_backup_list() IS
'the base backups of the prefix, oldest first';

CREATE FUNCTION wale_backup_progress(
    OUT backup_name text,
    OUT phase text,
    OUT started_at timestamptz,
    OUT bytes_total bigint,
    OUT bytes_read bigint,
    OUT bytes_uploaded bigint,
    OUT partitions_total bigint,
    OUT partitions_done bigint,
    OUT estimated_finish timestamptz,
    OUT error text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'wale_backup_progress_wrapper'
LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED;

COMMENT ON FUNCTION wale_backup_progress() IS
'the running or last base backup since the server was started';

CREATE FUNCTION wale_backup_cancel()
RETURNS boolean
AS 'MODULE_PATHNAME', 'wale_backup_cancel_wrapper'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;

COMMENT ON FUNCTION wale_backup_cancel() IS
'stops the running base backup and waits until it has cleaned up; false when none was running';

CREATE FUNCTION wale_backup_verify(
    backup_name text DEFAULT 'LATEST',
    OUT check_name text,
    OUT ok boolean,
    OUT detail text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'wale_backup_verify_wrapper'
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE ROWS 12;

COMMENT ON FUNCTION wale_backup_verify(text) IS
'reads a base backup and the WAL that it needs back: a row for each kind of check that was passed and for each failure; ok is null for what could not be checked';

CREATE FUNCTION wale_stat_archiver(
    OUT archived_count bigint,
    OUT failed_count bigint,
    OUT bytes_read bigint,
    OUT bytes_stored bigint,
    OUT bytes_per_second bigint,
    OUT queue_length bigint,
    OUT in_flight integer,
    OUT last_archived_wal text,
    OUT last_archived_lsn pg_lsn,
    OUT last_archived_time timestamptz,
    OUT lag_bytes bigint,
    OUT lag_seconds double precision,
    OUT last_failed_wal text,
    OUT last_failed_time timestamptz,
    OUT last_error text,
    OUT last_error_detail text,
    OUT last_error_hint text,
    OUT stats_reset timestamptz)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'wale_stat_archiver_wrapper'
LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED ROWS 1;

COMMENT ON FUNCTION wale_stat_archiver() IS
'the view of the same name';

CREATE VIEW wale_stat_archiver AS SELECT * FROM @extschema@.wale_stat_archiver();

COMMENT ON VIEW wale_stat_archiver IS
'one row: what the archiver has done since the server was started, and what it has left to do';

CREATE FUNCTION wale_check(
    OUT check_name text,
    OUT ok boolean,
    OUT detail text,
    OUT hint text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'wale_check_wrapper'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE ROWS 18;

COMMENT ON FUNCTION wale_check() IS
'everything that can be wrong with a set-up, each with the way to fix it; ok is null for what could not be checked or is a matter of choice';

CREATE FUNCTION wale_restore_plan(
    target_time timestamptz DEFAULT NULL,
    target_lsn pg_lsn DEFAULT NULL,
    target_name text DEFAULT NULL,
    target_timeline text DEFAULT NULL,
    OUT reachable boolean,
    OUT backup_name text,
    OUT timelines bigint[],
    OUT first_segment text,
    OUT last_segment text,
    OUT wal_segments bigint,
    OUT wal_bytes bigint,
    OUT backup_bytes bigint,
    OUT consistent_lsn pg_lsn,
    OUT reached_lsn pg_lsn,
    OUT reached_time timestamptz,
    OUT notes text,
    OUT reason text,
    OUT nearest text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'wale_restore_plan_wrapper'
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE ROWS 1;

COMMENT ON FUNCTION wale_restore_plan(timestamptz, pg_lsn, text, text) IS
'one row: which base backup and which WAL a restore to the target would need; or why it is impossible, and the nearest targets that can be reached';

-- Who may call them is a matter of GRANT.
REVOKE EXECUTE ON FUNCTION wale_backup_push(text, boolean, boolean, boolean) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION wale_backup_list() FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION wale_backup_progress() FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION wale_backup_cancel() FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION wale_backup_verify(text) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION wale_stat_archiver() FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION wale_check() FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION wale_restore_plan(timestamptz, pg_lsn, text, text) FROM PUBLIC;

-- A view calls its functions with the rights of its reader.
GRANT EXECUTE ON FUNCTION wale_stat_archiver() TO pg_monitor;
GRANT SELECT ON wale_stat_archiver TO pg_monitor;
