//! Which narinfo refers to which, and to which NAR: all of a bucket, in some 150 bytes a path.
//!
//! Paths and NARs are numbers here. A NAR is known by a 64-bit hash of its key, with a secret of this run: should two
//! share one, both count as pointed at, and neither is deleted.

use crate::bucket::ObjectInfo;
use crate::nix::{NarUrl, PathHash};
use crate::record::seconds;
use hashbrown::HashTable;
use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A path's number.
pub type Id = u32;

/// See the module's head.
#[derive(Default)]
pub struct Graph {
    secret: RandomState,
    ids: HashTable<Id>,
    nodes: Vec<Node>,
    /// Of all nodes, one after the other. Those of a narinfo that changed stay behind, unused.
    references: Vec<Id>,
    nar_ids: HashTable<u32>,
    nars: Vec<Nar>,
    /// How often all has been listed; tells who was not seen the last time.
    round: u32,
}

struct Node {
    hash: PathHash,
    etag: u64,
    /// Seconds since 1970 by the store's clock, up to the year 2106.
    modified: u32,
    nar: u32,
    references: (u32, u32),
    /// The last round in which it was listed; 0 when never.
    seen: u32,
    is_damaged: bool,
}

struct Nar {
    key: u64,
    size: u64,
}

const NO_NAR: u32 = u32::MAX;

/// What a narinfo says that pruning has to know.
#[derive(Debug)]
pub struct Links {
    pub references: Vec<PathHash>,
    pub nar: Option<NarUrl>,
    /// Bytes as stored, by the narinfo's word.
    pub size: u64,
    pub is_damaged: bool,
}

/// A set of paths.
#[derive(Clone)]
pub struct Marks(Vec<bool>);

impl Marks {
    pub fn has(&self, id: Id) -> bool {
        self.0.get(id as usize).copied().unwrap_or(false)
    }

    fn add(&mut self, id: Id) -> bool {
        !std::mem::replace(&mut self.0[id as usize], true)
    }
}

impl Graph {
    /// A listing begins; what it does not show has gone. Which one it is, from 1.
    pub fn begin_round(&mut self) -> u32 {
        self.round += 1;
        self.round
    }

    /// A listing shows this narinfo. Whether it is a version that has not been read yet.
    pub fn saw(&mut self, hash: &PathHash, object: &ObjectInfo) -> bool {
        let etag = self.secret.hash_one(&object.etag);
        let id = self.id(hash);
        let round = self.round;
        let node = &mut self.nodes[id as usize];
        // Without an ETag nobody can tell versions apart.
        let is_known = node.seen > 0 && node.etag == etag && !object.etag.is_empty();
        if is_known {
            (node.seen, node.modified) = (round, stamp(object.modified));
        }
        !is_known
    }

    /// What was read of it.
    pub fn read(&mut self, hash: &PathHash, object: &ObjectInfo, links: &Links) {
        let etag = self.secret.hash_one(&object.etag);
        let start = self.references.len();
        for reference in links.references.iter().filter(|reference| *reference != hash) {
            let reference = self.id(reference);
            self.references.push(reference);
        }
        let references = (start as u32, (self.references.len() - start) as u32);
        let nar = links.nar.as_ref().map_or(NO_NAR, |url| self.nar(url.as_str(), links.size));
        let id = self.id(hash);
        let (round, modified) = (self.round, stamp(object.modified));
        let node = &mut self.nodes[id as usize];
        *node = Node { hash: node.hash, etag, modified, nar, references, seen: round, is_damaged: links.is_damaged };
    }

    /// The NAR of this key is there and has this size. Whether a visible narinfo points at it.
    pub fn saw_nar(&mut self, key: &str, size: u64) -> bool {
        match self.find_nar(key) {
            Some(nar) => {
                self.nars[nar as usize].size = size;
                true
            }
            None => false,
        }
    }

    pub fn find(&self, hash: &PathHash) -> Option<Id> {
        self.ids.find(self.secret.hash_one(hash), |id| self.nodes[*id as usize].hash == *hash).copied()
    }

    pub fn hash(&self, id: Id) -> PathHash {
        self.nodes[id as usize].hash
    }

    /// Everything that the last listing showed.
    pub fn visible(&self) -> impl Iterator<Item = Id> {
        (0..self.nodes.len() as Id).filter(|id| self.is_visible(*id))
    }

    pub fn is_visible(&self, id: Id) -> bool {
        let node = &self.nodes[id as usize];
        node.seen > 0 && node.seen == self.round
    }

    /// Whether any listing so far has shown this narinfo.
    pub fn was_seen(&self, hash: &PathHash) -> bool {
        self.find(hash).is_some_and(|id| self.nodes[id as usize].seen > 0)
    }

    pub fn is_damaged(&self, id: Id) -> bool {
        self.nodes[id as usize].is_damaged
    }

