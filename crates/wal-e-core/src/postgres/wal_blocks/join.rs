//! Consecutive segments, held together by the records that go on from one into the next.

use super::record::{self, Reading};
use super::{BlockSink, Head, HeadEnd, SegmentEnds, Tail, Unreadable, unreadable};
use crate::postgres::Lsn;
use crate::postgres::wal_record::HEADER_BYTES;

/// The end of what was read of a log so far, segment by segment.
#[derive(Debug, Clone, Default)]
pub struct Joint {
    /// The segment before.
    before: Option<SegmentEnds>,
    /// The last whole record, once it is known.
    last_record: Option<Lsn>,
    /// The record that goes on after the segment before.
    pending: Pending,
}

#[derive(Debug, Clone, Default)]
enum Pending {
    #[default]
    None,
    /// It began before the first segment. So many bytes of it are to come.
    Foreign(u32),
    Record(Tail),
}

impl Joint {
    /// Adds the next segment, and says to `sink` what the record changes that ends in it and
    /// began before, unless that was known from its beginning.
    ///
    /// # Errors
    /// When the segment does not continue the one before: it is not the next, of another cluster
    /// or version, or its records do not follow.
    pub fn add<S: BlockSink>(
        &mut self,
        segment: &SegmentEnds,
        sink: &mut S,
    ) -> Result<(), Unreadable> {
        self.add_head(segment, sink).map_err(|reason| unreadable(segment.start, reason))?;
        if let (Some(last), Some(previous)) = (self.last_record, segment.first_previous)
            && last != previous
        {
            return Err(unreadable(
                segment.start,
                format!("its first record follows LSN {previous}, but the one before is at {last}"),
            ));
        }
        self.last_record = segment.last_record.or(self.last_record);
        if let Some(tail) = &segment.tail {
            self.pending = Pending::Record(tail.clone());
        }
        self.before = Some(SegmentEnds { head: Head::default(), tail: None, ..segment.clone() });
        Ok(())
    }

    /// The record that goes on after the last segment, unless what it changes is known.
    pub fn unread(&self) -> Option<Lsn> {
        match &self.pending {
            Pending::Record(tail) if !tail.is_read => Some(tail.start),
            _ => None,
        }
    }

    fn add_head<S: BlockSink>(
        &mut self,
        segment: &SegmentEnds,
        sink: &mut S,
    ) -> Result<(), &'static str> {
        let head = &segment.head;
        let Some(before) = &self.before else {
            if head.end == HeadEnd::GoesOn {
                self.pending = Pending::Foreign(head.rest - head.taken);
            }
            return Ok(());
        };
        if before.start.0.checked_add(before.segment_size.bytes()) != Some(segment.start.0) {
            return Err("it is not the next one");
        }
        if before.segment_size != segment.segment_size {
            return Err("it is of another size");
        }
        if before.system_identifier != segment.system_identifier {
            return Err("it is of another cluster");
        }
        if before.magic != segment.magic {
            return Err("it is of another version of PostgreSQL");
        }
        if segment.first_timeline < before.last_timeline {
            return Err("it is of an earlier timeline");
        }
        let pending = std::mem::take(&mut self.pending);
        let rest = match &pending {
            Pending::None => 0,
            Pending::Foreign(rest) => *rest,
            Pending::Record(tail) => tail.rest,
        };
        if head.rest != rest && !(head.rest == 0 && head.end == HeadEnd::Abandoned) {
            return Err("the record before does not continue in it");
        }
        if head.end == HeadEnd::Abandoned {
            return Ok(());
        }
        match pending {
            Pending::None => Ok(()),
            Pending::Foreign(rest) => {
                if head.end == HeadEnd::GoesOn {
                    self.pending = Pending::Foreign(rest - head.taken);
                }
                Ok(())
            }
            Pending::Record(tail) => self.add_record(tail, head, segment.magic, sink),
        }
    }

    /// Goes on with a record, of which `head` is the next part.
    fn add_record<S: BlockSink>(
        &mut self,
        mut tail: Tail,
        head: &Head,
        magic: u16,
        sink: &mut S,
    ) -> Result<(), &'static str> {
        let mut is_switch = false;
        if !tail.is_read {
            tail.bytes.extend_from_slice(&head.bytes);
            let header = tail.bytes.get(..HEADER_BYTES).ok_or("a record is too short")?;
            let previous = record::previous(header);
            if self.last_record.is_some_and(|last| last != previous) {
                return Err("the record before follows another than the one before it");
            }
            match record::read(&tail.bytes, tail.total as usize, magic, sink)? {
                Reading::Done => {}
                Reading::Needs(_) => return Err("too little is known of the record before"),
            }
            is_switch = record::is_switch(header);
            (tail.is_read, tail.bytes) = (true, Vec::new());
        }
        if is_switch != (head.end == HeadEnd::Switch) {
            return Err("it is empty where it should not be, or not empty where it should be");
        }
        tail.rest -= head.taken;
        if head.end == HeadEnd::GoesOn {
            self.pending = Pending::Record(tail);
        } else {
            self.last_record = Some(tail.start);
        }
        Ok(())
    }
}
