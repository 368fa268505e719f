//! Settings as plain values, filled by the extension from its settings and by
//! the program from flags and environment.

use std::path::PathBuf;

mod aws;
mod compression_variables;
mod credentials;
mod encryption;
mod endpoint;
mod env_dir;
mod exclusions;
mod misfits;
mod prefix;
mod proxy;
mod s3;
mod settings;
mod variables;
mod words;

pub use aws::AwsVariables;
pub use compression_variables::CompressionVariables;
pub use credentials::{Credentials, Secret, StaticCredentials};
pub use encryption::{Encryption, EncryptionPolicy};
pub use endpoint::Endpoint;
pub use env_dir::{EnvDir, NAMESPACES};
pub use exclusions::Exclusions;
pub use misfits::Misfit;
pub use prefix::Prefix;
pub use proxy::{Proxies, Proxy, check_proxy};
pub use s3::{DEFAULT_S3_TIMEOUT, S3Config, S3Given};
pub use settings::{Context, Description, Flag, Guc, Number, Setting, Unit, Value, ZSTD_LEVEL};
pub use variables::{Place, Variable, Variables};
pub use words::{Face, Word};

/// Where objects live, how to reach them, and how they are encrypted.
/// Two equal values can share a client; a changed one needs a new client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreConfig {
    /// Where they live.
    pub place: StorePlace,
    /// How they are encrypted.
    pub encryption: Encryption,
}

/// Where objects live and how to reach them: what each kind of store needs, and no more.
#[derive(Debug, Clone, PartialEq, Eq)]
// A process has a few of it.
#[allow(clippy::large_enum_variant)]
pub enum StorePlace {
    /// A bucket.
    S3(S3Config),
    /// A directory.
    File(FileConfig),
}

impl From<StorePlace> for StoreConfig {
    /// Without keys.
    fn from(place: StorePlace) -> Self {
        StoreConfig { place, encryption: Encryption::default() }
    }
}

impl StoreConfig {
    /// The cluster's prefix.
    pub fn prefix(&self) -> Prefix {
        match &self.place {
            StorePlace::S3(S3Config { bucket, path, .. }) => {
                Prefix::S3 { bucket: bucket.clone(), path: path.clone() }
            }
            StorePlace::File(FileConfig { directory }) => {
                Prefix::File { directory: directory.clone() }
            }
        }
    }
}

/// What a directory needs to be a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileConfig {
    /// An absolute directory that must exist already.
    pub directory: PathBuf,
}
