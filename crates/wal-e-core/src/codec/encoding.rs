//! The encodings of stored bytes, and what names tell of them.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, ErrorKind, Result};

/// How the bytes of an object are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Encoding {
    /// One LZ4 frame.
    #[default]
    Lz4,
    /// One zstd frame.
    Zstd,
    /// The bytes as they are.
    None,
}

impl Encoding {
    /// Every encoding.
    pub const ALL: [Encoding; 3] = [Encoding::Lz4, Encoding::Zstd, Encoding::None];

    /// What the name of an object ends with, after a dot; `None` when nothing
    /// is added to the name.
    pub fn extension(self) -> Option<&'static str> {
        match self {
            Encoding::Lz4 => Some("lz4"),
            Encoding::Zstd => Some("zst"),
            Encoding::None => None,
        }
    }

    /// The encoding that an extension, without its dot, stands for. The empty one
    /// is `None`: WAL-G used to leave the dot behind uncompressed names.
    pub fn from_extension(extension: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|encoding| encoding.extension().unwrap_or_default() == extension)
    }

    /// `name` as an object of this encoding is named.
    pub fn file_name(self, name: impl fmt::Display) -> String {
        match self.extension() {
            Some(extension) => format!("{name}.{extension}"),
            None => name.to_string(),
        }
    }
}

/// The name of the method, as settings have it.
impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Encoding::Lz4 => "lz4",
            Encoding::Zstd => "zstd",
            Encoding::None => "none",
        })
    }
}

impl FromStr for Encoding {
    type Err = Error;

    fn from_str(method: &str) -> Result<Self> {
        let known = Self::ALL.into_iter().find(|encoding| encoding.to_string() == method);
        known.ok_or_else(|| {
            let message = match method {
                "lzma" | "brotli" | "lzo" | "lzop" | "gzip" => {
                    format!("compression method \"{method}\" is not supported")
                }
                _ => format!("invalid compression method \"{method}\""),
            };
            Error::new(ErrorKind::Config, message)
                .with_hint("The methods are \"lz4\", \"zstd\" and \"none\".")
        })
    }
}

/// The encoding that the name of a stored object tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoredEncoding {
    /// One that can be read.
    Readable(Encoding),
    /// One that other programs write and this one cannot read, by its extension.
    Foreign(&'static str),
}

/// What WAL-G and WAL-E write beside what is read here.
const FOREIGN: [&str; 5] = ["lzo", "lzma", "br", "gz", "gpg"];

impl StoredEncoding {
    /// What follows a name tells: nothing, a dot, or a dot and an extension that
    /// stands for an encoding. `None` for anything else: then the name is longer,
    /// and another one.
    pub fn from_suffix(suffix: &str) -> Option<Self> {
        if suffix.is_empty() {
            return Some(StoredEncoding::Readable(Encoding::None));
        }
        let extension = suffix.strip_prefix('.')?;
        if let Some(encoding) = Encoding::from_extension(extension) {
            return Some(StoredEncoding::Readable(encoding));
        }
        let foreign = FOREIGN.into_iter().find(|foreign| *foreign == extension);
        foreign.map(StoredEncoding::Foreign)
    }

    /// The encoding, if it can be read; `url` names the object in the error.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a foreign one: the object is there, and another
    /// program can read it.
    pub fn readable(self, url: &str) -> Result<Encoding> {
        match self {
            StoredEncoding::Readable(encoding) => Ok(encoding),
            StoredEncoding::Foreign(extension) => Err(Error::new(
                ErrorKind::Config,
                format!(
                    "object \"{url}\" cannot be read: its encoding \"{extension}\" is not supported"
                ),
            )
            .with_hint("Read it with the program that wrote it, WAL-G or WAL-E.")),
        }
    }
}
