//! What is read and written, as SQL. Callers hold a transaction.

use super::copies::Version;
use super::{BucketIdentity, MAX_AGE};
use crate::nix::{PathHash, Sha256};
use rusqlite::{Connection, OptionalExtension as _, Result, params};
use std::collections::HashSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const MAX_AGE_SECONDS: i64 = MAX_AGE.as_secs().cast_signed();

pub fn known(
    connection: &Connection,
    bucket: &BucketIdentity,
    hashes: &[PathHash],
    now: SystemTime,
) -> Result<HashSet<PathHash>> {
    let Some(id) = find_bucket(connection, bucket)? else {
        return Ok(HashSet::new());
    };
    let now = seconds(now);
    let sum = Checksum::of_bucket(bucket);
    let mut statement = connection.prepare_cached("SELECT seen, checksum FROM path WHERE bucket = ?1 AND hash = ?2")?;
    let mut known = HashSet::new();
    for hash in hashes {
        let row = statement
            .query_row(params![id, hash.as_str()], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))
            .optional()?;
        let fresh = |seen: i64| now.checked_sub(seen).is_some_and(|age| (0..MAX_AGE_SECONDS).contains(&age));
        if row.is_some_and(|(seen, checksum)| fresh(seen) && checksum == sum.row(hash.as_str(), seen)) {
            known.insert(*hash);
        }
    }
    Ok(known)
}

pub fn remember(connection: &Connection, bucket: &BucketIdentity, hashes: &[PathHash], now: SystemTime) -> Result<()> {
    let id = find_or_make_bucket(connection, bucket)?;
    let seen = seconds(now);
    let sum = Checksum::of_bucket(bucket);
    let mut statement = connection
        .prepare_cached("INSERT OR REPLACE INTO path (bucket, hash, seen, checksum) VALUES (?1, ?2, ?3, ?4)")?;
    for hash in hashes {
        statement.execute(params![id, hash.as_str(), seen, sum.row(hash.as_str(), seen)])?;
    }
    Ok(())
}

pub fn forget(connection: &Connection, bucket: &BucketIdentity, hashes: &[PathHash]) -> Result<()> {
    let Some(id) = find_bucket(connection, bucket)? else {
        return Ok(());
    };
    let mut statement = connection.prepare_cached("DELETE FROM path WHERE bucket = ?1 AND hash = ?2")?;
    for hash in hashes {
        statement.execute(params![id, hash.as_str()])?;
    }
    Ok(())
}

/// Rows that can never count again: too old, or from a future that the clock has been set back from.
pub fn forget_old(connection: &Connection, now: SystemTime) -> Result<()> {
    let now = seconds(now);
    let oldest = now.saturating_sub(MAX_AGE_SECONDS);
    connection.execute("DELETE FROM path WHERE seen <= ?1 OR seen > ?2", params![oldest, now])?;
    connection.execute("DELETE FROM push WHERE time <= ?1 OR time > ?2", params![oldest, now])?;
    Ok(())
}

pub fn bucket_size(connection: &Connection, bucket: &BucketIdentity) -> Result<Option<u64>> {
    let size: Option<Option<i64>> = connection
        .query_row(
            "SELECT size FROM bucket WHERE url = ?1 AND generation = ?2",
            params![bucket.url, bucket.generation],
            |row| row.get(0),
        )
        .optional()?;
    Ok(size.flatten().and_then(|size| u64::try_from(size).ok()))
}

pub fn replace(connection: &Connection, bucket: &BucketIdentity, hashes: &[PathHash], now: SystemTime) -> Result<()> {
    let id = find_or_make_bucket(connection, bucket)?;
    connection.execute("DELETE FROM path WHERE bucket = ?1", [id])?;
    // In the order of the table's tree, so that it grows at its end: several times faster for a large bucket.
    let mut sorted = hashes.to_vec();
    sorted.sort_unstable();
    remember(connection, bucket, &sorted, now)?;
    let size = i64::try_from(hashes.len()).unwrap_or(i64::MAX);
    connection.execute("UPDATE bucket SET size = ?2 WHERE id = ?1", params![id, size])?;
    Ok(())
}

