//! The helper that fetches ahead of a server that recovers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Position, PrefetchDirectory};
use crate::error::{ErrorKind, Result};
use crate::postgres::{SegmentNumber, SegmentSize, WalFileName, WalSegment};
use crate::store::ObjectStore;
use crate::wal::fetch::{FetchOptions, Sink, Sound, read_object};

/// How often the position is looked at: while the server asks for WAL, and after
/// it has not for a while.
const LOOK_EVERY: Duration = Duration::from_millis(10);
const LOOK_EVERY_IDLE: Duration = Duration::from_millis(100);
const IDLE_AFTER: Duration = Duration::from_secs(5);

/// How often it is asked whether all this is still needed.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// The helper ends when the server has not moved for so long.
const END_AFTER: Duration = Duration::from_secs(60);

/// How long nothing is fetched ahead after the disk was full.
const REST: Duration = Duration::from_secs(60);

/// How long what is under way may take to end.
const CLEANUP_TIME: Duration = Duration::from_secs(5);

/// How many bytes may be ahead, if that is more than one segment.
const MOST_BYTES_AHEAD: u64 = 1 << 30;

/// How often the lock is tried: another process may just be looking at it.
const ATTEMPTS_TO_LOCK: u32 = 5;

/// Fetches the segments after the noted [`Position`] into `directory`, until the
/// server has not moved for a minute, `is_needed` says no, the directory is taken
/// away, the server turns to another archive, or it is cancelled
/// ([`FetchOptions::cancel`]). Then the directory is removed. Ends at once when
/// another helper is at work.
///
/// At most [`Position::depth`] segments are there at a time, and at most a gigabyte of
/// them; those that were asked for, and what does not follow the position, are
/// removed. One that cannot be fetched, for whatever reason, is left to the server to
/// ask for, and so is all after it: nothing is asked for twice.
///
/// # Errors
/// [`ErrorKind::Io`], [`ErrorKind::DiskFull`] or [`ErrorKind::Config`] when the
/// directory cannot be made or locked.
pub async fn prefetch_ahead(
    directory: &PrefetchDirectory,
    store: Arc<dyn ObjectStore>,
    options: &FetchOptions,
    mut is_needed: impl FnMut() -> bool,
) -> Result<()> {
    directory.create()?;
    let mut attempts = 1;
    let lock = loop {
        match directory.lock()? {
            Some(lock) => break lock,
            None if attempts == ATTEMPTS_TO_LOCK => return Ok(()),
            None => tokio::time::sleep(LOOK_EVERY_IDLE / ATTEMPTS_TO_LOCK).await,
        }
        attempts += 1;
    };
    let mut ahead = Ahead::new(directory, store, options);
    let mut asked = Instant::now();
    loop {
        match directory.noted() {
            Some((archive, _)) if archive != directory.archive => break,
            Some((_, position)) => ahead.follow(position),
            None => {}
        }
        if asked.elapsed() >= ASK_EVERY {
            asked = Instant::now();
            if !lock.is_in_place() || !is_needed() {
                break;
            }
        }
        let idle = ahead.moved.elapsed();
        if idle >= END_AFTER {
            break;
        }
        ahead.begin();
        let pause = if idle < IDLE_AFTER { LOOK_EVERY } else { LOOK_EVERY_IDLE };
        tokio::select! {
            biased;
            () = options.cancel.cancelled() => break,
            Some(ended) = ahead.tasks.join_next() => {
                if let Ok((name, result)) = ended {
                    ahead.end(&name, result);
                }
            }
            () = tokio::time::sleep(pause) => {}
        }
    }
    ahead.close().await;
    if lock.is_in_place() {
        directory.remove();
    }
    Ok(())
}

/// What is there, what is under way, and where the server is.
struct Ahead<'a> {
    directory: &'a PrefetchDirectory,
    store: Arc<dyn ObjectStore>,
    options: &'a FetchOptions,
    position: Option<Position>,
    moved: Instant,
    window: Vec<WalFileName>,
    whole: BTreeSet<WalFileName>,
    under_way: BTreeMap<WalFileName, CancellationToken>,
    tasks: JoinSet<(WalFileName, Result<Sound>)>,
    /// The first segment that could not be fetched.
    stopped_at: Option<WalFileName>,
    resting_until: Option<Instant>,
}

impl<'a> Ahead<'a> {
    /// Begins with what an earlier helper left: whole segments, which are checked
    /// when they are used, and parts, which are of no use.
    fn new(
        directory: &'a PrefetchDirectory,
        store: Arc<dyn ObjectStore>,
        options: &'a FetchOptions,
    ) -> Self {
        directory.remove_removed();
        let running = directory.path().join("running");
        for entry in fs::read_dir(running).into_iter().flatten().flatten() {
            let _ = fs::remove_file(entry.path());
        }
        let whole = directory.whole_files().into_iter().map(|(name, _)| name).collect();
        Ahead {
            directory,
            store,
            options,
            position: None,
            moved: Instant::now(),
            window: Vec::new(),
            whole,
            under_way: BTreeMap::new(),
            tasks: JoinSet::new(),
            stopped_at: None,
            resting_until: None,
        }
    }

    /// Takes note of where the server is.
    fn follow(&mut self, position: Position) {
        if self.position.as_ref() == Some(&position) {
            return;
        }
        self.moved = Instant::now();
        self.window = window(&position);
        if self.stopped_at.as_ref().is_some_and(|name| !self.window.contains(name)) {
            self.stopped_at = None;
        }
        self.position = Some(position);
        self.remove_all_but_window();
    }

