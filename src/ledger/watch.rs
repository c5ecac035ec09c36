//! How far the watcher has come, and how it fares: what a restart and `loft status` need.
//!
//! Each call is one transaction. That what was noticed is queued and that the place moves on is one of them, so
//! that no crash comes between: nothing is missed, and nothing is noticed twice.

use super::rows::{find_bucket, find_or_make_bucket, seconds, system_time};
use super::{BucketIdentity, Ledger, LedgerError, file, queue};
use crate::nix::StorePath;
use crate::store::Cursor;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use std::collections::HashSet;
use std::time::SystemTime;

/// Something that has not worked for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outage {
    /// What does not work: `bucket`, `store` or `configuration`.
    pub what: String,
    pub since: SystemTime,
    pub error: String,
}

/// How far the scan of the whole store has come, for one bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scan {
    /// Never begun.
    Due,
    /// All that the store had is queued.
    Begun(SystemTime),
    /// All of it has landed, or was collected.
    Done(SystemTime),
}

/// What the watcher has done so far, over all restarts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    pub batches: u64,
    pub pushed: u64,
    /// Paths' attempts that failed.
    pub failed: u64,
    /// NAR bytes of the pushed paths, before compression.
    pub nar_size: u64,
    /// Bytes sent, after compression.
    pub file_size: u64,
    /// Seconds since 1970; 0 for never.
    pub last_success: u64,
}

/// What became of a batch.
#[derive(Debug, Default)]
pub struct Settlement {
    /// They leave the queue.
    pub done: Vec<StorePath>,
    /// They stay; with the reason and when to try again.
    pub postponed: Vec<(StorePath, String, SystemTime)>,
    /// Added to the totals; `last_success` replaces the older one.
    pub totals: Totals,
}

impl Settlement {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.done.is_empty() && self.postponed.is_empty() && self.totals == Totals::default()
    }
}

/// The watcher's own rows in a ledger's file.
pub struct Watch<'a> {
    ledger: &'a Ledger,
}

const TOTALS: [&str; 6] = ["batches", "pushed", "failed", "nar_size", "file_size", "last_success"];

impl<'a> Watch<'a> {
    pub(super) const fn new(ledger: &'a Ledger) -> Self {
        Self { ledger }
    }

    /// How far the registrations of `store` were read.
    pub fn cursor(&self, store: &str) -> Result<Option<Cursor>, LedgerError> {
        self.read(|connection| {
            connection
                .query_row("SELECT database, id, path FROM place WHERE store = ?1", [store], |row| {
                    Ok(Cursor { database: row.get(0)?, id: row.get(1)?, path: row.get(2)? })
                })
                .optional()
        })
    }

    /// Queues what was registered up to `cursor`, and moves on to there. `scan`: it is all that is valid.
    pub fn notice(
        &self,
        store: &str,
        paths: &[StorePath],
        scan: bool,
        cursor: &Cursor,
        now: SystemTime,
    ) -> Result<(), LedgerError> {
        self.write(|transaction| {
            queue::add(transaction, paths, scan, now)?;
            move_to(transaction, store, cursor)
        })
    }

    /// The paths of `store` that were valid at the last look; `None` before the first. For stores that have no cursor.
    pub fn inventory(&self, store: &str) -> Result<Option<HashSet<StorePath>>, LedgerError> {
        self.read(|connection| {
            // A place without a database says that there was a look.
            if place_of_inventory(connection, store)?.is_none() {
                return Ok(None);
            }
            let mut statement = connection.prepare_cached("SELECT path FROM inventory WHERE store = ?1")?;
            let texts = statement.query_map([store], |row| row.get::<_, String>(0))?;
            let paths: rusqlite::Result<Vec<String>> = texts.collect();
            Ok(Some(paths?.iter().filter_map(|text| StorePath::parse(text).ok()).collect()))
        })
    }

