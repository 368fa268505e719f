//! Whether a restored cluster archives, and why.

use time::{Duration, OffsetDateTime};
use wal_e_core::restore::ArchiveMode;

/// WAL that was archived within this time shows that the server of the prefix may be alive.
/// A server that writes next to nothing archives seldom.
const MAY_BE_ALIVE: Duration = Duration::hours(6);

/// What was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archiving {
    pub mode: ArchiveMode,
    /// A phrase without a full stop.
    pub reason: String,
}

/// Two servers that archive to one prefix get in each other's way: as soon as the copy is
/// promoted, its timeline is the newest. So it archives only when that was asked for, or
/// when the archive has been silent for long, as after a disaster.
pub fn decide(
    asked: Option<ArchiveMode>,
    newest_wal: Option<OffsetDateTime>,
    now: OffsetDateTime,
) -> Archiving {
    let (mode, reason) = match (asked, newest_wal) {
        (Some(mode), _) => (mode, "because of --archive-mode".to_owned()),
        (None, None) => {
            (ArchiveMode::Off, "as it is not known whether a server archives here".to_owned())
        }
        (None, Some(at)) => {
            let since = age(now - at);
            match now - at < MAY_BE_ALIVE {
                true => (
                    ArchiveMode::Off,
                    format!("as the last WAL was archived {since} ago: its server may be alive"),
                ),
                false => {
                    (ArchiveMode::Preserve, format!("as no WAL has been archived for {since}"))
                }
            }
        }
    };
    Archiving { mode, reason }
}

impl Archiving {
    /// In one line.
    pub fn describe(&self) -> String {
        let reason = &self.reason;
        match self.mode {
            ArchiveMode::Off => format!("off in the restored cluster, {reason}"),
            ArchiveMode::Preserve => {
                format!("as the configuration in the backup says, {reason}")
            }
        }
    }

    /// As the option has it.
    pub fn name(&self) -> &'static str {
        match self.mode {
            ArchiveMode::Off => "off",
            ArchiveMode::Preserve => "preserve",
        }
    }
}

fn age(duration: Duration) -> String {
    let count =
        |number: i64, unit: &str| format!("{number} {unit}{}", if number == 1 { "" } else { "s" });
    match (duration.whole_days(), duration.whole_hours(), duration.whole_minutes()) {
        (2.., _, _) => count(duration.whole_days(), "day"),
        (_, 2.., _) => count(duration.whole_hours(), "hour"),
        (_, _, minutes) => count(minutes.max(0), "minute"),
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn a_copy_of_a_server_that_may_be_alive_does_not_archive_unless_asked() {
        let now = datetime!(2026-11-28 12:00:00 UTC);
        let mode = |asked, newest| decide(asked, newest, now).mode;
        let (recent, old) = (Some(now - Duration::hours(5)), Some(now - Duration::hours(7)));
        assert_eq!(mode(None, recent), ArchiveMode::Off);
        assert_eq!(mode(None, Some(now + Duration::hours(1))), ArchiveMode::Off);
        assert_eq!(mode(None, None), ArchiveMode::Off);
        assert_eq!(mode(None, old), ArchiveMode::Preserve);
        for asked in [ArchiveMode::Off, ArchiveMode::Preserve] {
            for newest in [recent, old, None] {
                assert_eq!(mode(Some(asked), newest), asked);
            }
        }
        assert_eq!(
            decide(None, Some(now - Duration::seconds(90)), now).describe(),
            "off in the restored cluster, as the last WAL was archived 1 minute ago: its server may be alive"
        );
        assert_eq!(
            decide(None, Some(now - Duration::days(3)), now).describe(),
            "as the configuration in the backup says, as no WAL has been archived for 3 days"
        );
    }
}
