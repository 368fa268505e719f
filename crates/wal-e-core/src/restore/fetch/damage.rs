//! The objects that a restore could not use, and the report about them.

use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::config::Word;
use crate::error::{Error, ErrorKind};

/// What helps against most damage.
fn replace_objects() -> String {
    format!(
        "Replace them with sound objects from another copy of the archive or with older versions of the objects, and repeat the command with {}, which fetches only what is missing. Or restore another base backup into another directory; {} shows them.",
        Word::Resume,
        Word::BackupList
    )
}

/// What helps when it is not the objects that are damaged.
fn go_on() -> String {
    format!("Then repeat the command with {}, which fetches only what is missing.", Word::Resume)
}

/// An object that a restore could not use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DamagedObject {
    /// Its URL.
    pub object: String,
    /// The member of the tar in which the damage is, by its name there; `None` when it is
    /// the object as a whole.
    pub member: Option<String>,
    /// What is wrong.
    pub cause: String,
    /// What to do about it, in whole sentences, where that differs from most damage.
    pub advice: Option<String>,
    #[serde(skip)]
    kind: Kind,
}

/// Whether bytes are wrong or cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Damaged,
    Unreadable(ErrorKind),
}

/// All objects that one restore could not use.
#[derive(Debug, Default)]
pub struct Damage(Mutex<Vec<DamagedObject>>);

impl DamagedObject {
    /// The object of this URL, which could not be used because of `error`, in a member of a
    /// tar or as a whole.
    pub(crate) fn new(object: String, member: Option<String>, error: &Error) -> Self {
        let kind = match error.kind() {
            ErrorKind::Corrupt | ErrorKind::NotFound | ErrorKind::Conflict => Kind::Damaged,
            kind => Kind::Unreadable(kind),
        };
        DamagedObject {
            object,
            member,
            cause: error.message_and_detail(),
            advice: error.hint().map(str::to_owned),
            kind,
        }
    }

    /// Object, member and cause as one line.
    pub fn line(&self) -> String {
        let DamagedObject { object, member, cause, kind, .. } = self;
        if cause.contains(&format!("\"{object}\"")) {
            return cause.clone();
        }
        let state = match kind {
            Kind::Damaged => "is damaged",
            Kind::Unreadable(_) => "cannot be read",
        };
        match member.as_ref().filter(|member| !cause.contains(&format!("\"{member}\""))) {
            Some(member) => format!("object \"{object}\" {state}: in member \"{member}\": {cause}"),
            None => format!("object \"{object}\" {state}: {cause}"),
        }
    }
}

impl Damage {
    /// All objects so far, sorted by name.
    pub fn objects(&self) -> Vec<DamagedObject> {
        let mut objects = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        objects.sort_by(|a, b| a.object.cmp(&b.object));
        objects
    }

    pub(super) fn add(&self, object: DamagedObject) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(object);
    }

    /// The report about all of them; `None` when there are none.
    pub(super) fn report(&self, backup: &str) -> Option<Error> {
        let objects = self.objects();
        let first = objects.first()?;
        let is_damaged = |object: &&DamagedObject| object.kind == Kind::Damaged;
        let kind = match (objects.iter().find(is_damaged), first.kind) {
            (None, Kind::Unreadable(kind)) => kind,
            _ => ErrorKind::Corrupt,
        };
        let lines: Vec<String> = objects.iter().map(DamagedObject::line).collect();
        let error = match &lines[..] {
            [line] => Error::new(kind, line.as_str()),
            _ => Error::new(
                kind,
                format!(
                    "base backup \"{backup}\" is not restored: {} of its objects cannot be used",
                    lines.len()
                ),
            )
            .with_detail(lines.join("\n")),
        };
        Some(error.with_hint(advice(&objects)))
    }
}

/// What to do about these, without repetition.
fn advice(objects: &[DamagedObject]) -> String {
    let mut advice: Vec<String> = Vec::new();
    for own in objects.iter().filter_map(|object| object.advice.as_ref()) {
        if !advice.contains(own) {
            advice.push(own.clone());
        }
    }
    let is_damaged = objects.iter().any(|object| object.advice.is_none());
    advice.push(if is_damaged { replace_objects() } else { go_on() });
    advice.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn damaged(object: &str, member: Option<&str>, error: &Error) -> DamagedObject {
        DamagedObject::new(object.to_owned(), member.map(str::to_owned), error)
    }

    #[test]
    fn a_report_names_every_object_with_its_member_and_cause() {
        let damage = Damage::default();
        assert!(damage.report("base_1").is_none());
        let cut = Error::new(ErrorKind::Corrupt, "the tar is truncated");
        damage.add(damaged("s3://b/part_002", Some("/base/1/2"), &cut));
        let error = damage.report("base_1").unwrap();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        let line =
            "object \"s3://b/part_002\" is damaged: in member \"/base/1/2\": the tar is truncated";
        assert_eq!((error.message(), error.detail()), (line, None));
        assert_eq!(error.hint(), Some(&*replace_objects()));

        let denied = "could not get object \"s3://b/part_001\": the server answered 403";
        let denied = Error::new(ErrorKind::Denied, denied).with_hint("Allow it.");
        damage.add(damaged("s3://b/part_001", None, &denied));
        let error = damage.report("base_1").unwrap();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.message().contains("\"base_1\" is not restored: 2 of"), "{error}");
        assert_eq!(error.detail(), Some(&*format!("{}\n{line}", denied.message())));
        assert_eq!(error.hint(), Some(&*format!("Allow it. {}", replace_objects())));
    }

    #[test]
    fn what_cannot_be_read_is_not_called_damaged() {
        let damage = Damage::default();
        let cold =
            Error::new(ErrorKind::Config, "could not get object \"x\": 403 InvalidObjectState")
                .with_hint("Restore it first.");
        damage.add(damaged("x", None, &cold));
        let error = damage.report("base_1").unwrap();
        assert_eq!((error.kind(), error.message()), (ErrorKind::Config, cold.message()));
        assert_eq!(error.hint(), Some(&*format!("Restore it first. {}", go_on())));
    }
}
