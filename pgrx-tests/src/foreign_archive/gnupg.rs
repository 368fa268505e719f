//! GnuPG with a key of its own.

use std::fs;
use std::process::Command;

use super::codec::filter;
use crate::scratch::Scratch;

/// The name of the key, by which gpg finds it.
const NAME: &str = "archive";

/// A directory of GnuPG that has one key.
#[derive(Debug)]
pub struct Gnupg {
    passphrase: Option<&'static str>,
    home: Scratch,
}

impl Gnupg {
    /// A new key of the kind that gpg makes by itself; WAL-G takes one with a passphrase.
    #[track_caller]
    pub fn with_key(passphrase: Option<&'static str>) -> Gnupg {
        let gnupg = Gnupg { passphrase, home: Scratch::new() };
        // How long it takes to unlock a key is not what these tests are about.
        let settings = "s2k-count 65536\n";
        fs::write(gnupg.home.path().join("gpg-agent.conf"), settings).expect("it can be written");
        gnupg.gpg(&["--quick-generate-key", NAME, "default", "default", "never"], b"");
        gnupg
    }

    /// The passphrase of the key.
    pub fn passphrase(&self) -> Option<&'static str> {
        self.passphrase
    }

    /// The key, as it is given to WAL-G.
    #[track_caller]
    pub fn secret_key(&self) -> Vec<u8> {
        self.gpg(&["--armor", "--export-secret-keys", NAME], b"")
    }

    /// A message for the key, not compressed: as WAL-E calls gpg.
    #[track_caller]
    pub fn encrypt(&self, content: &[u8]) -> Vec<u8> {
        self.gpg(&["--encrypt", "-z", "0", "--recipient", NAME], content)
    }

    #[track_caller]
    fn gpg(&self, arguments: &[&str], input: &[u8]) -> Vec<u8> {
        let home = self.home.path().to_str().expect("the path is text");
        let passphrase = self.passphrase.unwrap_or_default();
        let common =
            ["gpg", "--homedir", home, "--quiet", "--batch", "--no-tty", "--no-permission-warning"];
        let unlock = ["--pinentry-mode", "loopback", "--passphrase", passphrase];
        let command = [&common[..], &unlock[..], &["--trust-model", "always"], arguments].concat();
        filter(&command, input)
    }
}

impl Drop for Gnupg {
    fn drop(&mut self) {
        // The agent would live on until it finds its directory gone.
        let _ = Command::new("gpgconf")
            .arg("--homedir")
            .arg(self.home.path())
            .args(["--kill", "gpg-agent"])
            .status();
    }
}
