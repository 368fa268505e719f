//! When the marks of `pg_wal/archive_status` appear.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::Read;
use std::os::fd::FromRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

/// A mark takes at most this long, or the run counts as hung.
const PATIENCE: Duration = Duration::from_secs(120);

/// Bytes before the name in what inotify(7) reports.
const HEAD: usize = size_of::<libc::inotify_event>();

/// Sees each mark as soon as the system tells of it, to some tens of microseconds.
pub struct StatusMarks(Receiver<(String, Instant)>);

impl StatusMarks {
    /// Of the cluster with this data directory, from now on. The thread that looks ends
    /// with the process, or when the directory is removed.
    pub fn watch(data_directory: &Path) -> StatusMarks {
        let directory = data_directory.join("pg_wal/archive_status");
        let mut events = notifications(&directory);
        let (sender, receiver) = channel();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length) = events.read(&mut buffer) {
                let now = Instant::now();
                for name in names(&buffer[..length]) {
                    if sender.send((name, now)).is_err() {
                        return;
                    }
                }
            }
        });
        StatusMarks(receiver)
    }

    /// How long the WAL file `name`, about which nothing was asked yet, waited: from its mark
    /// ".ready", which is there when the archiver is woken, to its mark ".done".
    pub fn waited(&self, name: &str) -> Duration {
        let ready = self.wait_for(&format!("{name}.ready"));
        self.wait_for(&format!("{name}.done")) - ready
    }

    fn wait_for(&self, mark: &str) -> Instant {
        loop {
            let seen = self.0.recv_timeout(PATIENCE);
            let (name, at) = seen.unwrap_or_else(|_| panic!("waited in vain for {mark}"));
            if name == mark {
                return at;
            }
        }
    }
}

/// Reads of it return when a file of the directory was written and closed, or renamed.
fn notifications(directory: &Path) -> File {
    let path = CString::new(directory.as_os_str().as_bytes()).expect("a path has no zero byte");
    // SAFETY: inotify_init1 takes an integer and touches no memory.
    let descriptor = unsafe { libc::inotify_init1(libc::IN_CLOEXEC) };
    assert!(descriptor >= 0, "no inotify: {}", std::io::Error::last_os_error());
    let mask = libc::IN_CLOSE_WRITE | libc::IN_MOVED_TO;
    // SAFETY: the path ends with a zero byte and lives until the call returns.
    let watch = unsafe { libc::inotify_add_watch(descriptor, path.as_ptr(), mask) };
    assert!(watch >= 0, "{}: {}", directory.display(), std::io::Error::last_os_error());
    // SAFETY: the descriptor was just made, and nothing else owns it.
    unsafe { File::from_raw_fd(descriptor) }
}

/// The names in a buffer of events: a head of four numbers, the last of which is the length
/// of the name with the zero bytes after it.
fn names(mut events: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    while events.len() >= HEAD {
        let (head, rest) = events.split_at(HEAD);
        let length = head[HEAD - 4..].try_into().map(u32::from_ne_bytes).unwrap_or(0) as usize;
        let (name, after) = rest.split_at(length.min(rest.len()));
        if let Ok(name) = CStr::from_bytes_until_nul(name) {
            names.push(name.to_string_lossy().into_owned());
        }
        events = after;
    }
    names
}
