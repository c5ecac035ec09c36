//! All of a bucket in some 200 bytes a path: the graph of prunes, and beside it what each narinfo says of its NAR.

use super::examine::Claim;
use crate::bucket::ObjectInfo;
use crate::nix::{PathHash, Sha256};
use crate::prune::graph::{Graph, Id, Links};
use hashbrown::HashTable;
use std::hash::{BuildHasher as _, RandomState};

/// See the module's head.
#[derive(Default)]
pub struct Tables {
    pub graph: Graph,
    secret: RandomState,
    /// By path.
    claims: Vec<Said>,
    ids: HashTable<u32>,
    nars: Vec<Nar>,
    /// The first NAR of each NarHash.
    contents: HashTable<u32>,
}

/// What one narinfo says of its NAR.
#[derive(Clone, Copy)]
struct Said {
    nar: u32,
    /// 0 where it says nothing.
    file_size: u64,
}

/// A NAR by a hash of its key; should two share one, damage of one may go unseen in this run, and in no other.
struct Nar {
    key: u64,
    /// Of the NarHash that the first narinfo gives.
    content: u64,
    /// As listed; `ABSENT` until then.
    size: u64,
    /// Of its ETag, the same in every run; 0 where there is none.
    version: u64,
}

const NO_NAR: u32 = u32::MAX;
const ABSENT: u64 = u64::MAX;

/// A NAR as the listing shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    pub nar: u32,
    /// `None`: not listed.
    pub size: Option<u64>,
    pub version: u64,
}

impl Tables {
    /// What was read of a narinfo. Whether another NAR has the same content.
    pub fn read(&mut self, hash: &PathHash, object: &ObjectInfo, links: &Links, claim: Option<&Claim>) -> bool {
        self.graph.saw(hash, object);
        self.graph.read(hash, object, links);
        let Some(id) = self.graph.find(hash) else { return false };
        let (said, is_double) = match claim {
            Some(claim) => {
                let (nar, is_new) = self.nar(claim.url.as_str(), claim.nar_hash.as_ref());
                let is_double = is_new && claim.nar_hash.is_some() && !self.is_first(nar);
                (Said { nar, file_size: claim.file_size.unwrap_or(0) }, is_double)
            }
            None => (Said { nar: NO_NAR, file_size: 0 }, false),
        };
        let at = id as usize;
        if self.claims.len() <= at {
            self.claims.resize(at + 1, Said { nar: NO_NAR, file_size: 0 });
        }
        self.claims[at] = said;
        is_double
    }

    /// A listing shows this NAR. Whether a narinfo points at it.
    pub fn saw_nar(&mut self, object: &ObjectInfo) -> bool {
        let Some(nar) = self.find_nar(object.key.as_str()) else { return false };
        let nar = &mut self.nars[nar as usize];
        (nar.size, nar.version) = (object.size.min(ABSENT - 1), version(&object.etag));
        true
    }

    /// The NAR that the narinfo of `id` points at.
    pub fn nar_of(&self, id: Id) -> Option<Listed> {
        let nar = self.claims.get(id as usize)?.nar;
        let found = self.nars.get(nar as usize)?;
        Some(Listed { nar, size: Some(found.size).filter(|size| *size != ABSENT), version: found.version })
    }

    /// Whether its NAR is there with the size that it says, as far as it says one.
    pub fn fits(&self, id: Id) -> bool {
        let said = self.claims.get(id as usize).map_or(0, |said| said.file_size);
        self.nar_of(id).is_none_or(|nar| nar.size.is_some_and(|size| said == 0 || size == said))
    }

    /// Whether a path with this hash part is visible.
    pub fn has(&self, hash: &PathHash) -> bool {
        self.graph.find(hash).is_some_and(|id| self.graph.is_visible(id))
    }

    /// Whether a narinfo points at this NAR, and it is there.
    pub fn has_listed_nar(&self, key: &str) -> bool {
        self.find_nar(key).is_some_and(|nar| self.nars[nar as usize].size != ABSENT)
    }

    pub fn has_nar(&self, key: &str) -> bool {
        self.find_nar(key).is_some()
    }

    fn find_nar(&self, key: &str) -> Option<u32> {
        let key = self.secret.hash_one(key);
        self.ids.find(key, |nar| self.nars[*nar as usize].key == key).copied()
    }

    /// The number of a NAR, and whether it is a new one.
    fn nar(&mut self, key: &str, content: Option<&Sha256>) -> (u32, bool) {
        if let Some(nar) = self.find_nar(key) {
            return (nar, false);
        }
        let nar = self.nars.len() as u32;
        let content = content.map_or(0, |hash| self.secret.hash_one(hash));
        let key = self.secret.hash_one(key);
        self.nars.push(Nar { key, content, size: ABSENT, version: 0 });
        let nars = &self.nars;
        self.ids.insert_unique(key, nar, |nar| nars[*nar as usize].key);
        (nar, true)
    }

    fn is_first(&mut self, nar: u32) -> bool {
        let nars = &self.nars;
        let content = nars[nar as usize].content;
        if self.contents.find(content, |other| nars[*other as usize].content == content).is_some() {
            return false;
        }
        self.contents.insert_unique(content, nar, |nar| nars[*nar as usize].content);
        true
    }
}

/// Names one version of an object by its ETag, the same in every run.
fn version(etag: &str) -> u64 {
    if etag.is_empty() {
        return 0;
    }
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&Sha256::of(etag.as_bytes()).as_bytes()[..8]);
    u64::from_le_bytes(bytes).max(1)
}
