//! `wal-e backup-fetch DIR NAME|LATEST`: restores a base backup, and says what to do
//! next.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use wal_e_core::postgres::RequiredSettings;
use wal_e_core::restore;
use wal_e_core::restore::{
    ArchiveMode, FetchProgress, FetchRequest, RecoveryConfig, TablespacePlaces,
};
use wal_e_core::{Error, Result};

use super::restore_plan::{self, Planned};
use super::{open, run_large};
use crate::cli;
use crate::interrupt::{Failure, Interrupt};
use crate::report::{Report, print_result};
use crate::restore_command;
use crate::server_programs;
use crate::settings::{CredentialPlace, KeyPlaces, Settings};
use crate::table::size;

mod progress;

use progress::{Event, Pace};

pub fn run(
    arguments: &cli::BackupFetch,
    settings: &Settings,
    report: &Arc<Report>,
) -> Result<(), Failure> {
    let progress = Arc::new(FetchProgress::default());
    let result = restore(arguments, settings, &progress, report);
    if let (true, Err(failure)) = (arguments.json, &result) {
        print_result(&Event::of_failure(failure, progress.damage.objects()).line())?;
    }
    result
}

fn restore(
    arguments: &cli::BackupFetch,
    settings: &Settings,
    progress: &Arc<FetchProgress>,
    report: &Arc<Report>,
) -> Result<(), Failure> {
    let restore_command = restore_command::build(settings, &wal_fetch_options(arguments)?)?;
    let directory = std::path::absolute(&arguments.directory)
        .map_err(|source| Error::file("make an absolute path of", &arguments.directory, &source))?;
    let recovery = recovery_config(arguments, &restore_command);
    let set_up = recovery.is_some();
    let mut request = FetchRequest {
        name: wanted_name(arguments, &directory, report)?,
        directory: directory.clone(),
        concurrency: usize::from(arguments.pool_size),
        tablespaces: tablespace_places(arguments)?,
        created: Vec::new(),
        unusable: arguments.tablespaces.unusable(),
        wal_directory: arguments.waldir.clone(),
        recovery,
        archive_mode: ArchiveMode::default(),
        ignores_free_space: arguments.ignore_free_space,
        resume: arguments.resume,
    };
    let (fetched, planned) = run_large(async {
        let interrupt = Interrupt::listen(report)?;
        let opened = interrupt.or_cancelled(open(settings, report)).await;
        let opened = opened.map_err(|error| interrupt.failure(error))?;
        // Whether the target can be reached is known before a byte is written.
        let (name, options) = (&request.name, &arguments.recovery);
        let mode = arguments.archive_mode;
        let planned = restore_plan::before_fetch(&opened, name, options, mode, set_up, report);
        let planned = interrupt.or_cancelled(planned).await;
        let planned = planned.map_err(|error| interrupt.failure(error))?;
        let bindir = arguments.pg_bindir.as_deref();
        let programs = planned.pg_version.map(|version| server_programs::mismatch(version, bindir));
        if let Some(mismatch) = programs.transpose()?.flatten() {
            report.warning(&mismatch);
        }
        report.log(&format!("archiving: {}", planned.archiving.describe()));
        request.name.clone_from(&planned.backup);
        request.archive_mode = planned.archiving.mode;
        request.created = planned.tablespaces.clone();
        if let Some(recovery) = &mut request.recovery {
            recovery.target_timeline = planned.timeline;
            recovery.required_settings = planned.required_settings;
            recovery.must_not_read_ahead = planned.must_not_read_ahead;
        }
        let counters = Arc::clone(progress);
        let token = interrupt.token();
        let fetch = restore::fetch(opened.store, request, counters, opened.notices, token);
        let pace = Pace::new(Arc::clone(progress));
        let fetched = match arguments.json {
            true => report.attend_events(&opened.queue, || pace.event(), fetch).await,
            false => report.attend(&opened.queue, || pace.describe(), fetch).await,
        };
        Ok::<_, Failure>((fetched.map_err(|error| interrupt.failure(error))?, planned))
    })??;
    report.log(&format!(
        "base backup {} is restored into \"{}\": {} in {} files",
        fetched.name,
        directory.display(),
        size(fetched.bytes_written),
        fetched.files,
    ));
    let mut steps = next_steps(&directory, &restore_command, set_up, &settings.keys);
    steps.push_str(&after_recovery(&planned, set_up, arguments.recovery.standby));
    report.hint(&steps);
    if let Some(doubt) = &planned.doubt {
        report.warning(doubt);
    }
    Ok(print_result(&match arguments.json {
        true => Event::of_result(&fetched, &directory, planned.archiving.name()).line(),
        false => format!("{}\n", fetched.name),
    })?)
}

/// The backup to restore. Since a restore was interrupted, a newer backup may have been
/// taken, which is not the one to go on with.
fn wanted_name(arguments: &cli::BackupFetch, directory: &Path, report: &Report) -> Result<String> {
    if arguments.resume
        && matches!(arguments.name.as_str(), "LATEST" | "AUTO")
        && let Some(name) = restore::interrupted_restore(directory)?
    {
        report.log(&format!("going on with the restore of base backup {name}"));
        return Ok(name);
    }
    Ok(arguments.name.clone())
}

