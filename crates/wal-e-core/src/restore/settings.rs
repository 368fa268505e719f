//! The recovery settings of a restored cluster.
//!
//! They go to the end of `postgresql.auto.conf`, which PostgreSQL reads last: only an
//! option on the server's command line overrides them. Every setting that could change the
//! planned recovery is set there, to an empty value where it is not wanted.

use std::fs;
use std::path::Path;

use super::destination::remove_file;
use crate::error::{Error, Result};
use crate::notice::Notices;
use crate::postgres::configuration::quote;
use crate::postgres::data_directory::{RECOVERY_SIGNAL, STANDBY_SIGNAL};
use crate::postgres::{Configuration, RequiredSettings};
use crate::recovery::{RecoveryTarget, TargetTimeline};

mod auto_conf;
mod left_behind;

/// The settings that a restored cluster recovers with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveryConfig {
    /// `restore_command`.
    pub restore_command: String,
    /// `recovery_target_*`; `None` means to the end of the archive.
    pub target: Option<RecoveryTarget>,
    /// `recovery_target_action`: `pause`, `promote` or `shutdown`; `None` means
    /// PostgreSQL's default, `pause`.
    pub target_action: Option<String>,
    /// `recovery_target_timeline`; `None` means PostgreSQL's default, `latest`.
    pub target_timeline: Option<TargetTimeline>,
    /// Whether the cluster becomes a standby, which waits for more WAL.
    pub standby: bool,
    /// `primary_conninfo` of a standby that streams WAL, too.
    pub primary_conninfo: Option<String>,
    /// Whether the server must not read WAL ahead of its replay.
    pub must_not_read_ahead: bool,
    /// What the replayed WAL requires beyond the control file.
    pub required_settings: RequiredSettings,
}

/// Whether a restored cluster archives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ArchiveMode {
    /// `archive_mode` is as the configuration of the backup has it.
    #[default]
    Preserve,
    /// `archive_mode` is off.
    Off,
}

/// The lines before and after the recovery settings.
const BEGIN: &str = "# wal-e backup-fetch: recovery settings, begin";
const END: &str = "# wal-e backup-fetch: recovery settings, end";

/// The comment that says how to remove the settings: a promoted server does not need them,
/// and a standby made from it would obey them.
const HOW_TO_TAKE_OUT: &str = "\
# They override all other files. After promotion, remove them in psql:
#   SELECT DISTINCT 'ALTER SYSTEM RESET ' || name FROM pg_file_settings
#     WHERE sourcefile LIKE '%/postgresql.auto.conf'
#     AND name ~ '^(recovery_(target|end|min|prefetch)|restore_command|archive_cleanup|primary_|promote_trigger|hot_standby$)' \\gexec
";

/// The settings that name a target. PostgreSQL refuses a second one that is set, and, until
/// the first is empty again, even a second one that is empty: PostgreSQL 15 to 18,
/// `assign_recovery_target_name` and its like. So they are emptied before one is set.
const TARGETS: [&str; 5] = [
    "recovery_target",
    "recovery_target_name",
    "recovery_target_time",
    "recovery_target_lsn",
    "recovery_target_xid",
];

/// Writes the settings of a restored data directory, and reports what happens to those in
/// the backup. `control` is what its control file requires.
///
/// # Errors
/// [`crate::ErrorKind::Io`] when a file cannot be read or written.
pub(super) fn set_up(
    data_directory: &Path,
    recovery: Option<&RecoveryConfig>,
    archive_mode: ArchiveMode,
    control: Option<RequiredSettings>,
    notices: &Notices,
) -> Result<()> {
    auto_conf::leave_out_old_settings(data_directory)?;
    let configuration = Configuration::read(data_directory)?;
    left_behind::leave_no_other_data_directory(data_directory, &configuration, notices)?;
    left_behind::report(data_directory, &configuration, recovery, notices);
    let mut lines = String::new();
    if let Some(recovery) = recovery {
        lines.push_str(&recovery.settings(&configuration, major_version(data_directory)));
        let required = recovery.required_settings.largest(control.unwrap_or_default());
        lines.push_str(&raised(&configuration, required, notices));
    }
    if archive_mode == ArchiveMode::Off {
        lines.push_str(
            "# Written by wal-e backup-fetch: a copy must not archive to the prefix of the original\n\
             archive_mode = 'off'\n",
        );
    }
    if !lines.is_empty() {
        auto_conf::append(data_directory, &lines)?;
    }
    match recovery {
        Some(recovery) => recovery.make_signal(data_directory),
        None => {
            let signals = [STANDBY_SIGNAL, RECOVERY_SIGNAL];
            if let Some(signal) = signals.iter().find(|name| data_directory.join(name).exists()) {
                notices.warning(format!(
                    "the backup contains \"{signal}\", which decides how the server starts"
                ));
            }
            Ok(())
        }
    }
}

