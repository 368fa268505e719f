//! The running server whose base backup is taken: one session, which begins
//! backup mode, is held open, and ends it.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use tokio::task::JoinHandle;
use tokio_postgres::types::{FromSql, Type};
use tokio_postgres::{Client, Row};
use tokio_util::sync::CancellationToken;
use wal_e_core::archiving::{Attempts, Way};
use wal_e_core::base_backup::BackupStop;
use wal_e_core::notice::Notices;
use wal_e_core::postgres::{Lsn, SegmentSize, SystemIdentifier, TimelineId};
use wal_e_core::{Error, ErrorKind, Result};

use wal_e_core::config::Place;

mod authentication;
mod connect;
pub mod data_directory;
mod libpq;
mod pooler;
mod query_error;
mod stream;
mod tls;

use connect::{Connected, Route};
pub use data_directory::check_belongs_to_server;
use libpq::Settings;
use query_error::query_error;
use stream::AlreadyDone;

/// `pg_backup_start` has this form since PostgreSQL 15.
const OLDEST_VERSION: i32 = 150_000;

/// The advisory lock that one backup holds in its session ("wal_e_bk").
const BACKUP_LOCK: i64 = 0x7761_6c5f_655f_626b;

/// A server notices only after a moment that the session of a backup which was
/// interrupted is gone, and its lock with it.
const LOCK_PATIENCE: Duration = Duration::from_secs(3);
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// How long the end of a session is waited for before the process goes on.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);

/// The session idles while files are read, and a spread checkpoint takes minutes: no limit
/// of the role or the database may end it. Of the limits, each server has those that it knows.
const WITHOUT_LIMITS: &str = "SET search_path = pg_catalog, pg_temp; \
    SELECT set_config(name, '0', false) FROM pg_settings WHERE name IN ('statement_timeout', \
    'lock_timeout', 'transaction_timeout', 'idle_session_timeout', \
    'idle_in_transaction_session_timeout')";

/// What the server says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFacts {
    /// `server_version_num`.
    pub version: u32,
    /// The setting `data_directory`.
    pub data_directory: PathBuf,
    /// The setting `log_directory`, when this role may know it.
    pub log_directory: Option<PathBuf>,
    /// Of its control file.
    pub system_identifier: SystemIdentifier,
    /// Size of its WAL segments.
    pub segment_size: SegmentSize,
    /// Whether pages carry checksums.
    pub data_checksums: bool,
    /// Whether each change of a page gives it a new LSN, that of a hint, too.
    pub logs_hints: bool,
    /// Whether it summarizes its WAL.
    pub summarizes_wal: bool,
    /// When it was started.
    pub started_at: SystemTime,
    /// Content of `postmaster.pid`, when this role may read files.
    pub postmaster_pid: Option<String>,
    /// By what it archives.
    pub archives_by: Way,
    /// When that went well last, and when it failed.
    pub attempts: Attempts,
}

/// What `pg_backup_start` answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Started {
    /// Where replay of the backup begins.
    pub start_lsn: Lsn,
    /// The timeline of the checkpoint at which it begins.
    pub timeline: TimelineId,
}

/// A session of the server. Backup mode ends with it at the latest.
pub struct Session {
    client: Client,
    connection: JoinHandle<()>,
    lost: CancellationToken,
    reason: Arc<OnceLock<String>>,
    settings: Settings,
    route: Route,
    /// The process of the server that answers, and has to until the end.
    process: i32,
}

impl Session {
    /// Connects as libpq would with this environment.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] when no server answers, [`ErrorKind::Denied`]
    /// when it refuses, [`ErrorKind::Config`] when the environment cannot be meant, or
    /// the session would not stay with one process of the server.
    pub async fn connect(environment: &Place, notices: &Notices) -> Result<Self> {
        let settings = libpq::settings(environment)?;
        for warning in &settings.warnings {
            notices.warning(warning.clone());
        }
        let Connected { client, connection, process, route } = connect::connect(&settings).await?;
        let (lost, reason) = (CancellationToken::new(), Arc::new(OnceLock::new()));
        let (on_end, its_reason) = (lost.clone(), Arc::clone(&reason));
        let connection = tokio::spawn(async move {
            if let Err(error) = connection.await {
                let _ = its_reason.set(query_error("", &error).message().to_owned());
            }
            on_end.cancel();
        });
        let process = pooler::refuse_changing_process(&settings, &client, process, &route).await?;
        let session = Session { client, connection, lost, reason, settings, route, process };
        let set = session.client.batch_execute(WITHOUT_LIMITS).await;
        set.map_err(|error| query_error("could not set up the session", &error))?;
        Ok(session)
    }

