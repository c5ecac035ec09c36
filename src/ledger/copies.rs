//! Copies of small objects of the bucket, by their ETags: whoever looks at all of it reads only what has changed.

use super::rows::{Checksum, find_bucket, find_or_make_bucket};
use super::{BucketIdentity, Ledger};
use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension as _, Result, params};
use std::collections::{HashMap, HashSet};

/// What a ledger keeps of one bucket's narinfos and records. As all of a ledger it may be empty at any time, and what is
/// damaged in it counts as absent.
pub struct Copies<'l> {
    ledger: &'l Ledger,
    bucket: BucketIdentity,
}

/// An object as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Version {
    pub key: String,
    pub etag: String,
}

impl Ledger {
    /// The copies of objects of `bucket`.
    pub fn copies(&self, bucket: &BucketIdentity) -> Copies<'_> {
        Copies { ledger: self, bucket: bucket.clone() }
    }
}

impl Copies<'_> {
    /// The bytes of those of `versions` that are here, by key. One without an ETag never is.
    pub fn get(&self, versions: &[Version]) -> HashMap<String, Bytes> {
        self.ledger.lock().read(|connection| get(connection, &self.bucket, versions)).unwrap_or_default()
    }

    /// The bytes of these keys in the version that was read last.
    pub fn last(&self, keys: &[String]) -> HashMap<String, Bytes> {
        self.ledger.lock().read(|connection| last(connection, &self.bucket, keys)).unwrap_or_default()
    }

    /// Keeps these, in place of other versions of the same keys.
    pub fn keep(&self, objects: &[(Version, Bytes)]) {
        if !objects.is_empty() {
            self.ledger.lock().write(|transaction| keep(transaction, &self.bucket, objects));
        }
    }

    /// Forgets all whose keys `are_there` does not say are still in the bucket.
    pub fn forget_others(&self, are_there: impl Fn(&str) -> bool) {
        self.ledger.lock().write(|transaction| forget_others(transaction, &self.bucket, are_there));
    }
}

fn get(connection: &Connection, bucket: &BucketIdentity, versions: &[Version]) -> Result<HashMap<String, Bytes>> {
    let Some(id) = find_bucket(connection, bucket)? else { return Ok(HashMap::new()) };
    let mut found = HashMap::new();
    for version in versions {
        if let Some((kept, bytes)) = find(connection, bucket, id, &version.key)?
            && kept == *version
        {
            found.insert(kept.key, bytes);
        }
    }
    Ok(found)
}

fn last(connection: &Connection, bucket: &BucketIdentity, keys: &[String]) -> Result<HashMap<String, Bytes>> {
    let Some(id) = find_bucket(connection, bucket)? else { return Ok(HashMap::new()) };
    let mut found = HashMap::new();
    for key in keys {
        found.extend(find(connection, bucket, id, key)?.map(|(version, bytes)| (version.key, bytes)));
    }
    Ok(found)
}

/// What is there of a key, if it is sound.
fn find(connection: &Connection, bucket: &BucketIdentity, id: i64, key: &str) -> Result<Option<(Version, Bytes)>> {
    let mut statement =
        connection.prepare_cached("SELECT etag, bytes, checksum FROM copy WHERE bucket = ?1 AND key = ?2")?;
    let row = statement.query_row(params![id, key], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?, row.get::<_, i64>(2)?))
    });
    Ok(row.optional()?.and_then(|(etag, bytes, checksum)| {
        let version = Version { key: key.to_owned(), etag };
        let is_sound = checksum == Checksum::of_bucket(bucket).copy(&version, &bytes);
        is_sound.then(|| (version, Bytes::from(bytes)))
    }))
}

fn keep(connection: &Connection, bucket: &BucketIdentity, objects: &[(Version, Bytes)]) -> Result<()> {
    let id = find_or_make_bucket(connection, bucket)?;
    let mut statement = connection.prepare_cached(
        "INSERT OR REPLACE INTO copy (bucket, key, etag, bytes, checksum) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    for (version, bytes) in objects.iter().filter(|(version, _)| !version.etag.is_empty()) {
        let checksum = Checksum::of_bucket(bucket).copy(version, bytes);
        statement.execute(params![id, version.key, version.etag, bytes.as_ref(), checksum])?;
    }
    Ok(())
}

fn forget_others(connection: &Connection, bucket: &BucketIdentity, are_there: impl Fn(&str) -> bool) -> Result<()> {
    let Some(id) = find_bucket(connection, bucket)? else { return Ok(()) };
    let mut gone = HashSet::new();
    let mut statement = connection.prepare_cached("SELECT key FROM copy WHERE bucket = ?1")?;
    let mut rows = statement.query([id])?;
    while let Some(row) = rows.next()? {
        let key: String = row.get(0)?;
        if !are_there(&key) {
            gone.insert(key);
        }
    }
    let mut statement = connection.prepare_cached("DELETE FROM copy WHERE bucket = ?1 AND key = ?2")?;
    for key in gone {
        statement.execute(params![id, key])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(key: &str, etag: &str) -> Version {
        Version { key: key.to_owned(), etag: etag.to_owned() }
    }

    #[test]
    fn only_the_very_version_is_given_back() {
        let ledger = Ledger::in_memory();
        let bucket = BucketIdentity { url: "s3://a".into(), generation: "g".into() };
        let copies = ledger.copies(&bucket);
        let bytes = Bytes::from_static(b"StorePath: x\n");
        copies.keep(&[(version("a.narinfo", "1"), bytes.clone()), (version("b.narinfo", ""), bytes.clone())]);
        let found = copies.get(&[version("a.narinfo", "1"), version("b.narinfo", "")]);
        assert_eq!(found, HashMap::from([("a.narinfo".to_owned(), bytes.clone())]));
        assert_eq!(copies.get(&[version("a.narinfo", "2")]), HashMap::new());
        let other = BucketIdentity { generation: "h".into(), ..bucket.clone() };
        assert_eq!(ledger.copies(&other).get(&[version("a.narinfo", "1")]), HashMap::new());

        copies.keep(&[(version("a.narinfo", "2"), Bytes::from_static(b"new")), (version("c.narinfo", "1"), bytes)]);
        assert_eq!(copies.get(&[version("a.narinfo", "1")]), HashMap::new());
        copies.forget_others(|key| key == "a.narinfo");
        assert_eq!(copies.get(&[version("a.narinfo", "2"), version("c.narinfo", "1")]).len(), 1);
    }

    #[test]
    fn a_flipped_bit_is_no_copy() {
        let ledger = Ledger::in_memory();
        let bucket = BucketIdentity { url: "s3://a".into(), generation: "g".into() };
        ledger.copies(&bucket).keep(&[(version("k", "1"), Bytes::from_static(b"bytes"))]);
        ledger.lock().write(|connection| connection.execute("UPDATE copy SET bytes = x'627974'", []).map(drop));
        assert_eq!(ledger.copies(&bucket).get(&[version("k", "1")]), HashMap::new());
    }
}
