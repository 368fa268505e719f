//! The encodings of stored bytes, and what names say about them.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, ErrorKind, Result};

/// How the bytes of an object are encoded. All can be read; what is written has one
/// of [`Encoding::WRITABLE`], which [`Compression`](super::Compression) sees to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Encoding {
    /// One LZ4 frame.
    #[default]
    Lz4,
    /// One zstd frame.
    Zstd,
    /// The bytes as they are.
    None,
    /// What the program `lzop` writes, as WAL-E used it.
    Lzop,
    /// The `.lzma` format, as WAL-G writes it.
    Lzma,
    /// One brotli stream, as WAL-G writes it.
    Brotli,
    /// A gzip file, which WAL-G reads.
    Gzip,
}

impl Encoding {
    /// Every encoding that can be read.
    pub const ALL: [Encoding; 7] = [
        Encoding::Lz4,
        Encoding::Zstd,
        Encoding::None,
        Encoding::Lzop,
        Encoding::Lzma,
        Encoding::Brotli,
        Encoding::Gzip,
    ];

    /// Those that are written, too.
    pub const WRITABLE: [Encoding; 3] = [Encoding::Lz4, Encoding::Zstd, Encoding::None];

    /// The suffix of an object's name, without its dot; `None` when nothing
    /// is added to the name.
    pub fn extension(self) -> Option<&'static str> {
        match self {
            Encoding::Lz4 => Some("lz4"),
            Encoding::Zstd => Some("zst"),
            Encoding::None => None,
            Encoding::Lzop => Some("lzo"),
            Encoding::Lzma => Some("lzma"),
            Encoding::Brotli => Some("br"),
            Encoding::Gzip => Some("gz"),
        }
    }

    /// The encoding of this name, as [`Display`](fmt::Display) writes it.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|encoding| encoding.name() == name)
    }

    fn name(self) -> &'static str {
        match self {
            Encoding::Lz4 => "lz4",
            Encoding::Zstd => "zstd",
            Encoding::None => "none",
            Encoding::Lzop => "lzop",
            Encoding::Lzma => "lzma",
            Encoding::Brotli => "brotli",
            Encoding::Gzip => "gzip",
        }
    }

    /// The encoding that an extension, without its dot, stands for. The empty one
    /// is `None`: WAL-G used to leave the dot at the end of uncompressed names.
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
        f.write_str(self.name())
    }
}

/// The method of a setting: only what can be written.
impl FromStr for Encoding {
    type Err = Error;

    fn from_str(method: &str) -> Result<Self> {
        match Self::from_name(method) {
            Some(encoding) if Self::WRITABLE.contains(&encoding) => Ok(encoding),
            Some(_) => Err(not_written(method)),
            None if method == "lzo" => Err(not_written(method)),
            None => Err(Error::new(
                ErrorKind::Config,
                format!("invalid compression method \"{method}\""),
            )
            .with_hint(METHODS)),
        }
    }
}

const METHODS: &str = "The methods are \"lz4\", \"zstd\" and \"none\".";

/// The error for a method that is read only.
pub(super) fn not_written(method: &str) -> Error {
    Error::new(ErrorKind::Config, format!("compression method \"{method}\" is not supported"))
        .with_hint(METHODS)
}

/// The encoding that the name of a stored object says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoredEncoding {
    /// One that can be read.
    Readable(Encoding),
    /// One that other programs write and this one cannot read, by its extension.
    Foreign(&'static str),
}

/// The suffixes of encrypted objects; most of what WAL-G and WAL-E encrypt has none.
const ENCRYPTED: &str = "gpg";

impl StoredEncoding {
    /// Everything that [`StoredEncoding::from_suffix`] understands.
    pub fn suffixes() -> impl Iterator<Item = String> {
        let extensions = Encoding::ALL.into_iter().map(|e| e.extension().unwrap_or_default());
        let dotted = extensions.map(|extension| format!(".{extension}"));
        let plain = std::iter::once(String::new()).chain(dotted);
        plain.flat_map(|suffix| [format!("{suffix}.{ENCRYPTED}"), suffix])
    }

    /// From the suffix of a name: nothing, a dot, or a dot and an extension that
    /// stands for an encoding. `None` for anything else: then it is a part of a longer
    /// name.
    pub fn from_suffix(suffix: &str) -> Option<Self> {
        if suffix.is_empty() {
            return Some(StoredEncoding::Readable(Encoding::None));
        }
        let extension = suffix.strip_prefix('.')?;
        if let Some(encoding) = Encoding::from_extension(extension) {
            return Some(StoredEncoding::Readable(encoding));
        }
        // The encryption is around the compression: `.lz4.gpg`.
        let inner = match extension.rsplit_once('.') {
            Some((inner, ENCRYPTED)) => Some(inner),
            _ => (extension == ENCRYPTED).then_some(""),
        };
        let known = inner.and_then(Encoding::from_extension).is_some();
        known.then_some(StoredEncoding::Foreign(ENCRYPTED))
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
                    "object \"{url}\" cannot be read: its name has the suffix \".{extension}\" of encrypted objects"
                ),
            )
            .with_hint("Decrypt it with the program that wrote it, or with gpg, and store the result under the name without that suffix.")),
        }
    }
}