/// The options of `wal-fetch` in the restored server's `restore_command`.
fn wal_fetch_options(arguments: &cli::BackupFetch) -> Result<Vec<String>> {
    let mut tablespaces = arguments.tablespaces.clone();
    let mut words = Vec::new();
    if arguments.recovery.target.target().is_some() {
        words.push(restore_command::WITH_TARGET.to_owned());
        // All that is replayed up to the target was looked at. What else creates a tablespace
        // is in the same segment after the target, and must not make wal-fetch refuse it.
        tablespaces.tablespaces_in_use.get_or_insert(cli::InUse::InPlace);
    }
    words.extend(tablespaces.words()?);
    Ok(words)
}

/// Where the tablespaces go.
fn tablespace_places(arguments: &cli::BackupFetch) -> Result<TablespacePlaces> {
    match arguments.restore_spec.as_deref() {
        _ if arguments.tablespaces.blind_restore => Ok(TablespacePlaces::InPlace),
        None => Ok(TablespacePlaces::Mapped {
            pairs: arguments.tablespaces.tablespace_mapping.clone(),
            below: arguments.tablespaces.tablespace_mapping_all.clone(),
        }),
        Some("SOURCE") => Ok(TablespacePlaces::default()),
        Some(file) => {
            let json = std::fs::read(file)
                .map_err(|source| Error::file("read file", Path::new(file), &source))?;
            TablespacePlaces::from_specification(file, &json)
        }
    }
}

/// Recovery is set up when any of its options is given, or AUTO.
fn recovery_config(arguments: &cli::BackupFetch, restore_command: &str) -> Option<RecoveryConfig> {
    let options = &arguments.recovery;
    let target = options.target.target();
    let target_timeline = options.target.recovery_target_timeline;
    let wanted = target.is_some()
        || target_timeline.is_some()
        || options.standby
        || arguments.name == "AUTO";
    wanted.then(|| RecoveryConfig {
        restore_command: restore_command.to_owned(),
        target,
        target_action: options.recovery_target_action.clone(),
        target_timeline,
        standby: options.standby,
        primary_conninfo: options.primary_conninfo.clone(),
        must_not_read_ahead: false,
        required_settings: RequiredSettings::default(),
    })
}

fn next_steps(directory: &Path, restore_command: &str, set_up: bool, keys: &KeyPlaces) -> String {
    let shown = directory.display();
    let mut text = if set_up {
        format!(
            "recovery is set up in \"{shown}\" (postgresql.auto.conf and a signal file); start the server to recover"
        )
    } else {
        format!(
            "to recover, before the server is started, put this line into its postgresql.conf\n    \
             restore_command = {}\n  and make the file that asks for recovery\n    touch {}",
            restore_command::setting_value(restore_command),
            restore_command::shell_word(&directory.join("recovery.signal").to_string_lossy()),
        )
    };
    match keys.credentials {
        CredentialPlace::EnvDir | CredentialPlace::NotNeeded => {}
        CredentialPlace::Environment => text.push_str(
            "\n  the server needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY too, which only this \
             process has now: keep them in a directory and name it with --env-dir",
        ),
        CredentialPlace::DefaultChain => text.push_str(
            "\n  the server's operating system user must find AWS credentials as this process did",
        ),
    }
    if keys.encryption_in_environment {
        text.push_str(
            "\n  the server needs the keys for libsodium or OpenPGP too, which only this process has \
             now: name their files in a directory, and name it with --env-dir",
        );
    }
    if !directory.join("postgresql.conf").exists() {
        text.push_str(
            "\n  the backup has no postgresql.conf (it was kept outside of the data directory): \
             the server needs one, whose data_directory names this directory or nothing",
        );
    }
    if !directory.join("pg_hba.conf").exists() {
        text.push_str(
            "\n  the backup has no pg_hba.conf (it was kept outside of the data directory): \
             the server needs one in this directory, or where hba_file says",
        );
    }
    if is_owned_by_root(directory) {
        text.push_str(
            "\n  the files belong to root, as whom PostgreSQL does not run: give them away, as by\n    \
             chown -R postgres:",
        );
        for place in std::iter::once(directory.to_owned()).chain(outside(directory)) {
            text.push(' ');
            text.push_str(&restore_command::shell_word(&place.to_string_lossy()));
        }
    }
    text
}

/// What to know about the time after recovery.
fn after_recovery(planned: &Planned, set_up: bool, standby: bool) -> String {
    let mut text = String::new();
    if let Some(version) = planned.pg_version {
        text.push_str(&format!(
            "\n  the server must be PostgreSQL {}",
            server_programs::major(version)
        ));
    }
    if set_up {
        text.push_str(
            "\n  when it has been promoted, take the recovery settings out again: \
             postgresql.auto.conf says how",
        );
    }
    text.push_str(&format!("\n  archiving is {}", planned.archiving.describe()));
    text.push_str(match (planned.archiving.mode, standby) {
        (ArchiveMode::Off, false) => {
            "\n  to have it archive, give it a prefix of its own, or make sure that the old server \
             archives no more; then ALTER SYSTEM SET archive_mode = on, and restart"
        }
        (ArchiveMode::Off, true) => {
            "\n  if the standby is to take over one day, ALTER SYSTEM SET archive_mode = on, and \
             restart; it archives nothing before it is promoted"
        }
        (ArchiveMode::Preserve, _) => {
            ": where that is on, it archives to the prefix named there once it is promoted"
        }
    });
    text
}

