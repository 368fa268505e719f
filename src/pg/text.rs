//! Text between this library, which works in UTF-8, and a database, whose encoding may be
//! another: as arguments and results of SQL functions, and in reports.

use std::ffi::{CStr, c_int};

use pgrx::callconv::{Arg, ArgAbi, BoxRet, FcInfo};
use pgrx::datum::{Datum, FromDatum, IntoDatum};
use pgrx::pg_sys;
use pgrx::pgrx_sql_entity_graph::metadata::{
    ArgumentError, ReturnsError, ReturnsRef, SqlMappingRef, SqlTranslatable, TypeOrigin,
};

const UTF8: c_int = pg_sys::pg_enc::PG_UTF8 as c_int;
const SQL_ASCII: c_int = pg_sys::pg_enc::PG_SQL_ASCII as c_int;

/// A `text`, as a result column or an argument.
#[derive(Debug, Clone)]
pub struct Text(pub String);

impl IntoDatum for Text {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        // A text has the form of a bytea (src/include/c.h).
        to_database(&self.0).into_datum()
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::TEXTOID
    }
}

impl FromDatum for Text {
    unsafe fn from_polymorphic_datum(
        datum: pg_sys::Datum,
        is_null: bool,
        type_oid: pg_sys::Oid,
    ) -> Option<Self> {
        // SAFETY: promised by the caller; a text has the form of a bytea.
        let bytes = unsafe { <&[u8]>::from_polymorphic_datum(datum, is_null, type_oid)? };
        Some(Text(from_database(bytes)))
    }
}

// SAFETY: the datum of a text is read as one.
unsafe impl<'fcx> ArgAbi<'fcx> for Text {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: the SQL declares this argument as text.
        unsafe { arg.unbox_arg_using_from_datum() }.expect("a null is never unboxed")
    }
}

// SAFETY: the datum points to memory of the caller's context.
unsafe impl BoxRet for Text {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> Datum<'fcx> {
        match self.into_datum() {
            // SAFETY: the SQL declares the result as text.
            Some(datum) => unsafe { fcinfo.return_raw_datum(datum) },
            None => fcinfo.return_null(),
        }
    }
}

// SAFETY: text is the SQL type that this is.
unsafe impl SqlTranslatable for Text {
    const TYPE_IDENT: &'static str = pgrx::pgrx_resolved_type!(Text);
    const TYPE_ORIGIN: TypeOrigin = TypeOrigin::External;
    const ARGUMENT_SQL: Result<SqlMappingRef, ArgumentError> = Ok(SqlMappingRef::literal("text"));
    const RETURN_SQL: Result<ReturnsRef, ReturnsError> =
        Ok(ReturnsRef::One(SqlMappingRef::literal("text")));
}

/// The encoding of this process's database, when text has to be converted for it. A process
/// without a database, and a database of encoding SQL_ASCII, take bytes as they are.
fn other_encoding() -> Option<c_int> {
    // SAFETY: a plain read.
    let encoding = unsafe { pg_sys::GetDatabaseEncoding() };
    (encoding != UTF8 && encoding != SQL_ASCII).then_some(encoding)
}

/// What the database holds, in UTF-8. What is not in the database's encoding, which only
/// SQL_ASCII allows, is replaced by U+FFFD.
fn from_database(bytes: &[u8]) -> String {
    match other_encoding() {
        None => String::from_utf8_lossy(bytes).into_owned(),
        Some(encoding) => String::from_utf8_lossy(&convert(bytes, encoding, UTF8).0).into_owned(),
    }
}

/// `text` in the encoding of the database; a character that it lacks becomes its number.
pub fn to_database(text: &str) -> Vec<u8> {
    let Some(encoding) = other_encoding().filter(|_| !text.is_ascii()) else {
        return text.as_bytes().to_vec();
    };
    let (mut converted, mut rest) = (Vec::with_capacity(text.len()), text);
    while !rest.is_empty() {
        let (piece, consumed) = convert(rest.as_bytes(), UTF8, encoding);
        converted.extend(piece);
        rest = rest.get(consumed..).unwrap_or_default();
        let mut characters = rest.chars();
        if let Some(lacking) = characters.next() {
            converted.extend(number_of(lacking).bytes());
            rest = characters.as_str();
        }
    }
    converted
}

/// `text` with nothing that the encoding of the database could lack: for reports that pgrx
/// makes, which are in UTF-8 whatever the database is in.
pub fn for_report(text: String) -> String {
    if text.is_ascii() || other_encoding().is_none() {
        return text;
    }
    let spell = |c: char| if c.is_ascii() { c.to_string() } else { number_of(c) };
    text.chars().map(spell).collect()
}

/// As PostgreSQL writes characters by number in strings.
fn number_of(character: char) -> String {
    match u32::from(character) {
        number @ ..=0xffff => format!("\\{number:04x}"),
        number => format!("\\+{number:06x}"),
    }
}

/// As much of `bytes` as can be converted, and how many of them that is. Nothing, outside of
/// a transaction: conversions are looked up in the catalogs.
fn convert(bytes: &[u8], from: c_int, to: c_int) -> (Vec<u8>, usize) {
    let room = bytes.len() * pg_sys::MAX_CONVERSION_GROWTH as usize + 16;
    let (Ok(length), Ok(room_length)) = (c_int::try_from(bytes.len()), c_int::try_from(room))
    else {
        return (Vec::new(), 0);
    };
    let mut converted = vec![0u8; room];
    // SAFETY: the source is only read, the destination has room for its longest form and the
    // NUL after it (src/backend/utils/mb/mbutils.c, pg_do_encoding_conversion_buf), and with
    // noError what cannot be converted is no ERROR.
    let consumed = unsafe {
        if !pg_sys::IsTransactionState() {
            return (Vec::new(), 0);
        }
        let procedure = pg_sys::FindDefaultConversionProc(from, to);
        if procedure == pg_sys::InvalidOid {
            return (Vec::new(), 0);
        }
        let (source, target) = (bytes.as_ptr().cast_mut(), converted.as_mut_ptr());
        pg_sys::pg_do_encoding_conversion_buf(
            procedure,
            from,
            to,
            source,
            length,
            target,
            room_length,
            true,
        )
    };
    let text = CStr::from_bytes_until_nul(&converted).map(|text| text.to_bytes().to_vec());
    (text.unwrap_or_default(), usize::try_from(consumed).unwrap_or(0))
}