    /// As `notice`, for a store without a cursor: notes which paths `appeared` in `store` and which are `gone` since the last look.
    pub fn notice_inventory(
        &self,
        store: &str,
        queued: &[StorePath],
        scan: bool,
        appeared: &[StorePath],
        gone: &[StorePath],
        now: SystemTime,
    ) -> Result<(), LedgerError> {
        self.write(|transaction| {
            queue::add(transaction, queued, scan, now)?;
            if place_of_inventory(transaction, store)?.is_none() {
                transaction.execute("DELETE FROM inventory WHERE store = ?1", [store])?;
                move_to(transaction, store, &Cursor { database: String::new(), id: 0, path: None })?;
            }
            let mut add =
                transaction.prepare_cached("INSERT OR IGNORE INTO inventory (store, path) VALUES (?1, ?2)")?;
            for path in appeared {
                add.execute([store, path.as_str()])?;
            }
            let mut remove = transaction.prepare_cached("DELETE FROM inventory WHERE store = ?1 AND path = ?2")?;
            for path in gone {
                remove.execute([store, path.as_str()])?;
            }
            Ok(())
        })
    }

    /// Copies the places of all stores, for a dry run that goes on from there and moves nothing.
    pub fn copy_places_to(&self, other: &Ledger) -> Result<(), LedgerError> {
        type Places = Vec<(String, Cursor)>;
        let (places, inventory): (Places, Vec<(String, String)>) = self.read(|connection| {
            let mut places = connection.prepare("SELECT store, database, id, path FROM place")?;
            let cursor =
                |row: &Row<'_>| Ok((row.get(0)?, Cursor { database: row.get(1)?, id: row.get(2)?, path: row.get(3)? }));
            let places = places.query_map([], cursor)?.collect::<Result<_, _>>()?;
            let mut inventory = connection.prepare("SELECT store, path FROM inventory")?;
            let inventory = inventory.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
            Ok((places, inventory))
        })?;
        other.watch().write(|transaction| {
            for (store, cursor) in &places {
                move_to(transaction, store, cursor)?;
            }
            let mut add = transaction.prepare("INSERT OR IGNORE INTO inventory (store, path) VALUES (?1, ?2)")?;
            inventory.iter().try_for_each(|row| add.execute(params![row.0, row.1]).map(drop))
        })
    }

    /// Whether the store was scanned for this bucket.
    pub fn scan(&self, bucket: &BucketIdentity) -> Result<Scan, LedgerError> {
        self.read(|connection| {
            let row: Option<(Option<i64>, Option<i64>)> = connection
                .query_row(
                    "SELECT scan_begun, scan_done FROM bucket WHERE url = ?1 AND generation = ?2",
                    params![bucket.url, bucket.generation],
                    |row| Ok((row.get(0)?, row.get(1)?)),
                )
                .optional()?;
            let (begun, done) = row.unwrap_or_default();
            let done = done.and_then(system_time).map(Scan::Done);
            Ok(done.or_else(|| begun.and_then(system_time).map(Scan::Begun)).unwrap_or(Scan::Due))
        })
    }

    /// Queues the whole store for this bucket.
    pub fn begin_scan(&self, bucket: &BucketIdentity, paths: &[StorePath], now: SystemTime) -> Result<(), LedgerError> {
        self.write(|transaction| {
            queue::add(transaction, paths, true, now)?;
            let id = find_or_make_bucket(transaction, bucket)?;
            transaction.execute(
                "UPDATE bucket SET scan_begun = ?2, scan_done = NULL WHERE id = ?1",
                params![id, seconds(now)],
            )?;
            Ok(())
        })
    }

    /// Declares a scan that was begun done, once nothing of it is queued any more. Whether it did.
    pub fn end_scan(&self, bucket: &BucketIdentity, now: SystemTime) -> Result<bool, LedgerError> {
        self.write(|transaction| {
            let Some(id) = find_bucket(transaction, bucket)? else { return Ok(false) };
            let changed = transaction.execute(
                "UPDATE bucket SET scan_done = ?2 WHERE id = ?1 AND scan_begun IS NOT NULL AND scan_done IS NULL \
                 AND NOT EXISTS (SELECT 1 FROM queue WHERE scan = 1)",
                params![id, seconds(now)],
            )?;
            Ok(changed > 0)
        })
    }

