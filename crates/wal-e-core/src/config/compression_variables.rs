//! How variables say to compress.

use super::{Setting, Variable, Variables, ZSTD_LEVEL};
use crate::codec::{Compression, Encoding};
use crate::error::{Error, Result};

/// What variables say. It is not checked before something has to be compressed: a restore does
/// not depend on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompressionVariables {
    method: Option<Variable>,
    level: Option<Variable>,
    /// WAL-G's; it counts for zstd only.
    zstd_level: Option<Variable>,
}

impl CompressionVariables {
    /// Those that are set.
    pub fn find(variables: &Variables) -> Self {
        CompressionVariables {
            method: variables.find(Setting::Compression),
            level: variables.find(Setting::CompressionLevel),
            zstd_level: variables.find_name(ZSTD_LEVEL),
        }
    }

    /// The method, when one is named.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Config`] for one that is not supported.
    pub fn encoding(&self) -> Result<Option<Encoding>> {
        let Some(found) = &self.method else { return Ok(None) };
        found.value.parse::<Encoding>().map(Some).map_err(|error| named(error, &found.name))
    }

    /// The level for `encoding`, when there is one.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Config`] for one that the method does not have.
    pub fn compression(&self, encoding: Encoding) -> Result<Option<Compression>> {
        let found = match (&self.level, &self.zstd_level) {
            (None, Some(found)) if encoding == Encoding::Zstd => found,
            (Some(found), _) => found,
            (None, _) => return Ok(None),
        };
        let level = found.value.trim().parse::<i32>();
        let level = level.map_err(|_| found.invalid("It must be a whole number."))?;
        let compression = Compression::new(encoding, Some(level));
        compression.map(Some).map_err(|error| named(error, &found.name))
    }
}

/// Says where a value was found.
fn named(error: Error, name: &str) -> Error {
    error.with_detail(format!("It was given with {name}."))
}
