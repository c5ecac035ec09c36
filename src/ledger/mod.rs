//! Local memory of what a bucket holds: saves requests, never decides correctness.
//!
//! It may be deleted at any time. A ledger that is corrupt, read-only or locked is "knows nothing":
//! no call but `clear` fails, and none ever says "present" because something went wrong. Rows carry a
//! checksum, so that a flipped bit cannot make a row fresh again or move it to another bucket.
//! Several processes may use one file at once (a service, a post-build hook, a push).
//!
//! The same file keeps what a watcher must not forget: its [`Queue`] and its [`Watch`] state. Those calls do
//! fail, since "nothing is queued" must never be said because a disk is full.

mod copies;
mod file;
mod prunes;
mod queue;
mod rows;
mod snapshot;
mod trouble;
mod watch;

pub use copies::{Copies, Version};
pub use prunes::Prunes;
pub use queue::{MAX_DELAY, Queue, QueueCounts, Queued};
pub use snapshot::{KnownBucket, Snapshot};
pub use watch::{Outage, Scan, Settlement, Totals, Watch};

pub use trouble::{LedgerCause, LedgerError};

use crate::nix::{PathHash, Sha256};
use rusqlite::Connection;
use rusqlite::config::DbConfig;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

/// Rows older than this are asked for again.
pub const MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// Which bucket rows are about: its URL and the generation id in `loft/v1/bucket.json`, so that a
/// bucket that was emptied and made anew is not taken for the old one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketIdentity {
    pub url: String,
    pub generation: String,
}

pub struct Ledger {
    state: Mutex<State>,
}

struct State {
    /// For messages.
    file: PathBuf,
    /// `None` when nothing can be known.
    connection: Option<Connection>,
    /// Of the file that is open; nothing for one in memory.
    identity: Option<(u64, u64)>,
    trouble: Option<String>,
    /// Old rows are removed once for each time the ledger is opened: it costs a scan.
    swept: bool,
    /// Only looked at: what is damaged is not moved aside.
    is_view: bool,
}

impl Ledger {
    /// Never fails: what is wrong is told by `trouble`. Makes missing parent directories; the file is the
    /// user's own (0600). A file that is damaged is moved aside to `<file>.corrupt`; one that is some other
    /// program's database is left alone, and the ledger goes beside it, to `<file>.loft`.
    pub fn open(file: &Path) -> Self {
        let opened = file::open(file);
        Self {
            state: Mutex::new(State {
                identity: file::identity(&opened.file),
                file: opened.file,
                connection: opened.connection,
                trouble: opened.trouble,
                swept: false,
                is_view: false,
            }),
        }
    }

    /// For a look at what another process works with: makes, mends and moves nothing, and every write fails.
    /// `None` where there is no file.
    pub fn view(file: &Path) -> Option<Self> {
        let file::Opened { file, connection, trouble } = file::view(file)?;
        Some(Self {
            state: Mutex::new(State { file, connection, identity: None, trouble, swept: true, is_view: true }),
        })
    }

    /// Waits no longer than this for others who write.
    #[must_use]
    pub fn patient_for(self, patience: Duration) -> Self {
        if let Some(connection) = &self.lock().connection {
            let _ = connection.busy_timeout(patience);
        }
        self
    }

    /// For a caller who must not wait, such as a post-build hook: whoever holds the lock for long is not
    /// waited for, and closing writes nothing back.
    #[must_use]
    pub fn brief(self) -> Self {
        let brief = self.patient_for(Duration::from_millis(300));
        if let Some(connection) = &brief.lock().connection {
            let _ = connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
        }
        brief
    }

    /// A ledger that lives in memory alone.
    pub fn in_memory() -> Self {
        let (connection, trouble) = match file::in_memory() {
            Ok(connection) => (Some(connection), None),
            Err(error) => (None, Some(format!("There is no ledger in memory: {error}"))),
        };
        Self {
            state: Mutex::new(State {
                file: PathBuf::from(":memory:"),
                connection,
                identity: None,
                trouble,
                swept: true,
                is_view: false,
            }),
        }
    }

    /// What was or is wrong with the ledger, if anything: one sentence naming the file and what to do. Ask again
    /// at the end: trouble may come with any call.
    pub fn trouble(&self) -> Option<String> {
        self.lock().trouble.clone()
    }

    /// Which of `hashes` are in the bucket, as seen less than `MAX_AGE` before `now`. Rows from the future (the
    /// clock was set back) do not count.
    pub fn known(&self, bucket: &BucketIdentity, hashes: &[PathHash], now: SystemTime) -> HashSet<PathHash> {
        self.lock().read(|connection| rows::known(connection, bucket, hashes, now)).unwrap_or_default()
    }

    /// Remembers that the narinfos of `hashes` were seen in the bucket at `now` (published, headed or listed).
    pub fn remember(&self, bucket: &BucketIdentity, hashes: &[PathHash], now: SystemTime) {
        let mut state = self.lock();
        let sweep = !std::mem::replace(&mut state.swept, true);
        state.write(|transaction| {
            if sweep {
                rows::forget_old(transaction, now)?;
            }
            rows::remember(transaction, bucket, hashes, now)
        });
    }

