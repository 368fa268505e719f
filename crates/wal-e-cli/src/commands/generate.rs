//! `wal-e generate`: the manual pages, and the completions of shells.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;
use wal_e_core::{Error, Result};

use crate::cli::{Cli, EXIT_CODES, Generate, environment};

const NAME: &str = "wal-e";

/// Writes `wal-e.1` and a page for each command, `wal-e.bash`, `_wal-e` (zsh) and `wal-e.fish`.
pub fn run(arguments: &Generate) -> Result<()> {
    let directory = &arguments.directory;
    generate(directory).map_err(|source| Error::file("write to", directory, &source))
}

fn generate(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut visible(), NAME, directory)?;
    }
    let mut whole = visible();
    whole.build();
    let common: Vec<_> = whole.get_arguments().map(|option| option.get_id().clone()).collect();
    write_page(&whole, &end_of_first_page(), directory)?;
    for command in whole.get_subcommands() {
        // The first page has them.
        let own = command.clone().mut_args(|option| {
            let is_common = common.contains(option.get_id());
            option.hide(is_common)
        });
        write_page(&own, END_OF_OTHER_PAGES, directory)?;
    }
    Ok(())
}

/// The commands that people use: what is hidden from `--help` is hidden here, too.
fn visible() -> clap::Command {
    let whole = Cli::command();
    clap::Command::new(NAME)
        .version(env!("CARGO_PKG_VERSION"))
        .about(whole.get_about().cloned().unwrap_or_default())
        .disable_help_subcommand(true)
        .subcommand_required(true)
        .args(whole.get_arguments().cloned())
        .subcommands(whole.get_subcommands().filter(|command| !command.is_hide_set()).cloned())
}

fn write_page(command: &clap::Command, end: &str, directory: &Path) -> io::Result<()> {
    let page = Man::new(command.clone())
        .source(concat!("wal-e ", env!("CARGO_PKG_VERSION")))
        .manual("wal_e");
    let mut text = Vec::new();
    page.render_title(&mut text)?;
    page.render_name_section(&mut text)?;
    page.render_synopsis_section(&mut text)?;
    page.render_description_section(&mut text)?;
    page.render_options_section(&mut text)?;
    if command.has_subcommands() {
        page.render_subcommands_section(&mut text)?;
    }
    text.write_all(end.as_bytes())?;
    File::create(directory.join(page.get_filename()))?.write_all(&text)
}

const END_OF_OTHER_PAGES: &str = "\
.SH \"EXIT STATUS\"
As in wal\\-e(1), which also has the options of all commands and the environment variables.
.SH \"SEE ALSO\"
wal\\-e(1)
";

fn end_of_first_page() -> String {
    format!(
        ".SH ENVIRONMENT\n{}.SH \"EXIT STATUS\"\n{}",
        as_it_stands(without_heading(&environment())),
        as_it_stands(without_heading(EXIT_CODES)),
    )
}

/// What `--help` says below a line such as "Exit codes:".
fn without_heading(help: &str) -> &str {
    help.split_once('\n').map_or(help, |(_, rest)| rest)
}

/// As a block in which lines and spaces stay as they are.
fn as_it_stands(text: &str) -> String {
    let mut block = String::from(".nf\n");
    for line in text.lines() {
        let line = line.replace('\\', "\\e").replace('-', "\\-");
        // A point or an apostrophe at the beginning would be a request to the formatter.
        let guard = if line.starts_with(['.', '\'']) { "\\&" } else { "" };
        block.push_str(guard);
        block.push_str(&line);
        block.push('\n');
    }
    block.push_str(".fi\n");
    block
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn generated() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        generate(directory.path()).unwrap();
        directory
    }

    #[test]
    fn the_manual_has_every_command_and_no_hidden_one() {
        let directory = generated();
        let first = fs::read_to_string(directory.path().join("wal-e.1")).unwrap();
        for command in Cli::command().get_subcommands() {
            let name = command.get_name();
            let page = directory.path().join(format!("wal-e-{name}.1"));
            let named = first.contains(&format!("wal\\-e\\-{}(1)", name.replace('-', "\\-")));
            assert_eq!(named, !command.is_hide_set(), "{name} in:\n{first}");
            assert_eq!(page.exists(), !command.is_hide_set(), "{name}");
        }
        for text in
            ["\\-\\-s3\\-prefix", "WALE_S3_PREFIX", "AWS_SESSION_TOKEN", "\n   74  the archive"]
        {
            assert!(first.contains(text), "{text} is not in:\n{first}");
        }
    }

    #[test]
    fn the_page_of_a_command_has_its_own_options_only() {
        let directory = generated();
        let page = fs::read_to_string(directory.path().join("wal-e-wal-fetch.1")).unwrap();
        assert!(page.contains("\\-\\-end\\-at\\-gap") && page.contains("wal\\-e(1)"), "{page}");
        assert!(!page.contains("\\-\\-s3\\-prefix"), "{page}");
    }

    #[test]
    fn completions_have_every_command_and_no_hidden_one() {
        let directory = generated();
        for file in ["wal-e.bash", "_wal-e", "wal-e.fish"] {
            let script = fs::read_to_string(directory.path().join(file)).unwrap();
            for command in Cli::command().get_subcommands() {
                let name = command.get_name();
                assert_eq!(script.contains(name), !command.is_hide_set(), "{name} in {file}");
            }
        }
    }

    /// bash is on every machine that builds wal_e. Debian's packages check the others, too.
    #[test]
    fn completions_are_scripts_without_mistakes() {
        let directory = generated();
        for (shell, file) in [("bash", "wal-e.bash"), ("zsh", "_wal-e"), ("fish", "wal-e.fish")] {
            match Command::new(shell).arg("-n").arg(directory.path().join(file)).output() {
                Ok(output) => assert!(output.status.success(), "{file}: {output:?}"),
                Err(error) => assert!(shell != "bash", "{error}"),
            }
        }
    }
}
