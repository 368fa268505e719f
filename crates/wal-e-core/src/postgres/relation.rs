//! Which relation a file belongs to.

use super::data_directory;

/// A relation, by the numbers of its files. PostgreSQL calls it `RelFileLocator`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelationId {
    /// OID of its tablespace.
    pub tablespace: u32,
    /// OID of its database; 0 for what all databases share.
    pub database: u32,
    /// Its number, `pg_class.relfilenode`.
    pub number: u32,
}

/// OIDs of the tablespaces of every cluster (`src/include/catalog/pg_tablespace.dat`).
const PG_DEFAULT: u32 = 1663;
const PG_GLOBAL: u32 = 1664;

impl RelationId {
    /// The relation of a file, which is named by its path below the data directory; `None` for
    /// what is not the file of a relation.
    pub fn of_path(path: &str) -> Option<Self> {
        let relation = data_directory::relation_file(path)?.relation;
        let mut parts = relation.rsplit('/');
        let number = parts.next()?.parse().ok()?;
        let directory = parts.next()?;
        let (tablespace, database) = match relation.split_once('/')? {
            ("global", _) => (PG_GLOBAL, 0),
            ("pg_tblspc", rest) => (rest.split('/').next()?.parse().ok()?, directory.parse().ok()?),
            _ => (PG_DEFAULT, directory.parse().ok()?),
        };
        Some(RelationId { tablespace, database, number })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_says_which_relation_it_is() {
        let of = RelationId::of_path;
        let relation =
            |tablespace, database, number| Some(RelationId { tablespace, database, number });
        assert_eq!(of("base/5/16384.3"), relation(1663, 5, 16384));
        assert_eq!(of("global/1262"), relation(1664, 0, 1262));
        assert_eq!(of("pg_tblspc/16390/PG_15_202209061/5/16391"), relation(16390, 5, 16391));
        assert_eq!(of("base/5/PG_VERSION"), None);
        assert_eq!(of("pg_xact/0000"), None);
    }
}