    fn remove_all_but_window(&mut self) {
        for (name, cancel) in &self.under_way {
            if !self.window.contains(name) {
                cancel.cancel();
            }
        }
        self.whole.retain(|name| self.window.contains(name));
        for (name, path) in self.directory.whole_files() {
            if !self.whole.contains(&name) {
                let _ = fs::remove_file(path);
            }
        }
    }

    /// Begins to fetch what is missing, as far as there is room.
    fn begin(&mut self) {
        let Some(position) = &self.position else { return };
        if self.resting_until.is_some_and(|until| Instant::now() < until) {
            return;
        }
        // The first ones are needed soonest, and share the line with the others.
        let most = usize::from(position.depth).div_ceil(2);
        for name in &self.window {
            if self.stopped_at.as_ref() == Some(name) || self.under_way.len() >= most {
                return;
            }
            if self.whole.contains(name) || self.under_way.contains_key(name) {
                continue;
            }
            let Some((key, encoding)) = position.ending.locate(name) else { return };
            let cancel = self.options.cancel.child_token();
            self.under_way.insert(name.clone(), cancel.clone());
            let options = FetchOptions { cancel, ..self.options.clone() };
            let (store, name) = (Arc::clone(&self.store), name.clone());
            // Without the mark the server does not wait for it, which does no harm.
            let _ = fs::write(self.directory.running(&name), "");
            let part = self.directory.part(&name);
            self.tasks.spawn(async move {
                let read = read_object(&*store, &key, encoding, &name, &options, Sink::File(&part));
                let result = read.await;
                (name, result)
            });
        }
    }

    /// Keeps what was fetched, or stops before what could not be.
    fn end(&mut self, name: &WalFileName, result: Result<Sound>) {
        let cancelled = self.under_way.remove(name).is_none_or(|cancel| cancel.is_cancelled());
        match result {
            _ if cancelled => {}
            Ok(sound) => {
                let place = self.directory.place(name, &sound.content);
                let kept = sound.file.is_some_and(|file| file.rename_to(&place).is_ok());
                if kept {
                    self.whole.insert(name.clone());
                } else {
                    self.stop_at(name);
                }
            }
            Err(error) if error.kind() == ErrorKind::DiskFull => {
                self.options
                    .notices
                    .warning(format!("{error}; no WAL is fetched ahead for a while"));
                self.resting_until = Some(Instant::now() + REST);
                let window = std::mem::take(&mut self.window);
                self.remove_all_but_window();
                self.window = window;
            }
            Err(error) => {
                self.options.notices.debug(format!("{name} is not fetched ahead: {error}"));
                self.stop_at(name);
            }
        }
        // Last: a fetch that waits looks for the mark first.
        let _ = fs::remove_file(self.directory.running(name));
    }

    fn stop_at(&mut self, name: &WalFileName) {
        if self.stopped_at.as_ref().is_none_or(|stopped_at| name < stopped_at) {
            self.stopped_at = Some(name.clone());
        }
    }

    async fn close(mut self) {
        for cancel in self.under_way.values() {
            cancel.cancel();
        }
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(CLEANUP_TIME, ended).await;
    }
}

/// The segments to have ahead of a position, in their order.
fn window(position: &Position) -> Vec<WalFileName> {
    let size = position.segment_size;
    let Some(last) = position.segment.segment_number(size) else { return Vec::new() };
    let most = (MOST_BYTES_AHEAD / size.bytes()).max(1).min(u64::from(position.depth));
    let timeline = position.segment.timeline();
    let names = (1..=most).filter_map(|distance| {
        let number = SegmentNumber(last.0.checked_add(distance)?);
        is_nameable(number, size)
            .then(|| WalFileName::segment(WalSegment { timeline, number }, size))
    });
    names.collect()
}

/// Whether the segment begins within the log's 64 bits.
fn is_nameable(number: SegmentNumber, size: SegmentSize) -> bool {
    number.0.checked_mul(size.bytes()).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::KeyEnding;

    fn names(segment: &str, megabytes: u64, depth: u16) -> Vec<String> {
        let position = Position {
            segment: segment.parse().unwrap(),
            segment_size: SegmentSize::new(megabytes << 20).unwrap(),
            depth,
            ending: KeyEnding::default(),
        };
        window(&position).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_window_follows_the_position() {
        let expected =
            ["0000000200000000000000FF", "000000020000000100000000", "000000020000000100000001"];
        assert_eq!(names("0000000200000000000000FE", 16, 3), expected);
        assert_eq!(names("0000000200000000000000FE", 1, 3)[1], "000000020000000000000100");
        assert_eq!(names("0000000200000000000000FE", 16, 0), Vec::<String>::new());
    }

    #[test]
    fn the_window_has_bounds() {
        assert_eq!(names("000000020000000000000001", 64, 256).len(), 16);
        assert_eq!(names("000000020000000000000001", 1024, 8).len(), 1);
        // No segment of 64 MB has such a name.
        assert_eq!(names("0000000200000000000000FE", 64, 8), Vec::<String>::new());
        assert_eq!(names("00000002FFFFFFFF000000FE", 16, 8), ["00000002FFFFFFFF000000FF"]);
    }
}