    /// Forgets rows that turned out wrong.
    pub fn forget(&self, bucket: &BucketIdentity, hashes: &[PathHash]) {
        self.lock().write(|transaction| rows::forget(transaction, bucket, hashes));
    }

    /// Number of narinfos that the last full listing of the bucket showed (for choosing HEADs or a listing).
    pub fn bucket_size(&self, bucket: &BucketIdentity) -> Option<u64> {
        self.lock().read(|connection| rows::bucket_size(connection, bucket)).flatten()
    }

    /// Replaces all rows of the bucket by a full listing's.
    pub fn replace(&self, bucket: &BucketIdentity, hashes: &[PathHash], now: SystemTime) {
        self.lock().write(|transaction| rows::replace(transaction, bucket, hashes, now));
    }

    /// Remembers that a push record for this set of roots (by a digest of them) was written at `time`.
    pub fn remember_push(&self, bucket: &BucketIdentity, roots: &Sha256, time: SystemTime) {
        self.lock().write(|transaction| rows::remember_push(transaction, bucket, roots, time));
    }

    /// When the push record for this set of roots was last written; later than now where the clock was set back.
    pub fn last_push(&self, bucket: &BucketIdentity, roots: &Sha256) -> Option<SystemTime> {
        self.lock().read(|connection| rows::last_push(connection, bucket, roots)).flatten()
    }

    /// The file in use.
    pub fn file(&self) -> PathBuf {
        self.lock().file.clone()
    }

    /// Whether it was damaged, deleted or replaced while it was open: what is written now nobody will find.
    pub fn is_lost(&self) -> bool {
        let state = self.lock();
        state.connection.is_none() || (state.identity.is_some() && file::identity(&state.file) != state.identity)
    }

    /// Whether a damaged ledger was once put aside here: what it knew of the store is lost.
    pub fn has_lost_one(&self) -> bool {
        file::aside(&self.lock().file).exists()
    }

    /// What waits to be pushed.
    pub fn queue(&self) -> Queue<'_> {
        Queue::new(self)
    }

    /// How far the watcher has come, and how it fares.
    pub fn watch(&self) -> Watch<'_> {
        Watch::new(self)
    }

    /// Forgets what the bucket has; the queue and the watcher's place stay, since nothing else knows them. This one
    /// can fail, since the user asked for it.
    pub fn clear(&self) -> Result<(), LedgerError> {
        self.lock().must("empty", |connection| file::write(connection, rows::clear))?;
        // Gives the space back; that others are reading is no failure.
        if let Some(connection) = &self.lock().connection {
            let _ = connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE); VACUUM;");
        }
        Ok(())
    }

    /// Number of rows, over all buckets.
    pub fn len(&self) -> u64 {
        self.lock().read(rows::count).unwrap_or_default()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A panic in another thread leaves at worst a transaction that was rolled back.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn read<T>(&mut self, query: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Option<T> {
        // One read transaction: a lock for each of thousands of look-ups costs more than they do.
        let result = self.connection.as_mut().map(|connection| {
            let transaction = connection.transaction()?;
            query(&transaction)
        })?;
        result.map_err(|error| self.note(&error)).ok()
    }

    fn write(&mut self, change: impl FnOnce(&Connection) -> rusqlite::Result<()>) {
        if let Some(Err(error)) = self.connection.as_mut().map(|connection| file::write(connection, change)) {
            self.note(&error);
        }
    }

    /// Does what may not fail in silence.
    fn must<T>(
        &mut self,
        doing: &'static str,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
    ) -> Result<T, LedgerError> {
        let result = match self.connection.as_mut() {
            Some(connection) => work(connection).map_err(LedgerCause::Database),
            None => Err(LedgerCause::Unusable(self.trouble.clone().unwrap_or_default())),
        };
        if let Err(LedgerCause::Database(error)) = &result
            && trouble::Kind::of(error) == trouble::Kind::Damaged
        {
            self.note(error);
        }
        result.map_err(|cause| LedgerError { doing, file: self.file.display().to_string(), cause })
    }

    /// Keeps the first trouble, which tends to be the cause of the others.
    fn note(&mut self, error: &rusqlite::Error) {
        let kind = trouble::Kind::of(error);
        let mut told = kind.sentence(&self.file, error);
        match kind {
            trouble::Kind::Damaged if self.is_view => self.connection = None,
            trouble::Kind::Damaged => {
                self.connection = None;
                told = file::move_aside(&self.file, "the next run starts with an empty one");
            }
            // Whoever waited once in vain should not wait again for each batch.
            trouble::Kind::Locked => {
                if let Some(connection) = &self.connection {
                    let _ = connection.busy_timeout(Duration::from_millis(50));
                }
            }
            trouble::Kind::Full | trouble::Kind::Other => {}
        }
        self.trouble.get_or_insert(told);
    }
}

#[cfg(test)]
mod tests;
