//! Keys that are chosen at random, with which an archive is encrypted now and then.

use std::fs;
use std::io::Read;
use std::path::PathBuf;

use fastrand::Rng;
use wal_e_core::encryption::{Key, KeyTransform, SecretStreamReader};

use crate::archive::Archive;
use crate::process::ServerUser;

/// When an archive is encrypted, and with what.
#[derive(Debug)]
pub struct Keys {
    /// Hexadecimal, the one to write with last.
    keys: Vec<String>,
    changes: bool,
}

impl Keys {
    /// An archive that is never encrypted, or from the start on, or from some change on. To be
    /// called before a server is configured.
    pub fn begin(archive: &Archive, random: &mut Rng) -> Keys {
        archive.write_variable("WALG_LIBSODIUM_KEY_TRANSFORM", "hex");
        let mut keys = Keys { keys: Vec::new(), changes: random.bool() };
        if keys.changes && random.bool() {
            keys.change(archive, random);
        }
        keys
    }

    /// Now and then, writes with another key from now on, and what was written before can be
    /// read. Says whether it did.
    pub fn sometimes_change(&mut self, archive: &Archive, random: &mut Rng) -> bool {
        let does = self.changes && random.u32(0..3) == 0;
        if does {
            self.change(archive, random);
        }
        does
    }

    fn change(&mut self, archive: &Archive, random: &mut Rng) {
        let key: String = (0..32).map(|_| format!("{:02x}", random.u8(..))).collect();
        // In this order, so that each is known at any time.
        if !self.keys.is_empty() {
            name_file(archive, "WALE_LIBSODIUM_OLD_KEYS_PATH", &self.keys.join("\n"));
        }
        name_file(archive, "WALG_LIBSODIUM_KEY_PATH", &key);
        self.keys.push(key);
    }

    /// How many keys there have been.
    pub fn count(&self) -> usize {
        self.keys.len()
    }

    /// An object without its encryption, if one of the keys opens all of it, and else as it is.
    pub fn decrypted(&self, stored: Vec<u8>) -> Vec<u8> {
        let opened = self.keys.iter().find_map(|key| {
            let key = Key::parse(key.as_bytes(), KeyTransform::Hex).expect("it is a key");
            let mut content = Vec::new();
            SecretStreamReader::new(&stored[..], &key).read_to_end(&mut content).ok()?;
            Some(content)
        });
        opened.unwrap_or(stored)
    }
}

/// Puts a file in the place of the one that a variable names, at once: servers read it any time.
fn name_file(archive: &Archive, variable: &str, content: &str) {
    let file =
        |suffix: &str| -> PathBuf { archive.scratch().path().join(format!("{variable}{suffix}")) };
    let (next, path) = (file(".next"), file(".file"));
    fs::write(&next, format!("{content}\n")).expect("a file of the test can be written");
    ServerUser::get().own(&next);
    let is_named = path.exists();
    fs::rename(&next, &path).expect("a file of the test can be renamed");
    if !is_named {
        archive.write_variable(variable, path.to_str().expect("the path is text"));
    }
}
