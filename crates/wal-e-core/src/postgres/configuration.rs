//! The settings of a data directory: `postgresql.conf`, the files that it includes,
//! and `postgresql.auto.conf`, which counts last.
//!
//! PostgreSQL 15 to 18, `src/backend/utils/misc/guc-file.l` (what a line is, and
//! `include`, `include_if_exists`, `include_dir`) and `conffiles.c` (which files of a
//! directory are read, and in which order).

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The main file, in the data directory unless the server was started with `config_file`.
pub const MAIN_FILE: &str = "postgresql.conf";

/// What `ALTER SYSTEM` writes.
pub const AUTO_FILE: &str = "postgresql.auto.conf";

/// Files of settings are small. One that is larger is read as far as this.
const LARGEST_FILE_BYTES: u64 = 4 << 20;

/// `CONF_FILE_MAX_DEPTH`.
const MAX_DEPTH: usize = 10;

/// How many files are read at most: hostile ones could include one another without end.
const MAX_FILES: usize = 1000;

/// One setting, in one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Its name, in lower case: PostgreSQL makes no difference.
    pub name: String,
    /// Its name as it is written.
    pub spelling: String,
    /// Its value, without quotes.
    pub value: String,
    /// The file, absolute.
    pub file: PathBuf,
    /// The line in it, from 1.
    pub line: usize,
}

/// All settings of a data directory, in the order in which they count: the last of a name
/// is the one in force.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Configuration {
    /// The settings.
    pub settings: Vec<Setting>,
    /// Whether there is a `postgresql.conf`.
    pub has_main_file: bool,
    /// What is included and could not be read.
    pub unread: Vec<PathBuf>,
}

impl Configuration {
    /// Reads the settings of a data directory and of all files that they include, inside of
    /// the directory or not.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Io`] when a file of the data directory itself cannot be read.
    pub fn read(data_directory: &Path) -> Result<Self> {
        let mut reading = Reading::default();
        let main = data_directory.join(MAIN_FILE);
        reading.configuration.has_main_file = main.is_file();
        for file in [main, data_directory.join(AUTO_FILE)] {
            if file.is_file() {
                let content = content(&file).map_err(|e| Error::file("read file", &file, &e))?;
                reading.take(&file, &content, 0);
            }
        }
        Ok(reading.configuration)
    }

    /// The setting in force, if there is one.
    pub fn get(&self, name: &str) -> Option<&Setting> {
        self.settings.iter().rfind(|setting| setting.name == name)
    }
}

#[derive(Default)]
struct Reading {
    configuration: Configuration,
    files: usize,
}

impl Reading {
    fn take(&mut self, file: &Path, content: &[u8], depth: usize) {
        let text = String::from_utf8_lossy(content);
        for (index, line) in text.split('\n').enumerate() {
            let Some((spelling, value)) = parse_line(line) else { continue };
            let name = spelling.to_ascii_lowercase();
            match name.as_str() {
                "include" | "include_if_exists" | "include_dir" => {
                    let place = file.parent().unwrap_or(Path::new("/")).join(&value);
                    self.include(&name, &place, depth + 1);
                }
                _ => self.configuration.settings.push(Setting {
                    name,
                    spelling: spelling.to_owned(),
                    value,
                    file: file.to_owned(),
                    line: index + 1,
                }),
            }
        }
    }

    fn include(&mut self, directive: &str, place: &Path, depth: usize) {
        self.files += 1;
        if depth > MAX_DEPTH || self.files > MAX_FILES {
            return;
        }
        let read = match directive {
            "include_dir" => files_of(place).map(|files| {
                for file in files {
                    self.include("include", &file, depth);
                }
            }),
            _ => content(place).map(|content| self.take(place, &content, depth)),
        };
        match read {
            Err(error)
                if directive == "include_if_exists"
                    && error.kind() == std::io::ErrorKind::NotFound => {}
            Err(_) => self.configuration.unread.push(place.to_owned()),
            Ok(()) => {}
        }
    }
}

fn content(file: &Path) -> std::io::Result<Vec<u8>> {
    // Nothing is ever waited for, as at a pipe.
    if !fs::metadata(file)?.is_file() {
        return Err(std::io::Error::other("it is not a file"));
    }
    let mut content = Vec::new();
    File::open(file)?.take(LARGEST_FILE_BYTES).read_to_end(&mut content)?;
    Ok(content)
}

