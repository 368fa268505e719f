//! Every setting: what it is called in each place where it can be set, what it is for,
//! and what may be said.
//!
//! The extension defines its settings from here, the program its options, and
//! `docs/settings.md` is written from it. All of it is plain data.

mod archive;
mod compression;
mod encryption;
mod s3;
mod schedule;
mod work;

pub use compression::ZSTD_LEVEL;

use super::NAMESPACES;

macro_rules! settings {
    ($($(#[$doc:meta])* $name:ident => $describe:path,)*) => {
        /// A setting, by identity: each face has its own name for it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Setting {
            $($(#[$doc])* $name,)*
        }

        impl Setting {
            /// All, in the order in which the reference shows them.
            pub const ALL: &'static [Setting] = &[$(Setting::$name,)*];

            /// What there is to know of it.
            pub const fn describe(self) -> &'static Description {
                match self {
                    $(Setting::$name => &$describe,)*
                }
            }
        }
    };
}

settings! {
    /// Where a server archives.
    Prefix => archive::PREFIX,
    /// The same for the program, where it is S3.
    S3Prefix => archive::S3_PREFIX,
    /// The same for the program, where it is a directory.
    FilePrefix => archive::FILE_PREFIX,
    /// The directory of variables.
    EnvDir => archive::ENV_DIR,
    /// An access key whose secret is a variable.
    AwsAccessKeyId => s3::AWS_ACCESS_KEY_ID,
    /// Another S3 server than AWS.
    S3Endpoint => s3::S3_ENDPOINT,
    /// The bucket's region.
    S3Region => s3::S3_REGION,
    /// Where the name of the bucket stands.
    S3ForcePathStyle => s3::S3_FORCE_PATH_STYLE,
    /// Which certificates are trusted.
    S3CaFile => s3::S3_CA_FILE,
    /// What is on the way to the server.
    S3Proxy => s3::S3_PROXY,
    /// Storage class of new objects.
    S3StorageClass => s3::S3_STORAGE_CLASS,
    /// Encryption of new objects by the server.
    S3Sse => s3::S3_SSE,
    /// The key of that encryption.
    S3SseKmsKeyId => s3::S3_SSE_KMS_KEY_ID,
    /// How long a request may stall.
    S3Timeout => s3::S3_TIMEOUT,
    /// How new objects are compressed.
    Compression => compression::COMPRESSION,
    /// How much they are compressed.
    CompressionLevel => compression::COMPRESSION_LEVEL,
    /// Whether new objects are encrypted.
    Encryption => encryption::ENCRYPTION,
    /// WAL files in flight.
    WalUploadConcurrency => work::WAL_UPLOAD_CONCURRENCY,
    /// A line in the log for each WAL file.
    LogArchivedFiles => work::LOG_ARCHIVED_FILES,
    /// Tar partitions in flight.
    BackupConcurrency => work::BACKUP_CONCURRENCY,
    /// How fast a backup reads.
    BackupReadRateLimit => work::BACKUP_READ_RATE_LIMIT,
    /// How fast a server uploads.
    UploadRateLimit => work::UPLOAD_RATE_LIMIT,
    /// Where a tar partition ends.
    TarSizeThreshold => work::TAR_SIZE_THRESHOLD,
    /// What a backup leaves out.
    BackupExclude => work::BACKUP_EXCLUDE,
    /// How many incremental backups follow a full one.
    BackupMaxDeltas => work::BACKUP_MAX_DELTAS,
    /// When a backup is taken.
    BackupSchedule => schedule::BACKUP_SCHEDULE,
    /// When a backup is verified.
    VerifySchedule => schedule::VERIFY_SCHEDULE,
    /// Which server does it.
    BackupRole => schedule::BACKUP_ROLE,
    /// How far a standby may be from the end of the WAL when a backup begins.
    BackupMaxReplicationLag => schedule::BACKUP_MAX_REPLICATION_LAG,
    /// Whether a backup waits for a checkpoint.
    BackupWaitForCheckpoint => schedule::BACKUP_WAIT_FOR_CHECKPOINT,
    /// Where events are announced.
    EventsDatabase => schedule::EVENTS_DATABASE,
    /// So many full backups are kept.
    RetainFullBackups => schedule::RETAIN_FULL_BACKUPS,
    /// So much time is kept.
    RetainWindow => schedule::RETAIN_WINDOW,
    /// So many days, weeks, months and years are kept.
    RetainCalendar => schedule::RETAIN_CALENDAR,
}

/// What there is to know of a setting.
#[derive(Debug, Clone, Copy)]
pub struct Description {
    /// Its name without anything that a place adds.
    pub name: &'static str,
    /// What it is for, without a full stop.
    pub purpose: &'static str,
    /// What else is worth knowing where it is set: whole sentences, or empty.
    pub note: &'static str,
    /// For the reference alone: whole sentences, in Markdown, or empty.
    pub remarks: &'static str,
    /// What may be said, in the server where it is set there.
    pub value: Value,
    /// The server's setting of this name with `wal_e.` before it.
    pub guc: Option<Guc>,
    /// The program's option.
    pub option: Option<Flag>,
    /// Environment variables, without what may stand before their names.
    pub variables: &'static [&'static str],
    /// Which of [`NAMESPACES`] may stand before them.
    pub namespaces: &'static [&'static str],
}

