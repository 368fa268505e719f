//! What messages name, and each face of wal_e calls otherwise.
//!
//! The core is used by a server, where things are set in the configuration and asked for in
//! SQL, and by the program `wal-e`. A message, detail or hint of the core names a setting
//! or one of these [`Word`]s by printing it: `format!("Set {}.", Setting::S3Region)`. What
//! is printed is a mark, and each [`Face`] puts its own word there before a person sees it.

use std::fmt;

use super::Setting;

// Two code points that Unicode reserves for use within a program; JSON leaves them as they are.
const BEGIN: char = '\u{FDD0}';
const END: char = '\u{FDD1}';
/// Between a word and its value. No name has it.
const VALUE: char = '=';

/// Who speaks, and to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Face {
    /// The extension, to administrators and users of a server.
    Server,
    /// The program, to those who run it.
    Program,
}

macro_rules! words {
    ($($(#[$doc:meta])* $name:ident = $mark:literal, $server:literal, $program:literal;)*) => {
        /// Something that is not a setting and still has a name of its own in each face.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Word {
            $($(#[$doc])* $name,)*
        }

        impl Word {
            /// All of them.
            pub const ALL: &'static [Word] = &[$(Word::$name,)*];

            /// What stands between the marks, and the words of server and program.
            const fn describe(self) -> (&'static str, &'static str, &'static str) {
                match self {
                    $(Word::$name => ($mark, $server, $program),)*
                }
            }
        }
    };
}

// What only the program can be asked for has no word in a server; it is described there.
words! {
    /// The timeline that recovery follows.
    TargetTimeline = "target_timeline", "target_timeline", "--recovery-target-timeline";
    /// The beginning of the options that say how far to recover.
    Target = "target", "target", "--recovery-target";
    /// How much is done at the same time.
    Concurrency = "concurrency",
        "\"wal_e.backup_concurrency\" and \"wal_e.wal_upload_concurrency\"", "--pool-size";
    /// What lists the base backups.
    BackupList = "backup_list", "wale_backup_list()", "wal-e backup-list";
    /// What takes a base backup.
    TakeBackup = "take_backup", "wale_backup_push()", "wal-e backup-push";
    /// What archives segments again that the archive lacks.
    RepairWal = "repair_wal", "wale_wal_repair()", "wal-e wal-repair";
    /// To go on with a restore.
    Resume = "resume", "what resumes a restore", "--resume";
    /// To restore without regard for free space.
    IgnoreFreeSpace = "ignore_free_space", "what ignores free space", "--ignore-free-space";
    /// Where `pg_wal` goes.
    WalDirectory = "wal_directory", "what places pg_wal", "--waldir";
    /// To take a gap for the end of the WAL.
    EndAtGap = "end_at_gap", "what ends recovery at a gap", "--end-at-gap";
    /// Where one tablespace goes.
    TablespaceMapping = "tablespace_mapping", "what maps a tablespace", "--tablespace-mapping";
    /// Where all others go.
    TablespaceMappingAll = "tablespace_mapping_all", "what maps all tablespaces",
        "--tablespace-mapping-all";
    /// To keep tablespaces in the data directory.
    BlindRestore = "blind_restore", "what keeps tablespaces in the data directory",
        "--blind-restore";
    /// Where tablespaces go, by OID.
    RestoreSpec = "restore_spec", "what places tablespaces by OID", "--restore-spec";
}

impl Word {
    /// The word with a value, as the face writes it.
    pub fn of(self, value: impl fmt::Display) -> impl fmt::Display {
        let (name, ..) = self.describe();
        format!("{BEGIN}{name}{VALUE}{value}{END}")
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{BEGIN}{}{END}", self.describe().0)
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{BEGIN}{}{END}", self.name())
    }
}

impl Face {
    /// `text` with this face's words instead of the marks.
    pub fn speak(self, text: &str) -> String {
        let mut spoken = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, marked)) = rest.split_once(BEGIN) {
            let (mark, after) = marked.split_once(END).unwrap_or((marked, ""));
            spoken.push_str(before);
            spoken.push_str(&self.word_at(mark));
            rest = after;
        }
        spoken.push_str(rest);
        spoken
    }

    /// The word for what stands between two marks; what is not one of ours stays as it is.
    fn word_at(self, mark: &str) -> String {
        let (name, value) = match mark.split_once(VALUE) {
            Some((name, value)) => (name, Some(value)),
            None => (mark, None),
        };
        let setting = || Setting::ALL.iter().find(|setting| setting.name() == name);
        match Word::ALL.iter().find(|word| word.describe().0 == name) {
            Some(word) => self.word(*word, value),
            None => setting().map_or_else(|| mark.to_owned(), |setting| self.setting(*setting)),
        }
    }

    fn word(self, word: Word, value: Option<&str>) -> String {
        let (_, server, program) = word.describe();
        match (self, value, word) {
            (Face::Server, None, _) => server.to_owned(),
            (Face::Server, Some(value), _) => format!("{server} => '{value}'"),
            (Face::Program, None, _) => program.to_owned(),
            (Face::Program, Some(value), Word::TargetTimeline) => format!("{program} {value}"),
            (Face::Program, Some(value), _) => format!("{program}={value}"),
        }
    }

    fn setting(self, setting: Setting) -> String {
        let plain = || format!("the {}", setting.name().replace('_', " "));
        match (self, setting) {
            (Face::Server, Setting::S3Prefix | Setting::FilePrefix) => {
                self.setting(Setting::Prefix)
            }
            (Face::Server, _) => {
                setting.guc_name().map_or_else(plain, |name| format!("\"{name}\""))
            }
            (Face::Program, Setting::Prefix) => {
                let [s3, file] = [Setting::S3Prefix, Setting::FilePrefix].map(Setting::option);
                format!("--{s3} or --{file}")
            }
            (Face::Program, _) => {
                setting.describe().option.map_or_else(plain, |flag| format!("--{}", flag.name))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_face_has_its_own_words() {
        let text = format!("Set {} to \"eu\", or {}.", Setting::S3Region, Setting::Prefix);
        assert_eq!(
            Face::Server.speak(&text),
            "Set \"wal_e.s3_region\" to \"eu\", or \"wal_e.prefix\"."
        );
        assert_eq!(
            Face::Program.speak(&text),
            "Set --s3-region to \"eu\", or --s3-prefix or --file-prefix."
        );
        let text = format!("With {}.", Word::TargetTimeline.of(2));
        assert_eq!(Face::Server.speak(&text), "With target_timeline => '2'.");
        assert_eq!(Face::Program.speak(&text), "With --recovery-target-timeline 2.");
        let text = Word::TablespaceMapping.of("/old=NEW").to_string();
        assert_eq!(Face::Program.speak(&text), "--tablespace-mapping=/old=NEW");
    }

    #[test]
    fn no_mark_is_left_and_no_word_is_the_other_face_s() {
        let settings = Setting::ALL.iter().map(Setting::to_string);
        let words = Word::ALL.iter().map(Word::to_string);
        let valued = Word::ALL.iter().map(|word| word.of("1").to_string());
        for marked in settings.chain(words).chain(valued) {
            let server = Face::Server.speak(&marked);
            let program = Face::Program.speak(&marked);
            for spoken in [&server, &program] {
                assert!(!spoken.is_empty() && !spoken.contains([BEGIN, END]), "{spoken:?}");
            }
            assert!(!server.contains("--") && !server.contains("wal-e"), "{server}");
            assert!(!program.contains("wal_e.") && !program.contains("wale_"), "{program}");
            // A line of JSON takes it as it is.
            assert!(!program.contains(['"', '\\']), "{program}");
        }
    }

    #[test]
    fn names_are_one_thing_s_alone() {
        for word in Word::ALL {
            let (name, ..) = word.describe();
            assert!(Setting::ALL.iter().all(|setting| setting.name() != name), "{name}");
        }
    }

    #[test]
    fn text_without_marks_and_marks_that_are_not_ours_pass() {
        for (text, spoken) in [
            ("", ""),
            ("a {s3_region} = b", "a {s3_region} = b"),
            ("\u{FDD0}file\u{FDD1} x", "file x"),
            ("x \u{FDD0}s3_region", "x \"wal_e.s3_region\""),
            ("x \u{FDD1} y", "x \u{FDD1} y"),
        ] {
            assert_eq!(Face::Server.speak(text), spoken, "{text:?}");
        }
    }
}
