//! `moto_server`, an S3 server that was not written here.
//!
//! It accepts any signature and any checksum; it is here for its own opinion of
//! what requests and answers look like. The executable is named by
//! `WALE_TEST_MOTO_SERVER`, or else installed from PyPI into a virtual
//! environment below `target/`, once; both need Python 3 with `venv`.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

const REQUIREMENT: &str = "moto[server]>=5,<6";

/// How long it may take to answer for the first time: Python reads a lot of
/// files, on a machine that is busy with other tests.
const START_DEADLINE: Duration = Duration::from_secs(120);

/// Starts `$0` with the arguments given and ends it as soon as standard input
/// does. So it ends with the test also when that is killed.
const UNTIL_STDIN_ENDS: &str = "\"$0\" \"$@\" </dev/null & cat >/dev/null; kill -KILL $!; wait";

/// A `moto_server` on a port of 127.0.0.1; dropping it ends it.
pub struct Moto {
    process: Child,
    address: SocketAddr,
    _log: tempfile::NamedTempFile,
}

impl Moto {
    /// Installs it if need be, starts it, and waits until it answers.
    ///
    /// # Errors
    /// When it cannot be installed or does not answer, with what it said.
    pub fn start() -> Result<Self> {
        let executable = executable()?;
        // Another process may take the port between the search and the start.
        let attempts = 5;
        for attempt in 1.. {
            match start(&executable) {
                Err(error) if attempt == attempts => return Err(error),
                Err(_) => {}
                Ok(moto) => return Ok(moto),
            }
        }
        unreachable!("the last attempt returns")
    }

    /// `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Makes a bucket.
    ///
    /// # Errors
    /// When the server does not answer 200.
    pub fn create_bucket(&self, bucket: &str) -> Result<()> {
        let status = request(self.address, &format!("PUT /{bucket}"))?;
        ensure!(status == 200, "moto_server answered {status} to the creation of \"{bucket}\"");
        Ok(())
    }
}

impl Moto {
    /// Has a bucket keep versions of its objects.
    ///
    /// # Errors
    /// When the server does not answer 200.
    pub fn keep_versions(&self, bucket: &str) -> Result<()> {
        let body = "<VersioningConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
                    <Status>Enabled</Status></VersioningConfiguration>";
        let status = request_with(self.address, &format!("PUT /{bucket}?versioning"), body)?;
        ensure!(status == 200, "moto_server answered {status} to versioning of \"{bucket}\"");
        Ok(())
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

fn start(executable: &Path) -> Result<Moto> {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let log = tempfile::NamedTempFile::new()?;
    let process = Command::new("sh")
        .args(["-c", UNTIL_STDIN_ENDS])
        .arg(executable)
        .args(["-H", "127.0.0.1", "-p", &port.to_string()])
        .stdin(Stdio::piped())
        .stdout(log.reopen()?)
        .stderr(log.reopen()?)
        .spawn()
        .context("could not start a shell for moto_server")?;
    let moto = Moto { process, address, _log: log };
    let deadline = Instant::now() + START_DEADLINE;
    while Instant::now() < deadline {
        if matches!(request(address, "GET /moto-api/"), Ok(200)) {
            return Ok(moto);
        }
        let said = std::fs::read_to_string(moto._log.path())?;
        if said.contains("Address already in use") || said.contains("Traceback") {
            bail!("\"{}\" did not start: {said}", executable.display());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let said = std::fs::read_to_string(moto._log.path())?;
    bail!("\"{}\" did not answer within {START_DEADLINE:?}: {said}", executable.display())
}

/// The status of the answer to a request without a body.
fn request(address: SocketAddr, method_and_path: &str) -> io::Result<u16> {
    request_with(address, method_and_path, "")
}

fn request_with(address: SocketAddr, method_and_path: &str, body: &str) -> io::Result<u16> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    // moto distinguishes services by the scope of the signature, which it does not check.
    write!(
        stream,
        "{method_and_path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {}\r\n\
         Authorization: AWS4-HMAC-SHA256 Credential=test/20250101/us-east-1/s3/aws4_request, \
         SignedHeaders=host, Signature=none\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    status.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, answer))
}

/// The path of `moto_server`.
fn executable() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("WALE_TEST_MOTO_SERVER") {
        let path = PathBuf::from(path);
        ensure!(
            path.is_file(),
            "WALE_TEST_MOTO_SERVER names \"{}\", which is not a file",
            path.display()
        );
        return Ok(path);
    }
    install(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"))
}

/// Installs it below `target`, unless it is there; tests at the same time wait
/// for each other.
fn install(target: &Path) -> Result<PathBuf> {
    std::fs::create_dir_all(target)?;
    let lock = File::create(target.join("moto-venv.lock"))?;
    lock.lock().context("could not lock the installation of moto_server")?;
    let environment = target.join("moto-venv");
    let executable = environment.join("bin/moto_server");
    // The mark is made last: an installation that was interrupted, or of another
    // version, is begun again.
    let mark = environment.join("complete");
    if std::fs::read_to_string(&mark).is_ok_and(|installed| installed == REQUIREMENT) {
        return Ok(executable);
    }
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment))?;
    let pip = environment.join("bin/pip");
    run(Command::new(pip).args(["install", "--quiet", REQUIREMENT]))?;
    ensure!(executable.is_file(), "pip installed no \"{}\"", executable.display());
    std::fs::write(mark, REQUIREMENT)?;
    Ok(executable)
}

fn run(command: &mut Command) -> Result<()> {
    let hint = format!(
        "the tests need moto_server: install Python 3 with venv and allow pip to reach PyPI, or \
         set WALE_TEST_MOTO_SERVER to the executable of \"{REQUIREMENT}\""
    );
    let output = command.output().with_context(|| hint.clone())?;
    ensure!(
        output.status.success(),
        "{command:?} failed: {}{}; {hint}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
