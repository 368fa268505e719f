//! What a server says before a session begins, watched on its way to the client: which
//! kind of authentication it asks for, and which process it says that it is.

use std::io;
use std::sync::{Arc, OnceLock};

/// The longest beginning of a message that is looked at: its type, its length, and a number.
const HEAD_BYTES: usize = 9;

/// Kinds of authentication, as `require_auth` names them.
const NAMES: [(&str, u8); 7] = [
    ("none", Methods::NONE),
    ("password", Methods::PASSWORD),
    ("md5", Methods::MD5),
    ("gss", Methods::GSS),
    ("sspi", Methods::SSPI),
    ("scram-sha-256", Methods::SCRAM),
    ("oauth", Methods::OAUTH),
];

/// A set of kinds of authentication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Methods(u8);

impl Methods {
    const NONE: u8 = 1;
    const PASSWORD: u8 = 2;
    const MD5: u8 = 4;
    const GSS: u8 = 8;
    const SSPI: u8 = 16;
    const SCRAM: u8 = 32;
    const OAUTH: u8 = 64;

    /// Whatever the server asks for.
    pub const ALL: Methods = Methods(u8::MAX);

    /// A list of names, or of names with `!` before them that are left out. `None` when
    /// it is neither, or names one twice.
    ///
    /// PostgreSQL 18, `src/interfaces/libpq/fe-connect.c`, `pqConnectOptions2`.
    pub fn parse(list: &str) -> Option<Methods> {
        let names: Vec<&str> = list.split(',').map(str::trim).collect();
        let left_out = names.first()?.starts_with('!');
        let mut named = 0;
        for name in names {
            let bare = name.strip_prefix('!');
            if bare.is_some() != left_out {
                return None;
            }
            let name = bare.unwrap_or(name);
            let (_, method) = NAMES.iter().find(|(known, _)| *known == name)?;
            if named & method != 0 {
                return None;
            }
            named |= method;
        }
        Some(Methods(if left_out { !named } else { named }))
    }

    fn has(self, method: u8) -> bool {
        self.0 & method != 0
    }
}

/// Watches what comes from the server until the session begins.
#[derive(Debug)]
pub struct Startup {
    allowed: Methods,
    has_password: bool,
    /// The process that the server says it is.
    process: Arc<OnceLock<i32>>,
    head: Vec<u8>,
    /// Bytes of the current message that are still to come.
    rest: usize,
    /// Whether the server has asked for a proof of who we are.
    asked: bool,
    done: bool,
}

impl Startup {
    /// Before anything has come.
    pub fn new(allowed: Methods, has_password: bool, process: Arc<OnceLock<i32>>) -> Self {
        let head = Vec::with_capacity(HEAD_BYTES);
        Startup { allowed, has_password, process, head, rest: 0, asked: false, done: false }
    }

