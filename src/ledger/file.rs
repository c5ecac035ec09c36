//! The ledger's file: opening, its schema, what is done with one that is damaged or not ours.

use super::trouble::Kind;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use rustix::fs::OFlags;
use rustix::process::geteuid;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Others hold the lock for milliseconds, or some seconds while a listing of a large bucket is written.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// "loft" in ASCII: tells our files from other SQLite databases.
const APPLICATION_ID: i32 = 0x6c6f_6674;
const SCHEMA_VERSION: i32 = STEPS.len() as i32;

/// What makes each version of the schema from the one before. Times are seconds since 1970. A checksum
/// covers the bucket's identity and the rest of its row.
const STEPS: [&str; 3] = [MEMORY, WATCHING, PRUNING];

const MEMORY: &str = "
    CREATE TABLE bucket (
        id INTEGER PRIMARY KEY,
        url TEXT NOT NULL,
        generation TEXT NOT NULL,
        size INTEGER,
        UNIQUE (url, generation)
    );
    CREATE TABLE path (
        bucket INTEGER NOT NULL,
        hash TEXT NOT NULL,
        seen INTEGER NOT NULL,
        checksum INTEGER NOT NULL,
        PRIMARY KEY (bucket, hash)
    ) WITHOUT ROWID;
    CREATE TABLE push (
        bucket INTEGER NOT NULL,
        roots TEXT NOT NULL,
        time INTEGER NOT NULL,
        checksum INTEGER NOT NULL,
        PRIMARY KEY (bucket, roots)
    ) WITHOUT ROWID;";

