//! The documentation says what is so: its commands run, its links lead somewhere, and its
//! references have every function, column, command and option. CONTRIBUTING.md has the
//! conventions that this relies on.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use wal_e_e2e::archive::Archive;
use wal_e_e2e::cluster::Cluster;
use wal_e_e2e::installation::{Installation, PgVersion, repository, scripts, wal_e_program};
use wal_e_e2e::process::{Finished, ServerUser, run};
use wal_e_e2e::wait::PATIENCE;
use wal_e_e2e::wal_e::bare_wal_e;

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn page(name: &str) -> String {
    read(&repository().join(name))
}

/// A fenced block that is run, and the output that is shown right after it.
struct Block {
    line: usize,
    language: String,
    text: String,
    output: Option<String>,
}

/// The blocks of `page` that are run, in their order.
fn blocks_to_run(page: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut follows_block = false;
    let mut lines = page.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let Some(info) = line.strip_prefix("```") else {
            follows_block &= line.is_empty();
            continue;
        };
        let text: Vec<&str> =
            lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```").collect();
        let text = text.join("\n") + "\n";
        let is_run = matches!(info, "sh" | "sql" | "ini");
        if is_run {
            blocks.push(Block { line: number + 1, language: info.to_owned(), text, output: None });
        } else if info == "text" && follows_block {
            blocks.last_mut().expect("it follows a block").output = Some(text);
        }
        follows_block = is_run;
    }
    blocks
}

/// The lines of an output without what differs from run to run: spaces, rules, and words
/// with more than one digit, such as names, LSNs, sizes and times.
fn essence(output: &str) -> Vec<String> {
    let word = |word: &str| match word.chars().filter(char::is_ascii_digit).count() {
        0 | 1 => word.to_owned(),
        _ => "#".to_owned(),
    };
    let line = |line: &str| line.split_whitespace().map(word).collect::<Vec<_>>().join(" ");
    let is_rule = |line: &String| line.chars().all(|c| matches!(c, '-' | '+' | '.'));
    output.lines().map(line).filter(|line| !is_rule(line)).collect()
}

fn shows(finished: &Finished, expected: &str) -> bool {
    let lines = essence(&finished.stdout);
    essence(expected).iter().all(|line| lines.contains(line))
}

/// A reader who does what a page says, on a cluster that archives nothing yet.
struct Reader {
    cluster: Cluster,
    archive: Archive,
}

impl Reader {
    fn new() -> Reader {
        let (cluster, archive) = (Cluster::build(PgVersion::oldest()).create(), Archive::file());
        // Restored copies take these over: no other server is in the way.
        cluster.configure("listen_addresses = ''");
        let socket = cluster.socket_directory();
        cluster.configure(&format!("unix_socket_directories = '{}'", socket.display()));
        cluster.scratch().create("env");
        let reader = Reader { cluster, archive };
        reader.shell("pg_ctl start -D /var/lib/postgresql/15/main -l server.log").success();
        reader
    }

    /// One who has followed the guide to its second base backup.
    fn with_two_backups() -> Reader {
        let archive = Archive::file();
        let cluster = Cluster::build(PgVersion::oldest()).start_archiving_to(&archive);
        cluster.scratch().create("env");
        cluster.backup_push();
        cluster.backup_push();
        Reader { cluster, archive }
    }

    /// One who is about to upgrade a cluster that archives.
    fn before_an_upgrade() -> Reader {
        let reader = Reader::new();
        let (cluster, archive) = (&reader.cluster, &reader.archive);
        let archiving = ["shared_preload_libraries = 'wal_e'", "archive_mode = on"];
        archiving.iter().for_each(|line| cluster.configure(line));
        cluster.configure("archive_library = 'wal_e'");
        archive.settings().iter().for_each(|line| cluster.configure(line));
        reader.shell("pg_ctl restart -D /var/lib/postgresql/15/main -l server.log").success();
        cluster.execute("CREATE EXTENSION wal_e; CREATE TABLE t AS SELECT 1 AS x");
        cluster.backup_push();
        cluster.prepare_for_pg_upgrade();
        archive.scratch().create("archive-18");
        cluster.scratch().create("18");
        reader
    }

    /// `text` with the places of this reader.
    fn in_place(&self, text: &str) -> String {
        let scratch = self.cluster.scratch().path();
        let shown = |path: &Path| path.display().to_string();
        let text = [
            ("s3://my-bucket/my-cluster", self.archive.url()),
            ("WALE_S3_PREFIX", "WALE_FILE_PREFIX".to_owned()),
            ("--s3-prefix", "--file-prefix".to_owned()),
            ("/etc/wal-e.d/env", shown(&scratch.join("env"))),
            ("/var/lib/postgresql/15/main", shown(self.cluster.data_directory())),
            ("/var/lib/postgresql/15", shown(scratch)),
            ("/var/lib/postgresql/18", shown(&scratch.join("18"))),
        ]
        .iter()
        .fold(text.to_owned(), |text, (from, to)| text.replace(from, to));
        // The pages upgrade 15 to 18.
        [(15, PgVersion::oldest()), (18, PgVersion::newest())].into_iter().fold(
            text,
            |text, (written, version)| {
                let programs = format!("/usr/lib/postgresql/{written}/bin");
                // Not every test process has both.
                match text.contains(&programs) {
                    true => text.replace(&programs, &shown(Installation::get(version).programs())),
                    false => text,
                }
            },
        )
    }

    /// Runs `script` in a shell that knows what earlier ones have exported. Its output goes
    /// to files, because a server that it starts keeps them open.
    fn shell(&self, script: &str) -> Finished {
        let psql = self.cluster.client_program("psql");
        let directory = |program: &Path| program.parent().expect("it is a path").to_owned();
        let programs = [directory(Path::new(psql.get_program())), directory(wal_e_program())];
        let path = std::env::join_paths(
            programs.into_iter().chain(["/usr/bin", "/bin"].map(PathBuf::from)),
        );
        let script = format!(
            "exec >stdout 2>stderr\n[ ! -e exported ] || . ./exported\nset -eu\n{}\nexport -p >exported\n",
            self.in_place(script)
        );
        let scratch = self.cluster.scratch().path();
        let finished = run(ServerUser::get()
            .command("bash")
            .args(["-c", &script])
            .env("PATH", path.expect("the directories have no colon"))
            .env("PGHOST", self.cluster.socket_directory())
            .env("PGUSER", "postgres")
            .current_dir(scratch));
        Finished {
            stdout: read(&scratch.join("stdout")),
            stderr: read(&scratch.join("stderr")),
            ..finished
        }
    }

    fn do_block(&self, block: &Block) -> Finished {
        match block.language.as_str() {
            "sh" => self.shell(&block.text),
            "sql" => self.shell(&format!("psql -X -v ON_ERROR_STOP=1 <<'END'\n{}END", block.text)),
            _ => {
                block.text.lines().for_each(|line| self.cluster.configure(&self.in_place(line)));
                self.shell("true")
            }
        }
    }

    /// Does what the page `name` says. A reader repeats a query until it answers what the
    /// page shows: a server takes its time to recover or to archive.
    fn follow(&self, name: &str) {
        let blocks = blocks_to_run(&page(name));
        assert!(blocks.iter().any(|block| block.output.is_some()), "{name} shows no output");
        for block in &blocks {
            let deadline = Instant::now() + PATIENCE;
            loop {
                let finished = self.do_block(block);
                let expected = block.output.as_deref().unwrap_or_default();
                if finished.status.success() && shows(&finished, expected) {
                    break;
                }
                assert!(
                    block.language == "sql" && block.output.is_some() && Instant::now() < deadline,
                    "{name}:{}: this does not do what the page shows:\n{}\n{finished}\nexpected:\n{expected}",
                    block.line,
                    block.text,
                );
                thread::sleep(Duration::from_millis(100));
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // The servers are not children of this process, and a test that fails leaves them.
        self.shell(
            "for pid in */postmaster.pid */*/postmaster.pid; do [ ! -e \"$pid\" ] || pg_ctl stop -D \"${pid%/*}\" -m immediate; done",
        );
    }
}

#[test]
fn the_first_steps_in_readme_can_be_done_as_they_are_shown() {
    Reader::new().follow("README.md");
}

#[test]
fn the_guide_can_be_followed_from_beginning_to_end() {
    Reader::new().follow("docs/guide.md");
}

#[test]
fn what_is_said_about_retention_can_be_done() {
    Reader::with_two_backups().follow("docs/retention.md");
}

#[test]
fn a_cluster_can_be_upgraded_as_it_is_shown() {
    let reader = Reader::before_an_upgrade();
    reader.follow("docs/pg-upgrade.md");
    assert_eq!(reader.shell("psql -XAtc 'SELECT x FROM t'").success(), "1\n");
}

/// The pages whose links are looked at.
fn pages() -> Vec<PathBuf> {
    let mut pages = Vec::new();
    for directory in ["", "docs", "docs/adr"] {
        let entries = fs::read_dir(repository().join(directory)).expect("the folder exists");
        let paths = entries.map(|entry| entry.expect("an entry can be read").path());
        pages.extend(paths.filter(|path| path.extension().is_some_and(|found| found == "md")));
    }
    pages
}

/// `page` without its fenced blocks.
fn prose(page: &str) -> String {
    page.split("\n```").step_by(2).collect::<Vec<_>>().join("\n")
}

