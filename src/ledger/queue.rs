//! The durable queue: store paths that are to be pushed, and why some are still there.
//!
//! A path leaves it by landing, or by leaving the store. Times are the wall clock's, in whole seconds.

use super::rows::{seconds, system_time};
use super::{Ledger, LedgerError, file};
use crate::nix::StorePath;
use rusqlite::{Connection, OptionalExtension as _, Result, Row, params};
use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A due time further ahead than this was written before the clock was set back.
pub const MAX_DELAY: Duration = Duration::from_secs(2 * 60 * 60);

/// A path that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queued {
    pub path: StorePath,
    /// When it was first queued.
    pub since: SystemTime,
    /// A scan of the whole store put it there: what was built just now goes first.
    pub scan: bool,
    /// Not tried again before this.
    pub due: SystemTime,
    /// How often it was tried in vain.
    pub attempts: u32,
    /// Why, the last time.
    pub error: Option<String>,
}

/// The queue in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueCounts {
    pub waiting: u64,
    /// Of these: put there by a scan of the whole store.
    pub scan: u64,
    /// Of these: tried in vain at least once.
    pub failing: u64,
    pub oldest: Option<SystemTime>,
}

/// The queue in a ledger's file. Unlike the ledger's memory, its calls fail when they did not work.
pub struct Queue<'a> {
    ledger: &'a Ledger,
}

impl<'a> Queue<'a> {
    pub(super) const fn new(ledger: &'a Ledger) -> Self {
        Self { ledger }
    }

    /// Adds what is not there yet; what is there becomes due now.
    pub fn add(&self, paths: &[StorePath], now: SystemTime) -> std::result::Result<(), LedgerError> {
        self.ledger.lock().must("queue paths in", |connection| {
            file::write(connection, |transaction| add(transaction, paths, false, now))
        })
    }

    /// At most `limit` paths that are due: what was built just now before what a scan found, the longest due first.
    pub fn due(&self, now: SystemTime, limit: usize) -> std::result::Result<Vec<Queued>, LedgerError> {
        const SQL: &str = "SELECT path, since, scan, due, attempts, error FROM queue WHERE due <= ?1 OR due > ?2 \
                           ORDER BY scan, due LIMIT ?3";
        let (from, to) = (seconds(now), seconds(now + MAX_DELAY));
        self.ledger.lock().must("read the queue of", |connection| {
            rows(connection, SQL, params![from, to, i64::try_from(limit).unwrap_or(i64::MAX)])
        })
    }

    /// When the next path becomes due that is not due `now`.
    pub fn next_due(&self, now: SystemTime) -> std::result::Result<Option<SystemTime>, LedgerError> {
        self.ledger.lock().must("read the queue of", |connection| {
            let due: Option<i64> =
                connection.query_row("SELECT min(due) FROM queue WHERE due > ?1", [seconds(now)], |row| row.get(0))?;
            Ok(due.and_then(system_time))
        })
    }

    /// How often the queued ones among `paths` were tried in vain.
    pub fn attempts(&self, paths: &[&StorePath]) -> std::result::Result<HashMap<StorePath, u32>, LedgerError> {
        self.ledger.lock().must("read the queue of", |connection| {
            let mut statement = connection.prepare_cached("SELECT attempts FROM queue WHERE path = ?1")?;
            let mut found = HashMap::new();
            for path in paths {
                let attempts: Option<i64> = statement.query_row([path.as_str()], |row| row.get(0)).optional()?;
                if let Some(attempts) = attempts {
                    found.insert((*path).clone(), u32::try_from(attempts).unwrap_or(u32::MAX));
                }
            }
            Ok(found)
        })
    }

    pub fn counts(&self) -> std::result::Result<QueueCounts, LedgerError> {
        const SQL: &str =
            "SELECT count(*), coalesce(sum(scan), 0), coalesce(sum(attempts > 0), 0), min(since) FROM queue";
        self.ledger.lock().must("read the queue of", |connection| {
            connection.query_row(SQL, [], |row| {
                Ok(QueueCounts {
                    waiting: count(row, 0)?,
                    scan: count(row, 1)?,
                    failing: count(row, 2)?,
                    oldest: row.get::<_, Option<i64>>(3)?.and_then(system_time),
                })
            })
        })
    }

    /// At most `limit` paths: those that failed most often first, then the oldest.
    pub fn list(&self, limit: usize) -> std::result::Result<Vec<Queued>, LedgerError> {
        const SQL: &str = "SELECT path, since, scan, due, attempts, error FROM queue \
                           ORDER BY attempts DESC, since, path LIMIT ?1";
        self.ledger.lock().must("read the queue of", |connection| {
            rows(connection, SQL, params![i64::try_from(limit).unwrap_or(i64::MAX)])
        })
    }
}

/// Adds `paths` inside the caller's transaction.
pub(super) fn add(connection: &Connection, paths: &[StorePath], scan: bool, now: SystemTime) -> Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO queue (path, since, scan, due) VALUES (?1, ?2, ?3, ?2) \
         ON CONFLICT (path) DO UPDATE SET scan = min(scan, excluded.scan), due = min(due, excluded.due)",
    )?;
    let now = seconds(now);
    for path in paths {
        statement.execute(params![path.as_str(), now, scan])?;
    }
    Ok(())
}

/// Takes `paths` out, those that are in it.
pub(super) fn remove<'p>(connection: &Connection, paths: impl IntoIterator<Item = &'p StorePath>) -> Result<()> {
    let mut statement = connection.prepare_cached("DELETE FROM queue WHERE path = ?1")?;
    for path in paths {
        statement.execute([path.as_str()])?;
    }
    Ok(())
}

/// Notes a failure of `path`, if it is queued.
pub(super) fn postpone(connection: &Connection, path: &StorePath, why: &str, due: SystemTime) -> Result<()> {
    connection
        .prepare_cached("UPDATE queue SET attempts = attempts + 1, error = ?2, due = ?3 WHERE path = ?1")?
        .execute(params![path.as_str(), why, seconds(due)])?;
    Ok(())
}

fn rows(connection: &Connection, sql: &str, params: impl rusqlite::Params) -> Result<Vec<Queued>> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut found = Vec::new();
    let mut rows = statement.query(params)?;
    while let Some(row) = rows.next()? {
        // Only damage makes another text of it; that path comes back with the next scan.
        let Ok(path) = StorePath::parse(&row.get::<_, String>(0)?) else { continue };
        found.push(Queued {
            path,
            since: system_time(row.get(1)?).unwrap_or(UNIX_EPOCH),
            scan: row.get(2)?,
            due: system_time(row.get(3)?).unwrap_or(UNIX_EPOCH),
            attempts: u32::try_from(row.get::<_, i64>(4)?).unwrap_or(u32::MAX),
            error: row.get(5)?,
        });
    }
    Ok(found)
}

fn count(row: &Row<'_>, column: usize) -> Result<u64> {
    Ok(u64::try_from(row.get::<_, i64>(column)?).unwrap_or_default())
}
