//! Nix's SQLite database, read-only: the fast way to ask, where its files may be read.
//!
//! With `row`, `reachable` and `registrations` the only place that spells Nix's SQL. Each question opens, reads and closes: a reader
//! that stays open stops Nix's "last one out cleans the WAL up". Reads never block Nix or its collector.
//!
//! Three ways to read, and why each is sound:
//!
//! - A database with a write-ahead log, opened `mode=ro`: SQLite's own locking; the usual case.
//! - The same where SQLite refuses, because Nix up to 2.21 removes `-wal` and `-shm` and an ordinary user
//!   cannot make them. `immutable=1` needs neither, but ignores a log that is there, and takes no locks. So it
//!   is used only when no log exists or it is empty, and an answer counts only if nothing changed meanwhile.
//! - A database with a rollback journal (`use-sqlite-wal = false`): Nix then locks by a file that other
//!   SQLite users do not look at, so the answer again counts only if nothing changed meanwhile.

use super::StoreError;
use super::row::{self, RowError};
use crate::nix::{PathInfo, StoreDir, StorePath};
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Nix holds the write lock for milliseconds; a `nix-store --verify` may hold it for seconds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a read without locks is tried while somebody writes, and how long it waits in between.
const UNLOCKED_ATTEMPTS: u32 = 10;
const UNLOCKED_PAUSE: Duration = Duration::from_millis(50);

/// The database of one store.
#[derive(Debug)]
pub struct Database {
    file: PathBuf,
    dir: StoreDir,
}

impl Database {
    /// `file` is `…/db/db.sqlite`; `dir` the logical store directory of its paths. Opens nothing yet.
    pub fn new(file: PathBuf, dir: StoreDir) -> Self {
        Self { file, dir }
    }

    pub fn dir(&self) -> &StoreDir {
        &self.dir
    }

    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Tells this database file from one that is put in its place.
    pub fn identity(&self) -> Result<Identity, StoreError> {
        let (device, inode) = self.traces()?.identity;
        Ok(Identity { device, inode })
    }

    /// Whether it can be read now.
    pub fn probe(&self) -> Result<(), StoreError> {
        self.read(|db| {
            db.query_row("select 1 from ValidPaths limit 1", [], |_| Ok(())).optional()?;
            Ok(())
        })
    }

    /// Whether it has a write-ahead log, so that reading needs no luck; nothing where SQLite cannot open it as it stands.
    pub fn has_log(&self) -> Option<bool> {
        self.open("mode=ro").ok().map(|(_, has_log)| has_log)
    }

    /// In the order asked; `None` for a path that is not valid.
    pub fn path_infos(&self, paths: &[StorePath]) -> Result<Vec<Option<PathInfo>>, StoreError> {
        let find = format!("select {} from ValidPaths where path = ?", row::COLUMNS);
        let references = "select r.reference, v.path from Refs r left join ValidPaths v on v.id = r.reference
                          where r.referrer = ?";
        self.read(|db| {
            let mut find = db.prepare(&find)?;
            let mut references = db.prepare(references)?;
            // A collection between the two questions about a path would make it look free of references.
            let _snapshot = db.unchecked_transaction()?;
            let mut infos = Vec::with_capacity(paths.len());
            for path in paths {
                let mut rows = find.query([self.dir.join(path)])?;
                let Some((id, mut info)) = rows.next()?.map(|found| row::read(&self.dir, found)).transpose()? else {
                    infos.push(None);
                    continue;
                };
                let mut rows = references.query([id])?;
                while let Some(found) = rows.next()? {
                    let reference = row::store_path(&self.dir, "Refs", id, found.get_ref(1)?);
                    info.references.push(reference.map_err(|error| dangling(error, id, path))?);
                }
                info.references.sort_unstable();
                infos.push(Some(info));
            }
            Ok(infos)
        })
    }

    pub fn all_valid_paths(&self) -> Result<Vec<StorePath>, StoreError> {
        self.read(|db| {
            let mut statement = db.prepare("select id, path from ValidPaths")?;
            let mut rows = statement.query([])?;
            let mut paths = Vec::new();
            while let Some(found) = rows.next()? {
                paths.push(row::store_path(&self.dir, "ValidPaths", found.get(0)?, found.get_ref(1)?)?);
            }
            Ok(paths)
        })
    }

