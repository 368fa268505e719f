//! What the core has to say, in the server log. Only for the main thread.

use wal_e_core::notice::{Level, NoticeQueue};

use crate::error::{Failure, in_words};
use crate::pg::report::{Severity, report};

/// Empties the queue into the server log.
pub fn emit(queue: &NoticeQueue) {
    for notice in queue.drain() {
        let severity = match notice.level {
            Level::Debug => Severity::Debug,
            Level::Log => Severity::Log,
            Level::Warning => Severity::Warning,
        };
        speak(severity, &notice.message, None, notice.hint.as_deref());
    }
}

/// A line of information.
pub fn log(message: &str, detail: Option<&str>) {
    speak(Severity::Log, message, detail, None);
}

/// A line for the client that waits.
pub fn tell_client(message: &str, hint: &str) {
    speak(Severity::Notice, message, None, Some(hint));
}

/// How far work is, for the client that waits.
pub fn tell_progress(message: &str) {
    speak(Severity::Notice, message, None, None);
}

/// A failure that goes no further than the log.
pub fn warn(failure: &Failure) {
    let Failure { message, detail, hint, .. } = failure;
    speak(Severity::Warning, message, detail.as_deref(), hint.as_deref());
}

/// A report in the words of a server.
fn speak(severity: Severity, message: &str, detail: Option<&str>, hint: Option<&str>) {
    let (detail, hint) = (detail.map(in_words), hint.map(in_words));
    report(severity, &in_words(message), detail.as_deref(), hint.as_deref());
}
