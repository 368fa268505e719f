//! An S3 server that was not written here.
//!
//! `WALE_TEST_S3_ENDPOINT` names one that runs (`make s3-servers` starts some), together with
//! `WALE_TEST_S3_ACCESS_KEY_ID`, `WALE_TEST_S3_SECRET_ACCESS_KEY`, and, if the usual ones do not
//! do, `WALE_TEST_S3_BUCKET` and `WALE_TEST_S3_REGION`. Without it, the server is moto.
//!
//! `WALE_TEST_S3_LACKS` has the names of what it is known to lack, separated by spaces. The
//! tests measure it, and a name that is missing or too much is a failure.

use std::collections::BTreeSet;
use std::env::{VarError, var};

use wal_e_core::config::{Credentials, S3Config, Secret, StaticCredentials};

use crate::archive::Archive;
use crate::moto::Moto;

/// A server, and the keys to it.
pub struct RealServer {
    /// `http://HOST:PORT`.
    pub endpoint: String,
    /// The bucket of the tests; it may have to be made.
    pub bucket: String,
    /// The region that requests are signed for.
    pub region: String,
    /// Whose requests they are.
    pub access_key_id: String,
    /// What they are signed with.
    pub secret_access_key: String,
    /// What it is known to lack.
    pub lacks: BTreeSet<String>,
    // Ends with this.
    _moto: Option<Moto>,
}

impl RealServer {
    /// The server that the environment names, or else moto.
    ///
    /// # Panics
    /// When the environment names a server and no keys, or moto does not start.
    pub fn start() -> RealServer {
        let given = |name: &str| match var(format!("WALE_TEST_S3_{name}")) {
            Ok(value) => Some(value),
            Err(VarError::NotPresent) => None,
            Err(error) => panic!("WALE_TEST_S3_{name}: {error}"),
        };
        let or = |name: &str, usual: &str| given(name).unwrap_or_else(|| usual.to_owned());
        let demand = |name: &str| {
            given(name).unwrap_or_else(|| {
                panic!("WALE_TEST_S3_ENDPOINT is set, and WALE_TEST_S3_{name} is not")
            })
        };
        let bucket = or("BUCKET", "wale-tests");
        let Some(endpoint) = given("ENDPOINT") else {
            let moto = Moto::start().unwrap_or_else(|error| panic!("{error:?}"));
            return RealServer {
                endpoint: moto.endpoint(),
                bucket,
                region: "us-east-1".to_owned(),
                access_key_id: "any".to_owned(),
                secret_access_key: "secret".to_owned(),
                lacks: MOTO_LACKS.iter().map(|name| (*name).to_owned()).collect(),
                _moto: Some(moto),
            };
        };
        RealServer {
            endpoint,
            bucket,
            region: or("REGION", "us-east-1"),
            access_key_id: demand("ACCESS_KEY_ID"),
            secret_access_key: demand("SECRET_ACCESS_KEY"),
            lacks: or("LACKS", "").split_whitespace().map(str::to_owned).collect(),
            _moto: None,
        }
    }

    /// A path in the bucket that is a test's own.
    pub fn new_path(&self) -> String {
        format!("wal-e-tests/{:016x}", fastrand::u64(..))
    }

    /// The core's settings for `path` of the bucket.
    pub fn config(&self, path: &str) -> S3Config {
        S3Config {
            endpoint: Some(self.endpoint.clone()),
            region: Some(self.region.clone()),
            credentials: Some(Credentials::Given(StaticCredentials {
                access_key_id: self.access_key_id.clone(),
                secret_access_key: Secret::new(self.secret_access_key.clone()),
                session_token: None,
                source: "the environment of the tests".to_owned(),
            })),
            ..S3Config::new(self.bucket.clone(), path)
        }
    }

    /// An archive at `path` of the bucket, to be seen through wal_e alone.
    pub fn archive(&self, path: &str) -> Archive {
        let url = format!("s3://{}/{path}", self.bucket);
        let keys = (self.access_key_id.clone(), self.secret_access_key.clone());
        Archive::elsewhere(&url, &self.endpoint, &self.region, &keys)
    }
}

/// It keeps the checksum that it is told.
const MOTO_LACKS: [&str; 1] = ["checksum_compared"];
