//! The oracle for long runs: the same promises, looked at where a change could break one.
//!
//! I1 when a narinfo is put and when a NAR is deleted or put again, I2 when a narinfo is put or
//! deleted, I3 when a push record is put and when a narinfo is deleted. `support::oracle` looks at
//! everything and says the same; `agrees` compares the two.

use super::ask::Ask;
use bytes::Bytes;
use loft::bucket::{Key, Kind};
use loft::nar::{self, Packed};
use loft::nix::{Compression, NarInfo, PathHash, Sha256, StoreDir, StorePath};
use loft::record::PushRecord;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

/// What NARs hash to, by their own digest: shared by all seeds, which push the same files.
pub type Digests = Arc<Mutex<HashMap<Sha256, Packed>>>;

pub struct Judge {
    /// What each path that is pushed refers to, near and far.
    closures: Arc<HashMap<StorePath, Vec<PathHash>>>,
    retention: Duration,
    digests: Digests,
    dir: StoreDir,
    visible: HashMap<PathHash, NarInfo>,
    /// How many narinfos refer to a path.
    referrers: HashMap<PathHash, i64>,
    /// How many point at a NAR.
    pointers: HashMap<String, i64>,
    nars: HashMap<String, Sha256>,
    /// Until when each path was promised.
    promises: HashMap<PathHash, SystemTime>,
}

impl Judge {
    pub fn new(closures: Arc<HashMap<StorePath, Vec<PathHash>>>, retention: Duration, digests: Digests) -> Self {
        Self {
            closures,
            retention,
            digests,
            dir: StoreDir::default(),
            visible: HashMap::new(),
            referrers: HashMap::new(),
            pointers: HashMap::new(),
            nars: HashMap::new(),
            promises: HashMap::new(),
        }
    }

    pub fn is_visible(&self, hash: &PathHash) -> bool {
        self.visible.contains_key(hash)
    }

    pub fn visible(&self) -> HashSet<PathHash> {
        self.visible.keys().copied().collect()
    }

    /// NARs that some narinfo points at.
    pub fn wanted_nars(&self) -> HashSet<String> {
        self.pointers.iter().filter(|(_, count)| **count > 0).map(|(url, _)| url.clone()).collect()
    }

    pub fn promised(&self, hash: &PathHash, now: SystemTime) -> bool {
        self.promises.get(hash).is_some_and(|until| *until > now)
    }

    /// A push said that it succeeded: everything it was asked for is there.
    pub fn promise(&self, hashes: &[PathHash]) -> Result<(), String> {
        match hashes.iter().find(|hash| !self.is_visible(hash)) {
            Some(lost) => Err(format!("I3: a push had success, and {lost} is not there")),
            None => Ok(()),
        }
    }

    /// Looks at a change that was just carried out. `object` is what lies there now, if anything.
    pub fn saw(&mut self, ask: &Ask, object: Option<&Bytes>, now: SystemTime) -> Result<(), String> {
        let key = Key::listed(ask.on());
        match (key.kind(), object) {
            (Kind::NarInfo(hash), Some(bytes)) => self.shown(hash, bytes),
            (Kind::NarInfo(hash), None) => self.hidden(hash, now),
            (Kind::Nar, Some(bytes)) => self.stored(key.as_str(), bytes),
            (Kind::Nar, None) => {
                self.nars.remove(key.as_str());
                match self.pointers.get(key.as_str()) {
                    Some(count) if *count > 0 => {
                        Err(format!("I1: {key} was deleted, and {count} narinfos point at it"))
                    }
                    _ => Ok(()),
                }
            }
            (Kind::Push, Some(bytes)) => self.recorded(&key, bytes, now),
            _ => Ok(()),
        }
    }

