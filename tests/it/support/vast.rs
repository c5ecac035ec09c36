//! A bucket of any number of paths that is nowhere: each listing and narinfo is made when it is asked for.

use async_trait::async_trait;
use bytes::Bytes;
use loft::bucket::{
    Body, Bucket, BucketError, Cause, Headers, Key, Kind, ObjectInfo, Page, Part, Prefix, RequestKind, Requests, Upload,
};
use loft::clock::{Clock, SystemClock};
use loft::nix::{PathHash, Sha256, base32};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

pub struct Vast {
    pub paths: u64,
    /// Paths with a smaller number are `old`, the others new.
    pub expired: u64,
    pub old: Duration,
    /// Each path has a listing and a log.
    pub has_extras: bool,
    pub requests: Requests,
    /// Prefixes that narinfos were listed by.
    pub shards: Mutex<BTreeMap<String, u64>>,
    /// What was really written: records.
    written: Mutex<BTreeMap<String, Bytes>>,
}

/// Digits of a path's number; in key order paths have ascending numbers.
const LEADING: u32 = 12;

impl Vast {
    pub fn new(paths: u64, expired: u64, old: Duration) -> Self {
        let info = "StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 41\n";
        let written = BTreeMap::from([("nix-cache-info".to_owned(), Bytes::from_static(info.as_bytes()))]);
        Self {
            paths,
            expired,
            old,
            has_extras: false,
            requests: Requests::default(),
            shards: Mutex::default(),
            written: Mutex::new(written),
        }
    }

    fn step(&self) -> u64 {
        (1u64 << (5 * LEADING)) / self.paths
    }

    pub fn hash(&self, n: u64) -> PathHash {
        let digits: Vec<char> = base32::digits().collect();
        let spread = n * self.step();
        let leading = (0..LEADING).rev().map(|place| digits[(spread >> (5 * place)) as usize & 31]);
        let text: String = leading.chain(std::iter::repeat_n('z', 32 - LEADING as usize)).collect();
        PathHash::parse(&text).unwrap()
    }

    /// The number of the first path whose key is after `text`.
    fn first_after(&self, text: &str) -> u64 {
        let digits: Vec<char> = base32::digits().collect();
        let place = |c: char| digits.iter().position(|digit| *digit >= c).unwrap_or(31) as u64;
        let spread =
            text.chars().chain(std::iter::repeat('0')).take(LEADING as usize).fold(0, |sum, c| sum << 5 | place(c));
        let mut n = (spread / self.step()).saturating_sub(2);
        while n < self.paths && format!("{}.narinfo", self.hash(n)).as_str() <= text {
            n += 1;
        }
        n
    }

    fn number(&self, hash: &PathHash) -> Option<u64> {
        let n = self.first_after(hash.as_str());
        (n < self.paths && self.hash(n) == *hash).then_some(n)
    }

    fn modified(&self, n: u64) -> SystemTime {
        let now = SystemClock.wall();
        if self.is_old(n) { now - self.old } else { now - Duration::from_secs(3 * 86_400) }
    }

    /// Every `paths / expired`th one, spread over all.
    fn is_old(&self, n: u64) -> bool {
        self.expired > 0 && n.is_multiple_of(self.paths / self.expired)
    }

    fn nar_hash(n: u64) -> Sha256 {
        Sha256::of(&n.to_le_bytes())
    }

    /// Refers to six new paths; nothing refers to an old one.
    fn nar_info(&self, n: u64) -> Bytes {
        let mut references: Vec<u64> =
            (1..40).filter_map(|back| n.checked_sub(back * 7)).filter(|n| !self.is_old(*n)).take(6).collect();
        references.sort_unstable();
        let references: Vec<String> = references.iter().map(|n| format!("{}-path-{n}", self.hash(*n))).collect();
        let (nar, references) = (Self::nar_hash(n).to_nix32(), references.join(" "));
        Bytes::from(format!(
            "StorePath: /nix/store/{}-path-{n}\nURL: nar/{nar}-01arz3ndektsv4rrffq69g5fav.nar.zst\nCompression: zstd\n\
             FileHash: sha256:{nar}\nFileSize: 1000\nNarHash: sha256:{nar}\nNarSize: 4000\nReferences: {references}\n\
             Deriver: {}-path-{n}.drv\nSig: cache.example.org-1:{}==\n",
            self.hash(n),
            self.hash(n),
            "A".repeat(86),
        ))
    }

    fn object(&self, n: u64) -> ObjectInfo {
        let key = Key::nar_info(&self.hash(n));
        ObjectInfo { key, size: 700, modified: self.modified(n), etag: format!("{n:032x}") }
    }

    /// What a listing by `prefix` shows of one path, in key order.
    fn objects(&self, n: u64, prefix: &str) -> Vec<ObjectInfo> {
        let extra = |key: String| ObjectInfo { key: Key::listed(key), ..self.object(n) };
        let hash = self.hash(n);
        match (prefix, self.has_extras) {
            ("log/", true) => vec![extra(format!("log/{hash}-path-{n}.drv"))],
            ("log/", false) => Vec::new(),
            (_, true) => vec![extra(format!("{hash}.ls")), self.object(n)],
            (_, false) => vec![self.object(n)],
        }
    }

