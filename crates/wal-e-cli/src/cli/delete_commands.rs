//! `wal-e delete`, `wal-e backup-mark` and `wal-e report`, which takes the rules of `delete retain`:
//! in the words of WAL-E and WAL-G.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use time::{Duration, OffsetDateTime};
use wal_e_core::recovery::TargetTime;
use wal_e_core::retention::{Calendar, Garbage, Policy, Request, parse_window};

#[derive(Debug, Args)]
pub struct BackupMark {
    /// The backup
    pub name: String,

    /// Make it an ordinary one again
    #[arg(short, long)]
    pub impermanent: bool,
}

#[derive(Debug, Args)]
pub struct MakeReport {
    /// Write the page to FILE, whole or not at all, instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// By these rules it shows what retention would delete
    #[command(flatten)]
    pub retain: Retain,
}

#[derive(Debug, Args)]
pub struct Delete {
    #[command(subcommand)]
    pub what: What,

    /// Delete. Without it, what would be deleted is shown, and nothing is deleted
    #[arg(long, global = true)]
    pub confirm: bool,

    /// Delete nothing. This is the default
    #[arg(short = 'n', long, global = true, conflicts_with = "confirm")]
    pub dry_run: bool,

    /// Show what stays, too
    #[arg(long, global = true)]
    pub detail: bool,

    /// Print a JSON array of all groups of objects, what stays included
    #[arg(long, global = true)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum What {
    /// Delete what no rule keeps. Rules add up; the newest backup that can be restored always
    /// stays, and so do permanent ones
    Retain(Retain),
    /// Delete backups older than NAME, or what a restore to any moment since TIME does not
    /// need, and the WAL that only they need
    Before {
        /// A backup, or a time such as 2026-11-23T12:00:00Z, perhaps after FIND_FULL
        #[arg(value_name = "[FIND_FULL] NAME|TIME", num_args = 1..=2, required = true)]
        words: Vec<String>,
    },
    /// Delete one backup, and the backups that are deltas of it
    Target {
        /// The backup, perhaps after FIND_FULL
        #[arg(value_name = "[FIND_FULL] NAME", num_args = 1..=2, required = true)]
        words: Vec<String>,
    },
    /// Delete what is left of backups that never became complete, and WAL that no backup needs
    Garbage {
        /// Only WAL, or only what is left of backups
        #[arg(value_name = "ARCHIVES|BACKUPS", value_parser = ["ARCHIVES", "BACKUPS"])]
        only: Option<String>,
    },
    /// Delete all backups and all WAL, but for permanent backups and what they need
    Everything {
        /// WAL-G's word; means nothing here
        #[arg(value_name = "FORCE", value_parser = ["FORCE"])]
        force: Option<String>,
    },
}

#[derive(Debug, Args)]
pub struct Retain {
    /// So many of the newest full backups, and every moment from the oldest of them on
    #[arg(value_name = "[FULL|FIND_FULL] N", num_args = 0..=2)]
    pub words: Vec<String>,

    /// Every moment of this time up to now: "14 days", "36 hours", "4 weeks"
    #[arg(long, value_name = "TIME", value_parser = parse_window)]
    pub window: Option<Duration>,

    /// The last backup of each of so many periods: "7 daily, 4 weekly, 12 monthly, 5 yearly"
    #[arg(long, value_name = "NUMBERS", default_value = "", value_parser = calendar)]
    pub calendar: Calendar,
}

impl Delete {
    /// What the words ask for.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn request(&self, now: OffsetDateTime) -> Result<Request, String> {
        match &self.what {
            What::Retain(retain) => match retain.policy()? {
                Some(policy) => Ok(Request::Retain(policy)),
                None => Err("say how many full backups to keep, --window or --calendar".to_owned()),
            },
            What::Before { words } => {
                let word = last(words, &["FIND_FULL"])?;
                if word.starts_with("base_") {
                    return Ok(Request::Before(word.to_owned()));
                }
                let since: TargetTime = word.parse().map_err(|_| {
                    format!("\"{word}\" is neither the name of a backup nor a time with its zone")
                })?;
                let window = (now - since.time()).max(Duration::ZERO);
                Ok(Request::Retain(Policy { window: Some(window), ..Policy::default() }))
            }
            What::Target { words } => Ok(Request::Backup(last(words, &["FIND_FULL"])?.to_owned())),
            What::Garbage { only } => Ok(Request::Garbage(match only.as_deref() {
                Some("ARCHIVES") => Garbage::Archives,
                Some(_) => Garbage::Backups,
                None => Garbage::All,
            })),
            What::Everything { .. } => Ok(Request::Everything),
        }
    }
}

