//! What a restored cluster is told about how to recover.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use crate::error::{Error, Result};
use crate::recovery::{RecoveryTarget, TargetTimeline};

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
}

/// The signal file that came with the backup, when it was made of a server that had
/// one, and no recovery is set up.
pub(super) fn signal_in(data_directory: &Path) -> Option<&'static str> {
    [STANDBY_SIGNAL, RECOVERY_SIGNAL]
        .into_iter()
        .find(|signal| data_directory.join(signal).exists())
}

const RECOVERY_SIGNAL: &str = "recovery.signal";
const STANDBY_SIGNAL: &str = "standby.signal";

impl RecoveryConfig {
    /// Adds the settings to `postgresql.auto.conf` of a restored data directory,
    /// where they win over all others, and makes `recovery.signal` or `standby.signal`.
    pub(super) fn write(&self, data_directory: &Path) -> Result<()> {
        let path = data_directory.join("postgresql.auto.conf");
        OpenOptions::new()
            .append(true)
            .create(true)
            .open(&path)
            .and_then(|mut file| {
                file.write_all(self.settings().as_bytes())?;
                file.sync_all()
            })
            .map_err(|error| Error::file("write file", &path, &error))?;
        let [signal, other] = match self.standby {
            true => [STANDBY_SIGNAL, RECOVERY_SIGNAL],
            false => [RECOVERY_SIGNAL, STANDBY_SIGNAL],
        };
        // One that came with the backup of a standby would win.
        let path = data_directory.join(other);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::file("remove file", &path, &error));
            }
            _ => {}
        }
        let path = data_directory.join(signal);
        fs::File::create(&path)
            .and_then(|file| file.sync_all())
            .map_err(|error| Error::file("write file", &path, &error))
    }

    fn settings(&self) -> String {
        let mut lines = String::from(
            "\n# Recovery settings written by wal-e backup-fetch. When the server has been promoted, take out\n\
             # all that begin with recovery_target: a standby made of it would end or stop at them.\n",
        );
        let mut set = |name: &str, value: &str| {
            lines.push_str(&format!("{name} = {}\n", quote(value)));
        };
        set("restore_command", &self.restore_command);
        match &self.target {
            None => {}
            Some(RecoveryTarget::Time(time)) => set("recovery_target_time", &time.to_string()),
            Some(RecoveryTarget::Lsn(lsn)) => set("recovery_target_lsn", &lsn.to_string()),
            Some(RecoveryTarget::Name(name)) => set("recovery_target_name", name),
            Some(RecoveryTarget::Xid(xid)) => set("recovery_target_xid", &xid.to_string()),
        }
        if let Some(action) = &self.target_action {
            set("recovery_target_action", action);
        }
        set("recovery_target_timeline", &self.target_timeline.unwrap_or_default().to_string());
        lines
    }
}

/// What a cluster that was itself restored once still has in
/// `postgresql.auto.conf`: an old target would end the next recovery too early.
const OLD_SETTINGS: [&str; 3] = ["restore_command", "recovery_end_command", "recovery_target"];

/// Makes comments of old recovery settings in a restored `postgresql.auto.conf`.
pub(super) fn leave_out_old_settings(data_directory: &Path) -> Result<()> {
    let path = data_directory.join("postgresql.auto.conf");
    // Values need not be text in any one encoding.
    let text = match fs::read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        result => result.map_err(|error| Error::file("read file", &path, &error))?,
    };
    let is_old = |line: &[u8]| {
        let line = line.trim_ascii_start().to_ascii_lowercase();
        OLD_SETTINGS.iter().any(|setting| line.starts_with(setting.as_bytes()))
    };
    let lines = || text.split_inclusive(|byte| *byte == b'\n');
    if !lines().any(is_old) {
        return Ok(());
    }
    let kept: Vec<u8> = lines()
        .flat_map(|line| if is_old(line) { [b"# ", line].concat() } else { line.to_vec() })
        .collect();
    fs::write(&path, kept)
        .and_then(|()| fs::File::open(&path)?.sync_all())
        .map_err(|error| Error::file("write file", &path, &error))
}