    fn not_here<T>(&self, doing: &'static str) -> Result<T, BucketError> {
        Err(BucketError::new(doing, "anything", self.describe(), Cause::Key("this bucket is for plans alone")))
    }
}

#[async_trait]
impl Bucket for Vast {
    fn describe(&self) -> String {
        "a vast bucket".to_owned()
    }
    async fn check_access(&self) -> Result<(), BucketError> {
        Ok(())
    }
    async fn put(&self, key: &Key, body: Body, _: Headers) -> Result<(), BucketError> {
        self.requests.add(RequestKind::Put);
        self.written.lock().unwrap().insert(key.to_string(), body.bytes);
        Ok(())
    }
    async fn put_before(&self, _: &Key, _: Body, _: Headers, _: Duration) -> Result<(), BucketError> {
        self.not_here("put")
    }
    async fn get(&self, key: &Key, _: u64) -> Result<Option<(ObjectInfo, Bytes)>, BucketError> {
        if let Kind::NarInfo(hash) = key.kind() {
            self.requests.add(RequestKind::Get);
            return Ok(self.number(&hash).map(|n| (self.object(n), self.nar_info(n))));
        }
        let bytes = self.written.lock().unwrap().get(key.as_str()).cloned();
        Ok(bytes.map(|bytes| {
            let (size, modified) = (bytes.len() as u64, SystemClock.wall());
            (ObjectInfo { key: key.clone(), size, modified, etag: "written".to_owned() }, bytes)
        }))
    }
    async fn get_range(&self, _: &Key, _: u64, _: u64) -> Result<Option<Bytes>, BucketError> {
        self.not_here("read")
    }
    async fn head(&self, _: &Key) -> Result<Option<ObjectInfo>, BucketError> {
        self.not_here("look for")
    }
    async fn list(&self, prefix: &Prefix, after: Option<&str>) -> Result<Page, BucketError> {
        self.requests.add(RequestKind::List);
        let prefix = prefix.as_str();
        let after = after.unwrap_or("").max(prefix);
        if prefix == "nar/" {
            // In the order of the paths rather than of the keys, page by page: nobody looks.
            return Ok(Page::default());
        }
        if prefix.len() > 1 && prefix != "log/" {
            let written = self.written.lock().unwrap();
            let found = written.iter().filter(|(key, _)| key.starts_with(prefix) && key.as_str() > after);
            let objects = found.map(|(key, bytes)| ObjectInfo {
                key: Key::listed(key),
                size: bytes.len() as u64,
                modified: SystemClock.wall(),
                etag: "written".to_owned(),
            });
            return Ok(Page { objects: objects.collect(), next: None });
        }
        if prefix != "log/" {
            *self.shards.lock().unwrap().entry(prefix.to_owned()).or_default() += 1;
        }
        let first = self.first_after(after.strip_prefix("log/").unwrap_or(after));
        let all = (first..self.paths)
            .flat_map(|n| self.objects(n, prefix))
            .skip_while(|object| object.key.as_str() <= after)
            .take_while(|object| object.key.as_str().starts_with(prefix));
        let mut objects: Vec<ObjectInfo> = all.take(1001).collect();
        let more = objects.len() > 1000;
        objects.truncate(1000);
        let next = objects.last().filter(|_| more).map(|last| last.key.to_string());
        Ok(Page { objects, next })
    }
    async fn delete(&self, key: &Key) -> Result<(), BucketError> {
        self.written.lock().unwrap().remove(key.as_str());
        Ok(())
    }
    async fn delete_before(&self, _: &Key, _: Duration) -> Result<(), BucketError> {
        self.not_here("delete")
    }
    async fn copy(&self, _: &Key, _: &Key, _: Headers) -> Result<bool, BucketError> {
        self.not_here("copy")
    }
    async fn start_upload(&self, _: &Key, _: Headers) -> Result<Upload, BucketError> {
        self.not_here("upload")
    }
    async fn put_part(&self, _: &Upload, _: u32, _: Body) -> Result<Part, BucketError> {
        self.not_here("upload")
    }
    async fn finish_upload(&self, _: &Upload, _: &[Part]) -> Result<(), BucketError> {
        self.not_here("upload")
    }
    async fn abort_upload(&self, _: &Upload) -> Result<(), BucketError> {
        self.not_here("upload")
    }
    async fn list_parts(&self, _: &Upload) -> Result<Option<Vec<Part>>, BucketError> {
        self.not_here("upload")
    }
    async fn list_uploads(&self, _: &Prefix) -> Result<Vec<(Upload, SystemTime)>, BucketError> {
        Ok(Vec::new())
    }
    async fn now(&self) -> Result<SystemTime, BucketError> {
        Ok(SystemClock.wall())
    }
}
