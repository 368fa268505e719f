//! `wal-e wal-fetch NAME DEST`: fetches one WAL file from the archive, or takes the one that
//! was fetched ahead.

use std::fs::File;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use wal_e_core::catalogue::KeyEnding;
use wal_e_core::notice::Notices;
use wal_e_core::postgres::data_directory::RECOVERY_SIGNAL;
use wal_e_core::postgres::{
    SegmentSize, SystemIdentifier, WalFileKind, WalFileName, WalPageHeader,
};
use wal_e_core::store::{self, retry::Patience};
use wal_e_core::wal::{
    self, FetchOptions, Fetched, Position, PrefetchDirectory, TablespaceGuard, Taken,
};
use wal_e_core::{Error, ErrorKind, Result, notice};

use super::run_small;
use crate::cli::WalFetch;
use crate::exit_code::{is_beside, is_beside_standby_signal};
use crate::interrupt::{Failure, Interrupt};
use crate::recovering_server::{self, ServerProcess};
use crate::report::Report;
use crate::settings::Settings;

/// The name under which a server wants each segment that it replays.
const NAME_FOR_SERVER: &str = "RECOVERYXLOG";

/// How long a segment may be missing although there is WAL after it. Archiving
/// sends several at a time, and one of them may be tried again.
const GAP_PATIENCE: Duration = Duration::from_secs(5);

pub fn run(arguments: &WalFetch, settings: &Settings, report: &Arc<Report>) -> Result<(), Failure> {
    let name: WalFileName = arguments.name.parse()?;
    let destination = &arguments.destination;
    let system_identifier = recovering_server::system_identifier(destination);
    let wal_directory = std::path::absolute(destination).ok();
    let wal_directory = wal_directory.as_deref().and_then(Path::parent).unwrap_or(Path::new("."));
    let directory = PrefetchDirectory::new(wal_directory, &settings.archive_identity());
    let (notices, queue) = notice::channel();
    let guard = guard(arguments, &name, notices.clone());
    let ahead = Ahead::of(arguments, &name, settings, wal_directory, &directory);

    // Before anything is made that takes time: a store, threads.
    if let Some(ahead) = &ahead {
        let taken = directory.take(&name, destination, system_identifier, guard.as_ref());
        report.notices(&queue);
        match taken {
            Taken::Refused(error) => return Err(error.into()),
            Taken::Served(size) => {
                let ending = directory.position().map(|position| position.ending);
                ahead.go_on(&name, size, ending.unwrap_or_default(), report);
                return Ok(());
            }
            Taken::Unusable(error) => {
                report.warning(&format!("{error}; fetching the WAL file anew"))
            }
            Taken::Absent => {}
        }
    }
    // The server looks into pg_wal for what the archive does not have. What the lost server
    // had not archived may have been put there by hand; then there is no gap.
    let is_local = lies_in(wal_directory, &name, system_identifier);
    let gap_matters = !arguments.end_at_gap && !is_local;
    let position = directory.position();
    let segment_size = recovering_server::segment_size(destination)
        .or(position.as_ref().map(|position| position.segment_size));
    let wanted = Wanted {
        system_identifier,
        likely: position.map(|position| position.ending).unwrap_or_default(),
        segment_size,
        gap_patience: gap_matters.then_some(GAP_PATIENCE),
        is_final: is_final(&arguments.destination),
        guard: guard.clone(),
    };
    let fetched = fetch(arguments, &name, settings, wanted, report);
    report.notices(&queue);
    if let (Err(Failure::Error(error)), Some(guard), true) = (&fetched, &guard, is_local)
        && error.kind() == ErrorKind::NotFound
    {
        let replaced = wal::replace_local(&name, destination, guard);
        report.notices(&queue);
        if replaced? {
            return Ok(());
        }
    }
    if let Some(ahead) = &ahead {
        match &fetched {
            Ok(fetched) => {
                if let Some(size) = SegmentSize::new(fetched.bytes) {
                    ahead.go_on(&name, size, fetched.ending.clone(), report);
                }
            }
            Err(_) => directory.remove_leftovers(),
        }
    }
    fetched.map(drop)
}

/// What is known of the file before the archive is asked; as in [`FetchOptions`].
struct Wanted {
    system_identifier: Option<SystemIdentifier>,
    likely: KeyEnding,
    segment_size: Option<SegmentSize>,
    gap_patience: Option<Duration>,
    is_final: bool,
    guard: Option<TablespaceGuard>,
}

/// What looks at the segments before the server that recovers gets them; `None` when no
/// server will replay this one.
fn guard(arguments: &WalFetch, name: &WalFileName, notices: Notices) -> Option<TablespaceGuard> {
    let destination = &arguments.destination;
    let is_for_server = destination.file_name().is_some_and(|name| name == NAME_FOR_SERVER)
        || ServerProcess::above_this_one(destination).is_some();
    if name.kind() != WalFileKind::Segment || !is_for_server {
        return None;
    }
    let mut directories = recovering_server::data_directories(destination);
    let directory = directories.find(|directory| directory.join("PG_VERSION").exists())?;
    Some(TablespaceGuard::new(&directory, arguments.tablespaces.new_tablespaces(), notices))
}