/// What may be said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    /// Any text.
    Text {
        /// Ends the sentence "Empty means ...", in the server.
        empty: &'static str,
    },
    /// Yes or no.
    Switch {
        /// When nothing is said.
        default: bool,
    },
    /// One of a few words.
    Choice {
        /// The words.
        words: &'static [&'static str],
        /// When nothing is said.
        default: &'static str,
    },
    /// A whole number.
    Number(Number),
}

/// A whole number within bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Number {
    /// What is counted.
    pub unit: Unit,
    /// The least.
    pub low: i64,
    /// The most.
    pub high: i64,
    /// When nothing is said; `None` where that means no bound.
    pub default: Option<i64>,
}

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Things, or levels.
    One,
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
    /// 1024 bytes.
    Kilobytes,
    /// 1024 times that.
    Megabytes,
}

impl Unit {
    /// As PostgreSQL writes it; empty for [`Unit::One`].
    pub const fn symbol(self) -> &'static str {
        match self {
            Unit::One => "",
            Unit::Seconds => "s",
            Unit::Bytes => "B",
            Unit::Kilobytes => "kB",
            Unit::Megabytes => "MB",
        }
    }
}

/// A setting of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guc {
    /// When a new value takes effect.
    pub context: Context,
}

/// When a new value of a server's setting takes effect, as `pg_settings.context` says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Context {
    /// When the configuration is reloaded.
    Sighup,
}

/// An option of the program.
#[derive(Debug, Clone, Copy)]
pub struct Flag {
    /// Its name, without dashes.
    pub name: &'static str,
    /// What stands for the value in the help.
    pub placeholder: &'static str,
    /// Ends the help, after the purpose and a colon, or empty.
    pub form: &'static str,
    /// The commands that have it; empty for all.
    pub commands: &'static [&'static str],
    /// What may be said, where it is not the same as in the server.
    pub value: Option<Value>,
}