pub fn remember_push(connection: &Connection, bucket: &BucketIdentity, roots: &Sha256, time: SystemTime) -> Result<()> {
    let id = find_or_make_bucket(connection, bucket)?;
    let (roots, time) = (roots.to_nix32(), seconds(time));
    let checksum = Checksum::of_bucket(bucket).row(&roots, time);
    connection.execute(
        "INSERT OR REPLACE INTO push (bucket, roots, time, checksum) VALUES (?1, ?2, ?3, ?4)",
        params![id, roots, time, checksum],
    )?;
    Ok(())
}

pub fn last_push(connection: &Connection, bucket: &BucketIdentity, roots: &Sha256) -> Result<Option<SystemTime>> {
    let Some(id) = find_bucket(connection, bucket)? else {
        return Ok(None);
    };
    let roots = roots.to_nix32();
    let row: Option<(i64, i64)> = connection
        .query_row("SELECT time, checksum FROM push WHERE bucket = ?1 AND roots = ?2", params![id, roots], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    let intact = row.filter(|(time, checksum)| *checksum == Checksum::of_bucket(bucket).row(&roots, *time));
    Ok(intact.and_then(|(time, _)| system_time(time)))
}

pub fn clear(connection: &Connection) -> Result<()> {
    // The rows of `bucket` also say whether the first scan was done.
    connection.execute_batch("DELETE FROM path; DELETE FROM push; DELETE FROM copy; UPDATE bucket SET size = NULL;")
}

pub fn count(connection: &Connection) -> Result<u64> {
    connection
        .query_row("SELECT count(*) FROM path", [], |row| row.get::<_, i64>(0))
        .map(|rows| u64::try_from(rows).unwrap_or_default())
}

pub fn find_bucket(connection: &Connection, bucket: &BucketIdentity) -> Result<Option<i64>> {
    connection
        .prepare_cached("SELECT id FROM bucket WHERE url = ?1 AND generation = ?2")?
        .query_row(params![bucket.url, bucket.generation], |row| row.get(0))
        .optional()
}

pub fn find_or_make_bucket(connection: &Connection, bucket: &BucketIdentity) -> Result<i64> {
    if let Some(id) = find_bucket(connection, bucket)? {
        return Ok(id);
    }
    // A generation that has been replaced never comes back.
    for table in ["path", "push", "copy"] {
        let sql = format!("DELETE FROM {table} WHERE bucket IN (SELECT id FROM bucket WHERE url = ?1)");
        connection.execute(&sql, [&bucket.url])?;
    }
    connection.execute("DELETE FROM bucket WHERE url = ?1", [&bucket.url])?;
    connection
        .execute("INSERT INTO bucket (url, generation) VALUES (?1, ?2)", params![bucket.url, bucket.generation])?;
    Ok(connection.last_insert_rowid())
}

/// FNV-1a over 64 bits: against damage, not against malice (who can write the file can write the bucket's keys).
#[derive(Clone, Copy)]
pub struct Checksum(u64);

impl Checksum {
    pub fn of_bucket(bucket: &BucketIdentity) -> Self {
        Self(0xcbf2_9ce4_8422_2325).add(bucket.url.as_bytes()).add(&[0]).add(bucket.generation.as_bytes()).add(&[0])
    }

    fn row(self, key: &str, time: i64) -> i64 {
        self.add(key.as_bytes()).add(&time.to_le_bytes()).0.cast_signed()
    }

    pub fn copy(self, version: &Version, bytes: &[u8]) -> i64 {
        self.add(version.key.as_bytes()).add(&[0]).add(version.etag.as_bytes()).add(&[0]).add(bytes).0.cast_signed()
    }

    fn add(self, bytes: &[u8]) -> Self {
        Self(bytes.iter().fold(self.0, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)))
    }
}

/// Seconds since 1970, rounded down; times that 64 bits cannot hold are as far away as they can.
pub fn seconds(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_secs()).map_or(i64::MIN, |seconds| -seconds - 1),
    }
}

pub fn system_time(seconds: i64) -> Option<SystemTime> {
    let distance = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) }
}
