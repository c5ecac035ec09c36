//! Whether anything was written to Nix's database, without opening it: an idle watcher that opened it
//! every few seconds would have SQLite rebuild the shared memory file each time, which is written to the disk.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// What every registration changes: identity, size and time of the files that writers write.
///
/// Two that are equal mean "nothing was written" only where the first was taken some seconds after the last
/// write, since file systems tell times coarsely.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp([Option<File>; 3]);

#[derive(Debug, Clone, PartialEq, Eq)]
struct File {
    device: u64,
    inode: u64,
    size: u64,
    /// Not that of its metadata: SQLite changes that by opening a log.
    modified: (i64, i64),
}

impl Stamp {
    /// Nothing where the database is not there or may not be looked at.
    pub fn of(database: &Path) -> Option<Self> {
        let files = ["", "-wal", "-journal"].map(|suffix| {
            let mut name = OsString::from(database);
            name.push(suffix);
            File::of(&PathBuf::from(name))
        });
        let [main, logs @ ..] = files;
        // A log that is empty says no more than one that is not there; readers may make it.
        let [wal, journal] = logs.map(|log| log.filter(|log| log.size > 0));
        main.is_some().then_some(Self([main, wal, journal]))
    }
}

impl File {
    fn of(file: &Path) -> Option<Self> {
        let found = std::fs::metadata(file).ok()?;
        Some(Self {
            device: found.dev(),
            inode: found.ino(),
            size: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
        })
    }
}
