//! Why a target cannot be reached, and what can be reached instead.

use time::OffsetDateTime;

use super::ambiguity::TimelineFacts;
use crate::error::{Error, ErrorKind};
use crate::postgres::{Lsn, WalEnd};

/// What to do where a log ends because the cluster has begun another one.
pub(super) const AFTER_NEW_LOG: &str = "What was written after that is in base backups that were taken after it: recover from one of them.";

/// After pg_resetwal nothing leads from the WAL before it to the WAL after it.
pub(super) fn log_begins_anew(segment: &str) -> String {
    format!("the WAL of the cluster begins anew with segment \"{segment}\", as after pg_resetwal")
}

/// A target near the one asked for that can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nearest {
    /// The target LSN, where there is one to give.
    pub lsn: Option<Lsn>,
    /// The time that belongs to it.
    pub time: Option<OffsetDateTime>,
    /// In words, without a full stop.
    pub description: String,
}

/// What a refusal means for another base backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// This base backup cannot be restored at all.
    Unusable,
    /// It is not on the history of the timeline.
    OffBranch,
    /// The target lies before its end.
    TooEarly,
    /// No other base backup would do better.
    Target,
}

/// The answer that recovery to a target is impossible.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub(super) cause: Cause,
    /// As an error: [`ErrorKind::Config`] unless damage is in the way.
    pub(super) kind: ErrorKind,
    /// Why: a message as of an error.
    pub reason: String,
    /// The facts that it rests on: whole sentences.
    pub detail: Option<String>,
    /// The nearest targets that can be reached.
    pub nearest: Vec<Nearest>,
    /// What else can be done: whole sentences.
    pub advice: Option<String>,
    /// All timelines of the archive, when it has several and one has to be named.
    pub timelines: Vec<TimelineFacts>,
}

impl Refusal {
    pub(super) fn new(cause: Cause, reason: impl Into<String>) -> Self {
        let (detail, nearest, advice) = (None, Vec::new(), None);
        let kind = ErrorKind::Config;
        let timelines = Vec::new();
        Refusal { cause, kind, reason: reason.into(), detail, nearest, advice, timelines }
    }

    /// An object that is in the way, and what is wrong with it.
    pub(super) fn of_damage(cause: Cause, error: &Error) -> Self {
        Refusal {
            kind: error.kind(),
            detail: error.detail().map(str::to_owned),
            advice: error.hint().map(str::to_owned),
            ..Refusal::new(cause, error.message())
        }
    }

    /// A base backup that cannot be restored, and why.
    pub(super) fn unusable(backup: &str, why: &str) -> Self {
        let reason = format!("base backup \"{backup}\" cannot be used: {why}");
        Refusal::new(Cause::Unusable, reason)
    }

    /// A base backup that cannot be restored for an object that is in the way.
    pub(super) fn unusable_by_damage(backup: &str, error: &Error) -> Self {
        let Refusal { reason, .. } = Refusal::unusable(backup, error.message());
        Refusal { reason, ..Refusal::of_damage(Cause::Unusable, error) }
    }

    /// The WAL ends within a segment although the archive has more of it.
    pub(super) fn where_wal_breaks_off(segment: &str, end: &WalEnd) -> Self {
        let lsn = end.lsn;
        if end.begins_anew {
            return Refusal::new(Cause::Target, log_begins_anew(segment))
                .with_detail(format!("Recovery would end before it, at LSN {lsn}."))
                .with_advice(AFTER_NEW_LOG);
        }
        let reason = format!("the WAL breaks off in segment \"{segment}\": {}", end.reason);
        Refusal::new(Cause::Target, reason)
            .with_detail(format!(
                "Recovery would end at LSN {lsn}, as if the log had no more, although the archive has what follows."
            ))
            .with_advice("Look for a sound copy of the segment, or recover from a later base backup.")
    }

    pub(super) fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    pub(super) fn with_nearest(mut self, nearest: impl IntoIterator<Item = Nearest>) -> Self {
        self.nearest.extend(nearest);
        self
    }

    pub(super) fn with_advice(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    /// The reason and its facts, as one text.
    pub fn explanation(&self) -> String {
        match &self.detail {
            Some(detail) => format!("{}: {detail}", self.reason),
            None => self.reason.clone(),
        }
    }

    /// What can be reached instead and what else can be done; `None` when there is nothing.
    pub fn hint(&self) -> Option<String> {
        let targets: Vec<&str> =
            self.nearest.iter().map(|nearest| nearest.description.as_str()).collect();
        let nearest = match targets.as_slice() {
            [] => None,
            [one] => Some(format!("The nearest reachable target is {one}.")),
            several => {
                Some(format!("The nearest reachable targets are {}.", several.join("; and ")))
            }
        };
        let parts: Vec<String> = nearest.into_iter().chain(self.advice.clone()).collect();
        (!parts.is_empty()).then(|| parts.join(" "))
    }
}

/// Of the kind of the damage that is in the way; otherwise [`ErrorKind::Config`]:
/// another target can be reached.
impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        let hint = refusal.hint();
        let mut error = Error::new(refusal.kind, refusal.reason);
        if let Some(detail) = refusal.detail {
            error = error.with_detail(detail);
        }
        match hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }
}

/// As the beginning of a sentence.
pub(super) fn capitalized(text: &str) -> String {
    let mut characters = text.chars();
    match characters.next() {
        Some(first) => first.to_uppercase().chain(characters).collect(),
        None => String::new(),
    }
}
