//! What the archive has, read by PostgreSQL's own rules and tools and not by wal_e:
//! which WAL file a server takes next, and what `pg_waldump` finds in them.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::rc::Rc;

use wal_e_core::postgres::Lsn;

use super::waldump::{self, Record};
use crate::archive::Archive;
use crate::keys::Keys;
use crate::process::ServerUser;
use crate::scratch::Scratch;

/// The size of the WAL segments of all clusters here.
pub const SEGMENT_BYTES: u64 = 1 << 20;
const SEGMENTS_PER_LOG: u64 = (1 << 32) / SEGMENT_BYTES;

/// A part of a history: the timeline, where it begins, and where it was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// The timeline.
    pub timeline: u32,
    /// Its first byte.
    pub begin: Lsn,
    /// The first byte that is not its own; `None` for the timeline itself.
    pub end: Option<Lsn>,
}

/// The WAL of an archive, as files that a server can be given.
pub struct Truth {
    scratch: Scratch,
    directory: PathBuf,
    segments: BTreeSet<(u32, u64)>,
    /// Segments that the archive has, but that cannot be read.
    damaged: BTreeSet<(u32, u64)>,
    histories: BTreeMap<u32, Vec<Range>>,
    replays: RefCell<HashMap<(Lsn, u32), Rc<Replay>>>,
}

/// What a server replays that begins at an LSN and follows a timeline.
#[derive(Debug)]
pub struct Replay {
    /// Every record, in order.
    pub records: Vec<Record>,
    /// Why replay does not go on, if there is more than the mere end of the archive.
    pub short: Option<String>,
    /// From where on it is of a timeline that had been left by then: its file stands in for
    /// the newer one's, which is missing.
    pub stray: Option<Lsn>,
}

impl Truth {
    /// Reads all WAL files of an archive.
    pub fn of(archive: &Archive, keys: &Keys) -> Truth {
        let scratch = Scratch::new();
        let directory = scratch.create("wal");
        let mut truth = Truth {
            scratch,
            directory,
            segments: BTreeSet::new(),
            damaged: BTreeSet::new(),
            histories: BTreeMap::new(),
            replays: RefCell::default(),
        };
        for object in archive.wal_objects() {
            let Some(name) = object.strip_prefix("wal_005/").and_then(|o| o.strip_suffix(".lz4"))
            else {
                continue;
            };
            let stored = archive.object(&object);
            truth.add(name, stored.and_then(|stored| decompress(&keys.decrypted(stored))));
        }
        truth
    }

    fn add(&mut self, name: &str, content: Option<Vec<u8>>) {
        let segment = segment_of_name(name);
        let Some(content) = content else {
            self.damaged.extend(segment);
            return;
        };
        let path = self.directory.join(name);
        fs::write(&path, &content).expect("a scratch directory can be written");
        ServerUser::get().own(&path);
        if let Some(segment) = segment {
            self.segments.insert(segment);
        } else if let Some(timeline) = name.strip_suffix(".history")
            && let Ok(timeline) = u32::from_str_radix(timeline, 16)
        {
            let ranges = ranges(timeline, &String::from_utf8_lossy(&content));
            self.histories.insert(timeline, ranges);
        }
    }

    /// A `restore_command` that hands out what is sound and knows nothing more.
    pub fn plain_restore_command(&self) -> String {
        format!("cp {}/%f \"%p\"", self.directory.display())
    }

    /// All timelines that have a history file or WAL, timeline 1 among them.
    pub fn timelines(&self) -> BTreeSet<u32> {
        let with_wal = self.segments.iter().map(|(timeline, _)| *timeline);
        with_wal.chain(self.histories.keys().copied()).chain([1]).collect()
    }

    /// Whether a history file is there.
    pub fn has_history(&self, timeline: u32) -> bool {
        self.histories.contains_key(&timeline)
    }

    /// The history of a timeline; without its file it has no ancestors, as for a server
    /// whose base backup is of that very timeline.
    pub fn history(&self, timeline: u32) -> Vec<Range> {
        let alone = || vec![Range { timeline, begin: Lsn(0), end: None }];
        self.histories.get(&timeline).cloned().unwrap_or_else(alone)
    }

    /// The newest timeline as a server counts that begins at `timeline` (PostgreSQL 15,
    /// `src/backend/access/transam/timeline.c`, `findNewestTimeLine`).
    pub fn newest_from(&self, timeline: u32) -> u32 {
        (timeline..)
            .take_while(|t| *t == timeline || self.has_history(*t))
            .last()
            .unwrap_or(timeline)
    }

    /// What a server replays from `start` on when it follows `timeline`.
    pub fn replay(&self, start: Lsn, timeline: u32) -> Rc<Replay> {
        if let Some(known) = self.replays.borrow().get(&(start, timeline)) {
            return Rc::clone(known);
        }
        let replay = Rc::new(self.follow(start, timeline));
        self.replays.borrow_mut().insert((start, timeline), Rc::clone(&replay));
        replay
    }

