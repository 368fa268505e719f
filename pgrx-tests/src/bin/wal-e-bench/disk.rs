//! What the disk, `lz4` and `tar` make of the files of a cluster: what no tool can be
//! faster than, and what there is in a restore besides.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use wal_e_e2e::cluster::Cluster;
use wal_e_e2e::process::{ServerUser, run_within, wait_for_end};
use wal_e_e2e::scratch::Scratch;

use crate::machine::cores;
use crate::meter::{self, Cost, Watched};

/// Row of [`write`].
pub const WRITTEN: &str = "cat to one file, synced";
/// Row of [`compress`].
pub const COMPRESSED: &str = "lz4 -1 on all cores, not stored";
/// Row of [`Tar::unpack`].
pub const UNPACKED: &str = "tar -x, synced";
/// Row of [`Tar::decompress_and_unpack`].
pub const DECOMPRESSED: &str = "lz4 -d | tar -x, synced";

/// The longest that a command may take before the run counts as hung.
const PATIENCE: Duration = Duration::from_secs(1800);

const WATCHED: Watched =
    Watched { programs: &["cat", "tar", "lz4", "openssl"], server_processes: &[] };

/// Writes out what all processes have left to be written.
pub fn sync() {
    // SAFETY: sync has no arguments and cannot fail.
    unsafe { libc::sync() }
}

/// Reads the files of a cluster, and has all written that is left to be: no contender pays for
/// a cold cache, or for what another one left behind.
pub fn settle(cluster: &Cluster) {
    DataFiles::of(cluster.data_directory()).read();
    cluster.execute("CHECKPOINT");
    sync();
}

/// The files of a cluster with their sizes, those below `pg_wal` left out.
pub struct DataFiles(Vec<(PathBuf, u64)>);

impl DataFiles {
    /// Those that there are now.
    pub fn of(data_directory: &Path) -> DataFiles {
        let wal = data_directory.join("pg_wal");
        let files = files_below(data_directory).into_iter();
        DataFiles(files.filter(|(path, _)| !path.starts_with(&wal)).collect())
    }

    /// Their size together.
    pub fn bytes(&self) -> u64 {
        self.0.iter().map(|(_, bytes)| bytes).sum()
    }

    /// Reads them once, into the cache of the system.
    pub fn read(&self) {
        for (path, _) in &self.0 {
            if let Ok(mut file) = File::open(path) {
                // A file may vanish, and only the cache matters.
                let _ = io::copy(&mut file, &mut io::sink());
            }
        }
    }

    /// Ranges of files, cut so that each of `count` lists has the same number of bytes.
    fn shares(&self, count: usize) -> Vec<Vec<Range<'_>>> {
        let most = self.bytes().div_ceil(count as u64).max(1);
        let mut shares = vec![Vec::new()];
        let mut room = most;
        for (path, size) in &self.0 {
            let mut offset = 0;
            while offset < *size {
                if room == 0 {
                    shares.push(Vec::new());
                    room = most;
                }
                let bytes = room.min(size - offset);
                if let Some(share) = shares.last_mut() {
                    share.push(Range { path, offset, bytes });
                }
                offset += bytes;
                room -= bytes;
            }
        }
        shares
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range<'a> {
    path: &'a Path,
    offset: u64,
    bytes: u64,
}

impl Range<'_> {
    fn copy_to(&self, writer: &mut (impl io::Write + ?Sized)) -> io::Result<()> {
        let mut file = File::open(self.path)?;
        file.seek(SeekFrom::Start(self.offset))?;
        io::copy(&mut io::Read::take(file, self.bytes), writer).map(drop)
    }
}

/// Writes the files into one, as they are, and syncs it.
pub fn write(files: &DataFiles) -> Cost {
    let scratch = Scratch::new();
    let [list, output] = ["list", "output"].map(|name| scratch.path().join(name));
    let names: Vec<u8> = files.0.iter().flat_map(|(path, _)| zero_ended(path)).collect();
    std::fs::write(&list, names).expect("a file of the scratch directory can be written");
    let script = "xargs -0 cat <\"$1\" >\"$2\" && sync \"$2\"";
    meter::measure(WATCHED, || shell(script, [&list, &output]))
}

/// Gives the files to `lz4 -1`, the same number of bytes to one process on each core.
/// This process reads them; what that takes is in the wall time and not in the CPU time.
pub fn compress(files: &DataFiles) -> Cost {
    let shares = files.shares(cores());
    meter::measure(WATCHED, || {
        thread::scope(|scope| {
            for share in &shares {
                scope.spawn(|| compress_share(share));
            }
        });
    })
}

