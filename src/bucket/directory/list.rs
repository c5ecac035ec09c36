//! Listings: a walk through the directories in the order of keys.
//!
//! Keys sort by their bytes, `/` included, so a directory sorts as its name with a slash. Memory is
//! bounded by the page, however many files a directory has.

use super::{Cause, Key, Page, Root, UNFINISHED, file};
use std::collections::BTreeSet;
use std::io;
use std::path::Path;

/// Symbolic links may go in circles; a cache is flat.
const DEEPEST: usize = 16;

struct Walk<'a> {
    prefix: &'a str,
    after: &'a str,
    /// One more than a page, to know whether there is more.
    most: usize,
    found: Vec<String>,
}

impl Root {
    pub(super) fn list(&self, prefix: &str, after: Option<&str>) -> Result<Page, Cause> {
        let mut walk =
            Walk { prefix, after: after.unwrap_or(""), most: self.page.saturating_add(1), found: Vec::new() };
        match walk.directory(&self.path, "", 0) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.believe_absent()?,
            Err(error) => return Err(Cause::Io(error)),
        }
        let is_more = walk.found.len() > self.page;
        walk.found.truncate(self.page);
        let mut page = Page { objects: Vec::new(), next: walk.found.last().filter(|_| is_more).cloned() };
        for key in walk.found {
            match std::fs::metadata(self.path.join(&key)) {
                Ok(metadata) => page.objects.push(file::info(Key::listed(key), &metadata).map_err(Cause::Io)?),
                // Deleted since its directory was read.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Cause::Io(error)),
            }
        }
        Ok(page)
    }
}

impl Walk<'_> {
    /// `above` is the keys' beginning in this directory: empty, or ends in a slash.
    fn directory(&mut self, path: &Path, above: &str, depth: usize) -> io::Result<()> {
        let mut entries = BTreeSet::new();
        for entry in std::fs::read_dir(path)? {
            let entry = entry?;
            // What is not UTF-8 is not a key, so not ours.
            let Ok(name) = entry.file_name().into_string() else { continue };
            if above.is_empty() && name == UNFINISHED {
                continue;
            }
            let mut kind = entry.file_type()?;
            if kind.is_symlink() {
                match std::fs::metadata(entry.path()) {
                    Ok(metadata) => kind = metadata.file_type(),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(error),
                }
            }
            let key = match () {
                () if kind.is_dir() => format!("{above}{name}/"),
                () if kind.is_file() => format!("{above}{name}"),
                () => continue,
            };
            if self.may_matter(&key) {
                entries.insert(key);
                // A directory gives at least nothing, so only files fill a page for sure.
                if entries.len() > self.most.saturating_mul(2) {
                    self.cut(&mut entries);
                }
            }
        }
        for key in entries {
            if self.found.len() >= self.most {
                return Ok(());
            }
            if !key.ends_with('/') {
                self.found.push(key);
            } else if depth < DEEPEST {
                match self.directory(&path.join(key.get(above.len()..).unwrap_or_default()), &key, depth + 1) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    result => result?,
                }
            } else {
                return Err(io::Error::other(format!("{key:?} is nested too deeply; symbolic links in a circle?")));
            }
        }
        Ok(())
    }

    /// Drops what comes after as many files as a page can hold.
    fn cut(&self, entries: &mut BTreeSet<String>) {
        let last = entries.iter().filter(|key| !key.ends_with('/')).nth(self.most);
        if let Some(last) = last.cloned() {
            entries.split_off(&last);
        }
    }

    /// Whether a file's key, or some key in a directory, begins with the prefix and comes after `after`.
    fn may_matter(&self, key: &str) -> bool {
        let is_directory = key.ends_with('/');
        let in_prefix = key.starts_with(self.prefix) || (is_directory && self.prefix.starts_with(key));
        let is_later = key > self.after || (is_directory && self.after.starts_with(key));
        in_prefix && is_later
    }
}