/// The files of an included directory: those named `*.conf`, in the order of their names.
fn files_of(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        if name.ends_with(b".conf") && !name.starts_with(b".") && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Name and value of one line; `None` for one that has none.
pub fn parse_line(line: &str) -> Option<(&str, String)> {
    let line = line.trim_start();
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || "_$.".contains(c) || !c.is_ascii();
    let end = line.find(|c| !is_of_name(c)).unwrap_or(line.len());
    let (name, rest) = line.split_at(end);
    if !name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || !c.is_ascii()) {
        return None;
    }
    let rest = rest.trim_start();
    let rest = rest.strip_prefix('=').unwrap_or(rest).trim_start();
    let value = match rest.strip_prefix('\'') {
        Some(quoted) => unquote(quoted)?,
        None => {
            let end = rest.find(|c: char| c.is_whitespace() || c == '#').unwrap_or(rest.len());
            rest[..end].to_owned()
        }
    };
    Some((name, value))
}

/// What stands between quotes (`DeescapeQuotedString`). `None` without a closing one.
fn unquote(quoted: &str) -> Option<String> {
    let mut value = String::new();
    let mut characters = quoted.chars().peekable();
    loop {
        value.push(match characters.next()? {
            '\'' if characters.peek() == Some(&'\'') => characters.next()?,
            '\'' => return Some(value),
            '\\' => match characters.next()? {
                'b' => '\u{8}',
                'f' => '\u{c}',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                first @ '0'..='7' => {
                    let mut code = first.to_digit(8)?;
                    for _ in 0..2 {
                        let Some(digit) = characters.peek().and_then(|c| c.to_digit(8)) else {
                            break;
                        };
                        code = code * 8 + digit;
                        characters.next();
                    }
                    char::from(u8::try_from(code & 0xFF).ok()?)
                }
                other => other,
            },
            other => other,
        });
    }
}

/// A value as a file of settings holds it.
pub fn quote(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "''").replace('\n', "\\n"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_are_read_as_postgresql_reads_them() {
        for (line, expected) in [
            ("port = 5432", Some(("port", "5432"))),
            ("  Port 5432 # comment", Some(("Port", "5432"))),
            ("port=5432#comment", Some(("port", "5432"))),
            ("a.b = 'it''s'  # x", Some(("a.b", "it's"))),
            (r"x = 'a\\b\n\'\101\7'", Some(("x", "a\\b\n'A\u{7}"))),
            ("work_mem = 8MB\r", Some(("work_mem", "8MB"))),
            ("include_dir 'conf.d'", Some(("include_dir", "conf.d"))),
            ("recovery_target = ''", Some(("recovery_target", ""))),
            ("# port = 1", None),
            ("", None),
            ("x = 'open", None),
            ("'port' = 1", None),
        ] {
            let expected = expected.map(|(name, value)| (name, value.to_owned()));
            assert_eq!(parse_line(line), expected, "{line}");
        }
    }

    #[test]
    fn includes_are_followed_and_the_last_setting_counts() {
        let dir = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        let put = |path: PathBuf, text: &str| fs::write(path, text).unwrap();
        let data = dir.path();
        fs::create_dir(data.join("conf.d")).unwrap();
        put(
            data.join(MAIN_FILE),
            &format!(
                "a = 1\ninclude 'more.conf'\ninclude_dir = 'conf.d'\ninclude_if_exists 'none'\n\
                 include '{}/site.conf'\nINCLUDE 'gone.conf'\na = 2\nb = 1\n",
                outside.path().display()
            ),
        );
        put(data.join("more.conf"), "a = 3\ninclude 'postgresql.conf'\n");
        put(data.join("conf.d/20.conf"), "c = 20\n");
        put(data.join("conf.d/10.conf"), "\nc = 10\n");
        put(data.join("conf.d/.30.conf"), "c = 30\n");
        put(data.join("conf.d/40.txt"), "c = 40\n");
        put(outside.path().join("site.conf"), "d = 'x'\n");
        put(data.join(AUTO_FILE), "B = 'auto'\n");
        let configuration = Configuration::read(data).unwrap();
        let value = |name: &str| configuration.get(name).map(|setting| setting.value.as_str());
        assert_eq!(
            ["a", "b", "c", "d", "e"].map(value),
            [Some("2"), Some("auto"), Some("20"), Some("x"), None]
        );
        let c = configuration.settings.iter().find(|setting| setting.name == "c").unwrap();
        assert_eq!((c.value.as_str(), c.line), ("10", 2));
        assert!(c.file.ends_with("conf.d/10.conf"));
        assert!(configuration.has_main_file);
        assert!(configuration.unread.contains(&data.join("gone.conf")));
        assert!(!configuration.unread.contains(&data.join("none")));
    }

    #[test]
    fn a_directory_without_settings_has_none() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Configuration::read(dir.path()).unwrap(), Configuration::default());
    }

    proptest! {
        #[test]
        fn what_is_quoted_is_read_back(value in "[^\\x00\\r]*") {
            let line = format!("name = {}", quote(&value));
            prop_assert!(!line.contains('\n'));
            prop_assert_eq!(parse_line(&line), Some(("name", value)));
        }

        #[test]
        fn any_line_can_be_read(line in ".*") {
            let _ = parse_line(&line);
        }
    }
}
