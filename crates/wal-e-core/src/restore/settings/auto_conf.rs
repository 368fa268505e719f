//! `postgresql.auto.conf` of a restored data directory.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use super::{BEGIN, END};
use crate::error::{Error, Result};
use crate::postgres::configuration::AUTO_FILE;

/// Prefixes of settings that a cluster keeps from its own earlier restore: an old target
/// would end the next recovery too early.
const OLD_SETTINGS: [&str; 4] =
    ["restore_command", "recovery_end_command", "recovery_target", "recovery_min_apply_delay"];

/// Removes what an earlier restore wrote, and turns other old recovery settings into
/// comments.
pub(super) fn leave_out_old_settings(data_directory: &Path) -> Result<()> {
    let path = data_directory.join(AUTO_FILE);
    // Values may be in any encoding.
    let text = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        result => result.map_err(|error| Error::file("read file", &path, &error))?,
    };
    let kept = without_old_settings(&text);
    if kept == text {
        return Ok(());
    }
    fs::write(&path, kept)
        .and_then(|()| fs::File::open(&path)?.sync_all())
        .map_err(|error| Error::file("write file", &path, &error))
}

fn without_old_settings(text: &[u8]) -> Vec<u8> {
    let is_old = |line: &[u8]| {
        let line = line.trim_ascii_start().to_ascii_lowercase();
        OLD_SETTINGS.iter().any(|setting| line.starts_with(setting.as_bytes()))
    };
    let lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
    let is_end = |line: &&[u8]| line.trim_ascii_end() == END.as_bytes();
    let mut kept = Vec::new();
    let mut index = 0;
    while let Some(line) = lines.get(index) {
        index += 1;
        let rest = lines.get(index..).unwrap_or_default();
        if line.trim_ascii_end() == BEGIN.as_bytes()
            && let Some(length) = rest.iter().position(is_end)
        {
            index += length + 1;
        } else if is_old(line) {
            kept.extend([b"# ", *line].concat());
        } else {
            kept.extend_from_slice(line);
        }
    }
    kept
}

/// Appends lines, which then override all others.
pub(super) fn append(data_directory: &Path, lines: &str) -> Result<()> {
    let path = data_directory.join(AUTO_FILE);
    OpenOptions::new()
        .append(true)
        .create(true)
        .open(&path)
        .and_then(|mut file| {
            // The last line of the file may lack a line end.
            file.write_all(format!("\n{}", lines.trim_start()).as_bytes())?;
            file.sync_all()
        })
        .map_err(|error| Error::file("write file", &path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_target_of_an_earlier_restore_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        leave_out_old_settings(dir.path()).unwrap();
        let path = dir.path().join(AUTO_FILE);
        let text = "port = '1'\nrestore_command = 'x'\n  Recovery_Target_Time = '2020-01-01'\n\
                    recovery_target_action = 'promote'\nhot_standby = 'on'\n";
        fs::write(&path, text).unwrap();
        leave_out_old_settings(dir.path()).unwrap();
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "port = '1'\n# restore_command = 'x'\n#   Recovery_Target_Time = '2020-01-01'\n\
             # recovery_target_action = 'promote'\nhot_standby = 'on'\n"
        );
    }

    #[test]
    fn what_an_earlier_restore_wrote_goes_and_what_is_around_it_stays() {
        let text = format!("a = 1\n{BEGIN}\nhot_standby = 'on'\n{END}\nb = 2\n{BEGIN}\nc = 3\n");
        let kept = String::from_utf8(without_old_settings(text.as_bytes())).unwrap();
        assert_eq!(
            kept,
            format!("a = 1\nb = 2\n{BEGIN}\nc = 3\n"),
            "an open block is left as it is"
        );
    }
}
