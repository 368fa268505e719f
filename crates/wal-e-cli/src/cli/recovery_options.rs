//! The options that say how far a restored cluster recovers.

use clap::Args;
use wal_e_core::postgres::Lsn;

/// Any of these makes backup-fetch write recovery.signal and the settings of recovery.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Recovery (with any of these, recovery is set up in DIR)")]
pub struct RecoveryOptions {
    /// Recover to this time, as PostgreSQL reads it: '2026-01-31 12:00:00+00'
    #[arg(long, value_name = "TIME", group = "target", value_parser = not_empty)]
    pub recovery_target_time: Option<String>,

    /// Recover to this LSN
    #[arg(long, value_name = "LSN", group = "target", value_parser = lsn)]
    pub recovery_target_lsn: Option<Lsn>,

    /// Recover to this restore point, as named by pg_create_restore_point()
    #[arg(long, value_name = "NAME", group = "target", value_parser = restore_point)]
    pub recovery_target_name: Option<String>,

    /// What to do at the target: pause (PostgreSQL's default), promote or shutdown
    #[arg(long, value_name = "ACTION", requires = "target", value_parser = ["pause", "promote", "shutdown"])]
    pub recovery_target_action: Option<String>,

    /// Recover along this timeline: a number, latest or current
    #[arg(long, value_name = "TIMELINE", value_parser = target_timeline)]
    pub recovery_target_timeline: Option<String>,
}

fn lsn(text: &str) -> Result<Lsn, String> {
    text.parse().map_err(|error: wal_e_core::Error| {
        [Some(error.message()), error.hint()].into_iter().flatten().collect::<Vec<_>>().join(". ")
    })
}

fn not_empty(text: &str) -> Result<String, String> {
    if text.trim().is_empty() || text.contains('\n') {
        return Err("it must be one line that is not empty".to_owned());
    }
    Ok(text.to_owned())
}

/// PostgreSQL 15, `src/backend/access/transam/xlogrecovery.c`,
/// `check_recovery_target_name`: shorter than `MAXFNAMELEN` (64).
fn restore_point(text: &str) -> Result<String, String> {
    if text.len() > 63 {
        return Err("the name of a restore point has at most 63 bytes".to_owned());
    }
    not_empty(text)
}

fn target_timeline(text: &str) -> Result<String, String> {
    let number = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hexadecimal) => u32::from_str_radix(hexadecimal, 16),
        None => text.parse(),
    };
    match (text, number) {
        ("latest" | "current", _) => Ok(text.to_owned()),
        (_, Ok(1..)) => Ok(text.to_owned()),
        _ => Err("a timeline is a number from 1, \"latest\" or \"current\"".to_owned()),
    }
}
