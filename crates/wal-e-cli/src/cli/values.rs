//! Values of options: how they are parsed, and what the table of settings says about them.

use clap::builder::RangedI64ValueParser;
use wal_e_core::config::{Exclusions, Number, Setting};
use wal_e_core::restore::ArchiveMode;

pub fn archive_mode(text: &str) -> Result<ArchiveMode, String> {
    match text {
        "off" => Ok(ArchiveMode::Off),
        "preserve" => Ok(ArchiveMode::Preserve),
        _ => Err("it must be off or preserve".to_owned()),
    }
}

pub fn depth() -> RangedI64ValueParser<u16> {
    clap::value_parser!(u16).range(0..=256)
}

/// The placeholder for the value of a setting's option in the help.
pub fn placeholder(setting: Setting) -> &'static str {
    setting.describe().option.map_or("", |flag| flag.placeholder)
}

/// The range of a number, as the table of settings has it.
pub fn within<T>(setting: Setting) -> RangedI64ValueParser<T>
where
    T: TryFrom<i64, Error: std::error::Error + Send + Sync> + Clone + Send + Sync + 'static,
{
    let Number { low, high, .. } = setting.number_of_option();
    RangedI64ValueParser::new().range(low..=high)
}

/// The default of a setting's option.
pub fn default_number(setting: Setting) -> u16 {
    let default = setting.number_of_option().default;
    default.and_then(|number| u16::try_from(number).ok()).unwrap_or(1)
}

/// What comes after a line break would be another line of `backup_label`.
pub fn one_line(text: &str) -> Result<String, String> {
    match text.contains(['\n', '\r']) {
        true => Err("a label must not contain a line break".to_owned()),
        false => Ok(text.to_owned()),
    }
}

/// Why a name is refused; the option and its value stand before that.
pub fn exclusions(text: &str) -> Result<Exclusions, String> {
    text.parse().map_err(|error: wal_e_core::Error| {
        let why = error.detail().unwrap_or(error.message());
        why.trim_end_matches('.').to_owned()
    })
}