impl RecoveryConfig {
    /// Makes `recovery.signal` or `standby.signal`.
    fn make_signal(&self, data_directory: &Path) -> Result<()> {
        let [signal, other] = match self.standby {
            true => [STANDBY_SIGNAL, RECOVERY_SIGNAL],
            false => [RECOVERY_SIGNAL, STANDBY_SIGNAL],
        };
        // One from the backup of a standby would take precedence.
        let path = data_directory.join(other);
        remove_file(&path)?;
        let path = data_directory.join(signal);
        fs::File::create(&path)
            .and_then(|file| file.sync_all())
            .map_err(|error| Error::file("write file", &path, &error))
    }

    /// All settings that affect recovery, as far as the server's version has them.
    fn settings(&self, configuration: &Configuration, major_version: Option<u32>) -> String {
        let mut lines = format!("\n{BEGIN}\n{HOW_TO_TAKE_OUT}");
        let mut set = |name: &str, value: &str| {
            lines.push_str(&format!("{name} = {}\n", quote(value)));
        };
        for name in targets_to_empty(configuration) {
            set(name, "");
        }
        let target = self.target.as_ref();
        if let Some((name, value)) = target.map(setting_of) {
            set(name, &value);
        }
        let inclusive = target.is_none_or(RecoveryTarget::is_inclusive);
        set("recovery_target_inclusive", if inclusive { "on" } else { "off" });
        let action = self.target_action.as_deref().unwrap_or("pause");
        set("recovery_target_action", action);
        set("recovery_target_timeline", &self.target_timeline.unwrap_or_default().to_string());
        set("restore_command", &self.restore_command);
        set("recovery_end_command", "");
        set("archive_cleanup_command", "");
        set("recovery_min_apply_delay", "0");
        set("primary_conninfo", self.primary_conninfo.as_deref().unwrap_or_default());
        set("primary_slot_name", "");
        if major_version.is_some_and(|major| (12..=15).contains(&major)) {
            set("promote_trigger_file", "");
        }
        if self.must_not_read_ahead && major_version.is_some_and(|major| major >= 15) {
            set("recovery_prefetch", "off");
        }
        if target.is_some() && action == "pause" {
            // Without it, PostgreSQL shuts down instead (`validateRecoveryParameters`).
            set("hot_standby", "on");
        }
        lines.push_str(END);
        lines.push('\n');
        lines
    }
}

/// The settings that name a target, in an order in which they can be emptied: one that a
/// file sets in another spelling than `recovery_target...` is not replaced, but set first.
fn targets_to_empty(configuration: &Configuration) -> Vec<&'static str> {
    let is_set = |name: &&str| configuration.get(name).is_some_and(|set| !set.value.is_empty());
    let (first, others): (Vec<_>, Vec<_>) = TARGETS.into_iter().partition(is_set);
    [first, others].concat()
}

/// Name and value of the setting that names a target.
fn setting_of(target: &RecoveryTarget) -> (&'static str, String) {
    match target {
        RecoveryTarget::Immediate => ("recovery_target", "immediate".to_owned()),
        RecoveryTarget::Time(time) | RecoveryTarget::BeforeTime(time) => {
            ("recovery_target_time", time.to_string())
        }
        RecoveryTarget::Lsn(lsn) | RecoveryTarget::BeforeLsn(lsn) => {
            ("recovery_target_lsn", lsn.to_string())
        }
        RecoveryTarget::Name(name) => ("recovery_target_name", name.clone()),
        RecoveryTarget::Xid(xid) | RecoveryTarget::BeforeXid(xid) => {
            ("recovery_target_xid", xid.to_string())
        }
    }
}

/// The required settings for which the configuration has a lower value. Where not all of it
/// could be read, a setting that was not found may have any value.
fn raised(configuration: &Configuration, required: RequiredSettings, notices: &Notices) -> String {
    let mut lines = String::new();
    let mut raised = Vec::new();
    let is_whole = configuration.has_main_file && configuration.unread.is_empty();
    for ((name, needed), (_, default)) in
        required.named().into_iter().zip(RequiredSettings::DEFAULT.named())
    {
        let set = configuration.get(name);
        let value = match set {
            Some(setting) => setting.value.trim().parse::<u32>().ok(),
            None => is_whole.then_some(default),
        };
        if needed == 0 || value.is_some_and(|value| value >= needed) {
            continue;
        }
        lines.push_str(&format!("{name} = {needed}\n"));
        if let Some(setting) = set {
            raised.push(format!("{name} = {needed} instead of {}", setting.value));
        }
    }
    if !raised.is_empty() {
        notices.log(format!(
            "the WAL requires larger settings than the backup has; they are set in postgresql.auto.conf: {}",
            raised.join(", ")
        ));
    }
    if lines.is_empty() {
        return lines;
    }
    format!(
        "# Written by wal-e backup-fetch: the server that wrote the WAL had these, and recovery stops with less.\n\
         # They stay in force until ALTER SYSTEM RESET.\n{lines}"
    )
}

/// What `PG_VERSION` says.
fn major_version(data_directory: &Path) -> Option<u32> {
    fs::read_to_string(data_directory.join("PG_VERSION")).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests;
