//! Libraries that stand between a process and the system's calls (LD_PRELOAD).

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::process::run;
use crate::scratch::Scratch;

/// Compiles the C text `source` to a library named `name` in `scratch`.
///
/// # Panics
///
/// When there is no C compiler; the message names it.
#[track_caller]
pub fn build(scratch: &Scratch, name: &str, source: &str) -> PathBuf {
    let file = scratch.path().join(format!("{name}.c"));
    let library = scratch.path().join(format!("{name}.so"));
    fs::write(&file, source).expect("a file of the scratch directory can be written");
    run(Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
        .arg(&library)
        .arg(&file)
        .arg("-ldl"))
    .success();
    library
}
