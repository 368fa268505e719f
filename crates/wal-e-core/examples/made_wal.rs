//! Writes the first WAL segments of a cluster, always the same, into a directory:
//! `made_wal DIRECTORY COUNT`. For `scripts/costs`.

use std::path::PathBuf;

#[path = "../tests/made_wal/mod.rs"]
mod made_wal;

#[expect(clippy::disallowed_methods, reason = "a program has arguments")]
fn main() {
    let mut arguments = std::env::args().skip(1);
    let (Some(directory), Some(count)) =
        (arguments.next(), arguments.next().and_then(|count| count.parse().ok()))
    else {
        panic!("usage: made_wal DIRECTORY COUNT");
    };
    let directory = PathBuf::from(directory);
    for (name, content) in made_wal::segments(count) {
        let path = directory.join(name);
        std::fs::write(&path, content)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}