/// Fetches the file from the archive.
fn fetch(
    arguments: &WalFetch,
    name: &WalFileName,
    settings: &Settings,
    wanted: Wanted,
    report: &Arc<Report>,
) -> Result<Fetched, Failure> {
    run_small(async {
        let interrupt = Interrupt::listen(report)?;
        let (notices, queue) = notice::channel();
        let fetching = async {
            let patience = patience(&arguments.destination);
            let opening = store::open(&settings.store, patience, notices.clone());
            let store = interrupt.or_cancelled(opening).await?;
            let options = FetchOptions {
                system_identifier: wanted.system_identifier,
                likely: wanted.likely,
                segment_size: wanted.segment_size,
                gap_patience: wanted.gap_patience,
                is_final: wanted.is_final,
                guard: wanted.guard,
                notices,
                cancel: interrupt.token(),
            };
            wal::fetch(&*store, name, &arguments.destination, &options).await
        };
        let fetched = report.attend(&queue, || None, fetching).await;
        fetched.map_err(|error| interrupt.failure(error))
    })?
}

/// Whether `directory` holds the segment `name` of this cluster. The name alone does not
/// say: a server gives old files the names of segments to come.
fn lies_in(
    directory: &Path,
    name: &WalFileName,
    system_identifier: Option<SystemIdentifier>,
) -> bool {
    let mut start = [0; WalPageHeader::LENGTH];
    let read = File::open(directory.join(name.as_str())).and_then(|mut file| {
        file.read_exact(&mut start)?;
        Ok(file.metadata()?.len())
    });
    let (Ok(bytes), Some(header)) = (read, WalPageHeader::parse(&start)) else { return false };
    header.check(name, bytes).is_ok()
        && system_identifier.is_none_or(|cluster| cluster == header.system_identifier)
}

/// Whether a server wants the file that ends recovery where the archive has no more. A
/// standby does not, and a person looks for this one file.
fn is_final(destination: &Path) -> bool {
    is_beside(Some(destination), RECOVERY_SIGNAL) && !is_beside_standby_signal(Some(destination))
}

/// A standby asks again, and may stream the WAL from a primary meanwhile.
fn patience(destination: &Path) -> Patience {
    if is_beside_standby_signal(Some(destination)) {
        Patience::archiver()
    } else {
        Patience::command()
    }
}

/// The fetching ahead for the server that recovers.
struct Ahead<'a> {
    depth: u16,
    server: ServerProcess,
    settings: &'a Settings,
    wal_directory: &'a Path,
    directory: &'a PrefetchDirectory,
}

impl<'a> Ahead<'a> {
    /// `None` when it is not wanted, or no server will ask for the next segment:
    /// `pg_rewind` goes backwards, and a person wants this one.
    fn of(
        arguments: &WalFetch,
        name: &WalFileName,
        settings: &'a Settings,
        wal_directory: &'a Path,
        directory: &'a PrefetchDirectory,
    ) -> Option<Self> {
        let destination = &arguments.destination;
        let wanted = arguments.prefetch > 0
            && name.kind() == WalFileKind::Segment
            && destination.file_name().is_some_and(|name| name == NAME_FOR_SERVER);
        let server = wanted.then(|| ServerProcess::above_this_one(destination)).flatten()?;
        Some(Ahead { depth: arguments.prefetch, server, settings, wal_directory, directory })
    }

    /// Has the segments after `name` fetched. What fails here costs time later on.
    fn go_on(&self, name: &WalFileName, size: SegmentSize, ending: KeyEnding, report: &Report) {
        let position =
            Position { segment: name.clone(), segment_size: size, depth: self.depth, ending };
        let noted = self.directory.note(&position);
        let begun = noted.and_then(|()| {
            if self.directory.has_helper() { Ok(()) } else { self.start_helper(name) }
        });
        if let Err(error) = begun {
            report.warning(&format!("no WAL is fetched ahead: {error}"));
        }
    }

    /// Starts a process that outlives this one. The server must not wait for it: it
    /// has no part in the server's standard error, and is in a process group of its
    /// own, which no signal to the server's reaches.
    fn start_helper(&self, name: &WalFileName) -> Result<()> {
        let failed =
            |source: &std::io::Error| Error::io("could not start \"wal-prefetch\"", source);
        let program = std::env::current_exe().map_err(|source| failed(&source))?;
        let mut command = Command::new(program);
        command
            .args(&self.settings.arguments)
            .arg("wal-prefetch")
            .arg(self.wal_directory)
            .arg(name.as_str())
            .args(["--server".to_owned(), self.server.pid().to_string()])
            .args(["-p".to_owned(), self.depth.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0);
        command.spawn().map(drop).map_err(|source| failed(&source))
    }
}
