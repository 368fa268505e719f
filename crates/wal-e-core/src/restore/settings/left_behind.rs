//! Settings in a backup that would harm the restored cluster.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::RecoveryConfig;
use crate::config::Word;
use crate::error::{Error, Result};
use crate::notice::{Level, Notices};
use crate::postgres::Configuration;
use crate::postgres::configuration::Setting;

/// Settings that change a recovery, and the value with which they have no effect.
const OF_RECOVERY: [(&str, &str); 15] = [
    ("recovery_target", ""),
    ("recovery_target_name", ""),
    ("recovery_target_time", ""),
    ("recovery_target_lsn", ""),
    ("recovery_target_xid", ""),
    ("recovery_target_inclusive", "on"),
    ("recovery_target_action", "pause"),
    ("recovery_target_timeline", "latest"),
    ("restore_command", ""),
    ("recovery_end_command", ""),
    ("archive_cleanup_command", ""),
    ("recovery_min_apply_delay", "0"),
    ("primary_conninfo", ""),
    ("primary_slot_name", ""),
    ("promote_trigger_file", ""),
];

/// Settings that name files outside of the data directory, which two servers would share.
const OF_FILES: [&str; 3] = ["hba_file", "ident_file", "external_pid_file"];

/// Reports settings that would change the planned recovery: in the log when they are
/// overridden, and as a warning when recovery is not set up.
pub(super) fn report(
    data_directory: &Path,
    configuration: &Configuration,
    recovery: Option<&RecoveryConfig>,
    notices: &Notices,
) {
    let found: Vec<String> = OF_RECOVERY
        .iter()
        .filter_map(|(name, idle)| configuration.get(name).filter(|set| set.value != *idle))
        .map(|setting| place(data_directory, setting))
        .collect();
    let list = found.join("; ");
    match (found.is_empty(), recovery) {
        (true, _) => {}
        (false, Some(_)) => notices.log(format!(
            "settings in the backup would have changed the recovery; postgresql.auto.conf overrides them: {list}"
        )),
        (false, None) => notices.send(
            Level::Warning,
            format!("settings in the backup change the recovery: {list}"),
            Some(format!(
                "Remove them before the server recovers. With AUTO or an option that begins \
                 with {}, backup-fetch overrides them.",
                Word::Target
            )),
        ),
    }
    for name in OF_FILES {
        let outside = configuration.get(name).filter(|setting| {
            let path = Path::new(&setting.value);
            path.is_absolute() && !path.starts_with(data_directory)
        });
        if let Some(setting) = outside {
            notices.warning(format!(
                "a setting in the backup points outside of the restored directory: {} is \"{}\"",
                place(data_directory, setting),
                setting.value
            ));
        }
    }
    for unread in configuration.unread.iter().take(8) {
        notices.warning(format!(
            "the configuration in the backup includes \"{}\", which cannot be read here; its settings are unknown",
            unread.display()
        ));
    }
}

/// `data_directory` of the configuration overrides the directory that a server is started
/// with (`-D`): the server would open the cluster that was backed up, if it is there, and
/// not the copy. PostgreSQL 15, `src/backend/utils/misc/guc.c`, `SelectConfigFiles`.
pub(super) fn leave_no_other_data_directory(
    data_directory: &Path,
    configuration: &Configuration,
    notices: &Notices,
) -> Result<()> {
    let leads_elsewhere = |setting: &&Setting| {
        setting.name == "data_directory" && !is_same(Path::new(&setting.value), data_directory)
    };
    let found: Vec<&Setting> = configuration.settings.iter().filter(leads_elsewhere).collect();
    let (inside, outside): (Vec<&Setting>, Vec<&Setting>) =
        found.into_iter().partition(|setting| is_inside(&setting.file, data_directory));
    for setting in &inside {
        notices.warning(format!(
            "{} was \"{}\", which the server would open instead of the restored directory; the line is now a comment",
            place(data_directory, setting),
            setting.value
        ));
    }
    for file in inside.iter().map(|setting| &setting.file).collect::<BTreeSet<_>>() {
        let lines: BTreeSet<usize> = inside
            .iter()
            .filter(|setting| setting.file == *file)
            .map(|setting| setting.line)
            .collect();
        make_comments(file, &lines)?;
    }
    for setting in outside {
        notices.send(
            Level::Warning,
            format!(
                "{} is \"{}\", which the server opens instead of the restored directory",
                place(data_directory, setting),
                setting.value
            ),
            Some(format!(
                "Start the server with -c data_directory={}, or remove the include of that file.",
                data_directory.display()
            )),
        );
    }
    Ok(())
}