/// What the watcher must not forget. `scan` is 1 for what a scan of the whole store has put there.
const WATCHING: &str = "
    ALTER TABLE bucket ADD COLUMN scan_begun INTEGER;
    ALTER TABLE bucket ADD COLUMN scan_done INTEGER;
    CREATE TABLE queue (
        path TEXT PRIMARY KEY,
        since INTEGER NOT NULL,
        scan INTEGER NOT NULL,
        due INTEGER NOT NULL,
        attempts INTEGER NOT NULL DEFAULT 0,
        error TEXT
    );
    CREATE INDEX queue_order ON queue (scan, due);
    CREATE TABLE place (
        store TEXT PRIMARY KEY,
        database TEXT NOT NULL,
        id INTEGER NOT NULL,
        path TEXT
    ) WITHOUT ROWID;
    CREATE TABLE inventory (
        store TEXT NOT NULL,
        path TEXT NOT NULL,
        PRIMARY KEY (store, path)
    ) WITHOUT ROWID;
    CREATE TABLE outage (
        what TEXT PRIMARY KEY,
        since INTEGER NOT NULL,
        error TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE total (
        name TEXT PRIMARY KEY,
        value INTEGER NOT NULL
    ) WITHOUT ROWID;";

/// What prunes and checks need not read again.
const PRUNING: &str = "
    CREATE TABLE copy (
        bucket INTEGER NOT NULL,
        key TEXT NOT NULL,
        etag TEXT NOT NULL,
        bytes BLOB NOT NULL,
        checksum INTEGER NOT NULL,
        PRIMARY KEY (bucket, key)
    ) WITHOUT ROWID;";

pub struct Opened {
    /// The file in use, which is another than asked for where that is a stranger's.
    pub file: PathBuf,
    pub connection: Option<Connection>,
    pub trouble: Option<String>,
}

/// Whose file it is.
enum Found {
    Ours(Connection),
    Newer(i32),
    /// Only where it may not be brought up to date.
    Older,
    Foreign,
}

pub fn open(file: &Path) -> Opened {
    match open_once(file) {
        Ok(Found::Foreign) => {
            let beside = with_suffix(file, ".loft");
            match open_once(&beside) {
                Ok(Found::Foreign) => unusable(&beside, "it is another program's database"),
                other => settle(&beside, other),
            }
        }
        other => settle(file, other),
    }
}

/// As `open`, but makes, mends and moves nothing; `None` where there is no file.
pub fn view(file: &Path) -> Option<Opened> {
    let own = view_once(file).transpose()?;
    let (file, found) = match own {
        Ok(Found::Foreign) => {
            let beside = with_suffix(file, ".loft");
            match view_once(&beside).transpose() {
                Some(found) => (beside, found),
                None => (file.to_owned(), Ok(Found::Foreign)),
            }
        }
        own => (file.to_owned(), own),
    };
    Some(match found {
        Err(OpenError::Database(error)) => {
            let trouble = Some(Kind::of(&error).sentence(&file, &error));
            Opened { file, connection: None, trouble }
        }
        found => settle(&file, found),
    })
}

/// Bytes of the file and its journal.
pub fn size(file: &Path) -> u64 {
    let journal = with_suffix(file, "-wal");
    [file, &journal].iter().filter_map(|file| fs::metadata(file).ok()).map(|metadata| metadata.len()).sum()
}

pub fn in_memory() -> rusqlite::Result<Connection> {
    let mut connection = Connection::open_in_memory()?;
    prepare(&mut connection)?;
    Ok(connection)
}

/// A transaction that takes the write lock at once: one that starts reading and then wants to write fails
/// at once when another process wrote in between, whatever the time-out.
pub fn write<T>(
    connection: &mut Connection,
    change: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let answer = change(&transaction)?;
    transaction.commit()?;
    Ok(answer)
}

/// Which file is there: its device and inode.
pub fn identity(file: &Path) -> Option<(u64, u64)> {
    fs::metadata(file).ok().map(|found| (found.dev(), found.ino()))
}

/// Where a damaged ledger is put.
pub fn aside(file: &Path) -> PathBuf {
    with_suffix(file, ".corrupt")
}

/// Renames the file to `<file>.corrupt`. Its journal goes first: beside a new file it would be taken for that one's.
/// Returns the sentence that tells users; `then` completes it.
pub fn move_aside(file: &Path, then: &str) -> String {
    let aside = aside(file);
    for journal in ["-wal", "-shm", "-journal"] {
        let _ = fs::remove_file(with_suffix(file, journal));
    }
    match fs::rename(file, &aside) {
        Ok(()) => format!(
            "The ledger {} was damaged or no ledger; it is now {}, and {then}; look at it or delete it",
            file.display(),
            aside.display()
        ),
        Err(error) => format!(
            "The ledger {} is damaged or no ledger, and could not be moved aside ({error}); delete it, it only saves \
             requests",
            file.display()
        ),
    }
}

fn settle(file: &Path, found: Result<Found, OpenError>) -> Opened {
    let opened = |connection, trouble| Opened { file: file.to_owned(), connection, trouble };
    match found {
        Ok(Found::Ours(connection)) => opened(Some(connection), None),
        Ok(Found::Newer(version)) => {
            unusable(file, &format!("a newer loft wrote it (its format is {version}, ours {SCHEMA_VERSION})"))
        }
        Ok(Found::Foreign) => unusable(file, "it is another program's database"),
        Ok(Found::Older) => {
            let trouble = format!(
                "The ledger {} is empty or of an older loft, and says nothing until the next push brings it up to date",
                file.display()
            );
            opened(None, Some(trouble))
        }
        Err(OpenError::Database(error)) => match Kind::of(&error) {
            Kind::Damaged => {
                let told = move_aside(file, "a new one was begun");
                let connection = match open_once(file) {
                    Ok(Found::Ours(connection)) => Some(connection),
                    _ => None,
                };
                opened(connection, Some(told))
            }
            kind => opened(None, Some(kind.sentence(file, &error))),
        },
        Err(OpenError::File(error)) => unusable(file, &error.to_string()),
    }
}

fn unusable(file: &Path, reason: &str) -> Opened {
    let trouble = format!(
        "The ledger {} cannot be used ({reason}), so that loft remembers nothing; set local_cache_path to another file",
        file.display()
    );
    Opened { file: file.to_owned(), connection: None, trouble: Some(trouble) }
}

#[derive(Debug, thiserror::Error)]
enum OpenError {
    #[error(transparent)]
    File(#[from] io::Error),
    #[error(transparent)]
    Database(#[from] rusqlite::Error),
}

fn open_once(file: &Path) -> Result<Found, OpenError> {
    fs::create_dir_all(folder(file))?;
    let owner = owner_of_folder(file);
    let opened = match owner {
        Some(owner) => open_in_folder_of(owner, file)?,
        None => options().create(true).open(file)?,
    };
    if !opened.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file").into());
    }
    drop(opened);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = match owner {
        // SQLite refuses links in the folder's own path as well, and systemd makes one.
        Some(_) => Connection::open_with_flags(without_links(file)?, flags | OpenFlags::SQLITE_OPEN_NOFOLLOW)?,
        None => Connection::open_with_flags(file, flags)?,
    };
    connection.busy_timeout(BUSY_TIMEOUT)?;
    if let Some(found) = stranger(&connection)? {
        return Ok(found);
    }
    // Not every file system can do WAL; the answer names the mode that it is, and any will do.
    connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get::<_, String>(0))?;
    // A power cut may lose the last rows, never the file.
    connection.pragma_update(None, "synchronous", "normal")?;
    prepare(&mut connection)?;
    Ok(Found::Ours(connection))
}

/// SQLite gives its journals the mode of the file, and on a file that may not be written it would go on
/// read-only. Without O_NONBLOCK a FIFO would hold us for ever.
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.append(true).mode(0o600).custom_flags((OFlags::NONBLOCK | OFlags::CLOEXEC).bits() as i32);
    options
}

