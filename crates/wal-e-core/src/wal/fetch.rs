//! One WAL file out of the store.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::gap::{Continuation, gap, shown_by_histories};
use super::tablespace_guard::{Admission, Next, TablespaceGuard};
use super::temporary::{Temporary, directory_of};
use crate::archived::ArchivedObject;
use crate::catalogue::around::look_around;
use crate::catalogue::locate::{KeyEnding, Located, locate_all};
use crate::error::{Error, ErrorKind, Result};
use crate::layout::{self, ObjectKey};
use crate::notice::Notices;
use crate::postgres::{SegmentSize, SystemIdentifier, WalFileName, WalSegment};
use crate::store::ObjectStore;
use crate::tasks::{Work, blocking, or_cancelled};

mod object;

pub(super) use object::{Sink, Sound, read_object};

/// How often a file that is missing before others is looked for again.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// How a WAL file is fetched.
#[derive(Debug, Clone)]
pub struct FetchOptions {
    /// The cluster whose WAL it must be; `None` when that is not known.
    pub system_identifier: Option<SystemIdentifier>,
    /// Under which ending of its key the file is looked for first.
    pub likely: KeyEnding,
    /// The size of the cluster's segments; `None` when that is not known. A gap at
    /// the end or at the beginning of a timeline is noticed only with it.
    pub segment_size: Option<SegmentSize>,
    /// How long to look again for a segment that the archive does not have, although
    /// the log went on after it ([`Continuation`]): several are archived at a time,
    /// so it may be under way. `None`: such a gap counts as the end of the WAL.
    pub gap_patience: Option<Duration>,
    /// Whether recovery ends when the file is missing, so that no gap may be overlooked, however
    /// far away the WAL is that shows it, and however slow a listing. A standby asks again.
    pub is_final: bool,
    /// What a segment must not make the server do; `None` where no server replays it.
    pub guard: Option<TablespaceGuard>,
    /// Where to say that a damaged object was replaced by another one.
    pub notices: Notices,
    /// Ends the work; nothing is left then.
    pub cancel: CancellationToken,
}

/// A WAL file that was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Its size.
    pub bytes: u64,
    /// What the key of its object ends with.
    pub ending: KeyEnding,
}

/// Writes the archived WAL file `name` to `destination`. The name appears only
/// when the whole file is verified ([`verify`]) and on disk.
///
/// It takes one request where the file has the likely ending; else the archive is
/// listed. Histories of newer timelines are read when it has some, and lacks the
/// segment and all after it on its timeline; that of the timeline itself, when the
/// segment may be its first one. When an object is damaged and the
/// archive has the file in another encoding, too, that one is taken.
///
/// # Errors
/// * [`ErrorKind::NotFound`]: the archive does not have it.
/// * [`ErrorKind::Config`]: the archive has no WAL at all: a wrong prefix, or a
///   file system that is not mounted. To a server that recovers, this must not
///   look like the end of the WAL. Also when the file is there in an encoding
///   that cannot be read.
/// * [`ErrorKind::Corrupt`]: the object is damaged, or the segment is missing
///   although the log went on after it, or a timeline history is damaged, so that
///   this is not known; nothing is left at `destination`.
/// * [`ErrorKind::Conflict`]: it is the WAL of another cluster.
/// * [`ErrorKind::Unsafe`]: the server must not replay it ([`FetchOptions::guard`]).
///
/// After a kill, a file named like `destination` with `.wal-e-tmp-` and a number
/// after it may be left; later calls for the same destination remove it.
pub fn fetch<'a>(
    store: &'a dyn ObjectStore,
    name: &'a WalFileName,
    destination: &'a Path,
    options: &'a FetchOptions,
) -> Work<'a, Result<Fetched>> {
    Box::pin(async move {
        let temporary = Temporary::name_beside(destination);
        let sound = read(store, name, options, Sink::File(&temporary)).await?;
        if let Some(guard) = &options.guard {
            admit(store, name, &temporary, guard, options).await?;
        }
        let destination = destination.to_owned();
        let fetched = Fetched { bytes: sound.content.bytes(), ending: sound.ending };
        blocking("fetching a WAL file", move || {
            if let Some(file) = sound.file {
                file.rename_to(&destination)
                    .map_err(|error| Error::file("rename a file to", &destination, &error))?;
            }
            sync_directory_of(&destination)
        })
        .await?;
        Ok(fetched)
    })
}

