//! `make torture`: random histories of clusters, one a round, each from a seed of its own.

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use wal_e_e2e::torture::{Tally, round};

/// Lives through random histories and compares what wal_e says with what servers do.
#[derive(Debug, Parser)]
#[command(name = "wal-e-torture")]
struct Options {
    /// The seed of the first round; each further one has the next number.
    #[arg(long, env = "SEED", default_value_t = 1)]
    seed: u64,

    /// How many rounds.
    #[arg(long, env = "ROUNDS", default_value_t = 10)]
    rounds: u64,

    /// Prints the history of every round, and not only of those that fail.
    #[arg(long)]
    verbose: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let mut sum = Tally::default();
    let mut failed = Vec::new();
    for seed in options.seed..options.seed.saturating_add(options.rounds) {
        let begin = Instant::now();
        match round(seed) {
            Ok((tally, script)) => {
                if options.verbose {
                    println!("SEED={seed}\n{script}");
                }
                println!("seed {seed}: {tally} ({:.0} s)", begin.elapsed().as_secs_f64());
                sum.add(tally);
            }
            Err(report) => {
                println!("{report}\nseed {seed} FAILED ({:.0} s)", begin.elapsed().as_secs_f64());
                failed.push(seed);
            }
        }
    }
    println!("{sum}; {} rounds failed: {failed:?}", failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