/// Whose folder it is, where root works in another user's: a post-build hook in the service's. That user may put
/// links there that lead anywhere, at any moment.
fn owner_of_folder(file: &Path) -> Option<(u32, u32)> {
    let folder = fs::metadata(folder(file)).ok()?;
    (geteuid().is_root() && folder.uid() != 0).then(|| (folder.uid(), folder.gid()))
}

/// What root makes there becomes that user's, by its descriptor; what is there is not followed anywhere.
fn open_in_folder_of((uid, gid): (u32, u32), file: &Path) -> io::Result<File> {
    match options().create_new(true).open(file) {
        Ok(new) => {
            // Where it does not work, the service says so when it starts.
            let _ = fchown(&new, Some(uid), Some(gid));
            Ok(new)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let flags = (OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW).bits() as i32;
            options().custom_flags(flags).open(file)
        }
        Err(error) => Err(error),
    }
}

fn without_links(file: &Path) -> io::Result<PathBuf> {
    Ok(fs::canonicalize(folder(file))?.join(file.file_name().unwrap_or_default()))
}

fn folder(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn view_once(file: &Path) -> Result<Option<Found>, OpenError> {
    match fs::metadata(file) {
        Ok(metadata) if metadata.is_file() => {}
        Ok(_) => return Err(io::Error::other("it is not a regular file").into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    // SQLite says the same of whatever keeps it from opening a file. Never by opening it here: closing it again would
    // drop the locks that SQLite holds on it for this process.
    rustix::fs::access(file, rustix::fs::Access::READ_OK).map_err(io::Error::from)?;
    // Not SQLite's read-only mode: that leaves journals behind where there were none. A file that may not be
    // written is opened read-only by itself.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(file, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "query_only", true)?;
    if let Some(found) = stranger(&connection)? {
        return Ok(Some(found));
    }
    let version: i32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    Ok(Some(if version < SCHEMA_VERSION { Found::Older } else { Found::Ours(connection) }))
}

/// Looks before anything is written; `None` for an empty file or one of ours. All looks are one
/// transaction: between two of them another process may make the file ours, which is not foreign.
fn stranger(connection: &Connection) -> rusqlite::Result<Option<Found>> {
    let connection = &connection.unchecked_transaction()?;
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let (application, version) = (pragma("application_id")?, pragma("user_version")?);
    if application != APPLICATION_ID {
        let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        return Ok((tables > 0 || application != 0).then_some(Found::Foreign));
    }
    Ok((version > SCHEMA_VERSION).then_some(Found::Newer(version)))
}

/// Brings an empty file, or one of an older loft, to today's tables; looks again under the lock, since another
/// process may just have.
fn prepare(connection: &mut Connection) -> rusqlite::Result<()> {
    let version = |c: &Connection| c.pragma_query_value(None, "user_version", |row| row.get::<_, i32>(0));
    if version(connection)? == SCHEMA_VERSION {
        return Ok(());
    }
    write(connection, |transaction| {
        let found = version(transaction)?;
        if found < SCHEMA_VERSION {
            for step in STEPS.iter().skip(usize::try_from(found).unwrap_or(0)) {
                transaction.execute_batch(step)?;
            }
            transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
            transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        }
        Ok(())
    })
}

fn with_suffix(file: &Path, suffix: &str) -> PathBuf {
    let mut name: OsString = file.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