/// A value as a configuration file holds it.
fn quote(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "''").replace('\n', "\\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::{Lsn, TimelineId};

    #[test]
    fn the_target_of_an_earlier_restore_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        leave_out_old_settings(dir.path()).unwrap();
        let path = dir.path().join("postgresql.auto.conf");
        let text = "port = '1'\nrestore_command = 'x'\n  Recovery_Target_Time = '2020-01-01'\n\
                    recovery_target_action = 'promote'\nrecovery_min_apply_delay = '1min'\n";
        fs::write(&path, text).unwrap();
        leave_out_old_settings(dir.path()).unwrap();
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "port = '1'\n# restore_command = 'x'\n#   Recovery_Target_Time = '2020-01-01'\n\
             # recovery_target_action = 'promote'\nrecovery_min_apply_delay = '1min'\n"
        );
    }

    #[test]
    fn settings_are_appended_and_quoted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("postgresql.auto.conf");
        fs::write(&path, "port = '5433'\n").unwrap();
        let config = RecoveryConfig {
            restore_command: r#"wal-e --file-prefix='/it''s\here' wal-fetch "%f" "%p""#.to_owned(),
            target: Some(RecoveryTarget::Lsn(Lsn(0x300_0000))),
            target_action: Some("promote".to_owned()),
            target_timeline: Some(TargetTimeline::Number(TimelineId(2))),
            standby: false,
        };
        fs::write(dir.path().join("standby.signal"), "").unwrap();
        assert_eq!(signal_in(dir.path()), Some("standby.signal"));
        config.write(dir.path()).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("port = '5433'\n"));
        assert!(text.contains("'/it''''s\\\\here'"), "{text}");
        assert!(text.contains("\nrecovery_target_lsn = '0/3000000'\n"));
        assert!(text.contains("\nrecovery_target_timeline = '2'\n"));
        assert!(dir.path().join("recovery.signal").exists());
        assert!(!dir.path().join("standby.signal").exists());
    }

    #[test]
    fn every_target_has_its_setting() {
        let time = "2026-11-23 13:00:00.5+01".parse().unwrap();
        for (target, setting) in [
            (RecoveryTarget::Time(time), "recovery_target_time = '2026-11-23 12:00:00.5+00'"),
            (RecoveryTarget::Lsn(Lsn(0x16_0000_0028)), "recovery_target_lsn = '16/28'"),
            (RecoveryTarget::Name("it's".to_owned()), "recovery_target_name = 'it''s'"),
            (RecoveryTarget::Xid(731), "recovery_target_xid = '731'"),
        ] {
            let config = RecoveryConfig {
                restore_command: "x".to_owned(),
                target: Some(target),
                target_action: None,
                target_timeline: None,
                standby: false,
            };
            let settings = config.settings();
            assert!(settings.contains(&format!("\n{setting}\n")), "{settings}");
            assert!(settings.contains("\nrecovery_target_timeline = 'latest'\n"), "{settings}");
        }
    }

    #[test]
    fn a_standby_has_a_signal_of_its_own_and_no_target() {
        let dir = tempfile::tempdir().unwrap();
        let config = RecoveryConfig {
            restore_command: "x".to_owned(),
            target: None,
            target_action: None,
            target_timeline: None,
            standby: true,
        };
        fs::write(dir.path().join("recovery.signal"), "").unwrap();
        config.write(dir.path()).unwrap();
        assert!(dir.path().join("standby.signal").exists());
        assert!(!dir.path().join("recovery.signal").exists());
        let text = fs::read_to_string(dir.path().join("postgresql.auto.conf")).unwrap();
        assert!(
            text.contains("restore_command = 'x'\n") && !text.contains("recovery_target_time ="),
            "{text}"
        );
    }
}
