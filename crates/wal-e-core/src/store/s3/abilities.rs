//! What this server can do, found out once and remembered as long as the store is open.
//!
//! Servers differ in what they know of a request. What one refuses is found out with the
//! first request that it refuses: the same request is sent in another form, and only when
//! that goes through the difference between the two counts as the reason.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::sync::OnceCell;

use super::checksum::Checksum;
use super::errors::Failure;
use crate::notice::{Level, Notices};

/// What carries content: servers differ between the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Carrier {
    /// A whole object.
    Object,
    /// The beginning of an upload in parts, which announces the checksum.
    Announcement,
    /// A part of an object.
    Part,
}

impl Carrier {
    fn describe(self) -> &'static str {
        match self {
            Carrier::Object => "an object",
            Carrier::Announcement => "the beginning of an upload in parts",
            Carrier::Part => "a part of an object",
        }
    }
}

/// What is known of the checksum of one carrier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Trust {
    checksum: Checksum,
    /// Whether content has gone through with it.
    proven: bool,
}

/// Whether listings come in the order of the keys' bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    NotKnown,
    Ordered,
    Unordered,
}

/// Whether an upload in parts can be completed only if there is no such object yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Completion {
    /// It is asked for, and not known to fail.
    Asked,
    Honoured,
    Ignored,
    Refused,
}

/// Whether content may be sent without its hash in the signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unsigned {
    NotKnown,
    Taken,
    Refused,
}

#[derive(Debug)]
struct Known {
    unsigned: Unsigned,
    object: Trust,
    announcement: Option<Trust>,
    part: Option<Trust>,
    order: Order,
    completion: Completion,
}

impl Known {
    /// Parts begin with what is known of announcements, and those with what is known of
    /// objects.
    fn trust(&self, carrier: Carrier) -> Trust {
        let unproven = |trust: Trust| Trust { proven: false, ..trust };
        let announcement = self.announcement.unwrap_or(unproven(self.object));
        match carrier {
            Carrier::Object => self.object,
            Carrier::Announcement => announcement,
            Carrier::Part => self.part.unwrap_or(unproven(announcement)),
        }
    }

    fn set_trust(&mut self, carrier: Carrier, trust: Trust) {
        match carrier {
            Carrier::Object => self.object = trust,
            Carrier::Announcement => self.announcement = Some(trust),
            Carrier::Part => self.part = Some(trust),
        }
    }
}

/// Shared by all requests of a bucket.
#[derive(Debug)]
pub(super) struct Abilities {
    known: Mutex<Known>,
    /// Whether `If-None-Match: *` is honoured by uploads of whole objects.
    pub(super) create_only: OnceCell<bool>,
    /// Whether the server takes `If-None-Match: *` amiss also where there is no object.
    refuses_new: AtomicBool,
    hides_missing: AtomicBool,
    deletes_one_by_one: AtomicBool,
    keeps_versions: AtomicBool,
    /// Whether the last upload with such a checksum was answered with it.
    confirms_checksum: AtomicBool,
    url: String,
    notices: Notices,
}

impl Abilities {
    /// Nothing is known yet. `url` names the store in notices.
    pub(super) fn new(url: String, notices: Notices) -> Abilities {
        let object = Trust { checksum: Checksum::Crc32c, proven: false };
        let (order, completion) = (Order::NotKnown, Completion::Asked);
        Abilities {
            known: Mutex::new(Known {
                unsigned: Unsigned::NotKnown,
                object,
                announcement: None,
                part: None,
                order,
                completion,
            }),
            create_only: OnceCell::new(),
            refuses_new: AtomicBool::new(false),
            hides_missing: AtomicBool::new(false),
            deletes_one_by_one: AtomicBool::new(false),
            keeps_versions: AtomicBool::new(false),
            confirms_checksum: AtomicBool::new(false),
            url,
            notices,
        }
    }

