//! Child processes with a deadline, and the user they run as.

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

/// The longest that a command of the tests may take before it counts as hung.
pub const COMMAND_DEADLINE: Duration = Duration::from_secs(180);

/// The operating system user that servers and programs of the tests run as.
///
/// PostgreSQL refuses to run as root. When the tests run as root it is
/// `postgres` or else `nobody`; otherwise it is the user who runs the tests.
#[derive(Debug)]
pub struct ServerUser {
    ids: Option<(u32, u32)>,
}

impl ServerUser {
    /// The user of this test process.
    pub fn get() -> &'static ServerUser {
        static USER: OnceLock<ServerUser> = OnceLock::new();
        USER.get_or_init(|| ServerUser { ids: is_root().then(unprivileged_ids) })
    }

    /// A command that runs as this user, with a clean environment: neither the
    /// `PG*`, `AWS_*` and `WALE_*` variables of the caller nor credentials of
    /// the machine reach it.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", "/nonexistent")
            .env("LC_ALL", "C")
            .env("TZ", "UTC")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .current_dir("/");
        if let Some((uid, gid)) = self.ids {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Makes `path` this user's own.
    pub fn own(&self, path: &Path) {
        if let Some((uid, gid)) = self.ids {
            chown(path, Some(uid), Some(gid))
                .unwrap_or_else(|error| panic!("could not chown {}: {error}", path.display()));
        }
    }

    /// Creates the directory `path` with `mode`, owned by this user.
    pub fn create_directory(&self, path: &Path, mode: u32) {
        std::fs::create_dir(path)
            .unwrap_or_else(|error| panic!("could not create {}: {error}", path.display()));
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
            .expect("a directory just made can be given a mode");
        self.own(path);
    }
}

/// Whether the tests run as root.
pub fn is_root() -> bool {
    // SAFETY: geteuid has no precondition and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

fn unprivileged_ids() -> (u32, u32) {
    ["postgres", "nobody"]
        .iter()
        .find_map(|name| Some((id_of("-u", name)?, id_of("-g", name)?)))
        .expect("when the tests run as root, a user \"postgres\" or \"nobody\" is needed")
}

fn id_of(option: &str, name: &str) -> Option<u32> {
    let output = Command::new("id").args([option, name]).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().parse().ok())?
}

/// What a command left when it ended.
#[derive(Debug)]
pub struct Finished {
    /// The command line, for messages.
    pub command_line: String,
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
    /// How long it ran.
    pub elapsed: Duration,
}

impl Finished {
    /// The exit code; `None` when a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The standard output of a command that has to succeed.
    #[track_caller]
    pub fn success(self) -> String {
        assert!(self.status.success(), "{self}");
        self.stdout
    }

    /// The standard error of a command that has to fail with `code`.
    #[track_caller]
    pub fn failure(self, code: i32) -> String {
        assert_eq!(self.code(), Some(code), "{self}");
        self.stderr
    }
}

impl std::fmt::Display for Finished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ended with ", self.command_line)?;
        match (self.status.code(), self.status.signal()) {
            (Some(code), _) => write!(f, "exit code {code}")?,
            (None, signal) => write!(f, "signal {}", signal.unwrap_or_default())?,
        }
        write!(f, "\n-- stdout\n{}\n-- stderr\n{}", self.stdout, self.stderr)
    }
}

/// Runs `command` to its end.
///
/// # Panics
///
/// When it cannot be started, or has not ended after [`COMMAND_DEADLINE`].
#[track_caller]
pub fn run(command: &mut Command) -> Finished {
    run_within(COMMAND_DEADLINE, command)
}

/// Runs `command` to its end, which has to come before `limit` is over.
///
/// # Panics
///
/// When it cannot be started or takes longer; it is killed then.
#[track_caller]
pub fn run_within(limit: Duration, command: &mut Command) -> Finished {
    let command_line = describe(command);
    let begin = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("could not run {command_line}: {error}"));
    let stdout = collect(child.stdout.take());
    let stderr = collect(child.stderr.take());
    let Some(status) = wait_for_end(&mut child, limit) else {
        // It may be gone already; the panic below says what matters.
        let _ = child.kill();
        let _ = child.wait();
        panic!("{command_line} did not end within {limit:?}");
    };
    let elapsed = begin.elapsed();
    let text = |reader: thread::JoinHandle<String>| reader.join().expect("a reader does not panic");
    Finished { command_line, status, stdout: text(stdout), stderr: text(stderr), elapsed }
}

/// Waits for the end of `child`; `None` when it still runs after `limit`.
pub fn wait_for_end(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait().expect("a child of this process can be waited for") {
            return Some(status);
        }
        if Instant::now() >= deadline {
            return None;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Sends `signal` to the process `pid`. It is not an error when the process has ended:
/// the tests kill at random moments.
pub fn send_signal(pid: i32, signal: i32) {
    // SAFETY: kill takes plain integers; `pid` is positive, so that exactly one
    // process is meant.
    assert!(pid > 1 && (unsafe { libc::kill(pid, signal) } == 0 || no_such_process()));
}

fn no_such_process() -> bool {
    std::io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH)
}

/// The number after `label` in a file of `/proc`, in the unit of the file; `None` when it is not
/// there, as of a process that has ended.
pub fn proc_field(path: impl AsRef<Path>, label: &str) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(label))?;
    value.split_whitespace().next()?.parse().ok()
}

/// The most memory that a child of this process has had in use that was waited for, in bytes.
pub fn peak_memory_of_children() -> u64 {
    // SAFETY: an all-zero rusage is valid, and getrusage writes to nothing else.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        assert_eq!(libc::getrusage(libc::RUSAGE_CHILDREN, &mut usage), 0);
        usage
    };
    u64::try_from(usage.ru_maxrss).expect("memory is not negative") << 10
}

/// Whether the process `pid` runs: it exists and is not a zombie.
pub fn is_running(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .ok()
        .and_then(|stat| stat.rsplit_once(") ").map(|(_, rest)| !rest.starts_with(['Z', 'X'])))
        .unwrap_or(false)
}

fn collect(stream: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stream) = stream {
            // What was read before a failure is still worth showing.
            let _ = stream.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