impl Setting {
    /// Its name without anything that a place adds.
    pub const fn name(self) -> &'static str {
        self.describe().name
    }

    /// The server's name of it, where the server has it.
    pub fn guc_name(self) -> Option<String> {
        self.describe().guc.map(|_| format!("wal_e.{}", self.name()))
    }

    /// Whole sentences after the purpose, in the server; may be empty.
    pub fn long_description(self) -> String {
        let Description { note, value, .. } = self.describe();
        match value {
            Value::Text { empty } if note.is_empty() => format!("Empty means {empty}."),
            Value::Text { empty } => format!("{note} Empty means {empty}."),
            _ => (*note).to_owned(),
        }
    }

    /// The option of the program without its dashes.
    ///
    /// # Panics
    /// When it has none, which a test of the program would show.
    pub const fn option(self) -> &'static str {
        match self.describe().option {
            Some(flag) => flag.name,
            None => panic!("the program has no option for this setting"),
        }
    }

    /// What may be said on the program's command line.
    pub const fn value_of_option(self) -> Value {
        match self.describe().option {
            Some(Flag { value: Some(value), .. }) => value,
            _ => self.describe().value,
        }
    }

    /// The number that the server's setting is.
    ///
    /// # Panics
    /// When it is not a number: while the program is built, where it is used in a constant.
    pub const fn number(self) -> Number {
        as_number(self.describe().value)
    }

    /// The number that the program's option takes.
    ///
    /// # Panics
    /// As [`Setting::number`].
    pub const fn number_of_option(self) -> Number {
        as_number(self.value_of_option())
    }

    /// What the program's help says of the option. Where it can be a variable, too, the
    /// default is said here; of other options the program itself knows it.
    pub fn help(self) -> String {
        let Description { purpose, option, variables, .. } = self.describe();
        let mut help = (*purpose).to_owned();
        if let Some(flag) = option.filter(|flag| !flag.form.is_empty()) {
            help = format!("{help}: {}", flag.form);
        }
        let default = match self.value_of_option() {
            Value::Number(Number { default: Some(number), .. }) => number.to_string(),
            Value::Choice { default, .. } => default.to_owned(),
            _ => return help,
        };
        if variables.is_empty() { help } else { format!("{help} [default: {default}]") }
    }

    /// Every name that its variables may have, the first first.
    pub fn variable_names(self) -> Vec<String> {
        let Description { variables, namespaces, .. } = self.describe();
        let names = |name| namespaces.iter().map(move |namespace| format!("{namespace}{name}"));
        variables.iter().flat_map(names).collect()
    }
}

const fn as_number(value: Value) -> Number {
    match value {
        Value::Number(number) => number,
        _ => panic!("this setting is not a number"),
    }
}

/// What most settings have in common: set in the server, by text, and by no variable.
const TEXT_OF_SERVER: Description = Description {
    name: "",
    purpose: "",
    note: "",
    remarks: "",
    value: Value::Text { empty: "" },
    guc: Some(Guc { context: Context::Sighup }),
    option: None,
    variables: &[],
    namespaces: &NAMESPACES,
};

/// An option of all commands.
const fn option(name: &'static str, placeholder: &'static str, form: &'static str) -> Option<Flag> {
    Some(Flag { name, placeholder, form, commands: &[], value: None })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_one_setting_s_alone() {
        let mut seen = BTreeSet::new();
        for &setting in Setting::ALL {
            let own = [vec![setting.name().to_owned()], setting.variable_names()].concat();
            for name in own {
                assert!(seen.insert(name.clone()), "{name}");
            }
        }
    }

    #[test]
    fn each_can_be_set_and_says_what_it_is_for() {
        for &setting in Setting::ALL {
            let Description { name, purpose, guc, option, value, .. } = setting.describe();
            assert!(guc.is_some() || option.is_some(), "{name}");
            assert!(!purpose.is_empty() && !purpose.ends_with('.'), "{name}: {purpose}");
            let long = setting.long_description();
            assert!(long.is_empty() || long.ends_with('.'), "{name}: {long}");
            for value in [*value, setting.value_of_option()] {
                match value {
                    Value::Number(Number { low, high, default, .. }) => {
                        assert!(default.is_none_or(|n| (low..=high).contains(&n)), "{name}");
                    }
                    Value::Choice { words, default } => assert!(words.contains(&default), "{name}"),
                    Value::Text { empty } => assert!(guc.is_none() || !empty.is_empty(), "{name}"),
                    Value::Switch { .. } => {}
                }
            }
        }
    }
}
