//! The options that say how far a restored cluster recovers.

use clap::{ArgAction, Args};
use wal_e_core::Error;
use wal_e_core::config::Face;
use wal_e_core::postgres::Lsn;
use wal_e_core::recovery::{ReadWal, RecoveryTarget, TargetTime, TargetTimeline};

use super::conninfo;

/// Where recovery ends: the same for a plan and for a restore.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "How far to recover")]
pub struct TargetOptions {
    /// Recover to this time, with its offset from UTC: '2026-01-31 12:00:00+00'
    #[arg(long, value_name = "TIME", group = "target", value_parser = time)]
    pub recovery_target_time: Option<TargetTime>,

    /// Recover to this LSN
    #[arg(long, value_name = "LSN", group = "target", value_parser = lsn)]
    pub recovery_target_lsn: Option<Lsn>,

    /// Recover to this restore point, as named by pg_create_restore_point()
    #[arg(long, value_name = "NAME", group = "target", value_parser = restore_point)]
    pub recovery_target_name: Option<String>,

    /// Recover to the end of this transaction
    #[arg(long, value_name = "XID", group = "target", value_parser = transaction)]
    pub recovery_target_xid: Option<u32>,

    /// Recover to the end of the base backup, as soon as the cluster is consistent: immediate
    #[arg(long, value_name = "immediate", group = "target", value_parser = ["immediate"])]
    pub recovery_target: Option<String>,

    /// Whether to replay what is exactly at the time, LSN or transaction: true by
    /// default. With false, recovery ends just before it
    #[arg(
        long, value_name = "BOOL", default_value_t = true, action = ArgAction::Set,
        value_parser = boolean, hide_default_value = true, requires = "target",
        conflicts_with_all = ["recovery_target_name", "recovery_target"]
    )]
    pub recovery_target_inclusive: bool,

    /// Recover along this timeline: a number, latest (the default) or current
    #[arg(long, value_name = "TIMELINE", value_parser = timeline)]
    pub recovery_target_timeline: Option<TargetTimeline>,

    /// How much WAL to read beforehand, to look for damage, tablespaces and settings: all,
    /// none or a number of segments [default: 1024]
    #[arg(long, value_name = "SEGMENTS", value_parser = read_wal)]
    pub read_wal: Option<ReadWal>,
}

impl TargetOptions {
    /// The one target that was given.
    pub fn target(&self) -> Option<RecoveryTarget> {
        let time = self.recovery_target_time.map(RecoveryTarget::Time);
        let lsn = self.recovery_target_lsn.map(RecoveryTarget::Lsn);
        let name = self.recovery_target_name.clone().map(RecoveryTarget::Name);
        let xid = self.recovery_target_xid.map(RecoveryTarget::Xid);
        let immediate = self.recovery_target.as_ref().map(|_| RecoveryTarget::Immediate);
        let target = time.or(lsn).or(name).or(xid).or(immediate);
        match self.recovery_target_inclusive {
            true => target,
            false => target.map(RecoveryTarget::exclusive),
        }
    }
}

/// Any of these makes backup-fetch write a signal file and the settings of recovery.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Recovery (with any of these, or AUTO, recovery is set up in DIR)")]
pub struct RecoveryOptions {
    #[command(flatten)]
    pub target: TargetOptions,

    /// What to do at the target: pause (PostgreSQL's default), promote or shutdown
    #[arg(long, value_name = "ACTION", requires = "target", value_parser = ["pause", "promote", "shutdown"])]
    pub recovery_target_action: Option<String>,

    /// Make a standby, which replays WAL until it is promoted
    #[arg(long, conflicts_with_all = ["target", "recovery_target_action"])]
    pub standby: bool,

    /// The primary from which the standby also streams WAL: 'host=... user=...'. Put a
    /// password into the password file of the server's user instead
    #[arg(long, value_name = "CONNINFO", requires = "standby", value_parser = conninfo::without_password)]
    pub primary_conninfo: Option<String>,
}

fn time(text: &str) -> Result<TargetTime, String> {
    text.parse().map_err(in_one_line)
}

fn lsn(text: &str) -> Result<Lsn, String> {
    text.parse().map_err(in_one_line)
}

fn timeline(text: &str) -> Result<TargetTimeline, String> {
    text.parse().map_err(in_one_line)
}

fn read_wal(text: &str) -> Result<ReadWal, String> {
    match text {
        "all" => Ok(ReadWal::All),
        "none" => Ok(ReadWal::AtMost(0)),
        number => number
            .parse()
            .map(ReadWal::AtMost)
            .map_err(|_| "it must be all, none or a number of segments".to_owned()),
    }
}

fn in_one_line(error: Error) -> String {
    let parts = [Some(error.message()), error.detail(), error.hint()];
    let line = parts.into_iter().flatten().collect::<Vec<_>>().join(". ").replace(".. ", ". ");
    Face::Program.speak(&line)
}

/// As PostgreSQL reads the setting, without its abbreviations.
fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "on" | "yes" | "1" => Ok(true),
        "false" | "off" | "no" | "0" => Ok(false),
        _ => Err("it must be true or false".to_owned()),
    }
}

/// PostgreSQL 15, `src/backend/access/transam/xlogrecovery.c`,
/// `check_recovery_target_name`: shorter than `MAXFNAMELEN` (64).
fn restore_point(text: &str) -> Result<String, String> {
    if text.len() > 63 {
        return Err("the name of a restore point has at most 63 bytes".to_owned());
    }
    if text.trim().is_empty() || text.contains('\n') {
        return Err("it must be one line that is not empty".to_owned());
    }
    Ok(text.to_owned())
}

/// As `pg_current_xact_id()` prints it, or without its epoch. Numbers below 3 are
/// never given to transactions.
fn transaction(text: &str) -> Result<u32, String> {
    let low = text.parse::<u64>().ok().and_then(|number| u32::try_from(number & 0xFFFF_FFFF).ok());
    low.filter(|number| *number >= 3).ok_or_else(|| "a transaction is a number from 3".to_owned())
}
