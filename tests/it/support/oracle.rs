//! The judge: checks the promises I1 and I2 over a whole bucket, at any moment.
//!
//! It reads narinfos and NARs with code of the library that is tested elsewhere against caches that
//! Nix wrote, and it remembers every NAR that it saw, so that a key that is written twice is caught.

use bytes::Bytes;
use loft::bucket::{Key, Kind};
use loft::nar::{self, Packed};
use loft::nix::{NarInfo, PathHash, StoreDir, StorePath};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Watches one bucket.
#[derive(Default)]
pub struct Oracle {
    /// References that may be absent: they come from an upstream cache.
    pub external: HashSet<PathHash>,
    nars: HashMap<Key, (Bytes, Packed)>,
}

impl Oracle {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn with_external(paths: impl IntoIterator<Item = StorePath>) -> Self {
        Self { external: paths.into_iter().map(|path| path.hash_part()).collect(), ..Self::default() }
    }

    /// All visible narinfos, or the first broken promise.
    pub fn check(&mut self, objects: &BTreeMap<Key, Bytes>) -> Result<Vec<NarInfo>, String> {
        let dir = StoreDir::default();
        let mut visible = Vec::new();
        for (key, bytes) in objects {
            let Kind::NarInfo(hash) = key.kind() else { continue };
            let info = NarInfo::parse(&dir, bytes).map_err(|error| format!("{key}: {error}"))?;
            if info.path.hash_part() != hash {
                return Err(format!("{key} is about {}", info.path));
            }
            self.check_nar(objects, &info)?;
            visible.push(info);
        }
        let hashes: HashSet<PathHash> = visible.iter().map(|info| info.path.hash_part()).collect();
        for info in &visible {
            for reference in &info.references {
                let hash = reference.hash_part();
                if !hashes.contains(&hash) && !self.external.contains(&hash) {
                    return Err(format!("I2: {} refers to {reference}, which is not visible", info.path));
                }
            }
        }
        Ok(visible)
    }

    fn check_nar(&mut self, objects: &BTreeMap<Key, Bytes>, info: &NarInfo) -> Result<(), String> {
        let key = Key::nar(&info.url);
        let bytes = objects.get(&key).ok_or_else(|| format!("I1: {} points at {key}, which is absent", info.path))?;
        if let Some((seen, _)) = self.nars.get(&key)
            && seen != bytes
        {
            return Err(format!("{key} was written twice, with other bytes"));
        }
        if !self.nars.contains_key(&key) {
            let packed = nar::verify(bytes.as_ref(), info.compression, 1 << 32)
                .map_err(|error| format!("I1: {key} of {}: {error}", info.path))?;
            self.nars.insert(key.clone(), (bytes.clone(), packed));
        }
        let (_, packed) = &self.nars[&key];
        let same = packed.nar_hash == info.nar_hash
            && packed.nar_size == info.nar_size.get()
            && Some(packed.file_hash) == info.file_hash
            && Some(packed.file_size) == info.file_size;
        if !same {
            return Err(format!("I1: {key} of {} is {packed:?}, the narinfo says otherwise", info.path));
        }
        Ok(())
    }
}
