//! Which versions of PostgreSQL there are for this extension. What differs between them is
//! beside this file, and described in `docs/versions.md`.

use pgrx::pg_sys;

#[cfg(not(any(feature = "pg15", feature = "pg16", feature = "pg17", feature = "pg18")))]
compile_error!(
    "wal_e is for PostgreSQL 15 to 18: build it with one of the features pg15, pg16, pg17 and \
     pg18. For another version, look first at each `feature` in src/pg/, and then add it here"
);

/// The major version that this library is built for.
pub const MAJOR: u32 = if cfg!(feature = "pg15") {
    15
} else if cfg!(feature = "pg16") {
    16
} else if cfg!(feature = "pg17") {
    17
} else {
    18
};

const _: () = assert!(
    pg_sys::PG_VERSION_NUM / 10_000 == MAJOR,
    "the headers that pg_config names are of another version of PostgreSQL than the feature"
);