fn is_same(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => one == other,
    }
}

fn is_inside(file: &Path, directory: &Path) -> bool {
    match (file.canonicalize(), directory.canonicalize()) {
        (Ok(file), Ok(directory)) => file.starts_with(directory),
        _ => false,
    }
}

/// Turns these lines, counted from 1, into comments.
fn make_comments(file: &Path, lines: &BTreeSet<usize>) -> Result<()> {
    let text = fs::read(file).map_err(|error| Error::file("read file", file, &error))?;
    let new: Vec<u8> = text
        .split_inclusive(|byte| *byte == b'\n')
        .enumerate()
        .flat_map(|(index, line)| match lines.contains(&(index + 1)) {
            true => [b"# by wal-e backup-fetch: ", line].concat(),
            false => line.to_vec(),
        })
        .collect();
    fs::write(file, new)
        .and_then(|()| fs::File::open(file)?.sync_all())
        .map_err(|error| Error::file("write file", file, &error))
}

/// `recovery_target_time in "postgresql.conf", line 812`.
fn place(data_directory: &Path, setting: &Setting) -> String {
    let file = setting.file.strip_prefix(data_directory).unwrap_or(&setting.file);
    format!("{} in \"{}\", line {}", setting.name, file.display(), setting.line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notice;
    use crate::restore::settings::tests::config;

    fn told(conf: &str, recovery: Option<&RecoveryConfig>) -> Vec<notice::Notice> {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("postgresql.conf"), conf).unwrap();
        let (notices, queue) = notice::channel();
        report(dir.path(), &Configuration::read(dir.path()).unwrap(), recovery, &notices);
        queue.drain()
    }

    #[test]
    fn settings_of_recovery_are_named_with_file_and_line() {
        let conf = "recovery_target_action = pause\n\nRecovery_Target_Time = '2020-01-01'\n";
        let warned = told(conf, None);
        assert_eq!(
            warned[0].message,
            "settings in the backup change the recovery: recovery_target_time in \"postgresql.conf\", line 3"
        );
        let logged = told(conf, Some(&config(None)));
        assert_eq!((logged.len(), logged[0].level), (1, Level::Log));
        assert!(told("recovery_target_time = ''\nport = 1\n", None).is_empty());
    }

    #[test]
    fn files_elsewhere_and_missing_includes_are_reported() {
        let warned = told("hba_file = '/etc/x/pg_hba.conf'\ninclude '/no/such.conf'\n", None);
        assert_eq!(warned.len(), 2, "{warned:?}");
        assert!(warned[0].message.contains("hba_file in \"postgresql.conf\", line 1"));
        assert!(told("hba_file = 'pg_hba.conf'\n", None).is_empty());
    }

    #[test]
    fn no_other_data_directory_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        let (data, other) = (dir.path().join("data"), dir.path().join("other.conf"));
        fs::create_dir(&data).unwrap();
        let own = data.display();
        let text = format!(
            "port = 1\ndata_directory = '/live'\ninclude '../other.conf'\ndata_directory = '{own}'\n"
        );
        fs::write(data.join("postgresql.conf"), text).unwrap();
        fs::write(&other, "data_directory = '/live'\n").unwrap();
        let (notices, queue) = notice::channel();
        let configuration = Configuration::read(&data).unwrap();
        leave_no_other_data_directory(&data, &configuration, &notices).unwrap();
        assert_eq!(
            fs::read_to_string(data.join("postgresql.conf")).unwrap(),
            format!(
                "port = 1\n# by wal-e backup-fetch: data_directory = '/live'\n\
                 include '../other.conf'\ndata_directory = '{own}'\n"
            )
        );
        assert_eq!(fs::read_to_string(&other).unwrap(), "data_directory = '/live'\n");
        assert_eq!(queue.drain().len(), 2);
    }
}