/// Has the guard look at the segment in `file`, and at the next one where it needs to.
async fn admit(
    store: &dyn ObjectStore,
    name: &WalFileName,
    file: &Path,
    guard: &TablespaceGuard,
    options: &FetchOptions,
) -> Result<()> {
    let look = async |next: Next| {
        let (name, file, guard) = (name.clone(), file.to_owned(), guard.clone());
        blocking("looking at a WAL file", move || guard.admit(&name, &file, &next)).await
    };
    if look(Next::NotAsked).await? == Admission::NeedsNext {
        let next = or_cancelled(&options.cancel, beginning_of_next(store, name, file)).await?;
        look(next.map_or(Next::Absent, Next::Begins)).await?;
    }
    Ok(())
}

/// How the segment after `name` begins, of which `file` is the content.
async fn beginning_of_next(
    store: &dyn ObjectStore,
    name: &WalFileName,
    file: &Path,
) -> Result<Option<Vec<u8>>> {
    let bytes = fs::metadata(file).map_err(|error| Error::file("stat file", file, &error))?.len();
    let next = SegmentSize::new(bytes).and_then(|size| {
        let segment = WalSegment { timeline: name.timeline(), number: name.segment_number(size)? };
        Some(WalFileName::segment(segment.next(), size))
    });
    let Some(next) = next else { return Ok(None) };
    let Some(located) = locate_sound(store, &next).await? else { return Ok(None) };
    let encoding = located.encoding.readable(&store.url(located.key.as_str()))?;
    let object = ArchivedObject::open(store, &located.key, encoding).await?;
    Ok(Some(object.read_at_most(TablespaceGuard::BEGINNING as u64).await?))
}

/// Gives the server a copy of a segment that the archive does not have and that lies in
/// its `pg_wal`, at `destination`, when it must not take it as it is; says whether it
/// did. Blocks.
///
/// # Errors
/// [`ErrorKind::Unsafe`] when the server must not replay it.
pub fn replace_local(
    name: &WalFileName,
    destination: &Path,
    guard: &TablespaceGuard,
) -> Result<bool> {
    let (temporary, _) = Temporary::create(Temporary::name_beside(destination))?;
    if !guard.admit_local(name, temporary.path())? {
        return Ok(false);
    }
    temporary
        .rename_to(destination)
        .map_err(|error| Error::file("rename a file to", destination, &error))?;
    sync_directory_of(destination)?;
    Ok(true)
}

/// Reads the archived WAL file `name` through every check that [`fetch`] makes,
/// without writing it, and returns its size in bytes: the checksums of its frame
/// and of its content, and for segments and partial segments the size and the
/// page header with magic number, address, timeline and cluster.
///
/// # Errors
/// As [`fetch`]; a segment that is missing is always [`ErrorKind::NotFound`].
pub fn verify<'a>(
    store: &'a dyn ObjectStore,
    name: &'a WalFileName,
    system_identifier: Option<SystemIdentifier>,
) -> Work<'a, Result<u64>> {
    Box::pin(async move {
        Ok(read(store, name, &FetchOptions::only_checks(system_identifier), Sink::Nowhere)
            .await?
            .content
            .bytes())
    })
}