/// Where the links in `pg_tblspc` and that of `pg_wal` lead.
fn outside(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory.join("pg_tblspc")).into_iter().flatten().flatten();
    let links = entries.map(|entry| entry.path()).chain([directory.join("pg_wal")]);
    let mut places: Vec<_> = links.filter_map(|link| std::fs::read_link(link).ok()).collect();
    places.sort();
    places
}

fn is_owned_by_root(directory: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(directory).is_ok_and(|metadata| metadata.uid() == 0)
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use wal_e_core::postgres::Lsn;
    use wal_e_core::recovery::{RecoveryTarget, TargetTimeline};

    use super::*;

    #[test]
    fn recovery_is_set_up_only_when_something_is_said_about_it() {
        let config = |line: &str| {
            let words = ["wal-e", "backup-fetch", "/data"].into_iter().chain(line.split(' '));
            match cli::Cli::try_parse_from(words).unwrap().command {
                cli::Command::BackupFetch(arguments) => recovery_config(&arguments, "c"),
                _ => panic!("{line}"),
            }
        };
        assert!(config("LATEST").is_none());
        assert!(config("base_1").is_none());
        let lsn = config("LATEST --recovery-target-lsn 0/9").unwrap();
        assert_eq!(lsn.target, Some(RecoveryTarget::Lsn(Lsn(9))));
        assert_eq!((lsn.restore_command.as_str(), lsn.target_timeline), ("c", None));
        let timeline = config("LATEST --recovery-target-timeline latest").unwrap();
        assert_eq!(
            (timeline.target, timeline.target_timeline),
            (None, Some(TargetTimeline::Latest))
        );
        assert!(config("LATEST --standby").unwrap().standby);
        assert!(!config("AUTO").unwrap().standby);
    }

    #[test]
    fn the_next_steps_can_be_copied() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("it's here");
        std::fs::create_dir(&data).unwrap();
        let places = KeyPlaces {
            credentials: CredentialPlace::Environment,
            encryption_in_environment: true,
        };
        let steps = next_steps(&data, "wal-e 'x'", false, &places);
        assert!(steps.contains("libsodium"), "{steps}");
        assert!(steps.contains("restore_command = 'wal-e ''x'''\n"), "{steps}");
        assert!(steps.contains("it'\\''s here/recovery.signal'"), "{steps}");
        assert!(steps.contains("--env-dir") && steps.contains("no postgresql.conf"), "{steps}");

        std::fs::write(data.join("postgresql.conf"), "").unwrap();
        let places =
            KeyPlaces { credentials: CredentialPlace::EnvDir, encryption_in_environment: false };
        let steps = next_steps(&data, "wal-e 'x'", true, &places);
        assert!(!steps.contains("libsodium"), "{steps}");
        assert!(!steps.contains("touch") && !steps.contains("postgresql.conf ("), "{steps}");
    }

    #[test]
    fn directories_outside_are_found_by_their_links() {
        let data = tempfile::tempdir().unwrap();
        assert!(outside(data.path()).is_empty());
        std::fs::create_dir(data.path().join("pg_tblspc")).unwrap();
        for (oid, place) in [("16385", "/b"), ("16384", "/a")] {
            std::os::unix::fs::symlink(place, data.path().join("pg_tblspc").join(oid)).unwrap();
        }
        std::os::unix::fs::symlink("/wal", data.path().join("pg_wal")).unwrap();
        assert_eq!(outside(data.path()), ["/a", "/b", "/wal"].map(PathBuf::from));
    }

    #[test]
    fn tablespaces_go_where_the_options_say() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let place = |options: &str| {
            let words = ["wal-e", "backup-fetch", "/data", "LATEST"];
            let words = words.into_iter().chain(options.split_whitespace());
            match cli::Cli::try_parse_from(words).unwrap().command {
                cli::Command::BackupFetch(arguments) => tablespace_places(&arguments),
                _ => panic!("{options}"),
            }
        };
        assert_eq!(place("").unwrap(), TablespacePlaces::default());
        assert_eq!(place("--restore-spec SOURCE").unwrap(), TablespacePlaces::default());
        assert_eq!(place("--blind-restore").unwrap(), TablespacePlaces::InPlace);
        let given = format!("--restore-spec {}", file.path().display());
        assert!(place(&given).is_err(), "an empty file is not a specification");
        std::fs::write(file.path(), r#"{"tablespaces": ["5"], "5": {"loc": "/x"}}"#).unwrap();
        let expected = std::collections::BTreeMap::from([(5, PathBuf::from("/x"))]);
        assert_eq!(place(&given).unwrap(), TablespacePlaces::Given(expected));
        assert!(place("--restore-spec /no/such/file").is_err());
    }
}
