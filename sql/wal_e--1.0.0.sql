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
    OUT data_directory text)
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

-- Who may call them is a matter of GRANT.
REVOKE EXECUTE ON FUNCTION wale_backup_push(text, boolean, boolean, boolean) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION wale_backup_list() FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION wale_backup_progress() FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION wale_backup_cancel() FROM PUBLIC;