    fn known<T>(&self, look: impl FnOnce(&mut Known) -> T) -> T {
        look(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The checksum to send.
    pub(super) fn checksum(&self, carrier: Carrier) -> Checksum {
        self.known(|known| known.trust(carrier)).checksum
    }

    /// Content went through with this checksum.
    pub(super) fn accepted(&self, carrier: Carrier, checksum: Checksum) {
        self.known(|known| {
            // What another upload has found out meanwhile stays.
            if known.trust(carrier).checksum == checksum {
                known.set_trust(carrier, Trust { checksum, proven: true });
            }
        });
    }

    /// Takes note of the checksums in the answer to an upload. A server that does not know of
    /// the header takes it like any other, and compares nothing (Ceph before version 20).
    pub(super) fn note_answer(&self, sent: Checksum, answered: [Option<&str>; 3]) {
        if sent.algorithm().is_some() {
            let confirms = answered.iter().any(Option::is_some);
            self.confirms_checksum.store(confirms, Ordering::Relaxed);
        }
    }

    /// Whether the server is known to compare this checksum with the content.
    pub(super) fn compares(&self, checksum: Checksum) -> bool {
        match checksum {
            Checksum::Md5 => true,
            Checksum::Signature => false,
            _ => self.confirms_checksum.load(Ordering::Relaxed),
        }
    }

    /// Content went through with this checksum after it was refused with another one.
    fn learned(&self, carrier: Carrier, refused: Checksum, checksum: Checksum) {
        let is_new = self.known(|known| {
            let is_new = known.trust(carrier).checksum != checksum;
            known.set_trust(carrier, Trust { checksum, proven: true });
            if is_new && carrier == Carrier::Part {
                // What comes with parts is what should be announced.
                known.announcement = Some(Trust { checksum, proven: false });
            }
            is_new
        });
        if is_new {
            let level = match checksum {
                Checksum::Signature => Level::Warning,
                _ => Level::Log,
            };
            self.notices.send(
                level,
                format!(
                    "the server of \"{}\" refuses {} with {}: {}",
                    self.url,
                    refused.header(),
                    carrier.describe(),
                    instead(checksum),
                ),
                None,
            );
        }
    }

    /// Sends content with the checksum in use. When the server refuses a header of the
    /// request, with the others, until one goes through.
    ///
    /// # Errors
    /// The first refusal, when no other checksum goes through.
    pub(super) async fn with_checksum<T, Sending>(
        &self,
        carrier: Carrier,
        send: impl Fn(Checksum) -> Sending,
    ) -> Result<T, Failure>
    where
        Sending: Future<Output = Result<T, Failure>>,
    {
        let Trust { checksum, proven } = self.known(|known| known.trust(carrier));
        let refusal = match send(checksum).await {
            Ok(answer) => {
                self.accepted(carrier, checksum);
                return Ok(answer);
            }
            Err(failure) => failure,
        };
        // Content that has gone through with this checksum is not sent five times for
        // whatever else may be wrong with a request.
        if !refusal.may_be_for_a_header() || proven && !refusal.names_checksum() {
            return Err(refusal);
        }
        for other in Checksum::ALL.into_iter().filter(|other| *other != checksum) {
            match send(other).await {
                Ok(answer) => {
                    self.learned(carrier, checksum, other);
                    return Ok(answer);
                }
                Err(failure) if failure.may_be_for_a_header() => {}
                Err(failure) => return Err(failure),
            }
        }
        Err(refusal)
    }

    /// Sends content, with its SHA-256 in the signature where no checksum protects it that the
    /// server compares. A server, or the policy of a bucket, may want the SHA-256 all the same:
    /// the first content that is refused without it is sent once more with it.
    ///
    /// # Errors
    /// The first refusal, when the second has no other reason.
    pub(super) async fn with_signature<T, Sending>(
        &self,
        checksum: Checksum,
        send: impl Fn(bool) -> Sending,
    ) -> Result<T, Failure>
    where
        Sending: Future<Output = Result<T, Failure>>,
    {
        let before = self.known(|known| known.unsigned);
        if before == Unsigned::Refused || !self.compares(checksum) {
            return send(true).await;
        }
        let refusal = match send(false).await {
            Ok(answer) => {
                self.known(|known| known.unsigned = Unsigned::Taken);
                return Ok(answer);
            }
            Err(failure) => failure,
        };
        if before == Unsigned::Taken || !refusal.may_be_for_the_signature() {
            return Err(refusal);
        }
        match send(true).await {
            Err(failure) if failure.may_be_for_the_signature() => Err(refusal),
            Err(failure) => Err(failure),
            Ok(answer) => {
                self.note_refuses_unsigned();
                Ok(answer)
            }
        }
    }

    fn note_refuses_unsigned(&self) {
        let before = self.known(|known| std::mem::replace(&mut known.unsigned, Unsigned::Refused));
        if before != Unsigned::Refused {
            self.notices.log(format!(
                "the server of \"{}\" refuses content whose SHA-256 is not signed: wal_e signs it",
                self.url
            ));
        }
    }

    /// Whether to ask that an upload in parts is completed only if there is no such object.
    pub(super) fn asks_at_completion(&self) -> bool {
        self.known(|known| known.completion != Completion::Refused)
    }

    pub(super) fn completion(&self) -> Completion {
        self.known(|known| known.completion)
    }

    /// Takes note of how the server completes uploads in parts.
    pub(super) fn note_completion(&self, completion: Completion) {
        let before = self.known(|known| std::mem::replace(&mut known.completion, completion));
        if completion == Completion::Refused && before != completion {
            self.notices.log(format!(
                "the server of \"{}\" does not take If-None-Match at the end of an upload in \
                 parts: wal_e looks for the object before",
                self.url
            ));
        }
    }

    pub(super) fn order(&self) -> Order {
        self.known(|known| known.order)
    }

    /// Takes note of the order of a listing of several pages.
    pub(super) fn note_order(&self, order: Order) {
        let before = self.known(|known| std::mem::replace(&mut known.order, order));
        if order == Order::Unordered && before != order {
            self.notices.log(format!(
                "the server of \"{}\" lists objects in no order: wal_e reads each listing to its \
                 end and sorts it",
                self.url
            ));
        }
    }

    pub(super) fn refuses_new(&self) -> bool {
        self.refuses_new.load(Ordering::Relaxed)
    }

    /// Takes note that it does; whether that is new.
    pub(super) fn note_refuses_new(&self) -> bool {
        !self.refuses_new.swap(true, Ordering::Relaxed)
    }

    /// Whether several objects may be deleted with one request.
    pub(super) fn deletes_many(&self) -> bool {
        !self.deletes_one_by_one.load(Ordering::Relaxed)
    }

    /// Takes note that each takes a request of its own.
    pub(super) fn note_deletes_one_by_one(&self) {
        if !self.deletes_one_by_one.swap(true, Ordering::Relaxed) {
            self.notices.log(format!(
                "the server of \"{}\" does not delete several objects with one request: wal_e \
                 deletes them one by one",
                self.url
            ));
        }
    }

    /// Takes note that the bucket keeps what is deleted, as a version that is not current any
    /// more. An object lock does so, too.
    pub(super) fn note_keeps_versions(&self) {
        if !self.keeps_versions.swap(true, Ordering::Relaxed) {
            self.notices.send(
                Level::Warning,
                format!(
                    "the bucket of \"{}\" keeps versions of objects that are deleted",
                    self.url
                ),
                Some(
                    "Space becomes free when they expire: give the bucket a lifecycle rule for \
                     versions that are not current, and for delete markers."
                        .to_owned(),
                ),
            );
        }
    }

    /// Whether the server is known to answer 403 for an object that is not there.
    pub(super) fn hides_missing(&self) -> bool {
        self.hides_missing.load(Ordering::Relaxed)
    }

    /// Takes note that it answers so.
    pub(super) fn note_hidden(&self) {
        if !self.hides_missing.swap(true, Ordering::Relaxed) {
            self.notices.debug(format!(
                "the server of \"{}\" answers 403 for objects that are not there: wal_e lists \
                 their names instead",
                self.url
            ));
        }
    }
}

/// What is sent where the server does not take what is sent at first.
pub(super) fn instead(checksum: Checksum) -> String {
    match checksum {
        Checksum::Signature => "only the SHA-256 that is signed protects the content".to_owned(),
        checksum => format!("{} is sent instead", checksum.header()),
    }
}

#[cfg(test)]
mod tests;
