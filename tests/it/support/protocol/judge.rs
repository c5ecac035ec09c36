//! The oracle for long runs: the same promises, looked at where a change could break one.
//!
//! I1 when a narinfo is put and when a NAR is deleted or put again, I2 when a narinfo is put or
//! deleted, I3 when a push record is put and when a narinfo is deleted. `support::oracle` looks at
//! everything and says the same; `agrees` compares the two.
//!
//! And what stands beside a path (`beside`) is there for as long as the path is visible, and links name NARs that are
//! there. Two exceptions are known, and counted. A push may write something again just while a prune deletes it: after the
//! prune's last look at it. And what an undo puts back has links to its old NAR for a while; these are whole again at
//! rest.

use super::ask::Ask;
use super::beside;
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
    /// What stands beside paths.
    beside: HashMap<String, Written>,
    /// How many visible paths want it.
    wanted: HashMap<String, i64>,
    /// What was deleted while it was written again.
    crossed: HashSet<String>,
    /// How often something was deleted, and how often while it was written again.
    pub dropped: (u64, u64),
    /// Some NAR was copied.
    has_copies: bool,
}

/// An object beside a path.
struct Written {
    /// When it was written last, in changes.
    at: u64,
    /// Which a link names.
    nar: Option<String>,
}

/// A change that was carried out.
pub struct Change<'a> {
    pub ask: &'a Ask,
    /// Its number.
    pub at: u64,
    /// Of a deletion: when whoever asks for it looked at the object last.
    pub looked: Option<u64>,
    pub now: SystemTime,
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
            beside: HashMap::new(),
            wanted: HashMap::new(),
            crossed: HashSet::new(),
            dropped: (0, 0),
            has_copies: false,
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
    pub fn saw(&mut self, change: &Change<'_>, object: Option<&Bytes>) -> Result<(), String> {
        let (key, now) = (Key::listed(change.ask.on()), change.now);
        self.has_copies |= matches!(change.ask, Ask::Copy { .. });
        match (key.kind(), object) {
            (Kind::NarInfo(hash), Some(bytes)) => self.shown(hash, bytes),
            (Kind::NarInfo(hash), None) => self.hidden(hash, now),
            (Kind::Nar, Some(bytes)) => self.stored(key.as_str(), bytes),
            (Kind::Nar, None) => {
                self.nars.remove(key.as_str());
                let named = self.dangling().find(|link| self.beside[*link].nar.as_deref() == Some(key.as_str()));
                if let Some(link) = named.filter(|_| !self.has_copies) {
                    return Err(format!("{key} was deleted, and {link} names it"));
                }
                match self.pointers.get(key.as_str()) {
                    Some(count) if *count > 0 => {
                        Err(format!("I1: {key} was deleted, and {count} narinfos point at it"))
                    }
                    _ => Ok(()),
                }
            }
            (Kind::Push, Some(bytes)) => self.recorded(&key, bytes, now),
            (Kind::Log(_) | Kind::Listing(_) | Kind::DebugInfo, Some(bytes)) => {
                let nar = (key.kind() == Kind::DebugInfo).then(|| beside::nar_of(&key, bytes));
                if let Some(nar) = nar.as_ref().filter(|nar| !self.nars.contains_key(*nar)) {
                    return Err(format!("{key} names {nar}, which is absent"));
                }
                self.crossed.remove(key.as_str());
                self.beside.insert(key.to_string(), Written { at: change.at, nar });
                Ok(())
            }
            (Kind::Log(_) | Kind::Listing(_) | Kind::DebugInfo, None) => self.dropped(key.as_str(), change.looked),
            _ => Ok(()),
        }
    }

    fn dropped(&mut self, key: &str, looked: Option<u64>) -> Result<(), String> {
        let Some(written) = self.beside.remove(key) else { return Ok(()) };
        match looked {
            None => Err(format!("{key} was deleted by somebody who did not look at it before")),
            Some(looked) if looked < written.at => {
                self.crossed.insert(key.to_owned());
                self.dropped.1 += 1;
                Ok(())
            }
            Some(_) if self.is_wanted(key) => Err(format!("{key} was deleted, and paths are there that want it")),
            Some(_) => {
                self.dropped.0 += 1;
                Ok(())
            }
        }
    }

    /// A deletion that came later took effect before.
    pub fn overtaken(&mut self, key: &Key) {
        if matches!(key.kind(), Kind::Log(_) | Kind::Listing(_) | Kind::DebugInfo) {
            self.crossed.insert(key.to_string());
        }
    }

    fn is_wanted(&self, key: &str) -> bool {
        self.wanted.get(key).is_some_and(|count| *count > 0)
    }

    /// Links that are wanted and name NARs that are not there.
    pub fn dangling(&self) -> impl Iterator<Item = &str> {
        let named = self.beside.iter().filter_map(|(key, written)| Some((key.as_str(), written.nar.as_ref()?)));
        named.filter(|(key, nar)| self.is_wanted(key) && !self.nars.contains_key(*nar)).map(|(key, _)| key)
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
        let is_there = |key: &String| self.beside.contains_key(key) || self.crossed.contains(key);
        if let Some(missing) = beside::keys(&info).into_iter().find(|key| !is_there(key)) {
            return Err(format!("{} came, and {missing} is not there", info.path));
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
        for key in beside::keys(info) {
            *self.wanted.entry(key).or_default() += by;
        }
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
