//! How `backup-push` and `wal-push` compress: by options, environment and `--env-dir`.

use wal_e_core::codec::{Compression, Encoding};
use wal_e_core::config::CompressionVariables;
use wal_e_core::{Error, Result};

use crate::cli::CompressionOptions;

impl CompressionOptions {
    /// The compression to use.
    ///
    /// # Errors
    /// [`wal_e_core::ErrorKind::Config`] for a method that is not supported and a level
    /// that it does not have.
    pub fn resolve(&self, variables: &CompressionVariables) -> Result<Compression> {
        let encoding = match &self.compression {
            Some(method) => {
                method.parse::<Encoding>().map_err(|error| named(error, "--compression"))?
            }
            None => variables.encoding()?.unwrap_or_default(),
        };
        if let Some(level) = self.compression_level {
            return Compression::new(encoding, Some(level))
                .map_err(|error| named(error, "--compression-level"));
        }
        match variables.compression(encoding)? {
            Some(compression) => Ok(compression),
            None => Compression::new(encoding, None),
        }
    }
}

/// Says where a value was found.
fn named(error: Error, name: &str) -> Error {
    error.with_detail(format!("It was given with {name}."))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use clap::Parser;
    use wal_e_core::ErrorKind;

    use super::*;
    use crate::cli::{Cli, Command};
    use crate::settings::Settings;
    use wal_e_core::config::Place;

    fn resolved(flags: &str, variables: &[(&str, &str)]) -> Result<Compression> {
        let line = format!("wal-e --file-prefix /b wal-push 00000002.history {flags}");
        let cli = Cli::try_parse_from(line.split_whitespace()).unwrap();
        let Command::WalPush(push) = cli.command else { panic!("{line}") };
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let environment = variables.iter().map(owned).collect::<BTreeMap<_, _>>();
        let settings = Settings::resolve(&cli.store, Place::Environment(environment))?;
        push.compression.resolve(&settings.compression)
    }

    fn compression(encoding: Encoding, level: i32) -> Compression {
        Compression::new(encoding, Some(level)).unwrap()
    }

    #[test]
    fn flags_count_before_variables() {
        let zstd = [("WALG_COMPRESSION_METHOD", "zstd"), ("WALG_ZSTD_LEVEL", "7")];
        for (flags, variables, expected) in [
            ("", &[][..], Compression::default()),
            ("", &zstd[..], compression(Encoding::Zstd, 7)),
            ("", &[("WALE_COMPRESSION_METHOD", "none")], compression(Encoding::None, 0)),
            ("--compression zstd", &[], compression(Encoding::Zstd, 0)),
            ("--compression-level -3", &[], compression(Encoding::Lz4, -3)),
            ("--compression-level 19", &zstd[..], compression(Encoding::Zstd, 19)),
            // WAL-G's level of another method than the one in use.
            ("--compression lz4", &zstd[..], Compression::default()),
            ("", &[("WALE_COMPRESSION_LEVEL", "9")], compression(Encoding::Lz4, 9)),
        ] {
            assert_eq!(resolved(flags, variables).unwrap(), expected, "{flags} {variables:?}");
        }
    }

    #[test]
    fn env_dir_counts_after_the_environment() {
        let directory = tempfile::tempdir().unwrap();
        for (name, value) in [("WALG_COMPRESSION_METHOD", "zstd"), ("WALG_ZSTD_LEVEL", "5")] {
            std::fs::write(directory.path().join(name), value).unwrap();
        }
        let flags = format!("--env-dir {}", directory.path().display());
        assert_eq!(resolved(&flags, &[]).unwrap(), compression(Encoding::Zstd, 5));
        let none = [("WALE_COMPRESSION_METHOD", "none")];
        assert_eq!(resolved(&flags, &none).unwrap(), compression(Encoding::None, 0));
    }

    #[test]
    fn what_cannot_be_meant_is_an_error_that_says_where_it_was_found() {
        for (flags, variables, name) in [
            ("--compression lzma", &[][..], "--compression"),
            ("", &[("WALG_COMPRESSION_METHOD", "brotli")], "WALG_COMPRESSION_METHOD"),
            ("--compression-level 22", &[], "--compression-level"),
            ("--compression none --compression-level 1", &[], "--compression-level"),
            ("--compression zstd", &[("WALG_ZSTD_LEVEL", "99")], "WALG_ZSTD_LEVEL"),
            ("--compression zstd", &[("WALG_ZSTD_LEVEL", "fast")], "WALG_ZSTD_LEVEL"),
        ] {
            let error = resolved(flags, variables).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{flags} {variables:?}");
            let text = format!("{} {}", error.message(), error.detail().unwrap_or_default());
            assert!(text.contains(name) && error.hint().is_some(), "{text}");
        }
    }
}
