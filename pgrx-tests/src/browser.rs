//! Chromium without a screen, and what it made of a page.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use crate::process::{ServerUser, run};
use crate::scratch::Scratch;

/// A page as the browser has it.
#[derive(Debug)]
pub struct Page {
    /// Its elements, written out again.
    pub dom: String,
    /// What the browser complained about: scripts that fail or must not run, what must not be
    /// loaded.
    pub complaints: Vec<String>,
}

/// Opens a file.
///
/// # Panics
///
/// When there is no Chromium, or it does not open the file.
#[track_caller]
pub fn open(file: &Path) -> Page {
    let (dom, log) = chromium(file, &["--dump-dom".into()]);
    let complaints = log.lines().filter(|line| line.contains(":CONSOLE"));
    Page { dom, complaints: complaints.map(str::to_owned).collect() }
}

/// Draws a file as wide and as high as said, as a PNG image.
///
/// # Panics
///
/// As [`open`].
#[track_caller]
pub fn draw(file: &Path, (width, height): (u32, u32), image: &Path) {
    let mut output = OsString::from("--screenshot=");
    output.push(image);
    chromium(file, &[format!("--window-size={width},{height}").into(), output]);
}

#[track_caller]
fn chromium(file: &Path, options: &[OsString]) -> (String, String) {
    let profile = Scratch::new();
    let mut command = ServerUser::get().command("chromium");
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]);
    command.arg(format!("--user-data-dir={}", profile.path().display())).args(options).arg(file);
    let found = ["/usr/bin/chromium", "/usr/local/bin/chromium", "/bin/chromium"];
    assert!(
        found.iter().any(|path| Path::new(path).exists()),
        "there is no chromium: scripts/install-deps test installs it"
    );
    let finished = run(&mut command);
    assert!(finished.status.success(), "{finished}");
    (finished.stdout, finished.stderr)
}

impl Page {
    /// The attributes of all elements that have `data-row` of this value, in their order.
    pub fn rows(&self, kind: &str) -> Vec<BTreeMap<String, String>> {
        let tags = self.dom.split('<').skip(1).map(attributes);
        tags.filter(|tag| tag.get("data-row").is_some_and(|row| row == kind)).collect()
    }
}

/// The attributes at the beginning of an element. The browser quotes all of them, and leaves no
/// `<` in text or in a value.
fn attributes(tag: &str) -> BTreeMap<String, String> {
    let mut attributes = BTreeMap::new();
    let mut rest = tag.split_once(' ').map(|(_, rest)| rest).unwrap_or_default();
    while let Some((name, value)) = rest.split_once("=\"") {
        let Some((value, after)) = value.split_once('"') else { break };
        let value = value.replace("&quot;", "\"").replace("&lt;", "<").replace("&gt;", ">");
        attributes.insert(name.trim().to_owned(), value.replace("&amp;", "&"));
        rest = after;
        if rest.starts_with('>') {
            break;
        }
    }
    attributes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_found_as_the_browser_writes_them() {
        let dom =
            "<p>a</p><tr data-row=\"x\" class=\"\" data-y=\"1 &amp;&quot;\"><td a=\"b\">".into();
        let page = Page { dom, complaints: Vec::new() };
        let rows = page.rows("x");
        assert_eq!(rows.len(), 1);
        assert_eq!((rows[0]["data-y"].as_str(), rows[0].len()), ("1 &\"", 3));
    }
}
