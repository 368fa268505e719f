//! What happens to an archive and is to be known at once, and the text in which a server
//! announces it.

use std::fmt::Write as _;

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A listener is sent at most 7999 bytes (`NOTIFY_PAYLOAD_MAX_LENGTH` in
/// src/backend/commands/async.c).
pub const LONGEST_PAYLOAD: usize = 7999;

/// At most so many bytes of each text are announced: together they fit whatever they hold.
pub const LONGEST_OBJECT: usize = 256;
/// The same of a detail.
pub const LONGEST_DETAIL: usize = 768;
/// The same of the name of a host.
pub const LONGEST_HOST: usize = 64;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A base backup is complete.
    BackupDone,
    /// One was not completed.
    BackupFailed,
    /// A base backup was found damaged, or could not be read back.
    VerificationFailed,
    /// WAL waits, and is not archived.
    ArchivingStalled,
    /// It is archived again.
    ArchivingRecovered,
    /// WAL that restores need is lost.
    HoleFound,
    /// Something was removed from the archive.
    Deleted,
}

impl Kind {
    /// The word for it in an announcement.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::BackupDone => "backup done",
            Kind::BackupFailed => "backup failed",
            Kind::VerificationFailed => "verification failed",
            Kind::ArchivingStalled => "archiving stalled",
            Kind::ArchivingRecovered => "archiving recovered",
            Kind::HoleFound => "hole found",
            Kind::Deleted => "deleted",
        }
    }
}

/// One such thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub kind: Kind,
    /// When, by the clock of this host.
    pub time: OffsetDateTime,
    /// To what: a base backup, a WAL segment.
    pub object: Option<String>,
    /// What else is known of it, in the words of a message.
    pub detail: Option<String>,
    /// How much was stored or deleted.
    pub bytes: Option<u64>,
}

impl Event {
    /// Something that happens now.
    pub fn new(kind: Kind) -> Event {
        let time = OffsetDateTime::now_utc();
        Event { kind, time, object: None, detail: None, bytes: None }
    }

    /// Says what it happened to.
    #[must_use]
    pub fn of(self, object: Option<String>) -> Event {
        Event { object, ..self }
    }

    /// Says more of it, as a message does.
    #[must_use]
    pub fn saying(self, detail: impl Into<String>) -> Event {
        Event { detail: Some(detail.into()), ..self }
    }

    /// Says how much it was.
    #[must_use]
    pub fn with_bytes(self, bytes: u64) -> Event {
        Event { bytes: Some(bytes), ..self }
    }

    /// As JSON, in ASCII alone: it means the same in every encoding that a database can have.
    /// Texts that are too long are cut off.
    pub fn payload(&self, host: &str) -> String {
        #[derive(Serialize)]
        struct Payload<'a> {
            event: &'static str,
            time: String,
            host: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            object: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            detail: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            bytes: Option<u64>,
        }
        let payload = Payload {
            event: self.kind.as_str(),
            time: self.time.format(&Rfc3339).unwrap_or_default(),
            host: first(host, LONGEST_HOST),
            object: self.object.as_deref().map(|object| first(object, LONGEST_OBJECT)),
            detail: self.detail.as_deref().map(|detail| first(detail, LONGEST_DETAIL)),
            bytes: self.bytes,
        };
        in_ascii(&serde_json::to_string(&payload).unwrap_or_default())
    }
}

/// As much of a text as fits into so many bytes.
fn first(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

/// JSON without any other character; outside of its strings there is none.
fn in_ascii(json: &str) -> String {
    let mut ascii = String::with_capacity(json.len());
    for character in json.chars() {
        if character.is_ascii() && character != '\x7f' {
            ascii.push(character);
            continue;
        }
        for unit in character.encode_utf16(&mut [0; 2]) {
            // Writing into a String cannot fail.
            let _ = write!(ascii, "\\u{unit:04x}");
        }
    }
    ascii
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_json_in_ascii_that_says_it_all() {
        let event = Event::new(Kind::BackupDone)
            .of(Some("base_000000010000000000000007".to_owned()))
            .saying("\"Größe\" 𝄞\n\u{7f}")
            .with_bytes(12345);
        let payload = event.payload("db1");
        assert!(payload.is_ascii() && !payload.contains('\x7f'), "{payload}");
        let read: serde_json::Value = serde_json::from_str(&payload).unwrap();
        assert_eq!(read["event"], "backup done");
        assert_eq!(read["host"], "db1");
        assert_eq!(read["object"], "base_000000010000000000000007");
        assert_eq!(read["detail"], "\"Größe\" 𝄞\n\u{7f}");
        assert_eq!(read["bytes"], 12345);
        let time = OffsetDateTime::parse(read["time"].as_str().unwrap(), &Rfc3339).unwrap();
        assert_eq!(time, event.time);
    }

    #[test]
    fn what_is_not_known_is_not_in_it() {
        let read: serde_json::Value =
            serde_json::from_str(&Event::new(Kind::Deleted).payload("db1")).unwrap();
        let keys: Vec<_> = read.as_object().unwrap().keys().cloned().collect();
        assert_eq!(keys, ["event", "host", "time"]);
    }

    #[test]
    fn the_longest_texts_fit_whatever_they_hold() {
        for text in ["\u{1}", "\0", "ü", "語", "𝄞", "\"", "x"] {
            let text = text.repeat(2000);
            let event = Event::new(Kind::VerificationFailed)
                .of(Some(text.clone()))
                .saying(text.clone())
                .with_bytes(u64::MAX);
            let payload = event.payload(&text);
            assert!(payload.len() <= LONGEST_PAYLOAD, "{}", payload.len());
            serde_json::from_str::<serde_json::Value>(&payload).unwrap();
        }
    }
}
