//! The parameters of a connection: from the service that was named, else from the
//! environment.
//!
//! PostgreSQL 18, `src/interfaces/libpq/fe-connect.c`, `PQconninfoOptions` and
//! `conninfo_add_defaults`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use wal_e_core::Result;
use wal_e_core::config::Place;

use super::keywords::{KEYWORDS, Parameter};
use super::{places, service_file};

/// The parameters that are set.
pub struct Parameters {
    by_keyword: BTreeMap<&'static str, Parameter>,
    home: Option<PathBuf>,
}

impl Parameters {
    pub fn get(&self, keyword: &str) -> Option<&Parameter> {
        debug_assert!(KEYWORDS.iter().any(|(known, _)| *known == keyword), "{keyword}");
        self.by_keyword.get(keyword)
    }

    pub fn text(&self, keyword: &str) -> Option<&str> {
        self.get(keyword).map(|parameter| parameter.value.as_str())
    }

    /// A file of the user's own, where libpq looks for it by default.
    pub fn own_file(&self, name: &str) -> Option<PathBuf> {
        Some(self.home.as_ref()?.join(name))
    }

    /// One of several words, or `default`.
    pub fn choice<T: Copy>(&self, keyword: &str, words: &[(&str, T)], default: T) -> Result<T> {
        let Some(parameter) = self.get(keyword) else { return Ok(default) };
        match words.iter().find(|(word, _)| *word == parameter.value) {
            Some((_, meaning)) => Ok(*meaning),
            None => {
                let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                Err(parameter.invalid().with_hint(format!("It must be {}.", or(&words))))
            }
        }
    }

    /// A whole number, with white space around it (`parse_int_param`).
    pub fn number(&self, keyword: &str) -> Result<Option<i64>> {
        let Some(parameter) = self.get(keyword) else { return Ok(None) };
        let number = parameter.value.trim().parse::<i32>();
        number.map(|number| Some(number.into())).map_err(|_| parameter.invalid())
    }
}

fn or(words: &[&str]) -> String {
    match words {
        [all @ .., before, last] if !all.is_empty() => {
            format!("{}, {before} or {last}", all.join(", "))
        }
        [before, last] => format!("{before} or {last}"),
        _ => words.concat(),
    }
}

/// Collects them: what a service says goes before the environment.
pub fn collect(environment: &Place, warnings: &mut Vec<String>) -> Result<Parameters> {
    let mut parameters = match environment.get("PGSERVICE") {
        Some(service) => service_file::read(environment, service, warnings)?,
        None => BTreeMap::new(),
    };
    for &(keyword, variable) in KEYWORDS {
        let Some(variable) = variable else { continue };
        if let Some(value) = environment.get(variable) {
            parameters.entry(keyword).or_insert_with(|| Parameter {
                value: value.to_owned(),
                name: variable.to_owned(),
            });
        }
    }
    if environment.get("PGREQUIRESSL").is_some_and(|value| value.starts_with('1')) {
        parameters.entry("sslmode").or_insert_with(|| Parameter {
            value: "require".to_owned(),
            name: "PGREQUIRESSL".to_owned(),
        });
    }
    Ok(Parameters { by_keyword: parameters, home: places::home_directory(environment) })
}