/// Looks for a WAL file in every encoding, as [`fetch`] does: where the archive has it in
/// several, the first object is taken that passes the checks; if none does, the best one,
/// for its error.
///
/// # Errors
/// Those of the store.
pub fn locate_sound<'a>(
    store: &'a dyn ObjectStore,
    name: &'a WalFileName,
) -> Work<'a, Result<Option<Located>>> {
    Box::pin(async move {
        let all = locate_all(store, name).await?;
        let several = if all.len() > 1 { all.as_slice() } else { &[] };
        let options = FetchOptions::only_checks(None);
        for located in several {
            let Ok(encoding) = located.encoding.readable(located.key.as_str()) else { continue };
            match read_object(store, &located.key, encoding, name, &options, Sink::Nowhere).await {
                Ok(_) => return Ok(Some(located.clone())),
                Err(error) if error.is_of_one_object() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(all.into_iter().next())
    })
}

impl FetchOptions {
    /// For reading a file without taking it anywhere.
    pub(super) fn only_checks(system_identifier: Option<SystemIdentifier>) -> Self {
        let (notices, _) = crate::notice::channel();
        FetchOptions {
            system_identifier,
            likely: KeyEnding::default(),
            segment_size: None,
            gap_patience: None,
            is_final: false,
            guard: None,
            notices,
            cancel: CancellationToken::new(),
        }
    }
}

/// Reads the file from the first of its objects that is sound.
pub(super) async fn read(
    store: &dyn ObjectStore,
    name: &WalFileName,
    options: &FetchOptions,
    into: Sink<'_>,
) -> Result<Sound> {
    let mut damage: Option<(ObjectKey, Error)> = None;
    if let Some((key, encoding)) = options.likely.locate(name) {
        match read_object(store, &key, encoding, name, options, into).await {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) if error.is_unusable_object() => damage = Some((key, error)),
            result => return result,
        }
    }
    let began = Instant::now();
    let mut shown: Option<Continuation> = None;
    loop {
        let everywhere = options.is_final && options.gap_patience.is_some();
        let looking = look_around(store, name, options.segment_size, everywhere);
        let mut seen = or_cancelled(&options.cancel, looking).await?;
        let found = std::mem::take(&mut seen.found);
        if let Some(sound) = read_found(store, found, name, options, into, &mut damage).await? {
            return Ok(sound);
        }
        if let Some((_, error)) = damage {
            return Err(error);
        }
        let Some(patience) = options.gap_patience else {
            return Err(absent(store, name, seen.has_wal));
        };
        let later = seen.later.clone().map(Continuation::Segment);
        if let (None, None, Some(size)) = (&later, &shown, options.segment_size) {
            let asking = shown_by_histories(store, name, size, &seen, &options.notices);
            shown = or_cancelled(&options.cancel, asking).await?;
        }
        match later.as_ref().or(shown.as_ref()) {
            None => return Err(absent(store, name, seen.has_wal)),
            Some(continuation) if began.elapsed() >= patience => {
                return Err(gap(store, name, continuation));
            }
            Some(_) => {
                let pause = async {
                    tokio::time::sleep(LOOK_AGAIN_AFTER.min(patience)).await;
                    Ok(())
                };
                or_cancelled(&options.cancel, pause).await?;
            }
        }
    }
}

/// Reads the first sound one of the objects of a file. `damage` is what is wrong with the one
/// that was read before, or with the first of these.
async fn read_found(
    store: &dyn ObjectStore,
    found: Vec<Located>,
    name: &WalFileName,
    options: &FetchOptions,
    into: Sink<'_>,
    damage: &mut Option<(ObjectKey, Error)>,
) -> Result<Option<Sound>> {
    for located in found {
        if damage.as_ref().is_some_and(|(key, _)| *key == located.key) {
            continue;
        }
        let url = store.url(located.key.as_str());
        let read = match located.encoding.readable(&url) {
            Ok(encoding) => read_object(store, &located.key, encoding, name, options, into).await,
            Err(error) => Err(error),
        };
        match read {
            Ok(sound) => {
                if let Some((_, error)) = damage {
                    options.notices.warning(format!("{error}; read \"{url}\" instead"));
                }
                return Ok(Some(sound));
            }
            // It has just been removed.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) if error.is_unusable_object() => {
                damage.get_or_insert((located.key, error));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// The archive does not have the file; or it has no WAL at all, which is another error.
fn absent(store: &dyn ObjectStore, name: &WalFileName, has_wal: bool) -> Error {
    let directory = store.url(&layout::wal());
    if has_wal {
        let message = format!("WAL file \"{name}\" is not in the archive \"{directory}\"");
        return Error::new(ErrorKind::NotFound, message);
    }
    Error::new(ErrorKind::Config, format!("there is no WAL in \"{directory}\""))
        .with_hint("Check the prefix, and that the file system of a \"file://\" prefix is mounted.")
}

fn sync_directory_of(path: &Path) -> Result<()> {
    let directory = directory_of(path);
    fs::File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|error| Error::file("sync directory", directory, &error))
}

#[cfg(test)]
mod tests;
