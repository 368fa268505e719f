//! The password file: one password for each host, port, database and user.
//!
//! PostgreSQL 18, `src/interfaces/libpq/fe-connect.c`, `passwordFromFile`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use wal_e_core::Result;

use super::parameters::Parameters;
use super::places::SOCKET_DIRECTORIES;
use super::servers::{Address, Password, Server};

/// What `localhost` stands for besides itself: the default socket directories.
const LOCALHOST: &str = "localhost";

/// Gives each server its password: the one that was given for all, else that of the file.
pub fn give_passwords(
    servers: &mut [Server],
    parameters: &Parameters,
    database: &str,
    user: &str,
    warnings: &mut Vec<String>,
) -> Result<()> {
    if let Some(password) = parameters.text("password") {
        for server in servers {
            server.password = Some(Password { bytes: password.into(), file: None });
        }
        return Ok(());
    }
    let file = match parameters.text("passfile") {
        Some(file) => Some(PathBuf::from(file)),
        None => parameters.own_file(".pgpass"),
    };
    let Some(file) = file else { return Ok(()) };
    let Some(content) = read(&file, warnings) else { return Ok(()) };
    for server in servers {
        let port = server.port.to_string();
        let wanted = [host(server), &port, database, user];
        let password = find(&content, wanted);
        server.password = password.map(|bytes| Password { bytes, file: Some(file.clone()) });
    }
    Ok(())
}

/// What a server is called in the file.
fn host(server: &Server) -> &str {
    match (&server.name, &server.address) {
        (Some(name), _) if SOCKET_DIRECTORIES.contains(&name.as_str()) => LOCALHOST,
        (Some(name), _) => name,
        (None, Address::Socket(_)) => LOCALHOST,
        (None, Address::Tcp(address)) => address,
    }
}

/// The file, unless it is not there or others may read it.
fn read(file: &Path, warnings: &mut Vec<String>) -> Option<Vec<u8>> {
    let metadata = fs::metadata(file).ok()?;
    if !metadata.is_file() {
        warnings.push(format!("password file \"{}\" is not a plain file", file.display()));
        return None;
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        warnings.push(format!(
            "password file \"{}\" has group or world access; permissions should be u=rw (0600) or less",
            file.display()
        ));
        return None;
    }
    match fs::read(file) {
        Ok(content) => Some(content),
        Err(error) => {
            let error = wal_e_core::Error::file("read password file", file, &error);
            warnings.push(error.message().to_owned());
            None
        }
    }
}

/// The password of the first line that is about `wanted`: host, port, database, user.
fn find(content: &[u8], wanted: [&str; 4]) -> Option<Vec<u8>> {
    content.split(|&byte| byte == b'\n').find_map(|line| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.starts_with(b"#") {
            return None;
        }
        let mut rest = line;
        for field in wanted {
            rest = match rest.strip_prefix(b"*:") {
                Some(rest) => rest,
                None => after_field(rest, field.as_bytes())?,
            };
        }
        let password = unescaped(rest);
        (!password.is_empty()).then_some(password)
    })
}

/// What comes after a field and its colon, when the field is `wanted`.
fn after_field<'a>(line: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    let mut line = line;
    for &byte in wanted {
        line = line.strip_prefix(b"\\").filter(|rest| !rest.is_empty()).unwrap_or(line);
        line = line.strip_prefix(&[byte])?;
    }
    line.strip_prefix(b":")
}

/// The password, up to a colon that has no backslash before it.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut password = Vec::new();
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b':' => break,
            b'\\' => password.push(bytes.next().unwrap_or(b'\\')),
            byte => password.push(byte),
        }
    }
    password
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn assert_found(line: &str, wanted: [&str; 4], password: Option<&str>) {
        let found = find(line.as_bytes(), wanted);
        assert_eq!(found.as_deref(), password.map(str::as_bytes), "{line}");
    }

    #[test]
    fn the_first_line_that_fits_has_the_password() {
        let wanted = ["db.example", "5432", "postgres", "backup"];
        for (line, password) in [
            ("db.example:5432:postgres:backup:pw", Some("pw")),
            ("*:*:*:*:pw", Some("pw")),
            ("*:*:*:backup:p\\:w\\\\\r\n", Some("p:w\\")),
            ("db.example:5433:*:*:no\n*:*:*:backup:second", Some("second")),
            ("#*:*:*:*:no\n*:*:*:*:yes\n", Some("yes")),
            ("*:*:*:backup:\n*:*:*:*:after empty", Some("after empty")),
            ("*:*:*:backup:until:colon", Some("until")),
            ("db.exampl*:*:*:*:pw", None),
            ("db.example:5432:postgres:backup", None),
            ("*:*:*:backups:pw", None),
            ("", None),
        ] {
            assert_found(line, wanted, password);
        }
        let odd = ["::1", "5432", "a\\b", "u:v"];
        assert_found(r"\:\:1:5432:a\\b:u\:v:pw", odd, Some("pw"));
        assert_found(r"::1:5432:a\\b:u\:v:pw", odd, Some("pw"));
    }

    #[test]
    fn a_file_that_others_may_read_is_not_used() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pgpass");
        fs::write(&file, "*:*:*:*:pw").unwrap();
        let mode = |mode| fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        let mut warnings = Vec::new();
        mode(0o640);
        assert_eq!(read(&file, &mut warnings), None);
        assert!(warnings[0].contains("group or world access"), "{warnings:?}");
        mode(0o600);
        assert!(read(&file, &mut warnings).is_some());
        assert_eq!(read(directory.path(), &mut warnings), None);
        assert!(warnings[1].contains("not a plain file"), "{warnings:?}");
        assert_eq!(read(&directory.path().join("none"), &mut warnings), None);
        assert_eq!(warnings.len(), 2, "{warnings:?}");
    }
}