impl Retain {
    /// The rules that were given; `None` without any.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn policy(&self) -> Result<Option<Policy>, String> {
        let full_backups = match self.words.as_slice() {
            [] => 0,
            words => {
                let number = last(words, &["FULL", "FIND_FULL"])?;
                let number = number.parse().ok().filter(|number| *number > 0);
                number.ok_or("the number of full backups must be at least 1")?
            }
        };
        let policy = Policy { full_backups, window: self.window, calendar: self.calendar };
        Ok((!policy.is_empty()).then_some(policy))
    }
}

/// The last of the words, which may stand after one of `before`: full backups are what counts
/// in any case.
fn last<'a>(words: &'a [String], before: &[&str]) -> Result<&'a str, String> {
    match words {
        [word] => Ok(word),
        [first, word] if before.contains(&first.as_str()) => Ok(word),
        [first, ..] => Err(format!("\"{first}\" is not one of {}", before.join(", "))),
        [] => Err("something is missing".to_owned()),
    }
}

fn calendar(text: &str) -> Result<Calendar, String> {
    text.parse()
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use time::macros::datetime;

    use super::*;
    use crate::cli::{Cli, Command};

    const NOW: OffsetDateTime = datetime!(2026-11-30 00:00 UTC);

    fn request(arguments: &str) -> Result<Request, String> {
        let words = ["wal-e", "delete"].into_iter().chain(arguments.split('|'));
        let cli = Cli::try_parse_from(words).map_err(|error| error.to_string())?;
        match cli.command {
            Command::Delete(delete) => delete.request(NOW),
            other => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn the_words_of_wal_e_and_wal_g_are_understood() {
        let full = |full_backups| Policy { full_backups, ..Policy::default() };
        let window = |hours| Policy { window: Some(Duration::hours(hours)), ..Policy::default() };
        let name = "base_000000010000000000000002";
        for (arguments, expected) in [
            ("retain|5", Request::Retain(full(5))),
            ("retain|FULL|5|--confirm", Request::Retain(full(5))),
            ("retain|FIND_FULL|5", Request::Retain(full(5))),
            ("retain|--window|2 weeks", Request::Retain(window(14 * 24))),
            ("--confirm|retain|2|--window|36h", {
                Request::Retain(Policy { full_backups: 2, ..window(36) })
            }),
            ("before|2026-11-29T00:00:00Z", Request::Retain(window(24))),
            ("before|base_000000010000000000000002", Request::Before(name.to_owned())),
            ("before|FIND_FULL|base_000000010000000000000002", Request::Before(name.to_owned())),
            ("target|base_000000010000000000000002", Request::Backup(name.to_owned())),
            ("garbage|-n", Request::Garbage(Garbage::All)),
            ("garbage|ARCHIVES", Request::Garbage(Garbage::Archives)),
            ("garbage|BACKUPS", Request::Garbage(Garbage::Backups)),
            ("everything", Request::Everything),
            ("everything|FORCE|--confirm", Request::Everything),
        ] {
            assert_eq!(request(arguments), Ok(expected), "{arguments}");
        }
    }

    #[test]
    fn what_cannot_be_meant_deletes_nothing() {
        for arguments in [
            "retain",
            "retain|0",
            "retain|5|FULL",
            "retain|ALL|5",
            "retain|--window|5",
            "retain|--window|5 months",
            "retain|--calendar|5 hourly",
            "before|2026-11-29",
            "before",
            "target",
            "everything|NOW",
            "garbage|-n|--confirm",
        ] {
            assert!(request(arguments).is_err(), "{arguments}");
        }
    }
}
