-- Run by scripts/installcheck. Each block raises an error when an answer is wrong.
\set QUIET on
SET client_min_messages = warning;
SET plpgsql.check_asserts = on;
SELECT set_config('installcheck.version', :'version', false) AS version \gset
SELECT set_config('installcheck.role', :'role', false) AS role \gset

\echo extension: installs into a schema of choice
CREATE SCHEMA backup;
CREATE EXTENSION wal_e SCHEMA backup;
DO $$
DECLARE
    installed text;
BEGIN
    SELECT extversion INTO STRICT installed FROM pg_extension WHERE extname = 'wal_e';
    ASSERT installed = current_setting('installcheck.version'),
        format('version %s is installed, these files are of %s', installed, current_setting('installcheck.version'));
END $$;

\echo functions: as documented, and for superusers alone until granted
DO $$
DECLARE
    difference text;
BEGIN
    WITH wanted (signature) AS (
        VALUES ('wale_check() -> check_name, ok, detail, hint'),
               ('wale_stat_archiver() -> archived_count, failed_count, bytes_read, bytes_stored, bytes_per_second, '
                'queue_length, in_flight, last_archived_wal, last_archived_lsn, last_archived_time, lag_bytes, lag_seconds, '
                'last_failed_wal, last_failed_time, last_error, last_error_detail, last_error_hint, stats_reset'),
               ('wale_backup_cancel() -> boolean'),
               ('wale_backup_list() -> backup_name, backup_type, start_time, finish_time, timeline, start_lsn, stop_lsn, '
                'pg_version, system_identifier, uncompressed_bytes, compressed_bytes, permanent, hostname, data_directory'),
               ('wale_backup_progress() -> backup_name, phase, started_at, bytes_total, bytes_read, bytes_uploaded, '
                'partitions_total, partitions_done, estimated_finish, error'),
               ('wale_backup_push(label text, fast boolean, permanent boolean, wait boolean) -> text')
    ), found AS (
        SELECT format('%s(%s) -> %s', p.proname, input.arguments, coalesce(output.columns, p.prorettype::regtype::text)) AS signature
        FROM pg_proc p
        JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
        JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
        CROSS JOIN LATERAL (
            SELECT string_agg(p.proargnames[n] || ' ' || type::regtype, ', ' ORDER BY n) AS arguments
            FROM unnest(p.proargtypes) WITH ORDINALITY AS argument (type, n)
        ) AS input
        CROSS JOIN LATERAL (
            SELECT string_agg(p.proargnames[n], ', ' ORDER BY n) AS columns
            FROM unnest(p.proargmodes) WITH ORDINALITY AS argument (mode, n)
            WHERE mode IN ('o', 't')
        ) AS output
        WHERE e.extname = 'wal_e'
    )
    SELECT string_agg(coalesce('missing ' || w.signature, 'unexpected ' || f.signature), E'\n') INTO difference
    FROM wanted w FULL JOIN found f USING (signature)
    WHERE w.signature IS NULL OR f.signature IS NULL;
    ASSERT difference IS NULL, difference;
END $$;

GRANT USAGE ON SCHEMA backup TO :"role";
DO $$
DECLARE
    call text;
BEGIN
    FOREACH call IN ARRAY ARRAY['wale_backup_push()', 'wale_backup_list()', 'wale_backup_progress()', 'wale_backup_cancel()', 'wale_stat_archiver()', 'wale_check()']
    LOOP
        BEGIN
            EXECUTE format('SET LOCAL ROLE %I', current_setting('installcheck.role'));
            EXECUTE format('SELECT backup.%s', call);
            RAISE 'a role without EXECUTE could call %', call;
        EXCEPTION WHEN insufficient_privilege THEN
            ASSERT SQLERRM LIKE 'permission denied for function %', SQLERRM;
        END;
        RESET ROLE;
    END LOOP;
END $$;

\echo wale_backup_list(): lists, or says that no prefix is configured
DO $$
DECLARE
    prefix text := current_setting('wal_e.prefix', true);
    reason text;
    advice text;
    strange bigint;
BEGIN
    BEGIN
        SELECT count(*) INTO strange FROM backup.wale_backup_list()
        WHERE backup_name !~ '^base_[0-9A-F]{24}' OR timeline IS NULL OR start_lsn > stop_lsn OR start_time > finish_time;
        ASSERT strange = 0, format('%s of the listed backups cannot be', strange);
    EXCEPTION WHEN invalid_parameter_value THEN
        GET STACKED DIAGNOSTICS reason = MESSAGE_TEXT, advice = PG_EXCEPTION_HINT;
        ASSERT coalesce(prefix, '') = '', format('prefix "%s": %s', prefix, reason);
        ASSERT reason LIKE '%wal_e.prefix%', format('"%s" does not name wal_e.prefix', reason);
        ASSERT advice <> '', format('"%s" comes without a hint', reason);
    END;
END $$;

\echo wale_backup_progress(): at most one backup
DO $$
DECLARE
    backups bigint;
BEGIN
    SELECT count(*) INTO backups FROM backup.wale_backup_progress();
    ASSERT backups <= 1, format('%s backups at once', backups);
END $$;

\echo wale_stat_archiver: one row, for pg_monitor too
GRANT pg_monitor TO :"role";
DO $$
DECLARE
    archived bigint;
BEGIN
    EXECUTE format('SET LOCAL ROLE %I', current_setting('installcheck.role'));
    SELECT archived_count INTO STRICT archived FROM backup.wale_stat_archiver;
    ASSERT archived >= 0, format('%s files archived', archived);
    RESET ROLE;
END $$;

\echo extension: goes away without a trace
DROP EXTENSION wal_e;
DO $$
BEGIN
    ASSERT NOT EXISTS (SELECT FROM pg_proc WHERE proname LIKE 'wale\_%'), 'functions are left';
END $$;
