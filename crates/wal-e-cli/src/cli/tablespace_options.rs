//! Where tablespaces go: those of a base backup, and those that replay creates.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use wal_e_core::wal::{NewTablespaces, UnusablePlace};
use wal_e_core::{Error, ErrorKind, Result};

#[derive(Debug, Clone, Default, Args)]
pub struct TablespaceOptions {
    /// Put the tablespace of directory OLD into directory NEW, even if it was created
    /// after the base backup
    #[arg(
        short = 'T', long, value_name = "OLD=NEW", value_parser = tablespace_mapping
    )]
    pub tablespace_mapping: Vec<(PathBuf, PathBuf)>,

    /// Put all tablespaces that --tablespace-mapping does not name below DIRECTORY,
    /// each into a directory named by its OID
    #[arg(long, value_name = "DIRECTORY", value_parser = absolute)]
    pub tablespace_mapping_all: Option<PathBuf>,

    /// Put the tablespaces into the data directory, as directories in pg_tblspc
    /// instead of links; backup-fetch also sets allow_in_place_tablespaces, without
    /// which the server stops at them
    #[arg(long, conflicts_with_all = ["tablespace_mapping", "tablespace_mapping_all"])]
    pub blind_restore: bool,

    /// What to do with a tablespace that was created after the base backup and is not
    /// mapped, if its directory does not exist or is in use: refuse (the default),
    /// in-place (put it into the data directory), use (let the server write into the
    /// directory, over what another cluster may have there)
    #[arg(long, value_name = "WHAT")]
    pub tablespaces_in_use: Option<InUse>,
}

/// What becomes of a tablespace whose directory cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum InUse {
    Refuse,
    InPlace,
    Use,
}

impl TablespaceOptions {
    /// Where tablespaces go that replay creates.
    pub fn new_tablespaces(&self) -> NewTablespaces {
        NewTablespaces {
            in_place: self.blind_restore,
            mapping: self.tablespace_mapping.clone(),
            below: self.tablespace_mapping_all.clone(),
            unusable: self.unusable(),
        }
    }

    /// What becomes of those that go where they were, and cannot.
    pub fn unusable(&self) -> UnusablePlace {
        match self.tablespaces_in_use {
            None | Some(InUse::Refuse) => UnusablePlace::Refuse,
            Some(InUse::InPlace) => UnusablePlace::InPlace,
            Some(InUse::Use) => UnusablePlace::Use,
        }
    }

    /// These options as words of a command line.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a path that is not UTF-8.
    pub fn words(&self) -> Result<Vec<String>> {
        let mut words = Vec::new();
        for (old, new) in &self.tablespace_mapping {
            let escaped = |path| Ok::<_, Error>(utf8(path)?.replace('=', "\\="));
            words.push(format!("--tablespace-mapping={}={}", escaped(old)?, escaped(new)?));
        }
        if let Some(below) = &self.tablespace_mapping_all {
            words.push(format!("--tablespace-mapping-all={}", utf8(below)?));
        }
        if self.blind_restore {
            words.push("--blind-restore".to_owned());
        }
        let value = self.tablespaces_in_use.as_ref().and_then(ValueEnum::to_possible_value);
        words.extend(value.map(|value| format!("--tablespaces-in-use={}", value.get_name())));
        Ok(words)
    }
}

fn utf8(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| {
        Error::new(ErrorKind::Config, format!("path \"{}\" is not valid UTF-8", path.display()))
    })
}

/// A path that does not depend on where the program runs.
pub fn absolute(text: &str) -> Result<PathBuf, String> {
    match text.starts_with('/') {
        true => Ok(PathBuf::from(text)),
        false => Err(format!("\"{text}\" is not an absolute path")),
    }
}

/// `OLD=NEW`, both absolute; `\=` stands for an equals sign in a directory's
/// name, as in pg_basebackup.
fn tablespace_mapping(text: &str) -> Result<(PathBuf, PathBuf), String> {
    let mut sides = vec![String::new()];
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let side = sides.last_mut().expect("it begins with one side");
        match character {
            '\\' if characters.peek() == Some(&'=') => side.extend(characters.next()),
            '=' => sides.push(String::new()),
            _ => side.push(character),
        }
    }
    let [old, new] = sides.as_slice() else {
        return Err("it must be OLD=NEW, with \"\\=\" for an equals sign in a name".to_owned());
    };
    Ok((absolute(old)?, absolute(new)?))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn parse(words: &[String]) -> TablespaceOptions {
        let line = ["wal-e", "wal-fetch", "name", "dest"].map(str::to_owned);
        match Cli::try_parse_from(line.iter().chain(words)).unwrap().command {
            Command::WalFetch(fetch) => fetch.tablespaces,
            _ => panic!("{words:?}"),
        }
    }

    #[test]
    fn a_command_line_is_made_that_says_the_same() {
        for words in [
            &[][..],
            &["-T", "/a\\=b=/c d", "-T", "/e=/f", "--tablespace-mapping-all", "/g=h"],
            &["--blind-restore"],
            &["--tablespaces-in-use", "in-place"],
        ] {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            let options = parse(&words);
            let again = parse(&options.words().unwrap());
            assert_eq!(again.new_tablespaces(), options.new_tablespaces(), "{words:?}");
            assert_eq!(again.words().unwrap(), options.words().unwrap());
        }
        let mapping = &parse(&["-T".to_owned(), "/a\\=b=/c".to_owned()]).tablespace_mapping;
        assert_eq!(mapping[..], [("/a=b".into(), "/c".into())]);
    }
}