/// The anchors of the headings of `page`, as GitHub makes them.
fn anchors(page: &str) -> BTreeSet<String> {
    let page = prose(page);
    let headings = page.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| -> String {
        let text = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = text.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn links_lead_to_pages_and_headings_that_exist() {
    let mut broken = Vec::new();
    for path in pages() {
        let text = read(&path);
        for link in prose(&text).split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => path.clone(),
                file => path.parent().expect("a page is in a folder").join(file),
            };
            let exists =
                target.exists() && (anchor.is_empty() || anchors(&read(&target)).contains(anchor));
            if !exists {
                broken.push(format!("{}: {link}", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "broken links:\n{}", broken.join("\n"));
}

/// What stands under the heading `## name` of `page`.
fn section<'a>(page: &'a str, name: &str) -> &'a str {
    let (_, rest) = page
        .split_once(&format!("\n## {name}\n"))
        .unwrap_or_else(|| panic!("there is no section \"{name}\""));
    rest.split("\n## ").next().unwrap_or(rest)
}

#[test]
fn the_sql_reference_has_every_function_argument_and_column() {
    let (scripts, reference) = (scripts(), page("docs/sql.md"));
    let script: Vec<&str> = scripts.lines().map(str::trim_start).collect();
    let script = script.join("\n").replace(" OR REPLACE", "").replace("@extschema@.", "");
    let mut functions = BTreeSet::new();
    for declaration in script.split("CREATE FUNCTION ").skip(1) {
        let (name, rest) = declaration.split_once('(').expect("a function has arguments");
        let (arguments, _) = rest.split_once("\nRETURNS").expect("a function returns something");
        let own = section(&reference, name);
        // Functions that belong together have their columns in one place.
        let place = own.split_once("the columns\nof [`").or(own.split_once("the columns of [`"));
        let place = place.and_then(|(_, rest)| rest.split("()`]").next());
        let columns = place.map_or(own, |place| section(&reference, place));
        for argument in arguments.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let argument = argument.trim_end_matches([',', ')']);
            if argument.is_empty() {
                continue;
            }
            let (section, shown) = match argument.strip_prefix("OUT ") {
                None => (own, argument.to_owned()),
                Some(column) => {
                    let (column, kind) = column.split_once(' ').expect("a column has a type");
                    (columns, format!("| `{column}` | {kind} |"))
                }
            };
            assert!(section.contains(&shown), "docs/sql.md, {name}: {shown} is missing");
        }
        functions.insert(name);
    }
    let described: BTreeSet<&str> = reference
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .filter(|h| *h != "Privileges")
        .collect();
    assert_eq!(described, functions);
}

/// The words of `text` that are long options.
fn options(text: &str) -> BTreeSet<String> {
    let parts = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
    parts.filter(|part| part.starts_with("--") && part.len() > 2).map(str::to_owned).collect()
}

/// The options in the first column of the tables of `section`.
fn listed_options(section: &str) -> BTreeSet<String> {
    let cells = section.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    cells.flat_map(options).collect()
}

fn help(arguments: &[&str]) -> String {
    let mut command: Command = bare_wal_e();
    run(command.args(arguments).arg("--help")).success()
}

/// The commands that a help lists.
fn listed_commands(help: &str) -> Vec<&str> {
    let (_, list) = help.split_once("\nCommands:\n").unwrap_or_default();
    list.lines()
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next())
        .filter(|command| *command != "help")
        .collect()
}