    /// The next bytes.
    ///
    /// # Errors
    /// `PermissionDenied` when the server asks for a kind of authentication that is
    /// not good enough, or that this program cannot do. The client must not see the bytes.
    pub fn see(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !self.done && !bytes.is_empty() {
            if self.rest > 0 {
                let skipped = self.rest.min(bytes.len());
                self.rest -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            self.head.push(bytes[0]);
            bytes = &bytes[1..];
            let Some(length) = self.number_at(1) else { continue };
            let whole = 1 + usize::try_from(length).unwrap_or_default().max(4);
            if self.head.len() == whole.min(HEAD_BYTES) {
                self.message(self.head[0])?;
                self.rest = whole - self.head.len();
                self.head.clear();
            }
        }
        Ok(())
    }

    fn number_at(&self, at: usize) -> Option<i32> {
        let bytes = self.head.get(at..at + 4)?;
        Some(i32::from_be_bytes(bytes.try_into().ok()?))
    }

    /// The beginning of a message (<https://www.postgresql.org/docs/current/protocol-message-formats.html>).
    fn message(&mut self, kind: u8) -> io::Result<()> {
        match (kind, self.number_at(5)) {
            (b'R', Some(code)) => self.authentication(code)?,
            (b'K', Some(process)) => {
                let _ = self.process.set(process);
            }
            (b'Z', _) => self.done = true,
            _ => {}
        }
        Ok(())
    }

    fn authentication(&mut self, code: i32) -> io::Result<()> {
        let (method, what) = match code {
            0 if self.asked => return Ok(()),
            0 => (Methods::NONE, "no authentication"),
            2 => return Err(cannot("Kerberos 5")),
            3 => (Methods::PASSWORD, "a password that is not encrypted (password)"),
            5 => (Methods::MD5, "a password by way of MD5 (md5)"),
            6 => return Err(cannot("SCM credentials")),
            7 => return Err(cannot("GSSAPI (Kerberos)")),
            9 => return Err(cannot("SSPI")),
            10 => (Methods::SCRAM, "a password by way of SCRAM (scram-sha-256)"),
            _ => return Ok(()),
        };
        if !self.allowed.has(method) {
            return Err(denied(format!(
                "the server asks for {what}, which require_auth (PGREQUIREAUTH) does not allow"
            )));
        }
        if method != Methods::NONE && !self.has_password {
            return Err(denied("the server asks for a password, and none was given".to_owned()));
        }
        self.asked = true;
        Ok(())
    }
}

fn cannot(method: &str) -> io::Error {
    denied(format!("the server asks for authentication by {method}, which wal-e does not do"))
}

fn denied(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = (body.len() + 4) as u32;
        [&[kind][..], &length.to_be_bytes(), body].concat()
    }

    fn asks(code: i32) -> Vec<u8> {
        message(b'R', &code.to_be_bytes())
    }

    #[test]
    fn methods_are_named_or_left_out() {
        let all_but_one = Methods::parse("!password").unwrap();
        assert!(!all_but_one.has(Methods::PASSWORD) && all_but_one.has(Methods::SCRAM));
        let two = Methods::parse("md5, scram-sha-256").unwrap();
        assert!(two.has(Methods::MD5) && two.has(Methods::SCRAM) && !two.has(Methods::NONE));
        for wrong in ["", "md5,!password", "!md5,password", "md5,md5", "kerberos", "md5,"] {
            assert_eq!(Methods::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_method_that_is_not_allowed_is_seen_whatever_the_pieces() {
        let process = Arc::new(OnceLock::new());
        let begin = |list: &str, has_password| {
            let allowed = Methods::parse(list).unwrap();
            Startup::new(allowed, has_password, Arc::clone(&process))
        };
        for (list, code, refused) in
            [("scram-sha-256", 3, true), ("scram-sha-256", 10, false), ("!none", 0, true)]
        {
            for size in [1, 2, 3, 100] {
                let mut startup = begin(list, true);
                let notice = message(b'N', b"SNOTICE\0Mhello\0\0");
                let bytes = [notice, asks(code)].concat();
                let seen = bytes.chunks(size).try_for_each(|piece| startup.see(piece));
                assert_eq!(seen.is_err(), refused, "{list} {code} {size}");
            }
        }
        let said = begin("!none", true).see(&asks(7)).unwrap_err().to_string();
        assert!(said.contains("Kerberos"), "{said}");
        let said = begin("!none", false).see(&asks(10)).unwrap_err().to_string();
        assert!(said.contains("none was given"), "{said}");
    }

    #[test]
    fn the_process_of_the_server_is_noted_and_what_comes_later_is_not_looked_at() {
        let process = Arc::new(OnceLock::new());
        let mut startup = Startup::new(Methods::ALL, true, Arc::clone(&process));
        let key = [4711_i32.to_be_bytes(), 99_i32.to_be_bytes()].concat();
        for bytes in [asks(10), asks(11), asks(12), asks(0), message(b'S', b"a\0b\0")] {
            startup.see(&bytes).unwrap();
        }
        startup.see(&message(b'K', &key)).unwrap();
        startup.see(&message(b'Z', b"I")).unwrap();
        assert_eq!(process.get(), Some(&4711));
        startup.see(&asks(7)).unwrap();
    }
}
