//! A private copy of a PostgreSQL installation with wal_e installed in it.
//!
//! PostgreSQL finds its shared files and libraries by a path relative to its
//! own executable, so a copied tree works as it stands. The copy is what lets
//! the tests install the extension without writing to a folder of the system,
//! and run servers as a user who cannot enter the repository. It is made once a
//! test process and removed when that process exits.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};

use crate::process::{ServerUser, run};
use crate::scratch::keep_directories;
use crate::wait::valgrind_logs;

mod elf;
mod version;

pub use version::PgVersion;

/// A staged installation.
#[derive(Debug)]
pub struct Installation {
    version: PgVersion,
    bin: PathBuf,
    share: PathBuf,
    libraries: PathBuf,
}

impl Installation {
    /// The installation of `version`, staged at the first call.
    ///
    /// # Panics
    ///
    /// When PostgreSQL or the extension's library is missing; the message names
    /// the command to run.
    pub fn get(version: PgVersion) -> &'static Installation {
        static STAGED: Mutex<BTreeMap<PgVersion, &'static OnceLock<Installation>>> =
            Mutex::new(BTreeMap::new());
        // The lock is not held while one is staged, so that two can be at a time.
        let staged = {
            let mut staged = STAGED.lock().expect("nothing panics while it is locked");
            *staged.entry(version).or_insert_with(|| Box::leak(Box::default()))
        };
        let name = format!("pg{}", version.major());
        staged.get_or_init(|| Installation::stage(version, &version.pg_config(), &name))
    }

    /// One of an older minor release of `version`, with the same library of wal_e; `None` when
    /// there is no such release to test with.
    ///
    /// # Panics
    ///
    /// As [`Installation::get`].
    pub fn older(version: PgVersion) -> Option<&'static Installation> {
        let name = format!("pg{}-older", version.major());
        let installation = Installation::stage(version, &version.older_pg_config()?, &name);
        Some(Box::leak(Box::new(installation)))
    }

    /// The directory of its programs.
    pub fn programs(&self) -> &Path {
        &self.bin
    }

    /// A command of this installation, run as the server's user.
    pub fn command(&self, name: &str) -> Command {
        ServerUser::get().command(self.bin.join(name))
    }

    /// The server, run as its user; under valgrind where `WALE_TEST_VALGRIND_LOGS` names a
    /// directory for a log of each process.
    pub fn server(&self) -> Command {
        let Some(logs) = valgrind_logs() else { return self.command("postgres") };
        let mut command = ServerUser::get().command("valgrind");
        command
            .args(["--quiet", "--trace-children=yes", "--leak-check=no", "--num-callers=40"])
            // What PostgreSQL's own memory contexts hold is not known to valgrind.
            .arg("--undef-value-errors=no")
            .arg(format!("--log-file={}", logs.join("%p.log").display()))
            .arg(self.bin.join("postgres"));
        command
    }

    /// Whether an extension is available, by its control file.
    pub fn has_extension(&self, name: &str) -> bool {
        self.share.join("extension").join(format!("{name}.control")).is_file()
    }

    /// The staged library of the extension.
    pub fn extension_library(&self) -> PathBuf {
        self.libraries.join("wal_e.so")
    }

    /// The version that is installed here.
    pub fn version(&self) -> PgVersion {
        self.version
    }

    fn stage(version: PgVersion, pg_config: &Path, name: &str) -> Installation {
        let library = built_file(
            "WALE_TEST_EXTENSION_DIR",
            "target/release",
            &format!("wal_e-pg{}.so", version.major()),
            "make build-tests",
        );
        let [bin, share, libraries] = directories_of(pg_config);
        let root = common_ancestor(&[&bin, &share, &libraries]);
        let staging = staging_directory().join(name);
        let staged_root = staging.join(last_two_components(&root));
        let staged = |path: &Path| {
            staged_root.join(path.strip_prefix(&root).expect("an ancestor is a prefix"))
        };
        for path in [&bin, &share, &libraries] {
            copy_tree(path, &staged(path));
        }
        // What scripts/fetch-postgresql makes has its libraries two levels above the root,
        // and looks for them there.
        if let Some(package) = root.parent()
            && let (Some(name), Some(beside)) = (package.file_name(), package.parent())
        {
            let name = format!("{}.libs", name.to_string_lossy());
            let (original, copied) = (beside.join(&name), staging.join(&name));
            if original.is_dir() {
                copy_tree(&original, &copied);
                for program in directory(&staged(&bin)).collect::<Vec<_>>() {
                    elf::use_copied_loader(&program, &original, &copied);
                }
            }
        }
        let installation = Installation {
            version,
            bin: staged(&bin),
            share: staged(&share),
            libraries: staged(&libraries),
        };
        elf::make_dynamic_section_writable(&installation.bin.join("pg_verifybackup"));
        installation.install(&library);
        installation
    }

    fn install(&self, library: &Path) {
        copy_file(library, &self.extension_library());
        let extension = self.share.join("extension");
        let source = repository();
        copy_file(&source.join("wal_e.control"), &extension.join("wal_e.control"));
        for path in script_paths() {
            copy_file(&path, &extension.join(path.file_name().expect("a script has a name")));
        }
    }
}

