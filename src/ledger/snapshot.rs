//! All that a ledger's file says of the watcher and of itself, for status and metrics.

use super::rows::system_time;
use super::{BucketIdentity, Ledger, LedgerError, Outage, Prunes, QueueCounts, Queued, Scan, Totals, file};
use crate::store::Cursor;
use rusqlite::{Connection, Result};
use std::path::PathBuf;

/// A ledger at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub file: PathBuf,
    /// Of the file and its journal.
    pub bytes: u64,
    /// Narinfos that are known to be in a bucket.
    pub rows: u64,
    pub queue: QueueCounts,
    /// The worst of the queue, as many as asked for.
    pub queued: Vec<Queued>,
    pub outages: Vec<Outage>,
    pub totals: Totals,
    pub prunes: Prunes,
    /// How far each store was read; no cursor for a store that is compared as a whole.
    pub places: Vec<(String, Option<Cursor>)>,
    pub buckets: Vec<KnownBucket>,
}

/// A bucket that the ledger has rows for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownBucket {
    pub identity: BucketIdentity,
    /// Narinfos in it when it was last listed.
    pub size: Option<u64>,
    pub scan: Scan,
}

impl Ledger {
    /// What there is to tell, with the `listed` worst paths of the queue.
    pub fn snapshot(&self, listed: usize) -> std::result::Result<Snapshot, LedgerError> {
        let (places, buckets) =
            self.lock().must("read", |connection| Ok((places(connection)?, buckets(connection)?)))?;
        let file = self.file();
        Ok(Snapshot {
            bytes: file::size(&file),
            rows: self.len(),
            queue: self.queue().counts()?,
            queued: self.queue().list(listed)?,
            outages: self.watch().outages()?,
            totals: self.watch().totals()?,
            prunes: self.watch().prunes()?,
            places,
            buckets,
            file,
        })
    }
}

fn places(connection: &Connection) -> Result<Vec<(String, Option<Cursor>)>> {
    let mut statement = connection.prepare("SELECT store, database, id, path FROM place ORDER BY store")?;
    let places = statement.query_map([], |row| {
        let cursor = Cursor { database: row.get(1)?, id: row.get(2)?, path: row.get(3)? };
        Ok((row.get(0)?, Some(cursor).filter(|cursor| !cursor.database.is_empty())))
    })?;
    places.collect()
}

fn buckets(connection: &Connection) -> Result<Vec<KnownBucket>> {
    let mut statement =
        connection.prepare("SELECT url, generation, size, scan_begun, scan_done FROM bucket ORDER BY url")?;
    let buckets = statement.query_map([], |row| {
        let begun = row.get::<_, Option<i64>>(3)?.and_then(system_time).map(Scan::Begun);
        let done = row.get::<_, Option<i64>>(4)?.and_then(system_time).map(Scan::Done);
        Ok(KnownBucket {
            identity: BucketIdentity { url: row.get(0)?, generation: row.get(1)? },
            size: row.get::<_, Option<i64>>(2)?.and_then(|size| u64::try_from(size).ok()),
            scan: done.or(begun).unwrap_or(Scan::Due),
        })
    })?;
    buckets.collect()
}
