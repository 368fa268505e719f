//! `docs/settings.md` is the table of settings. After a change of the table write it anew:
//!
//! ```sh
//! WRITE_DOCS=1 cargo test --release --package wal-e-core --test settings_page
//! ```

use std::path::Path;

use wal_e_core::config::{Description, Number, Setting, Unit, Value};

/// Where lines of prose end.
const WIDTH: usize = 110;

const BEGINNING: &str = "# Settings

Each setting of the server and each option of `wal-e` that means the same.

**In the server** they are for superusers, in `postgresql.conf` or with `ALTER SYSTEM`, and take effect when the
configuration is reloaded. None of them is a secret, because settings can be read in the database.

**`wal-e`** takes each from its command line, else from the environment, else from the directory of `--env-dir`.
Of several variables the first in the list counts. Each may also begin with `WALE_` or `WALG_`, and counts before
the bare name then.

**The server** reads the directory of `wal_e.env_dir`, and after it the environment that it was started with. The
variables mean there what they mean to `wal-e`; its own settings count before them. The prefix of a server is its
setting alone. See [Variables](stores.md#variables).

## Keys

Keys are never settings. They count only as a pair from one place: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and,
where there is one, `AWS_SESSION_TOKEN`, each also with `WALE_` or `WALG_` before it. Without a pair in the
directory (and, for `wal-e`, in the environment) the AWS default chain applies: environment, `~/.aws`, web identity,
container, instance. See [Credentials](stores.md#credentials).
";

/// Each heading stands before the setting.
const HEADINGS: [(Setting, &str); 4] = [
    (Setting::Prefix, "Where the archive is"),
    (Setting::AwsAccessKeyId, "S3"),
    (Setting::Compression, "Compression"),
    (Setting::WalUploadConcurrency, "Work"),
];

fn page() -> String {
    let mut page = BEGINNING.to_owned();
    for &setting in Setting::ALL {
        if let Some((_, heading)) = HEADINGS.iter().find(|(first, _)| *first == setting) {
            page += &format!("\n## {heading}\n");
        }
        page += &section(setting);
    }
    page
}

fn section(setting: Setting) -> String {
    let Description { name, purpose, note, remarks, value, option, variables, namespaces, .. } =
        setting.describe();
    let mut section = format!("\n### {name}\n\n{}\n", wrapped(&format!("{purpose}. {note}")));
    if !remarks.is_empty() {
        section += &format!("\n{}\n", wrapped(remarks));
    }
    section += "\n| | |\n|---|---|\n";
    let guc = setting.guc_name().map(|name| format!("`{name}`"));
    let flag = option.map(|flag| {
        let of = match flag.commands {
            [] => String::new(),
            commands => format!(" of {}", code(commands)),
        };
        format!("`--{} {}`{of}", flag.name, flag.placeholder)
    });
    let variables = match namespaces.contains(&"") {
        true => code(variables),
        false => code(&setting.variable_names()),
    };
    let own = option.and_then(|flag| flag.value);
    let (values, default) = (shown(*value), default(*value));
    let row = |name: &str, cell: Option<String>| match cell {
        Some(cell) if !cell.is_empty() => format!("| {name} | {cell} |\n"),
        _ => String::new(),
    };
    section += &row("server", guc);
    section += &row("`wal-e`", flag);
    section += &row("variables", Some(variables));
    section += &row("values", Some(values));
    section += &match value {
        Value::Text { .. } => row("when empty", Some(default)),
        _ => row("default", Some(default)),
    };
    section += &row("values of the option", own.map(shown));
    section
}

fn code(words: &[impl AsRef<str>]) -> String {
    words.iter().map(|word| format!("`{}`", word.as_ref())).collect::<Vec<_>>().join(", ")
}

fn shown(value: Value) -> String {
    match value {
        Value::Text { .. } => String::new(),
        Value::Switch { .. } => code(&["on", "off"]),
        Value::Choice { words, .. } => code(words),
        Value::Number(Number { unit, low, high, .. }) => {
            let high = match high {
                i64::MAX => "any".to_owned(),
                high => high.to_string(),
            };
            format!("{low} to {high}{}", counted(unit))
        }
    }
}

fn default(value: Value) -> String {
    match value {
        Value::Text { empty } => empty.trim_start_matches("that ").to_owned(),
        Value::Switch { default } => format!("`{}`", if default { "on" } else { "off" }),
        Value::Choice { default, .. } => format!("`{default}`"),
        Value::Number(Number { unit, default: Some(number), .. }) => {
            format!("{number}{}", counted(unit))
        }
        Value::Number(Number { default: None, .. }) => String::new(),
    }
}

fn counted(unit: Unit) -> String {
    match unit {
        Unit::One => String::new(),
        unit => format!(" {}", unit.symbol()),
    }
}

fn wrapped(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is a line");
        match line.is_empty() {
            true => *line = word.to_owned(),
            false if line.len() + 1 + word.len() > WIDTH => lines.push(word.to_owned()),
            false => *line = format!("{line} {word}"),
        }
    }
    lines.join("\n")
}

#[test]
#[allow(clippy::disallowed_methods)]
fn the_page_of_settings_is_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/settings.md");
    if std::env::var_os("WRITE_DOCS").is_some() {
        std::fs::write(&path, page()).expect("docs/settings.md can be written");
    }
    let written = std::fs::read_to_string(&path).expect("docs/settings.md can be read");
    let again = "write it anew: WRITE_DOCS=1 cargo test -p wal-e-core --test settings_page";
    assert!(written == page(), "docs/settings.md is not the table of settings; {again}");
}