    /// Forgets that the store was ever scanned, for any bucket (`--reset-initial-scan`). What is queued stays: a
    /// database that was replaced has put paths there, too, which nothing else would find again.
    pub fn forget_scans(&self) -> Result<(), LedgerError> {
        self.write(|transaction| {
            transaction.execute("UPDATE bucket SET scan_begun = NULL, scan_done = NULL", [])?;
            Ok(())
        })
    }

    /// Writes what became of a batch.
    pub fn settle(&self, settlement: &Settlement) -> Result<(), LedgerError> {
        self.write(|transaction| {
            queue::remove(transaction, &settlement.done)?;
            for (path, why, due) in &settlement.postponed {
                queue::postpone(transaction, path, why, *due)?;
            }
            add_totals(transaction, &settlement.totals)
        })
    }

    pub fn totals(&self) -> Result<Totals, LedgerError> {
        self.read(|connection| {
            let mut values = [0; TOTALS.len()];
            let mut statement = connection.prepare_cached("SELECT value FROM total WHERE name = ?1")?;
            for (name, value) in TOTALS.iter().zip(&mut values) {
                let found: Option<i64> = statement.query_row([name], |row| row.get(0)).optional()?;
                *value = u64::try_from(found.unwrap_or_default()).unwrap_or_default();
            }
            let [batches, pushed, failed, nar_size, file_size, last_success] = values;
            Ok(Totals { batches, pushed, failed, nar_size, file_size, last_success })
        })
    }

    /// What does not work, since when and why.
    pub fn outages(&self) -> Result<Vec<Outage>, LedgerError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached("SELECT what, since, error FROM outage ORDER BY since")?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?, row.get(2)?)))?;
            let mut outages = Vec::new();
            for row in rows {
                let (what, since, error) = row?;
                outages.push(Outage { what, since: system_time(since).unwrap_or(SystemTime::UNIX_EPOCH), error });
            }
            Ok(outages)
        })
    }

    /// Notes that `what` does not work; one that goes on keeps its beginning.
    pub fn note_outage(&self, what: &str, error: &str, now: SystemTime) -> Result<(), LedgerError> {
        self.write(|transaction| {
            transaction.execute(
                "INSERT INTO outage (what, since, error) VALUES (?1, ?2, ?3) \
                 ON CONFLICT (what) DO UPDATE SET error = excluded.error",
                params![what, seconds(now), error],
            )?;
            Ok(())
        })
    }

    /// Notes that `what` works again.
    pub fn end_outage(&self, what: &str) -> Result<(), LedgerError> {
        self.write(|transaction| {
            transaction.execute("DELETE FROM outage WHERE what = ?1", [what])?;
            Ok(())
        })
    }

    pub(super) fn read<T>(&self, query: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, LedgerError> {
        self.ledger.lock().must("read", |connection| {
            let transaction = connection.transaction()?;
            query(&transaction)
        })
    }

    pub(super) fn write<T>(&self, change: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, LedgerError> {
        self.ledger.lock().must("write to", |connection| file::write(connection, change))
    }
}

fn move_to(connection: &Connection, store: &str, cursor: &Cursor) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT OR REPLACE INTO place (store, database, id, path) VALUES (?1, ?2, ?3, ?4)",
        params![store, cursor.database, cursor.id, cursor.path],
    )?;
    Ok(())
}

fn place_of_inventory(connection: &Connection, store: &str) -> rusqlite::Result<Option<i64>> {
    connection
        .query_row("SELECT id FROM place WHERE store = ?1 AND database = ''", [store], |row| row.get(0))
        .optional()
}

fn add_totals(connection: &Connection, totals: &Totals) -> rusqlite::Result<()> {
    let Totals { batches, pushed, failed, nar_size, file_size, last_success } = *totals;
    let mut statement = connection.prepare_cached(
        "INSERT INTO total (name, value) VALUES (?1, ?2) \
         ON CONFLICT (name) DO UPDATE SET \
         value = CASE name WHEN 'last_success' THEN max(value, excluded.value) ELSE value + excluded.value END",
    )?;
    let values = [batches, pushed, failed, nar_size, file_size, last_success];
    for (name, value) in TOTALS.iter().zip(values).filter(|(_, value)| *value > 0) {
        statement.execute(params![name, i64::try_from(value).unwrap_or(i64::MAX)])?;
    }
    Ok(())
}