    /// Checks that this server can be backed up now, and says what it is.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when it is too old, in recovery, or does not
    /// archive; [`ErrorKind::Conflict`] when another backup holds the lock.
    pub async fn prepare(&self) -> Result<ServerFacts> {
        let failed = |error| query_error("could not ask the server for its settings", &error);
        let version = "SELECT current_setting('server_version_num')::int4";
        let version: i32 = self.client.query_one(version, &[]).await.map_err(failed)?.get(0);
        if version < OLDEST_VERSION {
            let message = format!("the server's version, {}, is too old", version / 10_000);
            return Err(Error::new(ErrorKind::Config, message)
                .with_hint("Base backups need PostgreSQL 15 or later."));
        }
        let row = self
            .query_as_it_is(
                "SELECT current_setting('data_directory'), \
                        (SELECT system_identifier FROM pg_control_system()), \
                        (SELECT setting::int8 FROM pg_settings WHERE name = 'wal_segment_size'), \
                        current_setting('data_checksums') = 'on', \
                        pg_is_in_recovery(), \
                        current_setting('archive_mode'), \
                        has_function_privilege('pg_read_binary_file(text)', 'execute'), \
                        current_setting('archive_library', true), \
                        current_setting('archive_command'), \
                        (SELECT last_archived_time FROM pg_stat_archiver), \
                        (SELECT last_failed_time FROM pg_stat_archiver), \
                        (SELECT setting FROM pg_settings WHERE name = 'log_directory'), \
                        current_setting('wal_log_hints') = 'on', \
                        coalesce(current_setting('summarize_wal', true) = 'on', false), \
                        pg_postmaster_start_time()",
            )
            .await
            .map_err(failed)?;
        if row.get(4) {
            let message = "cannot take a base backup of a server that is in recovery";
            return Err(
                Error::new(ErrorKind::Config, message).with_hint("Run it on the primary server.")
            );
        }
        if row.get::<_, &str>(5) == "off" {
            let message = "the server does not archive its WAL, without which a base backup cannot be restored";
            return Err(Error::new(ErrorKind::Config, message).with_hint(
                "Set archive_mode = on, and archive_library = 'wal_e' or archive_command = 'wal-e ... wal-push %p', and restart the server.",
            ));
        }
        let text = |column| row.get::<_, Option<&str>>(column).unwrap_or_default();
        let archives_by = Way::of(text(7), text(8));
        if let Some(refusal) = archives_by.refusal() {
            return Err(refusal);
        }
        let segment_bytes: i64 = row.get(2);
        let segment_size = u64::try_from(segment_bytes).ok().and_then(SegmentSize::new);
        let segment_size = segment_size.ok_or_else(|| {
            let message =
                format!("the server's WAL segment size, {segment_bytes} bytes, is not a legal one");
            Error::new(ErrorKind::Corrupt, message)
        })?;
        let postmaster_pid = match row.get(6) {
            true => {
                let read = "SELECT pg_read_binary_file('postmaster.pid')";
                let row = self.client.query_one(read, &[]).await.map_err(failed)?;
                Some(String::from_utf8_lossy(row.get(0)).into_owned())
            }
            false => None,
        };
        self.take_backup_lock().await?;
        Ok(ServerFacts {
            version: version.unsigned_abs(),
            data_directory: row.get::<_, AsItIs>(0).into(),
            log_directory: row.get::<_, Option<AsItIs>>(11).map(PathBuf::from),
            // SQL has no unsigned integers: the bits are the identifier's.
            system_identifier: SystemIdentifier(row.get::<_, i64>(1).cast_unsigned()),
            segment_size,
            data_checksums: row.get(3),
            logs_hints: row.get(3) || row.get(12),
            summarizes_wal: row.get(13),
            started_at: row.get(14),
            postmaster_pid,
            archives_by,
            attempts: Attempts { archived: row.get(9), failed: row.get(10) },
        })
    }

