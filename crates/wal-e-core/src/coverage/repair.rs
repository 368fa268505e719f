//! Archives segments again that the archive lacks and a server still has.

use super::archive::Archive;
use crate::error::Result;
use crate::postgres::{SegmentNumber, TimelineId, WalFileName, WalSegment};
use crate::wal::{PushOutcome, Pusher};

/// A segment that was missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repaired {
    /// Its name.
    pub segment: String,
    /// What became of it.
    pub outcome: PushOutcome,
}

impl Repaired {
    /// What became of it, in words.
    pub fn as_str(&self) -> &'static str {
        match self.outcome {
            PushOutcome::Stored => "archived",
            PushOutcome::AlreadyThere => "in the archive already",
            PushOutcome::LeftUnfinished => "not needed",
        }
    }
}

impl Archive {
    /// The segments that are missing and that the server has.
    fn at_hand(&self) -> impl Iterator<Item = WalSegment> {
        let timelines = self.lines.keys().copied();
        timelines.flat_map(|timeline| {
            let first = self.beginning(timeline).unwrap_or(SegmentNumber(0));
            let ranges = self.ranges(timeline, first).into_iter();
            ranges
                .filter(|range| range.is_at_hand)
                .flat_map(move |range| at_each(timeline, range.first, range.last))
        })
    }

    /// Whether there is anything that [`repair`] could archive.
    pub fn can_be_repaired(&self) -> bool {
        self.at_hand().next().is_some()
    }
}

fn at_each(
    timeline: TimelineId,
    first: SegmentNumber,
    last: SegmentNumber,
) -> impl Iterator<Item = WalSegment> {
    (first.0..=last.0).map(move |number| WalSegment { timeline, number: SegmentNumber(number) })
}

/// Archives what is missing in `archive` and the server still has. No object is replaced, and
/// no mark of the server is touched. A segment that the server has removed meanwhile is passed
/// over.
///
/// # Errors
/// Those of [`Pusher::push`]; what was archived before stays.
pub async fn repair(archive: &Archive, pusher: &Pusher) -> Result<Vec<Repaired>> {
    let Some(own) = &archive.own else { return Ok(Vec::new()) };
    let mut repaired = Vec::new();
    for segment in archive.at_hand() {
        let name = WalFileName::segment(segment, archive.size);
        let path = own.pg_wal.join(name.as_str());
        if !path.exists() {
            continue;
        }
        let pushed = pusher.push(&name, &path).await?;
        repaired.push(Repaired { segment: name.to_string(), outcome: pushed.outcome });
    }
    Ok(repaired)
}
