//! One page about an archive, for a person who wants to see it: HTML with drawings, in one
//! file that loads nothing else.
//!
//! [`gather`] finds out what there is, [`Report::page`] draws it. Drawing is pure: everything
//! that it shows stands in [`Report`].
//!
//! * `gather`: what there is, from the archive.
//! * `page`: the page as a whole; `summary`: what stands at its top.
//! * `backups`, `windows`, `wal`, `retention`, `jobs`, `checks`: its sections.
//! * `frame`, `table`: what sections are made of; `axis`, `marks`: where things stand in a
//!   drawing; `figures`: numbers.
//!
//! Whatever an archive holds may have been written by anybody. All text comes into the page
//! through templates that escape it, the page has no script, and its policy forbids any.

mod axis;
mod backups;
mod checks;
mod figures;
mod frame;
mod gather;
mod jobs;
mod marks;
mod page;
mod retention;
mod summary;
mod table;
mod wal;
mod windows;

#[cfg(test)]
mod tests;

use time::OffsetDateTime;

use crate::catalogue::BackupInfo;
use crate::check::Check;
use crate::config::Face;
use crate::coverage::{Stretch, TimelineRow, WalRange};
use crate::recovery::Window;
use crate::retention::{Item, Policy};
use crate::schedule::Entry;

pub use gather::gather;

/// What a page shows.
#[derive(Debug)]
pub struct Report {
    /// The prefix, as a URL.
    pub prefix: String,
    /// When it was looked at, by the clock of this host.
    pub now: OffsetDateTime,
    /// In whose words settings and commands are named.
    pub face: Face,
    /// The base backups, oldest first.
    pub backups: Vec<BackupInfo>,
    /// The timelines.
    pub timelines: Vec<TimelineRow>,
    /// The WAL of all timelines.
    pub stretches: Vec<Stretch>,
    /// What of the WAL that restores need is not there. `None` when there is no base backup
    /// that can be used.
    pub holes: Option<Vec<WalRange>>,
    /// To which moments a restore is possible, oldest first.
    pub windows: Vec<Window>,
    /// What retention would do; `None` when no rule was given.
    pub retention: Option<Retention>,
    /// What was done by schedule, newest first.
    pub jobs: Vec<Entry>,
    /// What a server says of its set-up; `None` when none was asked.
    pub checks: Option<Vec<Check>>,
    /// What was strange about the archive.
    pub warnings: Vec<String>,
}

/// What retention would do.
#[derive(Debug)]
pub struct Retention {
    /// By which rules.
    pub policy: Policy,
    /// What becomes of everything in the archive.
    pub items: Vec<Item>,
}

impl Report {
    /// A text of the core, in the words of this report's face.
    fn said(&self, text: &str) -> String {
        self.face.speak(text)
    }
}
