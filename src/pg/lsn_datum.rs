//! An LSN as a value of the SQL type `pg_lsn`.

use pgrx::callconv::{BoxRet, FcInfo};
use pgrx::datum::{Datum, IntoDatum};
use pgrx::pg_sys;
use pgrx::pgrx_sql_entity_graph::metadata::{
    ArgumentError, ReturnsError, ReturnsRef, SqlMappingRef, SqlTranslatable, TypeOrigin,
};
use wal_e_core::postgres::Lsn;

/// A `pg_lsn` for a result column.
#[derive(Debug, Clone, Copy)]
pub struct LsnDatum(pub Lsn);

impl IntoDatum for LsnDatum {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        // pg_lsn is passed by value in eight bytes (src/include/utils/pg_lsn.h).
        Some(pg_sys::Datum::from(self.0.0))
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::PG_LSNOID
    }
}

// SAFETY: the datum is a plain number that refers to no memory.
unsafe impl BoxRet for LsnDatum {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> Datum<'fcx> {
        // SAFETY: a pg_lsn, passed by value.
        unsafe { fcinfo.return_raw_datum(pg_sys::Datum::from(self.0.0)) }
    }
}

// SAFETY: the SQL type named is the one that `into_datum` makes a value of.
unsafe impl SqlTranslatable for LsnDatum {
    const TYPE_IDENT: &'static str = pgrx::pgrx_resolved_type!(LsnDatum);
    const TYPE_ORIGIN: TypeOrigin = TypeOrigin::External;
    const ARGUMENT_SQL: Result<SqlMappingRef, ArgumentError> = Ok(SqlMappingRef::literal("pg_lsn"));
    const RETURN_SQL: Result<ReturnsRef, ReturnsError> =
        Ok(ReturnsRef::One(SqlMappingRef::literal("pg_lsn")));
}
