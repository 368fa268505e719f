//! The `restore_command` by which a restored server gets its WAL.

use std::path::Path;

use wal_e_core::{Error, ErrorKind, Result};

use crate::settings::Settings;

/// The value of `restore_command`: this program with the settings in effect,
/// as absolute paths, and without any secret. `options` are those of `wal-fetch`.
///
/// # Errors
/// [`ErrorKind::Io`] when the path of this program cannot be had.
pub fn build(settings: &Settings, options: &[String]) -> Result<String> {
    let program = std::env::current_exe()
        .map_err(|source| Error::io("could not find the path of this program", &source))?;
    command(&program, &settings.arguments, options)
}

fn command(program: &Path, arguments: &[String], options: &[String]) -> Result<String> {
    let program = program.to_str().ok_or_else(|| {
        let message = format!("the path \"{}\" is not UTF-8", program.display());
        Error::new(ErrorKind::Config, message)
    })?;
    let words = std::iter::once(program).chain(arguments.iter().map(String::as_str));
    let words = words.chain(["wal-fetch"]).chain(options.iter().map(String::as_str));
    // PostgreSQL replaces `%f`, `%p` and `%r` before the shell sees them.
    let words = words.map(|word| shell_word(word).replace('%', "%%"));
    let mut command = words.collect::<Vec<_>>().join(" ");
    command.push_str(" \"%f\" \"%p\"");
    Ok(command)
}

/// An option of `wal-fetch` where a target is set. PostgreSQL asks for segments ahead of
/// what it replays, so perhaps for a missing one past the target; and it does not open a
/// database that has not reached its target.
pub const WITH_TARGET: &str = "--end-at-gap";

/// `text` quoted as one word for the shell.
pub fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:=+,@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// A string as `postgresql.conf` has it: PostgreSQL 15,
/// `src/backend/utils/misc/guc-file.l`, `DeescapeQuotedString`.
pub fn setting_value(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn ordinary_settings_need_no_quotes() {
        let arguments = ["--s3-prefix", "s3://b/p", "--s3-endpoint", "http+path://h:9000"];
        assert_eq!(
            command(Path::new("/usr/bin/wal-e"), &arguments.map(str::to_owned), &[]).unwrap(),
            "/usr/bin/wal-e --s3-prefix s3://b/p --s3-endpoint http+path://h:9000 wal-fetch \"%f\" \"%p\""
        );
    }

    /// What PostgreSQL does (`BuildRestoreCommand`), then a real shell.
    #[test]
    fn the_shell_gives_back_every_argument_as_it_was() {
        let arguments = [
            "--env-dir",
            "/with space/and 'quote'",
            "",
            "$HOME `id` \"x\" \\ ; rm -rf * & | < > ~ # !",
            "100% %f %p %%",
            "ä\tö",
        ];
        let options = ["-T".to_owned(), "/a b=/100%p".to_owned()];
        let built = command(Path::new("echo"), &arguments.map(str::to_owned), &options).unwrap();
        let built = built.replacen("echo", "printf '[%%s]'", 1);
        let filled = built
            .split("%%")
            .map(|part| part.replace("%f", "FILE").replace("%p", "PATH"))
            .collect::<Vec<_>>()
            .join("%");
        let output = Command::new("sh").arg("-c").arg(&filled).output().unwrap();
        let expected: String = arguments
            .iter()
            .chain(&["wal-fetch", "-T", "/a b=/100%p", "FILE", "PATH"])
            .map(|argument| format!("[{argument}]"))
            .collect();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), expected, "{filled}");
    }

    #[test]
    fn a_setting_is_quoted_for_postgresql_conf() {
        assert_eq!(setting_value("a 'b' \\c"), "'a ''b'' \\\\c'");
    }
}
