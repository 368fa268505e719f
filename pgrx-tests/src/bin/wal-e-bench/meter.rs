//! What a task costs: wall time, CPU time, memory.
//!
//! The server is a child of this process, and so is whatever the contenders
//! start, so that everything to be counted is below it in the process tree;
//! orphans come back to it, too ([`adopt_orphans`]).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use wal_e_e2e::process::proc_field;

/// How often memory is looked at. Processes that live shorter escape notice.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(20);

/// A server process that does nothing in a benchmark.
const IDLE_PROCESS: &str = "postgres: logical replication launcher";

/// Whose memory counts.
#[derive(Debug, Clone)]
pub struct Watched {
    /// Names of programs (as in `/proc/PID/comm`): all that they hold.
    pub programs: &'static [&'static str],
    /// Begins of the titles of server processes: what they hold above an idle one. Of
    /// several that fit, the first counts.
    pub server_processes: &'static [&'static str],
}

/// What a task cost.
#[derive(Debug, Clone)]
pub struct Cost {
    pub wall: Duration,
    pub cpu: Duration,
    pub memory: Memory,
}

/// The most that the watched processes held, in bytes.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// At one time, all together.
    pub sum: u64,
    /// One process at any time, of each kind, by its name in [`Watched`].
    largest: BTreeMap<&'static str, u64>,
}

impl Memory {
    /// The most that one process of this kind held; `None` when there was none.
    pub fn largest_of(&self, kind: &str) -> Option<u64> {
        self.largest.get(kind).copied()
    }

    /// The most that any process held; `None` when there was none.
    pub fn largest(&self) -> Option<u64> {
        self.largest.values().copied().max()
    }
}

/// A line while the rest is still being measured.
impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} s, {:.2} s of CPU", self.wall.as_secs_f64(), self.cpu.as_secs_f64())?;
        for (kind, bytes) in &self.memory.largest {
            write!(f, ", {kind} {:.0} MB", *bytes as f64 / 1e6)?;
        }
        Ok(())
    }
}

/// From now on a process below this one whose parent ends becomes a child of
/// this one, so that its CPU time is not lost.
pub fn adopt_orphans() {
    // SAFETY: PR_SET_CHILD_SUBREAPER takes one integer and touches no memory.
    let result = unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) };
    assert_eq!(result, 0, "could not become the parent of orphans");
}

/// Measures `task`.
pub fn measure(watched: Watched, task: impl FnOnce()) -> Cost {
    let stop = Arc::new(AtomicBool::new(false));
    let sampler = thread::spawn({
        let stop = Arc::clone(&stop);
        move || sample_memory(&watched, &stop)
    });
    let cpu_before = cpu_of_tree();
    let begin = Instant::now();
    task();
    let wall = begin.elapsed();
    let cpu = cpu_of_tree().saturating_sub(cpu_before);
    stop.store(true, Ordering::Relaxed);
    let memory = sampler.join().expect("the sampler does not panic");
    Cost { wall, cpu, memory }
}

/// A process as `/proc/PID/stat` has it.
struct Process {
    command: String,
    own_ticks: u64,
    /// Of ended children that were waited for.
    children_ticks: u64,
}

fn process(pid: u32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command is in parentheses and may contain any character.
    let (head, rest) = stat.rsplit_once(") ")?;
    let command = head.split_once(" (")?.1.to_owned();
    // `rest` begins with field 3 of proc(5), the state.
    let fields: Vec<&str> = rest.split(' ').collect();
    let ticks = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some(Process {
        command,
        own_ticks: ticks(11)? + ticks(12)?,
        children_ticks: ticks(13)? + ticks(14)?,
    })
}

/// The processes below one, zombies included.
fn descendants(pid: u32) -> HashMap<u32, Process> {
    let mut found = HashMap::new();
    let mut parents = vec![pid];
    while let Some(parent) = parents.pop() {
        // Any thread of a process may have children.
        let Ok(threads) = fs::read_dir(format!("/proc/{parent}/task")) else { continue };
        for thread in threads.flatten() {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            for child in children.split_whitespace().filter_map(|pid| pid.parse().ok()) {
                // It may have ended meanwhile.
                if let Some(process) = process(child) {
                    found.insert(child, process);
                    parents.push(child);
                }
            }
        }
    }
    found
}

fn cpu_of_tree() -> Duration {
    let me = std::process::id();
    duration_of(process(me).map_or(0, |me| me.children_ticks) + ticks_below(me))
}

/// The CPU time so far of a process and of all that it has started.
pub fn cpu_of(pid: u32) -> Duration {
    let own = process(pid).map_or(0, |process| process.own_ticks + process.children_ticks);
    duration_of(own + ticks_below(pid))
}

fn ticks_below(pid: u32) -> u64 {
    let processes = descendants(pid);
    processes.values().map(|process| process.own_ticks + process.children_ticks).sum()
}

fn duration_of(ticks: u64) -> Duration {
    // SAFETY: sysconf takes an integer and touches no memory.
    let ticks_per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    Duration::from_secs_f64(ticks as f64 / ticks_per_second as f64)
}

fn sample_memory(watched: &Watched, stop: &AtomicBool) -> Memory {
    let mut peak = Memory::default();
    let mut idle_bytes = 0;
    let mut begun = HashSet::new();
    while !stop.load(Ordering::Relaxed) {
        let mut sum = 0;
        let mut held = |kind: &'static str, bytes: u64, most: u64| {
            sum += bytes;
            // A process that has ended and was not waited for holds nothing.
            if most > 0 {
                let largest = peak.largest.entry(kind).or_default();
                *largest = most.max(*largest);
            }
        };
        for (pid, process) in descendants(std::process::id()) {
            let status = format!("/proc/{pid}/status");
            let memory = |label| proc_field(&status, label).unwrap_or(0) * 1024;
            if let Some(name) = watched.programs.iter().find(|name| **name == process.command) {
                held(name, memory("VmRSS:"), memory("VmHWM:"));
                continue;
            }
            let Ok(title) = fs::read_to_string(format!("/proc/{pid}/cmdline")) else { continue };
            if idle_bytes == 0 && title.starts_with(IDLE_PROCESS) {
                idle_bytes = memory("VmRSS:");
            }
            if let Some(kind) =
                watched.server_processes.iter().find(|kind| title.starts_with(**kind))
            {
                if begun.insert(pid) {
                    // Forgets the peak of earlier tasks (proc(5), clear_refs); without
                    // the permission that peak would show, which is no worse than true.
                    let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
                }
                let above_idle = memory("VmHWM:").saturating_sub(idle_bytes);
                held(kind, above_idle, above_idle);
            }
        }
        peak.sum = peak.sum.max(sum);
        thread::sleep(SAMPLE_INTERVAL);
    }
    peak
}
