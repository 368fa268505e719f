//! The server that runs this program as its `restore_command`.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::process::parent_id;
use std::path::{Path, PathBuf};

use wal_e_core::postgres::{ControlFile, SegmentSize, SystemIdentifier};

use crate::server::data_directory::read_system_identifier;

/// Shells and wrappers that may stand between the server and this program.
const MOST_ANCESTORS: usize = 16;

/// More than any version's control file has, in bytes.
const LARGEST_CONTROL_FILE: u64 = 1 << 16;

/// How often a control file is read whose CRC does not fit: the server may have been
/// writing it.
const ATTEMPTS_TO_READ: u32 = 5;

/// Directories that may be the server's: it runs the command in its data
/// directory, and `destination` (`%p`) lies in `pg_wal` below it.
pub fn data_directories(destination: &Path) -> impl Iterator<Item = PathBuf> {
    let of_destination = std::path::absolute(destination).ok();
    let of_destination = of_destination.and_then(|path| Some(path.parent()?.parent()?.to_owned()));
    of_destination.into_iter().chain([PathBuf::from(".")])
}

/// The cluster that recovers, as its control file says; `None` when no control file
/// can be read.
pub fn system_identifier(destination: &Path) -> Option<SystemIdentifier> {
    let mut found =
        data_directories(destination).map(|directory| read_system_identifier(&directory));
    found.find_map(Result::ok).filter(|found| found.0 != 0)
}

/// The size of WAL segments of the cluster that recovers, as its control file says;
/// `None` when no control file can be read.
pub fn segment_size(destination: &Path) -> Option<SegmentSize> {
    let of = |directory: PathBuf| {
        let path = directory.join("global/pg_control");
        (0..ATTEMPTS_TO_READ).find_map(|_| {
            let mut bytes = Vec::new();
            File::open(&path).ok()?.take(LARGEST_CONTROL_FILE).read_to_end(&mut bytes).ok()?;
            ControlFile::parse(&bytes).ok()?.segment_size
        })
    };
    data_directories(destination).find_map(of)
}

/// A process, distinguished from a later one with the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerProcess {
    pid: u32,
    /// In clock ticks after the start of the machine.
    started: u64,
}

impl ServerProcess {
    /// The process of the server that waits for this program: it ends with
    /// recovery. `None` when no server of the data directory around `destination`
    /// runs it.
    pub fn above_this_one(destination: &Path) -> Option<Self> {
        let postmaster = data_directories(destination).find_map(|directory| {
            let text = fs::read_to_string(directory.join("postmaster.pid")).ok()?;
            text.lines().next()?.trim().parse::<u32>().ok()
        })?;
        let mut pid = parent_id();
        for _ in 0..MOST_ANCESTORS {
            let stat = Stat::of(pid)?;
            if stat.parent == postmaster {
                return Some(ServerProcess { pid, started: stat.started });
            }
            pid = stat.parent;
        }
        None
    }

    /// The process of this number, if it runs.
    pub fn of(pid: u32) -> Option<Self> {
        Stat::of(pid).map(|stat| ServerProcess { pid, started: stat.started })
    }

    /// Its number.
    pub fn pid(self) -> u32 {
        self.pid
    }

    /// Whether it still runs.
    pub fn runs(self) -> bool {
        ServerProcess::of(self.pid) == Some(self)
    }
}

/// What `/proc/PID/stat` says of a process that has not ended.
struct Stat {
    parent: u32,
    started: u64,
}

impl Stat {
    fn of(pid: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        // The name is in parentheses and may contain any character.
        let (_, rest) = text.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        // The first one is field 3 of proc(5), the state.
        if matches!(*fields.first()?, "Z" | "X") {
            return None;
        }
        Some(Stat { parent: fields.get(1)?.parse().ok()?, started: fields.get(19)?.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_from_one_that_ended() {
        let this = ServerProcess::of(std::process::id()).unwrap();
        assert!(this.runs());
        assert!(!ServerProcess { started: this.started + 1, ..this }.runs());
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        assert_eq!(ServerProcess::of(pid), None);
    }

    #[test]
    fn a_stat_line_is_read_whatever_the_name_is() {
        let rest = "S 41 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2 3";
        for name in ["postgres", "a) (b", ") Z 1"] {
            let stat = Stat::parse(&format!("42 ({name}) {rest}")).unwrap();
            assert_eq!((stat.parent, stat.started), (41, 987_654));
        }
        assert!(Stat::parse(&format!("42 (x) {}", rest.replacen('S', "Z", 1))).is_none());
        for text in ["", "42 (x)", "42 (x) S 1", "42 (x) S x"] {
            assert!(Stat::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn the_cluster_is_the_one_around_the_destination() {
        let data = tempfile::tempdir().unwrap();
        let destination = data.path().join("pg_wal/RECOVERYXLOG");
        assert_eq!(system_identifier(&destination), None);
        assert_eq!(ServerProcess::above_this_one(&destination), None);
        fs::create_dir(data.path().join("global")).unwrap();
        let control = data.path().join("global/pg_control");
        fs::write(&control, 8_u64.to_ne_bytes()).unwrap();
        assert_eq!(system_identifier(&destination), Some(SystemIdentifier(8)));
        fs::write(&control, [0; 512]).unwrap();
        assert_eq!(system_identifier(&destination), None);
        // Without a valid control file nothing is assumed.
        for content in [vec![0; 8192], vec![0; 100_000]] {
            fs::write(&control, content).unwrap();
            assert_eq!(segment_size(&destination), None);
        }
    }

    #[test]
    fn the_server_s_process_is_found_above_this_one() {
        let data = tempfile::tempdir().unwrap();
        let destination = data.path().join("pg_wal/RECOVERYXLOG");
        let parent = parent_id();
        let grandparent = Stat::of(parent).unwrap().parent;
        let pid_file = data.path().join("postmaster.pid");
        fs::write(&pid_file, format!("{grandparent}\n/data\n")).unwrap();
        let found = ServerProcess::above_this_one(&destination).unwrap();
        assert_eq!(found.pid(), parent);
        fs::write(&pid_file, "nobody\n").unwrap();
        assert_eq!(ServerProcess::above_this_one(&destination), None);
    }
}