/// The options of a command, and of the commands below it.
fn known_options(command: &[&str]) -> BTreeSet<String> {
    let help = help(command);
    let heads = help.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
    let mut known: BTreeSet<String> =
        heads.filter_map(|line| options(line.split("  ").next()?).into_iter().next()).collect();
    for below in listed_commands(&help) {
        known.extend(known_options(&[command, &[below]].concat()));
    }
    known
}

#[test]
fn the_reference_of_commands_has_every_command_option_and_exit_code() {
    let (reference, overview) = (page("docs/commands.md"), help(&[]));
    let commands = listed_commands(&overview);
    assert!(commands.contains(&"backup-fetch"), "{commands:?}");
    for command in commands {
        let known = known_options(&[command]);
        let own = section(&reference, command);
        let mut described = listed_options(own);
        described.extend(listed_options(section(&reference, "Options of all commands")));
        for shared in ["Recovery targets", "Tablespace options"] {
            if own.contains(&format!("[{shared}](")) {
                described.extend(listed_options(section(&reference, shared)));
            }
        }
        assert_eq!(described, known, "docs/commands.md (left) and wal-e {command} --help (right)");
    }

    let (_, codes) = overview.split_once("\nExit codes:\n").expect("there are exit codes");
    let described = section(&reference, "Exit codes");
    for line in codes.lines() {
        let numbers = line.split([',', ' ']).filter(|word| !word.is_empty());
        for code in numbers.map_while(|word| word.parse::<u8>().ok()) {
            let cells =
                described.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
            let listed =
                cells.flat_map(|cell| cell.split(", ")).any(|word| word == code.to_string());
            assert!(listed, "docs/commands.md: exit code {code} is missing");
        }
    }
}