    fn follow(&self, start: Lsn, timeline: u32) -> Replay {
        let history = self.history(timeline);
        let first = start.0 / SEGMENT_BYTES;
        let mut taken: Vec<(u32, u64)> = Vec::new();
        let mut lowest = 0;
        for number in first.. {
            let Some(of) = self.file_for(&history, number, lowest) else { break };
            taken.push((of, number));
            lowest = of;
        }
        let next = first + taken.len() as u64;
        let folder = self.scratch.create(&format!("replay-{timeline}-{:x}", start.0));
        for (of, number) in &taken {
            let link = folder.join(name_of_segment(1, *number));
            symlink(self.directory.join(name_of_segment(*of, *number)), link)
                .expect("a link can be made in a scratch directory");
        }
        let records = match taken.is_empty() {
            true => Vec::new(),
            false => waldump::records(&folder, start, Lsn(next * SEGMENT_BYTES)),
        };
        // The folder's name is used again by the next question.
        fs::remove_dir_all(&folder).expect("a scratch directory can be removed");
        let stray = stray(&history, &taken);
        let short = self.shortfall((timeline, &history), &taken, &records, stray);
        Replay { records, short, stray }
    }

    /// The timeline whose file a server takes for a segment (PostgreSQL 15,
    /// `src/backend/access/transam/xlogrecovery.c`, `XLogFileReadAnyTLI`).
    fn file_for(&self, history: &[Range], number: u64, lowest: u32) -> Option<u32> {
        let newest_first = history
            .iter()
            .rev()
            .filter(|range| range.timeline >= lowest && range.begin.0 / SEGMENT_BYTES <= number);
        newest_first.map(|range| range.timeline).find(|t| self.segments.contains(&(*t, number)))
    }

    /// Why the end of replay is not the end of the log, if something shows that.
    fn shortfall(
        &self,
        (timeline, history): (u32, &[Range]),
        taken: &[(u32, u64)],
        records: &[Record],
        stray: Option<Lsn>,
    ) -> Option<String> {
        let Some(next) = taken.last().map(|(_, number)| number + 1) else {
            return Some("there is no WAL".to_owned());
        };
        let last = records.last().map(|record| record.lsn.0 / SEGMENT_BYTES);
        // A record that has begun in the last segment may need the next.
        if last.is_none_or(|last| last + 1 < next) {
            return Some(format!("replay ends at {:?}, before {next:x}", records.last()));
        }
        // A timeline that was begun and has archived nothing yet is not missed by anybody:
        // its own first segment may never come.
        let begin = history.last().map_or(0, |range| range.begin.0 / SEGMENT_BYTES);
        if taken.last().map(|(of, _)| *of) != Some(timeline) && next != begin {
            return Some(format!("no segment of timeline {timeline} is replayed"));
        }
        let known = self.segments.iter().chain(&self.damaged);
        let later = known.copied().find(|(of, number)| *of == timeline && *number >= next);
        if let Some((of, number)) = later {
            return Some(format!("segment {} lies beyond", name_of_segment(of, number)));
        }
        if let Some(stray) = stray {
            return Some(format!("replay leaves timeline {timeline} at {stray}"));
        }
        let left = self.histories.values().flatten().filter(|range| range.timeline == timeline);
        let beyond = left.filter_map(|range| range.end).find(|end| end.0 > next * SEGMENT_BYTES);
        beyond.map(|end| format!("timeline {timeline} was left at {end} only"))
    }

    /// Where two histories part: the first LSN that they do not share.
    pub fn parting(&self, one: u32, other: u32) -> Lsn {
        let (one, other) = (self.history(one), self.history(other));
        let mut parting = Lsn(0);
        for (a, b) in one.iter().zip(&other) {
            if a.timeline != b.timeline {
                break;
            }
            let end = |range: &Range| range.end.unwrap_or(Lsn(u64::MAX));
            parting = end(a).min(end(b));
            if a.end != b.end {
                break;
            }
        }
        parting
    }
}

/// Where a segment is taken from a timeline that was left within it or before it.
fn stray(history: &[Range], taken: &[(u32, u64)]) -> Option<Lsn> {
    taken.iter().find_map(|(of, number)| {
        let range = history.iter().find(|range| range.timeline == *of)?;
        range.end.filter(|end| end.0 < (number + 1) * SEGMENT_BYTES)
    })
}

/// The content of an LZ4 frame; `None` when it is damaged.
fn decompress(frame: &[u8]) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    lzzzz::lz4f::decompress_to_vec(frame, &mut content).ok()?;
    Some(content)
}

/// Timeline and number of a segment by its name.
pub fn segment_of_name(name: &str) -> Option<(u32, u64)> {
    let part = |from: usize| u32::from_str_radix(name.get(from..from + 8)?, 16).ok();
    let (timeline, log, segment) = (part(0)?, part(8)?, part(16)?);
    let number = u64::from(log) * SEGMENTS_PER_LOG + u64::from(segment);
    (name.len() == 24).then_some((timeline, number))
}

fn name_of_segment(timeline: u32, number: u64) -> String {
    format!("{timeline:08X}{:08X}{:08X}", number / SEGMENTS_PER_LOG, number % SEGMENTS_PER_LOG)
}

fn ranges(timeline: u32, history: &str) -> Vec<Range> {
    let mut ranges = Vec::new();
    let mut begin = Lsn(0);
    for line in history.lines() {
        let mut words = line.split_whitespace();
        let (Some(of), Some(end)) = (words.next(), words.next()) else { continue };
        let (Ok(of), Ok(end)) = (of.parse(), end.parse()) else { continue };
        ranges.push(Range { timeline: of, begin, end: Some(end) });
        begin = end;
    }
    ranges.push(Range { timeline, begin, end: None });
    ranges
}