    fn stored(&mut self, key: &str, bytes: &Bytes) -> Result<(), String> {
        let digest = Sha256::of(bytes);
        let mut digests = self.digests.lock().unwrap();
        if let Entry::Vacant(unknown) = digests.entry(digest) {
            let packed = nar::verify(bytes.as_ref(), Compression::Zstd, 1 << 32);
            unknown.insert(packed.map_err(|error| format!("I1: {key}: {error}"))?);
        }
        match self.nars.insert(key.to_owned(), digest) {
            Some(before) if before != digest => Err(format!("{key} was written twice, with other bytes")),
            _ => Ok(()),
        }
    }

    fn shown(&mut self, hash: PathHash, bytes: &Bytes) -> Result<(), String> {
        let info = NarInfo::parse(&self.dir, bytes).map_err(|error| format!("{hash}: {error}"))?;
        if info.path.hash_part() != hash {
            return Err(format!("the narinfo of {hash} is about {}", info.path));
        }
        let url = info.url.as_str();
        let digest =
            *self.nars.get(url).ok_or_else(|| format!("I1: {} points at {url}, which is absent", info.path))?;
        let packed = self.digests.lock().unwrap().get(&digest).cloned();
        let packed = packed.ok_or_else(|| format!("I1: nobody knows what {url} is"))?;
        let same = packed.nar_hash == info.nar_hash
            && packed.nar_size == info.nar_size.get()
            && Some(packed.file_hash) == info.file_hash
            && Some(packed.file_size) == info.file_size;
        if !same {
            return Err(format!("I1: {url} of {} is {packed:?}", info.path));
        }
        let own = info.path.hash_part();
        let missing = info.references.iter().find(|reference| {
            let hash = reference.hash_part();
            hash != own && !self.visible.contains_key(&hash)
        });
        if let Some(missing) = missing {
            return Err(format!("I2: {} came, and {missing} is not visible", info.path));
        }
        self.count(&info, 1);
        if let Some(before) = self.visible.insert(hash, info) {
            self.count(&before, -1);
        }
        Ok(())
    }

    fn hidden(&mut self, hash: PathHash, now: SystemTime) -> Result<(), String> {
        let Some(before) = self.visible.remove(&hash) else { return Ok(()) };
        self.count(&before, -1);
        if self.referrers.get(&hash).is_some_and(|count| *count > 0) {
            return Err(format!("I2: {} went, and others refer to it", before.path));
        }
        if self.promised(&hash, now) {
            return Err(format!("I3: {} went, which a push that succeeded relies on", before.path));
        }
        Ok(())
    }

    fn recorded(&mut self, key: &Key, bytes: &Bytes, now: SystemTime) -> Result<(), String> {
        let record = PushRecord::parse(key.as_str(), bytes).map_err(|error| error.to_string())?;
        for root in &record.roots {
            for path in &self.closures[root] {
                if !self.visible.contains_key(path) {
                    return Err(format!("I3: the record {key} names {root}, and {path} is not there"));
                }
                let until = self.promises.entry(*path).or_insert(now);
                *until = (*until).max(now + self.retention);
            }
        }
        Ok(())
    }

    fn count(&mut self, info: &NarInfo, by: i64) {
        *self.pointers.entry(info.url.as_str().to_owned()).or_default() += by;
        for reference in info.references.iter().filter(|reference| **reference != info.path) {
            *self.referrers.entry(reference.hash_part()).or_default() += by;
        }
    }

    /// Compares what was counted with what is there.
    pub fn agrees(&self, contents: &BTreeMap<Key, Bytes>, oracle: &[NarInfo]) -> Result<(), String> {
        let there: HashSet<PathHash> = oracle.iter().map(|info| info.path.hash_part()).collect();
        if there != self.visible() {
            return Err("the judge lost count of narinfos".to_owned());
        }
        let nars: HashSet<&str> = contents.keys().map(Key::as_str).filter(|key| key.starts_with("nar/")).collect();
        if nars != self.nars.keys().map(String::as_str).collect() {
            return Err("the judge lost count of NARs".to_owned());
        }
        Ok(())
    }
}
