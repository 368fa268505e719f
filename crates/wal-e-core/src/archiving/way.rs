//! How a server archives its WAL, as far as its settings say.

use crate::error::{Error, ErrorKind};

/// What puts WAL where it was meant to go, and can put it to no prefix of ours.
const OTHER_TOOLS: [&str; 12] = [
    "barman-cloud-wal-archive",
    "barman-wal-archive",
    "cp",
    "dd",
    "gzip",
    "mv",
    "pg_probackup",
    "pgbackrest",
    "pgmoneta",
    "rsync",
    "scp",
    "zstd",
];

/// What else such a command has in it.
const HARMLESS: [&str; 10] =
    ["!", ":", "[", "chmod", "exit", "mkdir", "sync", "test", "touch", "true"];

/// How a server archives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// By the extension.
    Extension,
    /// By a command that runs the program.
    Program,
    /// By a library that is not ours.
    OtherLibrary(String),
    /// By a command that certainly is another tool's.
    OtherCommand(String),
    /// By a command that may be anything, such as a script.
    UnknownCommand(String),
    /// Not at all.
    Nothing,
}

impl Way {
    /// From the settings `archive_library` and `archive_command`.
    pub fn of(library: &str, command: &str) -> Way {
        match (library, command) {
            ("wal_e" | "$libdir/wal_e", _) => Way::Extension,
            ("", "" | "(disabled)") => Way::Nothing,
            ("", command) if command.contains("wal-e") => Way::Program,
            ("", command) if is_another_tool(command) => Way::OtherCommand(command.to_owned()),
            ("", command) => Way::UnknownCommand(command.to_owned()),
            (library, _) => Way::OtherLibrary(library.to_owned()),
        }
    }

    /// Why no base backup can be completed with it; `None` when one might.
    pub fn refusal(&self) -> Option<Error> {
        let (message, detail) = match self {
            Way::Extension | Way::Program | Way::UnknownCommand(_) => return None,
            Way::OtherLibrary(library) => (
                format!("the server's WAL is archived by another library, \"{library}\""),
                NEEDS_WAL.to_owned(),
            ),
            Way::OtherCommand(command) => (
                "the server's WAL is archived in another way, by \"archive_command\"".to_owned(),
                format!("The command is: {command}. {NEEDS_WAL}"),
            ),
            Way::Nothing => (
                "neither \"archive_library\" nor \"archive_command\" is set, so the server's WAL is not archived".to_owned(),
                NEEDS_WAL.to_owned(),
            ),
        };
        Some(Error::new(ErrorKind::Config, message).with_detail(detail).with_hint(HOW_TO_ARCHIVE))
    }
}

/// Why it matters.
pub const NEEDS_WAL: &str =
    "A base backup is complete only when the WAL that was written meanwhile is in the same prefix.";

/// What makes WAL go to a prefix of ours.
pub const HOW_TO_ARCHIVE: &str = "Set \"archive_library\" to wal_e and \"archive_command\" to '', or have \"archive_command\" run wal-e wal-push, and reload the configuration.";

/// Whether each part of a command is known, and one is a tool that archives.
fn is_another_tool(command: &str) -> bool {
    let parts = command.split(['&', '|', ';', '(', ')', '{', '}']);
    let programs: Vec<&str> = parts
        .filter_map(|part| part.split_whitespace().find(|word| *word != "!"))
        .map(|program| program.trim_matches(['"', '\'']))
        .map(|program| program.rsplit('/').next().unwrap_or(program))
        .collect();
    let is_known = |program: &&str| OTHER_TOOLS.contains(program) || HARMLESS.contains(program);
    !programs.is_empty() && programs.iter().all(is_known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_say_who_archives() {
        for (library, command, refused) in [
            ("wal_e", "", false),
            ("$libdir/wal_e", "", false),
            ("", "/usr/bin/wal-e --s3-prefix s3://b wal-push %p", false),
            ("", "envdir /etc/wal-e.d/env wal-e wal-push %p", false),
            ("", "/usr/local/bin/archive.sh %p", false),
            ("", "cp %p /spool/%f && /usr/local/bin/archive.sh %f", false),
            ("", "wal-g wal-push %p", false),
            ("", "/bin/false", false),
            ("", "", true),
            ("", "(disabled)", true),
            ("", "cp %p /mnt/archive/%f", true),
            ("", "test ! -f /mnt/%f && cp \"%p\" \"/mnt/%f\"", true),
            ("", "! test -f /mnt/%f && /bin/cp %p /mnt/%f", true),
            ("", "/usr/bin/pgbackrest --stanza=main archive-push %p", true),
            ("", "'/opt/barman/bin/barman-wal-archive' backup main %p", true),
            ("", "gzip < %p > /mnt/%f.gz", true),
            ("", "/bin/true", true),
            ("basic_archive", "", true),
        ] {
            let refusal = Way::of(library, command).refusal();
            assert_eq!(refusal.is_some(), refused, "{library:?} {command:?}");
            let explained = |error: &Error| error.detail().is_some() && error.hint().is_some();
            assert!(refusal.as_ref().is_none_or(explained), "{refusal:?}");
        }
    }
}
