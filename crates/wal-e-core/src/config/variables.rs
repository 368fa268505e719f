//! Variables of a process environment and of an envdir directory, under all names
//! that WAL-E and WAL-G know them by.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Credentials, EnvDir, NAMESPACES, Number, Setting};
use crate::error::{Error, ErrorKind, Result};

/// One place where variables are found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A process environment.
    Environment(BTreeMap<String, String>),
    /// An envdir directory.
    EnvDir(EnvDir),
}

impl Place {
    /// The value of a variable; an empty one counts as not set.
    pub fn get(&self, name: &str) -> Option<&str> {
        let value = match self {
            Place::Environment(variables) => variables.get(name).map(String::as_str),
            Place::EnvDir(directory) => directory.get(name),
        };
        value.filter(|value| !value.is_empty())
    }

    /// The first of a setting's variables that is set.
    pub fn find(&self, setting: Setting) -> Option<Variable> {
        setting.variable_names().into_iter().find_map(|name| self.variable(name))
    }

    /// The names of those that are set.
    pub(super) fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        match self {
            Place::Environment(variables) => {
                let set = variables.iter().filter(|(_, value)| !value.is_empty());
                Box::new(set.map(|(name, _)| name.as_str()))
            }
            Place::EnvDir(directory) => Box::new(directory.names()),
        }
    }

    /// The variable of this name under its longest name that is set.
    pub(super) fn find_name(&self, name: &str) -> Option<Variable> {
        NAMESPACES.iter().find_map(|namespace| self.variable(format!("{namespace}{name}")))
    }

    /// The variable of this very name, when it is set.
    pub(super) fn variable(&self, name: String) -> Option<Variable> {
        let value = self.get(&name)?.to_owned();
        Some(Variable { name, value, from_env_dir: self.is_env_dir() })
    }

    /// Whether it is an envdir directory.
    pub fn is_env_dir(&self) -> bool {
        matches!(self, Place::EnvDir(_))
    }

    /// What to call it in a message.
    pub fn describe(&self) -> String {
        match self {
            Place::Environment(_) => "the environment".to_owned(),
            Place::EnvDir(directory) => format!("env_dir \"{}\"", directory.path().display()),
        }
    }
}

/// A variable that is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// The name that it was found under.
    pub name: String,
    /// Its value, not empty.
    pub value: String,
    /// Whether it is a file of an envdir directory.
    pub from_env_dir: bool,
}

impl Variable {
    /// The value does not mean anything; `hint` says what would.
    pub fn invalid(&self, hint: impl Into<String>) -> Error {
        let message = format!("invalid value \"{}\" of {}", self.value, self.name);
        Error::new(ErrorKind::Config, message).with_hint(hint)
    }

    /// Yes or no, in the words of WAL-G.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for any other.
    pub fn boolean(&self) -> Result<bool> {
        match self.value.to_ascii_lowercase().as_str() {
            "1" | "t" | "true" | "y" | "yes" | "on" => Ok(true),
            "0" | "f" | "false" | "n" | "no" | "off" => Ok(false),
            _ => Err(self.invalid("It must be \"true\" or \"false\".")),
        }
    }

    /// A number of seconds within the range of `setting`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for anything else.
    pub fn seconds(&self, setting: Setting) -> Result<Duration> {
        let Number { low, high, .. } = setting.number();
        let number = self.value.parse::<i64>().ok().filter(|n| (low..=high).contains(n));
        let seconds = number.and_then(|number| u64::try_from(number).ok());
        seconds.map(Duration::from_secs).ok_or_else(|| {
            self.invalid(format!("It must be a number of seconds from {low} to {high}."))
        })
    }
}

/// The places in the order in which they count.
#[derive(Debug, Clone, Default)]
pub struct Variables {
    /// The first counts before the next.
    pub places: Vec<Place>,
}

impl From<EnvDir> for Variables {
    /// Those of the directory alone.
    fn from(directory: EnvDir) -> Self {
        Variables { places: vec![Place::EnvDir(directory)] }
    }
}

impl Variables {
    /// The first of a setting's variables that is set, in the first place that has any of them.
    pub fn find(&self, setting: Setting) -> Option<Variable> {
        self.places.iter().find_map(|place| place.find(setting))
    }

    /// Where keys are read again when they change: the directory, when it has a pair.
    pub(super) fn env_dir_with_keys(&self) -> Option<Credentials> {
        self.places.iter().find_map(|place| match place {
            Place::EnvDir(directory) => {
                directory.credentials().map(|_| Credentials::EnvDir(directory.path().to_owned()))
            }
            Place::Environment(_) => None,
        })
    }

    /// The variable that no setting has for its own, under its longest name that is set.
    pub fn find_name(&self, name: &str) -> Option<Variable> {
        self.places.iter().find_map(|place| place.find_name(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_place_counts_and_there_the_longest_name() {
        let environment = [("AWS_REGION", "plain"), ("WALG_AWS_REGION", "walg"), ("EMPTY", "")];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let directory = tempfile::tempdir().unwrap();
        for (name, value) in [("WALE_AWS_REGION", "wale"), ("EMPTY", "full")] {
            std::fs::write(directory.path().join(name), value).unwrap();
        }
        let env_dir = EnvDir::read(directory.path()).unwrap();
        let places = vec![Place::Environment(BTreeMap::from(environment)), Place::EnvDir(env_dir)];
        let variables = Variables { places };

        let region = variables.find(Setting::S3Region).unwrap();
        assert_eq!((region.name.as_str(), region.value.as_str()), ("WALG_AWS_REGION", "walg"));
        assert!(!region.from_env_dir);
        let empty = variables.find_name("EMPTY").unwrap();
        assert_eq!((empty.value.as_str(), empty.from_env_dir), ("full", true));
        assert_eq!(variables.find_name("NOWHERE"), None);
    }
}
