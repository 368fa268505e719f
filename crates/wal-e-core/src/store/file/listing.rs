//! Listings of a directory tree in the order of S3: by the bytes of the keys.

use std::path::Path;

use super::facts::{self, is_missing};
use super::names::Names;
use super::root::Root;
use super::temporary;
use crate::error::{Error, Result};
use crate::layout::ObjectKey;
use crate::store::{ListPage, ListRequest};

/// What the root of a file system has and what is not ours to read.
const LOST_AND_FOUND: &str = "lost+found/";

/// What a page had no room for of the directory in which it ended: the next page goes on with
/// it, and the directory is not read again for each page.
#[derive(Debug)]
pub(super) struct Rest {
    request: ListRequest,
    /// The page that ended there.
    page: String,
    directory: String,
    names: Names,
    next: usize,
}

/// A page of a listing, and what comes after it. `rest` is what came after the page before.
pub(super) fn list(
    root: &Root,
    request: &ListRequest,
    page: Option<String>,
    page_size: usize,
    rest: Option<Rest>,
) -> Result<(ListPage, Option<Rest>)> {
    let rest = rest.filter(|rest| rest.request == *request && page.as_deref() == Some(&rest.page));
    let after = page.max(request.start_after.clone()).unwrap_or_default();
    let mut walk = Walk { request, after, page_size, keys: Vec::new(), rest };
    // What the prefix names whole need not be searched for.
    let start = match request.prefix.rsplit_once('/') {
        Some((directory, _)) => match ObjectKey::from_listing(directory) {
            Some(directory) => format!("{directory}/"),
            None => return Ok((ListPage::default(), None)),
        },
        None => String::new(),
    };
    root.check()?;
    let (next, rest) = match walk.directory(&root.path, &start)? {
        Page::HasRoom => (None, None),
        Page::Full => (walk.keys.last().cloned(), walk.rest),
    };
    let objects = facts::objects(&root.path, &walk.keys)?;
    Ok((ListPage { objects, next }, rest))
}

/// Whether an object lies in the directory itself; as far as it takes to find one, the
/// directory is read.
pub(super) fn has_file(root: &Root, directory: &str) -> Result<bool> {
    root.check()?;
    let path = root.path.join(directory);
    let entries = match std::fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(error) if is_missing(&error) => return Ok(false),
        Err(error) => return Err(Error::file("read directory", &path, &error)),
    };
    for entry in entries {
        let entry = entry.map_err(|error| Error::file("read directory", &path, &error))?;
        let is_own =
            entry.file_name().as_encoded_bytes().starts_with(temporary::NAME_PREFIX.as_bytes());
        // A link that leads nowhere is not an object.
        if !is_own && entry.path().is_file() {
            return Ok(true);
        }
    }
    Ok(false)
}

struct Walk<'a> {
    request: &'a ListRequest,
    /// Only keys that sort after this one; empty means all.
    after: String,
    page_size: usize,
    /// Of what may be in the page: not all need be objects.
    keys: Vec<String>,
    rest: Option<Rest>,
}

/// Whether a walk goes on.
#[derive(PartialEq, Eq)]
enum Page {
    HasRoom,
    Full,
}

impl Walk<'_> {
    /// Lists the directory whose keys begin with `base`, which is empty or ends
    /// with a slash.
    fn directory(&mut self, root: &Path, base: &str) -> Result<Page> {
        let (names, mut next) = match self.rest.take_if(|rest| rest.directory == base) {
            Some(rest) => (rest.names, rest.next),
            None => match self.names(root, base)? {
                Some(names) => (names, 0),
                None => return Ok(Page::HasRoom),
            },
        };
        while let Some(name) = names.get(next) {
            let key = format!("{base}{name}");
            if key.ends_with('/') {
                if self.directory(root, &key)? == Page::Full {
                    return Ok(Page::Full);
                }
            } else if self.keys.len() < self.page_size {
                self.keys.push(key);
            } else {
                let page = self.keys.last().cloned().unwrap_or_default();
                let (request, directory) = (self.request.clone(), base.to_owned());
                self.rest = Some(Rest { request, page, directory, names, next });
                return Ok(Page::Full);
            }
            next += 1;
        }
        Ok(Page::HasRoom)
    }

    /// The names in a directory that can be in the page or in one of those after it. `None`
    /// when the directory is not there.
    fn names(&self, root: &Path, base: &str) -> Result<Option<Names>> {
        let path = root.join(base);
        let entries = match std::fs::read_dir(&path) {
            Ok(entries) => entries,
            // Gone since its name was read, or nothing of that prefix.
            Err(error) if is_missing(&error) => return Ok(None),
            Err(error) => return Err(Error::file("read directory", &path, &error)),
        };
        // A directory sorts as its name with the slash that its keys have there.
        let mut names = Names::default();
        let mut key = base.to_owned();
        for entry in entries {
            let entry = entry.map_err(|error| Error::file("read directory", &path, &error))?;
            let name = entry.file_name();
            // Our own names are ASCII: a name that is not text is not an object of ours.
            let Some(name) = name.to_str() else { continue };
            if name.starts_with(temporary::NAME_PREFIX) {
                continue;
            }
            let is_directory = match entry.file_type() {
                // An administrator may have put a directory on another disk.
                Ok(kind) if kind.is_symlink() => entry.path().is_dir(),
                Ok(kind) => kind.is_dir(),
                Err(error) if is_missing(&error) => continue,
                Err(error) => return Err(Error::file("examine", &entry.path(), &error)),
            };
            key.truncate(base.len());
            key.push_str(name);
            key.push_str(if is_directory { "/" } else { "" });
            if self.may_match(&key) {
                names.push(&key[base.len()..]);
            }
        }
        names.sort();
        Ok(Some(names))
    }

    /// Whether this file, or anything below this directory, can be in the page.
    fn may_match(&self, key: &str) -> bool {
        let prefix = self.request.prefix.as_str();
        let is_directory = key.ends_with('/');
        if is_directory && key == LOST_AND_FOUND {
            return false;
        }
        let in_prefix = match key.strip_prefix(prefix) {
            Some(rest) => !(self.request.shallow && rest.contains('/')),
            None => is_directory && prefix.starts_with(key),
        };
        let later = key > self.after.as_str() || (is_directory && self.after.starts_with(key));
        in_prefix && later
    }
}
