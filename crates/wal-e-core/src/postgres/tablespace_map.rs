//! `tablespace_map`: which link in `pg_tblspc` leads where. The server makes the
//! links anew from it when a restored cluster starts.
//!
//! One line for each tablespace: its OID, a space, its path with backslash, newline
//! and carriage return escaped by a backslash (PostgreSQL 15,
//! `src/backend/access/transam/xlog.c`, `do_pg_backup_start`, and
//! `xlogrecovery.c`, `read_tablespace_map`).

use crate::error::{Error, ErrorKind, Result};

/// One line of a tablespace map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MappedTablespace {
    /// The tablespace's OID.
    pub oid: u32,
    /// Where it is.
    pub location: String,
}

/// Reads a tablespace map.
///
/// # Errors
/// [`ErrorKind::Corrupt`] for a line without an OID and a path.
pub fn parse(text: &str) -> Result<Vec<MappedTablespace>> {
    let mut tablespaces = Vec::new();
    let mut line = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => line.extend(characters.next()),
            '\n' | '\r' => finish(&mut line, &mut tablespaces)?,
            other => line.push(other),
        }
    }
    finish(&mut line, &mut tablespaces)?;
    Ok(tablespaces)
}

fn finish(line: &mut String, tablespaces: &mut Vec<MappedTablespace>) -> Result<()> {
    if line.is_empty() {
        return Ok(());
    }
    let parsed = line
        .split_once(' ')
        .and_then(|(oid, location)| Some((oid.parse().ok()?, location)))
        .filter(|(_, location)| !location.is_empty());
    let Some((oid, location)) = parsed else {
        return Err(Error::new(
            ErrorKind::Corrupt,
            format!("invalid line in tablespace_map: \"{line}\""),
        ));
    };
    tablespaces.push(MappedTablespace { oid, location: location.to_owned() });
    line.clear();
    Ok(())
}

/// Writes a tablespace map.
pub fn format(tablespaces: &[MappedTablespace]) -> String {
    let mut text = String::new();
    for MappedTablespace { oid, location } in tablespaces {
        text.push_str(&oid.to_string());
        text.push(' ');
        for character in location.chars() {
            if matches!(character, '\\' | '\n' | '\r') {
                text.push('\\');
            }
            text.push(character);
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_read_and_written() {
        let text = "16384 /srv/ts one\n16385 /odd\\\npath\\\\x\n";
        let tablespaces = parse(text).unwrap();
        assert_eq!(tablespaces[0], MappedTablespace { oid: 16384, location: "/srv/ts one".into() });
        assert_eq!(tablespaces[1].location, "/odd\npath\\x");
        assert_eq!(format(&tablespaces), text);
        assert!(parse("").unwrap().is_empty());
    }

    #[test]
    fn damaged_lines_are_refused() {
        for text in ["x /path\n", "16384\n", "16384 \n"] {
            assert_eq!(parse(text).unwrap_err().kind(), ErrorKind::Corrupt, "{text}");
        }
    }
}