    /// When it was written, by the store's clock.
    pub fn modified(&self, id: Id) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(self.nodes[id as usize].modified.into())
    }

    /// What it refers to, itself left out; also what is not in the bucket.
    pub fn references(&self, id: Id) -> &[Id] {
        let (start, len) = self.nodes[id as usize].references;
        &self.references[start as usize..][..len as usize]
    }

    /// Stored bytes of its NAR.
    pub fn size(&self, id: Id) -> u64 {
        self.nars.get(self.nodes[id as usize].nar as usize).map_or(0, |nar| nar.size)
    }

    /// All visible paths that can be reached from visible `roots`, themselves included.
    pub fn reach(&self, roots: impl IntoIterator<Item = Id>) -> Marks {
        let mut marks = Marks(vec![false; self.nodes.len()]);
        self.reach_more(&mut marks, roots);
        marks
    }

    /// As `reach`, on top of what is marked.
    pub fn reach_more(&self, marks: &mut Marks, roots: impl IntoIterator<Item = Id>) {
        marks.0.resize(self.nodes.len(), false);
        let mut stack: Vec<Id> = Vec::new();
        for root in roots {
            stack.push(root);
            while let Some(id) = stack.pop() {
                if self.is_visible(id) && marks.add(id) {
                    stack.extend(self.references(id).iter().filter(|reference| !marks.has(**reference)));
                }
            }
        }
    }

    /// All visible paths that refer to `paths`, near and far, and those of `paths` that are visible.
    pub fn referrers(&self, paths: impl IntoIterator<Item = Id>) -> Marks {
        // Who refers to each, one after the other: where those of a path begin, and then who they are.
        let mut starts = vec![0u32; self.nodes.len() + 1];
        for reference in self.visible().flat_map(|id| self.references(id)) {
            starts[*reference as usize + 1] += 1;
        }
        for at in 1..starts.len() {
            starts[at] += starts[at - 1];
        }
        let mut next = starts.clone();
        let mut referrers = vec![0 as Id; starts.last().map_or(0, |all| *all as usize)];
        for id in self.visible() {
            for reference in self.references(id) {
                let place = &mut next[*reference as usize];
                referrers[*place as usize] = id;
                *place += 1;
            }
        }
        let mut begun = Marks(vec![false; self.nodes.len()]);
        let mut stack: Vec<Id> = paths.into_iter().filter(|id| begun.add(*id)).collect();
        while let Some(id) = stack.pop() {
            let own = starts[id as usize] as usize..starts[id as usize + 1] as usize;
            for referrer in &referrers[own] {
                if begun.add(*referrer) {
                    stack.push(*referrer);
                }
            }
        }
        for id in 0..self.nodes.len() as Id {
            begun.0[id as usize] &= self.is_visible(id);
        }
        begun
    }

    /// Bytes of the NARs that marked paths point at, each counted once.
    pub fn bytes_of(&self, marks: &Marks) -> u64 {
        let pointed = self.nars_of(marks);
        self.nars.iter().zip(pointed).filter(|(_, pointed)| *pointed).map(|(nar, _)| nar.size).sum()
    }

    fn nars_of(&self, marks: &Marks) -> Vec<bool> {
        let mut pointed = vec![false; self.nars.len()];
        for (node, _) in self.nodes.iter().zip(&marks.0).filter(|(_, marked)| **marked) {
            if let Some(pointed) = pointed.get_mut(node.nar as usize) {
                *pointed = true;
            }
        }
        pointed
    }

    /// Which NARs visible narinfos point at now.
    pub fn pointed_at(&self) -> PointedAt<'_> {
        let visible = Marks((0..self.nodes.len() as Id).map(|id| self.is_visible(id)).collect());
        PointedAt { graph: self, pointed: self.nars_of(&visible) }
    }

    /// `paths`, sorted so that referrers come before what they refer to, in a cycle anyhow.
    pub fn referrers_first(&self, paths: &[Id]) -> Vec<Id> {
        let mut wanted = Marks(vec![false; self.nodes.len()]);
        for id in paths {
            wanted.add(*id);
        }
        let mut order = Vec::with_capacity(paths.len());
        // Depth first without recursion: chains may be very long.
        let mut stack: Vec<(Id, usize)> = Vec::new();
        for id in paths {
            if std::mem::take(&mut wanted.0[*id as usize]) {
                stack.push((*id, 0));
            }
            while let Some((id, next)) = stack.last_mut() {
                match self.references(*id).get(*next) {
                    Some(reference) => {
                        *next += 1;
                        if std::mem::take(&mut wanted.0[*reference as usize]) {
                            stack.push((*reference, 0));
                        }
                    }
                    None => {
                        order.push(*id);
                        stack.pop();
                    }
                }
            }
        }
        order.reverse();
        order
    }

    fn id(&mut self, hash: &PathHash) -> Id {
        let nodes = &mut self.nodes;
        let secret = &self.secret;
        let same = |id: &Id| nodes[*id as usize].hash == *hash;
        if let Some(id) = self.ids.find(secret.hash_one(hash), same) {
            return *id;
        }
        let id = nodes.len() as Id;
        nodes.push(Node {
            hash: *hash,
            etag: 0,
            modified: 0,
            nar: NO_NAR,
            references: (0, 0),
            seen: 0,
            is_damaged: false,
        });
        self.ids.insert_unique(secret.hash_one(hash), id, |id| secret.hash_one(nodes[*id as usize].hash));
        id
    }

    fn find_nar(&self, key: &str) -> Option<u32> {
        let key = self.secret.hash_one(key);
        self.nar_ids.find(key, |nar| self.nars[*nar as usize].key == key).copied()
    }

    fn nar(&mut self, key: &str, size: u64) -> u32 {
        if let Some(nar) = self.find_nar(key) {
            return nar;
        }
        let (nar, key) = (self.nars.len() as u32, self.secret.hash_one(key));
        self.nars.push(Nar { key, size });
        let nars = &self.nars;
        self.nar_ids.insert_unique(key, nar, |nar| nars[*nar as usize].key);
        nar
    }
}

/// See [`Graph::pointed_at`].
pub struct PointedAt<'g> {
    graph: &'g Graph,
    pointed: Vec<bool>,
}

impl PointedAt<'_> {
    pub fn has(&self, key: &str) -> bool {
        self.graph.find_nar(key).is_some_and(|nar| self.pointed[nar as usize])
    }
}

fn stamp(time: SystemTime) -> u32 {
    u32::try_from(seconds(time)).unwrap_or(u32::MAX)
}
