//! Mending what a check has found: from the local store, else from trash, else by taking it out, which can be undone.
//!
//! is it safe → what the bucket is → records → push again → restore → quarantine
//!
//! Nothing is repaired while clocks are wrong or a prune is at work: the same is asked for as before a prune.

use super::{CheckError, Checked, Ends, Ruin, set_aside, store};
use crate::bucket::{Body, CacheInfo, Headers, Key};
use crate::nix::{PathHash, StoreDir, StorePath};
use crate::prune::{self, NAR_GRACE, Ruins};
use crate::push;
use crate::store::Store;
use bytes::Bytes;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use ulid::Ulid;

/// What a repair works with.
#[derive(Clone)]
pub struct Repair {
    /// Where sound copies may be; without one, trash is all there is.
    pub store: Option<Arc<dyn Store>>,
    /// How paths are pushed again, and who does it.
    pub push: push::Options,
    /// For a bucket that does not say whose it is.
    pub dir: StoreDir,
    /// Lifts the safety stop: more than half of all paths may be set aside.
    pub remove_most: bool,
}

/// What was done.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Mended {
    /// Objects that say what the bucket is, written anew.
    pub written: Vec<Key>,
    /// Records that could not be read, put into trash.
    pub set_aside: Vec<Key>,
    /// From the local store.
    pub pushed: Vec<StorePath>,
    /// From trash.
    pub restored: Vec<PathHash>,
    /// Narinfos that were damaged or referred to what is, put into trash.
    pub removed: Vec<PathHash>,
    /// What can be undone, by these ids.
    pub trash: Vec<Ulid>,
    /// What is damaged still, and why.
    pub failed: Vec<(String, String)>,
}

/// Mends all that `checked` names; `mended` tells what is done. An error means that nothing more was tried: what was done
/// before stays done.
pub async fn repair(ends: &Ends, repair: &Repair, checked: &Checked, mended: &mut Mended) -> Result<(), CheckError> {
    Mending { ends, repair, mended }.run(checked).await
}

pub(super) struct Mending<'a> {
    pub ends: &'a Ends,
    pub repair: &'a Repair,
    pub mended: &'a mut Mended,
}

impl Mending<'_> {
    async fn run(mut self, checked: &Checked) -> Result<(), CheckError> {
        let damages = &checked.damages;
        prune::safe_to_change(&self.prune_ends(), &self.prune_options()).await?;
        self.set_aside(damages).await?;
        if damages.bucket_record {
            let bucket = self.ends.bucket.as_ref();
            push::write_record(bucket, self.ends.clock.as_ref(), self.repair.push.upstreams.clone()).await?;
            self.mended.written.push(Key::bucket_record());
        }
        if damages.cache_info {
            let text = CacheInfo::new(self.repair.dir.clone(), self.repair.push.priority).print();
            let body = Body::from(Bytes::from(text));
            self.ends.bucket.put(&Key::cache_info(), body, Headers::CACHE_INFO).await?;
            self.mended.written.push(Key::cache_info());
        }
        let missing = damages.missing.keys().chain(damages.pinned.keys()).copied().collect();
        let mut left = Left { paths: damages.paths.clone(), missing };
        if let (Some(local), false) = (self.repair.store.clone(), left.is_empty()) {
            self.push_again(local, &mut left).await?;
        }
        if !left.is_empty() {
            self.restore(&mut left).await?;
        }
        for (hash, path) in &damages.pinned {
            // To take out what refers to it is of no use here; where that is damaged as well, it is in the other list, too.
            if left.missing.contains(hash) && !damages.missing.contains_key(hash) {
                left.missing.remove(hash);
                let why = "a pin keeps it, and neither this store nor trash has it; push it from a machine that does, or remove the pin";
                self.mended.failed.push((path.to_string(), why.to_owned()));
            }
        }
        if !left.is_empty() {
            self.quarantine(&left).await?;
        }
        Ok(())
    }

    async fn push_again(&mut self, local: Arc<dyn Store>, left: &mut Left) -> Result<(), CheckError> {
        let pushed = &mut self.mended.pushed;
        let result = store::push_again(self.ends, self.repair, local, left, pushed).await;
        pushed.iter().for_each(|path| left.forget(&path.hash_part()));
        result
    }

    async fn restore(&mut self, left: &mut Left) -> Result<(), CheckError> {
        let damaged: HashSet<PathHash> = left.paths.keys().copied().collect();
        let mut back = HashSet::new();
        let (ends, options) = (self.prune_ends(), self.prune_options());
        let result = prune::restore(&ends, &options, &damaged, &left.missing, &mut back).await;
        for path in back {
            left.forget(&path);
            self.mended.restored.push(path);
        }
        Ok(result?)
    }

    async fn quarantine(&mut self, left: &Left) -> Result<(), CheckError> {
        let paths = left.paths.iter().map(|(path, ruin)| (*path, ruin.etag.clone())).collect();
        let ruins = Ruins { paths, missing: left.missing.clone() };
        let mut summary = prune::Summary::default();
        let result = prune::quarantine(&self.prune_ends(), &self.prune_options(), &ruins, &mut summary).await;
        self.mended.trash.extend(summary.trash);
        self.mended.removed.extend(summary.removed);
        if summary.rescued > 0 {
            let why = "a push in progress relies on them, or they have changed; check again later".to_owned();
            self.mended.failed.push((format!("{} paths", summary.rescued), why));
        }
        if summary.failed > 0 {
            self.mended.failed.push((format!("{} paths", summary.failed), "they could not be deleted".to_owned()));
        }
        if summary.is_unfinished {
            let why = "time ran out, or it was interrupted; repair again to go on".to_owned();
            self.mended.failed.push(("the rest".to_owned(), why));
        }
        Ok(result?)
    }

    async fn set_aside(&mut self, damages: &super::Damages) -> Result<(), CheckError> {
        let mut keys: Vec<Key> = damages.records.iter().cloned().collect();
        keys.extend(damages.bucket_record.then(Key::bucket_record));
        keys.extend(damages.cache_info.then(Key::cache_info));
        keys.sort_unstable();
        set_aside::set_aside(self, keys).await
    }

    pub(super) fn prune_ends(&self) -> prune::Ends {
        let Ends { bucket, ledger, clock, report, .. } = self.ends.clone();
        prune::Ends { bucket, ledger, clock, report }
    }

    fn prune_options(&self) -> prune::Options {
        prune::Options {
            // What has expired is none of a repair's business.
            retention: Duration::MAX,
            max_size: None,
            nar_grace: NAR_GRACE,
            remove_most: self.repair.remove_most,
            dry_run: false,
            who: self.repair.push.who.clone(),
            interrupt: self.repair.push.interrupt.clone(),
        }
    }
}

/// What is still to be mended.
pub(super) struct Left {
    pub paths: HashMap<PathHash, Ruin>,
    pub missing: HashSet<PathHash>,
}

impl Left {
    fn is_empty(&self) -> bool {
        self.paths.is_empty() && self.missing.is_empty()
    }

    fn forget(&mut self, path: &PathHash) {
        self.paths.remove(path);
        self.missing.remove(path);
    }
}

impl Mended {
    /// Nothing had to be given up.
    pub fn is_complete(&self) -> bool {
        self.failed.is_empty()
    }
}
