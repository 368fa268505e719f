//! The findings of a verification.

use std::fmt::Display;

use serde::Serialize;

use crate::error::Error;

/// The sentinel can be read, and is consistent.
pub(super) const SENTINEL: &str = "sentinel";
/// `metadata.json` agrees with it.
pub(super) const METADATA: &str = "metadata";
/// `files_metadata.json` can be read.
pub(super) const FILES_METADATA: &str = "files_metadata";
/// `backup_manifest` can be read.
pub(super) const MANIFEST: &str = "manifest";
/// Each tar is there, and whole.
pub(super) const TARS: &str = "tars";
/// The tars hold the files that `files_metadata.json` says, each once.
pub(super) const FILE_LIST: &str = "file_list";
/// The files have the sizes and checksums that the manifest says.
pub(super) const CHECKSUMS: &str = "checksums";
/// `global/pg_control` is sound, and of the cluster.
pub(super) const PG_CONTROL: &str = "pg_control";
/// `backup_label` is that of this backup.
pub(super) const BACKUP_LABEL: &str = "backup_label";
/// `tablespace_map` fits the sentinel.
pub(super) const TABLESPACE_MAP: &str = "tablespace_map";
/// All WAL from start to stop is there, and sound.
pub(super) const WAL: &str = "wal";
/// What the backup is a delta of.
pub(super) const DELTA: &str = "delta";

/// The order in which checks are reported.
const ORDER: [&str; 12] = [
    SENTINEL,
    METADATA,
    FILES_METADATA,
    MANIFEST,
    TARS,
    FILE_LIST,
    CHECKSUMS,
    PG_CONTROL,
    BACKUP_LABEL,
    TABLESPACE_MAP,
    WAL,
    DELTA,
];

/// One finding about a base backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was checked.
    pub check_name: &'static str,
    /// The URL of the faulty object.
    pub object: Option<String>,
    /// Whether it is correct; `None` when that is unknown.
    pub ok: Option<bool>,
    /// What was found. It names the object, too.
    pub detail: String,
}

/// The findings about one backup.
pub(super) struct Report {
    /// Named in each finding, when it is not the backup that was asked for.
    level: Option<String>,
    findings: Vec<Finding>,
}

impl Report {
    pub(super) fn new(level: Option<&str>) -> Self {
        Report { level: level.map(str::to_owned), findings: Vec::new() }
    }

    /// What is wrong with the object of this URL.
    pub(super) fn failed(&mut self, check: &'static str, url: &str, what: impl Display) {
        let what = what.to_string();
        let said = if what.contains(url) { what } else { format!("object \"{url}\": {what}") };
        self.push(check, Some(url.to_owned()), Some(false), said);
    }

    /// As [`failed`](Self::failed), in the words of `error`.
    pub(super) fn failed_with(&mut self, check: &'static str, url: &str, error: &Error) {
        self.failed(check, url, error.message_and_detail());
    }

    /// The check passed, unless something of that kind failed.
    pub(super) fn passed(&mut self, check: &'static str, detail: impl Into<String>) {
        if !self.has_failed(check) {
            self.push(check, None, Some(true), detail.into());
        }
    }

    /// It could not be checked.
    pub(super) fn not_checked(&mut self, check: &'static str, reason: impl Display) {
        self.push(check, None, None, format!("not checked: {reason}"));
    }

    /// Something to know that is neither right nor wrong.
    pub(super) fn noted(&mut self, check: &'static str, detail: impl Into<String>) {
        self.push(check, None, None, detail.into());
    }

    /// Whether a check of that kind has failed so far.
    pub(super) fn has_failed(&self, check: &'static str) -> bool {
        let failed = |finding: &Finding| finding.check_name == check && finding.ok == Some(false);
        self.findings.iter().any(failed)
    }

    fn push(
        &mut self,
        check_name: &'static str,
        object: Option<String>,
        ok: Option<bool>,
        mut detail: String,
    ) {
        if let Some(level) = &self.level {
            detail = format!("base backup \"{level}\": {detail}");
        }
        self.findings.push(Finding { check_name, object, ok, detail });
    }

    /// The findings, in the order of the checks and of the objects.
    pub(super) fn finish(mut self) -> Vec<Finding> {
        let place = |finding: &Finding| ORDER.iter().position(|name| *name == finding.check_name);
        self.findings.sort_by(|a, b| (place(a), &a.object).cmp(&(place(b), &b.object)));
        self.findings
    }
}

/// How many of many are named.
const EXAMPLES: usize = 3;

/// The first of `names`, and how many more there are.
pub(super) fn examples<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut names = names.into_iter();
    let first: Vec<String> =
        names.by_ref().take(EXAMPLES).map(|name| format!("\"{name}\"")).collect();
    match names.count() {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn a_failure_names_its_object_once_and_keeps_the_check_from_passing() {
        let mut report = Report::new(None);
        report.passed(WAL, "2 segments");
        report.failed_with(TARS, "s3://b/x", &Error::new(ErrorKind::Corrupt, "bad frame"));
        report.failed(TARS, "s3://b/a", "object \"s3://b/a\" is damaged");
        report.passed(TARS, "12 tars");
        let findings = report.finish();
        let details: Vec<&str> = findings.iter().map(|finding| finding.detail.as_str()).collect();
        assert_eq!(
            details,
            ["object \"s3://b/a\" is damaged", "object \"s3://b/x\": bad frame", "2 segments"]
        );
        let mut report = Report::new(Some("base_1"));
        report.not_checked(WAL, "no size");
        assert_eq!(report.finish()[0].detail, "base backup \"base_1\": not checked: no size");
    }

    #[test]
    fn of_many_names_a_few_are_shown() {
        assert_eq!(examples(["a"]), "\"a\"");
        assert_eq!(examples(["a", "b", "c", "d", "e"]), "\"a\", \"b\", \"c\" and 2 more");
    }
}