/// The staged program `wal-e`.
///
/// # Panics
///
/// When it has not been built; the message names the command to run.
pub fn wal_e_program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let source = match std::env::var_os("WALE_TEST_WAL_E") {
            Some(path) => PathBuf::from(path),
            None => {
                built_file("WALE_TEST_WAL_E_DIR", "target/release", "wal-e", "make build-tests")
            }
        };
        let path = staging_directory().join("wal-e");
        copy_file(&source, &path);
        path
    })
}

/// The repository that these tests belong to.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the repository")
}

/// The SQL of the extension: the first version and what came after it.
pub fn scripts() -> String {
    let read = |path| fs::read_to_string(path).expect("a script can be read");
    script_paths().into_iter().map(read).collect()
}

fn script_paths() -> Vec<PathBuf> {
    let paths = directory(&repository().join("sql"));
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "sql")).collect()
}

fn directory(path: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = fs::read_dir(path)
        .unwrap_or_else(|error| panic!("could not read {}: {error}", path.display()));
    entries.map(|entry| entry.expect("a directory entry can be read").path())
}

fn built_file(variable: &str, default: &str, name: &str, remedy: &str) -> PathBuf {
    let directory =
        std::env::var_os(variable).map_or_else(|| repository().join(default), PathBuf::from);
    let path = directory.join(name);
    assert!(path.is_file(), "{} is missing: run \"{remedy}\", or set {variable}", path.display());
    path
}

fn directories_of(pg_config: &Path) -> [PathBuf; 3] {
    let mut command = Command::new(pg_config);
    let output = run(command.args(["--bindir", "--sharedir", "--pkglibdir"])).success();
    let lines: Vec<PathBuf> = output.lines().map(PathBuf::from).collect();
    lines.try_into().expect("pg_config prints a line for each of three options")
}

fn common_ancestor(paths: &[&Path]) -> PathBuf {
    let mut components: Vec<Component<'_>> = paths[0].components().collect();
    for path in &paths[1..] {
        let shared =
            components.iter().zip(path.components()).take_while(|(a, b)| **a == *b).count();
        components.truncate(shared);
    }
    components.iter().collect()
}

fn last_two_components(path: &Path) -> PathBuf {
    let named: Vec<Component<'_>> =
        path.components().filter(|component| matches!(component, Component::Normal(_))).collect();
    named[named.len().saturating_sub(2)..].iter().collect()
}

/// The directory that everything is staged in; removed when the process exits.
fn staging_directory() -> &'static Path {
    static STAGING: OnceLock<PathBuf> = OnceLock::new();
    STAGING.get_or_init(|| {
        remove_abandoned();
        let path = staging_path();
        create_directory(&path);
        if !keep_directories() {
            // SAFETY: the function has the C calling convention and does not unwind.
            unsafe { libc::atexit(remove_staging) };
        }
        path
    })
}

const STAGING_PREFIX: &str = "wale-staging-";

fn staging_path() -> PathBuf {
    std::env::temp_dir().join(format!("{STAGING_PREFIX}{}", std::process::id()))
}

extern "C" fn remove_staging() {
    // The process is about to end: a failure could not be reported any more, and the
    // next test process tries again.
    let _ = fs::remove_dir_all(staging_path());
}

/// Removes what test processes left that were killed.
fn remove_abandoned() {
    let Ok(entries) = fs::read_dir(std::env::temp_dir()) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix(STAGING_PREFIX).and_then(|pid| pid.parse::<i32>().ok());
        if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            // Another process may be removing it too, or own it.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn copy_tree(source: &Path, destination: &Path) {
    create_directory(destination);
    for from in directory(source) {
        let name = from.file_name().expect("what is in a directory has a name");
        let to = destination.join(name);
        if from.is_dir() {
            // Only for building other extensions, for the JIT's inlining, and for reading.
            if !["bitcode", "pgxs", "man"].iter().any(|skipped| name == *skipped) {
                copy_tree(&from, &to);
            }
        } else if from.extension().is_none_or(|extension| extension != "a") {
            copy_file(&from, &to);
        }
    }
}

fn copy_file(source: &Path, destination: &Path) {
    let executable =
        fs::metadata(source).is_ok_and(|facts| facts.permissions().mode() & 0o100 != 0);
    let copied = match executable {
        // A child that another test starts right now would inherit the open file, and
        // what is open for writing cannot be executed ("Text file busy").
        true => {
            Command::new("cp").arg(source).arg(destination).status().map(|ended| ended.success())
        }
        false => fs::copy(source, destination).map(|_| true),
    };
    assert!(
        matches!(copied, Ok(true)),
        "could not copy {} to {}: {copied:?}",
        source.display(),
        destination.display()
    );
    let mode = if executable { 0o755 } else { 0o644 };
    fs::set_permissions(destination, fs::Permissions::from_mode(mode))
        .expect("a file just made can be given a mode");
}

fn create_directory(path: &Path) {
    fs::create_dir_all(path)
        .unwrap_or_else(|error| panic!("could not create {}: {error}", path.display()));
    // The umask of the caller may be strict; the server's user has to get in.
    let staging = staging_path();
    for directory in path.ancestors().take_while(|ancestor| ancestor.starts_with(&staging)) {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755))
            .expect("a directory just made can be given a mode");
    }
}