fn compress_share(share: &[Range<'_>]) {
    let mut lz4 = Command::new("lz4")
        .args(["-1", "-q", "-c"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("lz4 can be started");
    let mut input = lz4.stdin.take().expect("its input is a pipe");
    for range in share {
        range.copy_to(&mut input).expect("the files of an idle server can be read");
    }
    drop(input);
    let status = wait_for_end(&mut lz4, PATIENCE).expect("lz4 ends");
    assert!(status.success(), "lz4: {status}");
}

/// The files of a cluster as one tar file, as it is and compressed by `lz4 -1`.
pub struct Tar {
    plain: PathBuf,
    compressed: PathBuf,
    scratch: Scratch,
}

impl Tar {
    /// Of a cluster whose server does nothing now.
    pub fn of(data_directory: &Path) -> Tar {
        let scratch = Scratch::new();
        let [plain, compressed] =
            ["data.tar", "data.tar.lz4"].map(|name| scratch.path().join(name));
        // 1: a file changed while it was read, such as a log of the server.
        let script = "{ tar -C \"$1\" --exclude='./pg_wal/*' -cf \"$2\" .; [ $? -le 1 ]; } && \
                      lz4 -1 -q \"$2\" \"$3\"";
        shell(script, [data_directory, &plain, &compressed]);
        Tar { plain, compressed, scratch }
    }

    /// Unpacks and syncs; says what it cost, and the size of the tar file.
    pub fn unpack(&self) -> (Cost, u64) {
        self.unpack_by("tar -C \"$2\" -xf \"$1\" && sync -f \"$2\"", &self.plain)
    }

    /// Decompresses, unpacks and syncs; says what it cost, and the size of the
    /// compressed file.
    pub fn decompress_and_unpack(&self) -> (Cost, u64) {
        let script = "lz4 -d -q -c \"$1\" | tar -C \"$2\" -xf - && sync -f \"$2\"";
        self.unpack_by(script, &self.compressed)
    }

    fn unpack_by(&self, script: &str, file: &Path) -> (Cost, u64) {
        let target = Scratch::new();
        let directory = target.create("restored");
        sync();
        let cost = meter::measure(WATCHED, || shell(script, [file, &directory]));
        assert!(
            directory.join("PG_VERSION").is_file(),
            "{} lacks files",
            self.scratch.path().display()
        );
        (cost, std::fs::metadata(file).map_or(0, |facts| facts.len()))
    }
}

/// Encrypts all files below a directory by one `openssl`, into nothing.
pub fn encrypt(directory: &Path) -> Cost {
    // Which key it is makes no difference.
    let (key, nonce) = ("0f".repeat(32), "0f".repeat(16));
    let script = format!(
        "find \"$1\" -type f -exec cat {{}} + | \
         openssl enc -chacha20 -K {key} -iv {nonce} -out /dev/null"
    );
    sync();
    meter::measure(WATCHED, || shell(&script, [directory]))
}

/// Runs a script as the user of the server.
fn shell<const N: usize>(script: &str, arguments: [&(impl AsRef<Path> + ?Sized); N]) {
    let mut command = ServerUser::get().command("sh");
    command.args(["-c", script, "sh"]).args(arguments.map(AsRef::as_ref));
    run_within(PATIENCE, &mut command).success();
}

fn zero_ended(path: &Path) -> Vec<u8> {
    let mut bytes = path.as_os_str().as_encoded_bytes().to_vec();
    bytes.push(0);
    bytes
}

/// All files below a directory, with their sizes.
pub fn files_below(directory: &Path) -> Vec<(PathBuf, u64)> {
    let mut files = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        let Ok(entries) = std::fs::read_dir(&directory) else { continue };
        for entry in entries.flatten() {
            match entry.metadata() {
                Ok(facts) if facts.is_dir() => directories.push(entry.path()),
                Ok(facts) if facts.is_file() => files.push((entry.path(), facts.len())),
                _ => {}
            }
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_have_every_byte_once_and_the_same_size() {
        let files = DataFiles(vec![("a".into(), 10), ("empty".into(), 0), ("b".into(), 3)]);
        let shares = files.shares(3);
        let sizes: Vec<u64> =
            shares.iter().map(|s| s.iter().map(|range| range.bytes).sum()).collect();
        assert_eq!(sizes, [5, 5, 3]);
        assert_eq!(shares[1], [Range { path: Path::new("a"), offset: 5, bytes: 5 }]);
    }
}
