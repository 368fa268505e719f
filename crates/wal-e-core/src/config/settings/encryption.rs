//! Whether new objects are encrypted.

use super::archive::OURS;
use super::{Description, TEXT_OF_SERVER, Value, option};

pub(super) const ENCRYPTION: Description = Description {
    name: "encryption",
    purpose: "Whether new objects are encrypted",
    note: "The key is no setting: WALG_LIBSODIUM_KEY_PATH names its file.",
    remarks: "With `auto` they are where there is a key; without one, nothing is stored in a prefix \
              that has objects that wal_e encrypted. With `required`, nothing is stored without a \
              key, and never again in this prefix. With `off`, keys are used to read only. In the \
              server the default counts as not set: the variable is used then. See \
              [encryption](encryption.md).",
    value: Value::Choice { words: &["auto", "required", "off"], default: "auto" },
    option: option("encryption", "WHEN", "auto, required or off"),
    variables: &["ENCRYPTION"],
    namespaces: OURS,
    ..TEXT_OF_SERVER
};