    /// Takes the lock that one backup holds.
    async fn take_backup_lock(&self) -> Result<()> {
        let failed = |error| query_error("could not take the lock of base backups", &error);
        let lock = "SELECT pg_try_advisory_lock($1)";
        let deadline = Instant::now() + LOCK_PATIENCE;
        while !self.client.query_one(lock, &[&BACKUP_LOCK]).await.map_err(failed)?.get::<_, bool>(0)
        {
            if Instant::now() >= deadline {
                return Err(Error::new(
                    ErrorKind::Conflict,
                    "another base backup of this server is running",
                )
                .with_hint("Wait until it has ended."));
            }
            tokio::time::sleep(LOCK_PAUSE).await;
        }
        Ok(())
    }

    /// Begins backup mode. When `cancel` comes first, the server's checkpoint is
    /// not waited for.
    pub async fn start_backup(
        &self,
        label: &str,
        fast: bool,
        cancel: &CancellationToken,
    ) -> Result<Started> {
        let failed = |error| query_error("could not begin backup mode", &error);
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&label, &fast];
        let start = self.client.query_one("SELECT pg_backup_start($1, $2)::text", &parameters);
        let row = tokio::select! {
            row = start => row.map_err(failed)?,
            () = cancel.cancelled() => {
                // Without it the backend would only see at the end of the checkpoint that we left.
                self.cancel_query().await;
                return Err(Error::cancelled());
            }
        };
        let start_lsn = row.get::<_, &str>(0).parse()?;
        pooler::check(&self.client, self.process).await?;
        let timeline = "SELECT timeline_id FROM pg_control_checkpoint()";
        let timeline: i32 = self.client.query_one(timeline, &[]).await.map_err(failed)?.get(0);
        Ok(Started { start_lsn, timeline: TimelineId(timeline.cast_unsigned()) })
    }

    /// Asks the server, by a connection of its own, to end what the session waits for.
    async fn cancel_query(&self) {
        let cancel = self.client.cancel_token();
        if let Ok(stream) = connect::open(&self.settings, &self.route, None).await {
            let _ = cancel.cancel_query_raw(stream, AlreadyDone).await;
        }
    }

    /// Ends backup mode. Does not wait for the archive.
    pub async fn stop_backup(&self) -> Result<BackupStop> {
        // The label is in the database's encoding, the paths are in none.
        let stop = "SELECT lsn::text, convert_to(labelfile, 'UTF8'), spcmapfile \
                    FROM pg_backup_stop(wait_for_archive => false)";
        let row = self.query_as_it_is(stop).await;
        let row = row.map_err(|error| query_error("could not end backup mode", &error))?;
        Ok(BackupStop {
            stop_lsn: row.get::<_, &str>(0).parse()?,
            backup_label: String::from_utf8_lossy(row.get(1)).into_owned(),
            tablespace_map: row.get::<_, Option<AsItIs>>(2).map(AsItIs::lossy).unwrap_or_default(),
        })
    }

    /// The one row of a query, whose texts come as the server has them. It would convert
    /// them from the database's encoding otherwise, also paths, which are in none.
    async fn query_as_it_is(&self, query: &str) -> Result<Row, tokio_postgres::Error> {
        self.client.batch_execute("SET client_encoding = SQL_ASCII").await?;
        let row = self.client.query_one(query, &[]).await?;
        self.client.batch_execute("SET client_encoding = UTF8").await?;
        Ok(row)
    }

    /// Returns when the session has ended without being asked to.
    pub async fn lost(&self) -> Error {
        self.lost.cancelled().await;
        let error = Error::new(ErrorKind::Unavailable, "the connection to the server was lost")
            .with_hint("Backup mode ended with the session; take the backup again.");
        match self.reason.get() {
            Some(reason) => error.with_detail(format!("The reason was: {reason}.")),
            None => error,
        }
    }

    /// Ends the session, and with it backup mode if that has not ended yet.
    pub async fn close(self) {
        drop(self.client);
        let _ = tokio::time::timeout(CLOSE_PATIENCE, self.connection).await;
    }
}

/// The bytes of a text.
struct AsItIs(Vec<u8>);

impl AsItIs {
    /// The text, where what is not UTF-8 is replaced.
    fn lossy(self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }
}

impl From<AsItIs> for PathBuf {
    fn from(text: AsItIs) -> Self {
        PathBuf::from(OsString::from_vec(text.0))
    }
}

impl FromSql<'_> for AsItIs {
    fn from_sql(_: &Type, raw: &[u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(AsItIs(raw.to_vec()))
    }

    fn accepts(of: &Type) -> bool {
        *of == Type::TEXT
    }
}
