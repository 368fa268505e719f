//! An LSN as a value of the SQL type `pg_lsn`.

use pgrx::callconv::{Arg, ArgAbi, BoxRet, FcInfo};
use pgrx::datum::{Datum, FromDatum, IntoDatum};
use pgrx::pg_sys;
use pgrx::pgrx_sql_entity_graph::metadata::{
    ArgumentError, ReturnsError, ReturnsRef, SqlMappingRef, SqlTranslatable, TypeOrigin,
};
use wal_e_core::postgres::Lsn;

/// A `pg_lsn`, as a result column or an argument.
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

impl FromDatum for LsnDatum {
    unsafe fn from_polymorphic_datum(
        datum: pg_sys::Datum,
        is_null: bool,
        _type_oid: pg_sys::Oid,
    ) -> Option<Self> {
        (!is_null).then(|| LsnDatum(Lsn(datum.value() as u64)))
    }
}

// SAFETY: the datum of a pg_lsn is the number itself.
unsafe impl<'fcx> ArgAbi<'fcx> for LsnDatum {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: the SQL declares this argument as pg_lsn.
        unsafe { arg.unbox_arg_using_from_datum() }.expect("a null is never unboxed")
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
