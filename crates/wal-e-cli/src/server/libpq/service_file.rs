//! The connection service file: parameters under a name.
//!
//! PostgreSQL 18, `src/interfaces/libpq/fe-connect.c`, `parseServiceInfo` and
//! `parseServiceFile`.

use std::collections::BTreeMap;
use std::io::ErrorKind::NotFound;
use std::path::{Path, PathBuf};

use wal_e_core::config::Place;
use wal_e_core::{Error, Result};

use super::keywords::{KEYWORDS, Parameter};
use super::{places, refused};

type Found = BTreeMap<&'static str, Parameter>;

/// The parameters of a service: in the file of `PGSERVICEFILE`, or else the user's own,
/// and when it is not there, in the system's.
///
/// # Errors
/// [`wal_e_core::ErrorKind::Config`] when no file has it, or one cannot be understood.
pub fn read(environment: &Place, service: &str, warnings: &mut Vec<String>) -> Result<Found> {
    let named = environment.get("PGSERVICEFILE").map(PathBuf::from);
    let own = || Some(places::home_directory(environment)?.join(".pg_service.conf"));
    let system = match environment.get("PGSYSCONFDIR") {
        Some(directory) => vec![directory],
        None => places::SYSTEM_DIRECTORIES.to_vec(),
    };
    let system = system.into_iter().map(|directory| Path::new(directory).join("pg_service.conf"));
    let mut searched = Vec::new();
    for file in named.clone().or_else(own).into_iter().chain(system) {
        let content = match std::fs::read(&file) {
            Ok(content) => String::from_utf8_lossy(&content).into_owned(),
            Err(error) if error.kind() == NotFound && named.as_ref() == Some(&file) => {
                return Err(refused(format!("service file \"{}\" not found", file.display())));
            }
            Err(error) if error.kind() == NotFound => continue,
            Err(error) => return Err(Error::file("read file", &file, &error)),
        };
        if let Some(found) = parse(&content, service, &file, warnings)? {
            return Ok(found);
        }
        searched.push(format!("\"{}\"", file.display()));
    }
    let missing = refused(format!("definition of service \"{service}\" not found"));
    Err(match searched.is_empty() {
        true => missing.with_hint(
            "There is no service file. Name one with PGSERVICEFILE, or make ~/.pg_service.conf.",
        ),
        false => missing.with_detail(format!("It is not in {}.", searched.join(", "))),
    })
}

/// The first group of this name in a file.
fn parse(
    content: &str,
    service: &str,
    file: &Path,
    warnings: &mut Vec<String>,
) -> Result<Option<Found>> {
    let wrong = |number: usize, why: &str| {
        refused(format!("{why} in service file \"{}\", line {}", file.display(), number + 1))
    };
    let mut found: Option<Found> = None;
    for (number, line) in content.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(group) = line.strip_prefix('[') {
            if found.is_some() {
                break;
            }
            let is_it = group.strip_prefix(service).is_some_and(|rest| rest.starts_with(']'));
            found = is_it.then(BTreeMap::new);
            continue;
        }
        let Some(found) = &mut found else { continue };
        if line.starts_with("ldap") {
            return Err(wrong(number, "an LDAP lookup, which is not supported,").with_hint(
                "Write the parameters of the connection into the file, or set the variables.",
            ));
        }
        let (keyword, value) = line.split_once('=').ok_or_else(|| wrong(number, "syntax error"))?;
        if matches!(keyword, "service" | "servicefile") {
            return Err(wrong(number, "a service within a service"));
        }
        let known = KEYWORDS.iter().find(|(known, _)| *known == keyword);
        let Some((keyword, _)) = known else {
            return Err(wrong(number, &format!("unknown parameter \"{keyword}\"")));
        };
        if value.is_empty() {
            continue;
        }
        if *keyword == "replication" {
            warnings.push(format!("\"replication\" of service \"{service}\" is not followed"));
        }
        let name = format!("\"{keyword}\" of service \"{service}\" in \"{}\"", file.display());
        found.entry(keyword).or_insert_with(|| Parameter { value: value.to_owned(), name });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(content: &str) -> Result<Option<BTreeMap<&'static str, String>>> {
        let found = parse(content, "prod", Path::new("/services"), &mut Vec::new())?;
        Ok(found.map(|found| found.into_iter().map(|(key, it)| (key, it.value)).collect()))
    }

    #[test]
    fn a_service_is_the_group_of_its_name_up_to_the_next() {
        let content = "# comment\nhost=ignored\n[production]\nhost=other\n\n  [prod] \n\
                       host=db1,db2\n  port = wrong keyword would be here\n";
        assert!(parsed(content).is_err(), "\"port \" is no keyword");
        let content = "[production]\nhost=other\n[prod]\n host=db1,db2\nport=5433\n\
                       port=9\nuser=\noptions=-c work_mem=1MB\n[prod]\nhost=late\n";
        let expected = [("host", "db1,db2"), ("options", "-c work_mem=1MB"), ("port", "5433")];
        let expected = expected.map(|(key, value)| (key, value.to_owned()));
        assert_eq!(parsed(content).unwrap(), Some(BTreeMap::from(expected)));
        assert_eq!(parsed("[other]\nhost=x\n").unwrap(), None);
    }

    #[test]
    fn what_a_service_file_may_not_have_is_refused_with_its_line() {
        for (line, word) in [
            ("host", "syntax error"),
            ("service=other", "within"),
            ("hots=x", "hots"),
            ("ldap://server/dn", "LDAP"),
        ] {
            let error = parsed(&format!("[prod]\n{line}\n")).unwrap_err();
            assert!(error.message().contains(word), "{error}");
            assert!(error.message().contains("\"/services\", line 2"), "{error}");
        }
    }
}