    /// Runs `query` on a fresh connection, in the first of the three ways that works.
    pub fn read<T>(&self, query: impl Fn(&Connection) -> Result<T, RowError>) -> Result<T, StoreError> {
        let run = |db: &Connection| query(db).map_err(|error| self.failed(error));
        match self.open("mode=ro") {
            Ok((db, true)) => run(&db),
            Ok((db, false)) => self.while_nothing_changes(|| run(&db)),
            Err(StoreError::Database { source, .. }) if refuses_readers(&source) && self.traces()?.is_quiet() => {
                self.while_nothing_changes(|| run(&self.open("immutable=1")?.0))
            }
            Err(error) => Err(error),
        }
    }

    /// A connection that has read something, and whether it has a write-ahead log.
    fn open(&self, how: &str) -> Result<(Connection, bool), StoreError> {
        // Never through `File::open` first: closing such a file would drop the locks that SQLite holds on
        // it for other threads.
        self.traces()?;
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let opened = Connection::open_with_flags(uri(&self.file, how), flags).and_then(|db| {
            db.busy_timeout(BUSY_TIMEOUT)?;
            let _tables: i64 = db.query_row("select count(*) from sqlite_master", [], |row| row.get(0))?;
            let journal: String = db.query_row("pragma journal_mode", [], |row| row.get(0))?;
            Ok((db, journal == "wal"))
        });
        opened.map_err(|source| match self.permission() {
            Some(source) => StoreError::DatabaseFile { file: self.file.clone(), source },
            None => self.failed(source.into()),
        })
    }

    /// SQLite says "unable to open database file" for every cause; this finds the usual one.
    fn permission(&self) -> Option<io::Error> {
        File::open(&self.file).err()
    }

    fn while_nothing_changes<T>(&self, read: impl Fn() -> Result<T, StoreError>) -> Result<T, StoreError> {
        for attempt in 0..UNLOCKED_ATTEMPTS {
            if attempt > 0 {
                std::thread::sleep(UNLOCKED_PAUSE);
            }
            let before = self.traces()?;
            if before.is_quiet() {
                // A torn read may look like damage, so errors count only if nothing changed, too.
                let answer = read();
                if self.traces()? == before {
                    return answer;
                }
            }
        }
        Err(StoreError::DatabaseBusy { file: self.file.clone() })
    }

    fn traces(&self) -> Result<Traces, StoreError> {
        let main = std::fs::metadata(&self.file)
            .map_err(|source| StoreError::DatabaseFile { file: self.file.clone(), source })?;
        let size = |suffix| match std::fs::metadata(beside(&self.file, suffix)) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            // Could not look: not quiet.
            Err(_) => u64::MAX,
        };
        let dotfile = beside(&self.file, ".lock").try_exists().unwrap_or(true);
        Ok(Traces {
            identity: (main.dev(), main.ino()),
            len: main.len(),
            changed: (main.mtime(), main.mtime_nsec(), main.ctime(), main.ctime_nsec()),
            wal_len: size("-wal"),
            journal_len: size("-journal"),
            dotfile,
        })
    }

    fn failed(&self, error: RowError) -> StoreError {
        match error {
            RowError::Sqlite(source) => StoreError::Database { file: self.file.clone(), source },
            RowError::Store(error) => error,
        }
    }
}

/// Which file is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    pub fn inode(self) -> String {
        self.inode.to_string()
    }
}

/// What a writer leaves behind.
#[derive(PartialEq, Eq)]
struct Traces {
    identity: (u64, u64),
    len: u64,
    changed: (i64, i64, i64, i64),
    wal_len: u64,
    journal_len: u64,
    /// The lock of SQLite's `unix-dotfile` VFS, which Nix uses with a rollback journal.
    dotfile: bool,
}

impl Traces {
    fn is_quiet(&self) -> bool {
        self.wal_len == 0 && self.journal_len == 0 && !self.dotfile
    }
}

/// SQLite's answers when it would have to create `-shm` or `-wal` and may not.
fn refuses_readers(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied))
}

/// A reference that cannot be read is told with its referrer.
fn dangling(error: RowError, id: i64, referrer: &StorePath) -> RowError {
    match error {
        RowError::Store(StoreError::Damaged { path, what, .. }) => {
            let what = format!("reference to {path}: {what}");
            RowError::Store(StoreError::Damaged { table: "Refs", row: id, path: referrer.to_string(), what })
        }
        other => other,
    }
}

fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(file);
    name.push(suffix);
    PathBuf::from(name)
}

/// An SQLite URI; its paths are percent-encoded bytes.
fn uri(file: &Path, how: &str) -> String {
    let mut uri = String::from("file:");
    for byte in file.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => uri.push(char::from(*byte)),
            _ => {
                // Writing to a string cannot fail.
                let _ = write!(uri, "%{byte:02x}");
            }
        }
    }
    uri.push('?');
    uri.push_str(how);
    uri
}
