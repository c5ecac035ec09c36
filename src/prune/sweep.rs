//! S2 to S6: one batch of paths is announced, confirmed, put into trash and deleted.
//!
//! What is announced makes pushes wait that need any of it; so a sweep is short. It sends no delete later than its
//! deadline, and each is signed so that the store itself refuses it a minute later.

use super::contents::Contents;
use super::decide::{Retirement, keep};
use super::error::PruneError;
use super::graph::{Id, Marks};
use super::{Ends, Options, Summary};
use crate::bucket::{Body, Cause, Headers, Key, ObjectInfo};
use crate::catalog::Read;
use crate::nix::{NarUrl, PathHash};
use crate::push::NAR_INFO_LIMIT;
use crate::record::{Removed, SweepRecord, TrashRecord, Why, seconds};
use crate::remedy::{Remedy, chain};
use crate::report::Event;
use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use std::collections::{HashMap, HashSet};
use std::time::Duration;
use ulid::Ulid;

/// No delete is sent later than this after the sweep was announced.
const DEADLINE: Duration = Duration::from_secs(5 * 60);
/// A delete that is on its way for longer is refused by the store.
const DELETE_WITHIN: Duration = Duration::from_secs(60);
/// The store's clock has whole seconds, in its answers and in what it checks.
const ROUNDING: Duration = Duration::from_secs(2);
/// Deletes at once.
const PARALLEL: usize = 32;
/// Before a failed delete is sent again, where the store does not say for how long.
const PAUSE: Duration = Duration::from_millis(500);
/// A failed delete is sent so often in all.
const TRIES: u32 = 3;
/// Paths of one sweep: the store deletes some hundred a second, and their narinfos are held in memory.
pub const BATCH: usize = 10_000;

/// Of narinfos that are too large to be some, so many bytes find room in one trash record.
const LARGE: u64 = 64 << 20;

/// How far a sweep came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Swept {
    Done,
    /// Time ran out, or the user wished so; what is left is for the next prune.
    Unfinished,
}

/// Why paths are removed; asked again at the second look.
pub enum Ground<'a> {
    Retention(&'a Retirement),
    Damage(&'a Ruins),
}

/// What is damaged. It goes, and so does all that refers to it.
#[derive(Debug, Clone, Default)]
pub struct Ruins {
    /// Narinfos, in the version (ETag) that was judged: another one is somebody's new push.
    pub paths: HashMap<PathHash, String>,
    /// References that are nowhere.
    pub missing: HashSet<PathHash>,
}

impl Ground<'_> {
    fn kept(&self, contents: &Contents, listed: &HashMap<PathHash, ObjectInfo>) -> Marks {
        match self {
            Self::Retention(retirement) => keep(contents, retirement),
            Self::Damage(ruins) => {
                let ruined = ruins.ruined(contents, |hash, etag| listed.get(hash).is_some_and(|now| now.etag == *etag));
                let graph = &contents.graph;
                let mut kept = graph.reach(graph.visible().filter(|id| !ruined.has(*id)));
                // A push in progress relies on it, damaged or not, and may be about to mend it.
                let leased = contents.records.leases.iter().flat_map(|lease| &lease.paths);
                graph.reach_more(&mut kept, leased.filter_map(|hash| graph.find(hash)));
                kept
            }
        }
    }

    fn why(&self) -> Why {
        match self {
            Self::Retention(_) => Why::Retention,
            Self::Damage(_) => Why::Damage,
        }
    }
}

impl Ruins {
    /// What is damaged still, as far as `is_same` says so, and all that refers to it.
    pub fn ruined(&self, contents: &Contents, is_same: impl Fn(&PathHash, &String) -> bool) -> Marks {
        let graph = &contents.graph;
        let paths = self.paths.iter().filter(|(hash, etag)| is_same(hash, etag)).map(|(hash, _)| hash);
        let found = paths.chain(&self.missing).filter_map(|hash| graph.find(hash));
        let missing_again = |id: &Id| !graph.is_visible(*id) || !self.missing.contains(&graph.hash(*id));
        graph.referrers(found.filter(missing_again))
    }
}

/// Removes those of `batch` (referrers first) that nothing needs at the second look. `orphans` go into its trash record.
pub async fn sweep(
    ends: &Ends,
    options: &Options,
    contents: &mut Contents,
    ground: &Ground<'_>,
    batch: &[Id],
    orphans: Vec<NarUrl>,
    summary: &mut Summary,
) -> Result<Swept, PruneError> {
    let id = Ulid::from_datetime(ends.clock.wall());
    let condemned: Vec<PathHash> = batch.iter().map(|id| contents.graph.hash(*id)).collect();
    let record = SweepRecord::new(options.who.clone(), DEADLINE.as_secs(), condemned.clone());
    let mut sweep = Sweep { ends, options, id, announced: ends.clock.boot(), may_delete_until: Duration::ZERO };
    let result = match sweep.put(&Key::sweep(id), record.print()).await {
        Ok(()) => sweep.run(contents, ground, &condemned, orphans, summary).await,
        // It may be there all the same.
        Err(error) => Err(error),
    };
    sweep.close().await;
    result
}

struct Sweep<'a> {
    ends: &'a Ends,
    options: &'a Options,
    id: Ulid,
    /// By the clock that counts suspend, before the record was sent.
    announced: Duration,
    /// Until then a delete may be carried out whose answer never came.
    may_delete_until: Duration,
}

impl Sweep<'_> {
    async fn run(
        &mut self,
        contents: &mut Contents,
        ground: &Ground<'_>,
        condemned: &[PathHash],
        orphans: Vec<NarUrl>,
        summary: &mut Summary,
    ) -> Result<Swept, PruneError> {
        let mut wanted: HashSet<PathHash> = condemned.iter().copied().collect();
        if let Ground::Damage(ruins) = ground {
            // What is damaged may be in a later batch than what refers to it.
            wanted.extend(ruins.paths.keys());
        }
        let listed = contents.look_again(self.ends, &wanted).await?;
        let kept = ground.kept(contents, &listed);
        let graph = &contents.graph;
        let still = condemned.iter().filter_map(|hash| graph.find(hash)).filter(|id| graph.is_visible(*id));
        let doomed: Vec<Id> = still.filter(|id| !kept.has(*id)).collect();
        let (doomed, bytes) = self.read(contents, doomed, listed, ground.why() == Why::Damage).await?;
        let doomed = not_referred_to(contents, doomed);
        summary.rescued += condemned.len() as u64 - doomed.len() as u64;
        if doomed.is_empty() && orphans.is_empty() {
            return Ok(Swept::Done);
        }
        if self.options.interrupt.is_raised() {
            return Ok(Swept::Unfinished);
        }
        if self.left().is_zero() {
            let message = "The second look took longer than a sweep may last, so nothing was removed by this one";
            self.ends.report.event(Event::Warning { message });
            return Ok(Swept::Unfinished);
        }
        self.put(&Key::trash(self.id), self.trash(contents, ground.why(), &doomed, &bytes, orphans).print()).await?;
        if !doomed.is_empty() {
            summary.trash.push(self.id);
        }
        if self.options.interrupt.is_raised() {
            return Ok(Swept::Unfinished);
        }
        self.delete(contents, &doomed, summary).await
    }

    /// The narinfos' bytes for the trash. One that has changed since the second look is somebody's new push.
    async fn read(
        &self,
        contents: &Contents,
        doomed: Vec<Id>,
        mut listed: HashMap<PathHash, ObjectInfo>,
        is_damage: bool,
    ) -> Result<(Vec<Id>, HashMap<PathHash, Bytes>), PruneError> {
        let mut bytes = HashMap::with_capacity(doomed.len());
        let mut large = LARGE;
        let objects: Vec<ObjectInfo> =
            doomed.iter().filter_map(|id| listed.get(&contents.graph.hash(*id)).cloned()).collect();
        for page in objects.chunks(1000) {
            for (object, read) in contents.read(page.to_vec()).await? {
                let crate::bucket::Kind::NarInfo(hash) = object.key.kind() else { continue };
                let same = listed.remove(&hash).is_some_and(|listed| listed.etag == object.etag);
                let found = match read {
                    Read::Bytes(found) => Some(found),
                    Read::Unreadable(_) if same && is_damage && large > 0 => {
                        self.read_large(&object).await?.filter(|found| found.len() as u64 <= large)
                    }
                    Read::Gone | Read::Unreadable(_) => None,
                };
                if let (Some(found), true) = (found, same) {
                    large = large.saturating_sub((found.len() as u64).saturating_sub(NAR_INFO_LIMIT));
                    bytes.insert(hash, found);
                }
            }
        }
        let doomed = doomed.into_iter().filter(|id| bytes.contains_key(&contents.graph.hash(*id))).collect();
        Ok((doomed, bytes))
    }

    /// What is larger than any narinfo, and so damaged.
    async fn read_large(&self, listed: &ObjectInfo) -> Result<Option<Bytes>, PruneError> {
        match self.ends.bucket.get(&listed.key, LARGE).await {
            Ok(found) => Ok(found.filter(|(now, _)| now.etag == listed.etag).map(|(_, bytes)| bytes)),
            Err(error) if error.remedy() == Remedy::GiveUpOnItem => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn trash(
        &self,
        contents: &Contents,
        why: Why,
        doomed: &[Id],
        bytes: &HashMap<PathHash, Bytes>,
        orphans: Vec<NarUrl>,
    ) -> TrashRecord {
        let graph = &contents.graph;
        let now = seconds(self.ends.clock.wall());
        let mut trash = TrashRecord::new(self.options.who.clone(), now, why);
        let hashes = doomed.iter().map(|id| graph.hash(*id));
        trash.removed = hashes.map(|hash| Removed::new(hash, &bytes[&hash])).collect();
        let references = doomed.iter().flat_map(|id| graph.references(*id));
        let external: HashSet<PathHash> =
            references.filter(|id| !graph.is_visible(**id)).map(|id| graph.hash(*id)).collect();
        trash.external = external.into_iter().collect();
        trash.external.sort_unstable();
        trash.orphans = orphans;
        trash
    }

    /// S5: each path once all that refer to it have gone, many at once. What refers to a path that stays, stays.
    async fn delete(&mut self, contents: &Contents, doomed: &[Id], summary: &mut Summary) -> Result<Swept, PruneError> {
        let mut order = Order::new(contents, doomed);
        let mut under_way = FuturesUnordered::new();
        let mut may_delete_until = Duration::ZERO;
        let mut is_stopped = false;
        loop {
            while under_way.len() < PARALLEL && !is_stopped {
                let Some(id) = order.next(under_way.is_empty()) else { break };
                is_stopped = self.options.interrupt.is_raised() || self.left().is_zero();
                if !is_stopped {
                    under_way.push(self.delete_one(id, contents.graph.hash(id)));
                }
            }
            let Some(Deleted { id, result, until }) = under_way.next().await else { break };
            may_delete_until = may_delete_until.max(until);
            match result {
                Ok(()) => {
                    summary.removed.push(contents.graph.hash(id));
                    order.deleted(id);
                }
                Err(error) if matches!(error.cause, Cause::Expired) => is_stopped = true,
                Err(error) => {
                    let message = format!("{} was not removed: {}", contents.graph.hash(id), chain(&error));
                    self.ends.report.event(Event::Warning { message: &message });
                    summary.failed += 1;
                    order.failed = true;
                    // Who may not delete this may not delete the others.
                    is_stopped |= matches!(error.remedy(), Remedy::FixConfig | Remedy::Stop);
                }
            }
        }
        drop(under_way);
        self.may_delete_until = may_delete_until;
        Ok(if is_stopped { Swept::Unfinished } else { Swept::Done })
    }

    async fn delete_one(&self, id: Id, hash: PathHash) -> Deleted {
        let key = Key::nar_info(&hash);
        let mut until = Duration::ZERO;
        let mut tries = 0;
        let result = loop {
            tries += 1;
            let within = self.left().min(DELETE_WITHIN);
            let sent = self.ends.clock.boot();
            match self.ends.bucket.delete_before(&key, within).await {
                Err(error) if error.is_ambiguous() => {
                    until = sent + within + ROUNDING;
                    if tries == TRIES {
                        break Err(error);
                    }
                    let wait = error.retry_after().unwrap_or(PAUSE * tries);
                    tokio::time::sleep(wait.min(self.left())).await;
                }
                result => break result,
            }
        };
        Deleted { id, result, until }
    }

    /// Until the deadline.
    fn left(&self) -> Duration {
        DEADLINE.saturating_sub(self.ends.clock.boot().saturating_sub(self.announced))
    }

    async fn put(&self, key: &Key, bytes: Vec<u8>) -> Result<(), PruneError> {
        Ok(self.ends.bucket.put(key, Body::from(Bytes::from(bytes)), Headers::COMPRESSED_RECORD).await?)
    }

    /// S6. Pushes go on from here: no delete may be on its way any more.
    async fn close(&self) {
        let wait = self.may_delete_until.saturating_sub(self.ends.clock.boot());
        if !wait.is_zero() {
            let reason = "a delete without an answer may still be carried out until its time limit";
            self.ends.report.event(Event::Waiting { reason });
            tokio::time::sleep(wait).await;
        }
        let key = Key::sweep(self.id);
        if let Err(error) = self.ends.bucket.delete(&key).await {
            let message = format!("{key} stays for some minutes, until it expires: {}", chain(&error));
            self.ends.report.event(Event::Warning { message: &message });
        }
    }
}

struct Deleted {
    id: Id,
    result: Result<(), crate::bucket::BucketError>,
    /// Until then it may be carried out without an answer; zero when not.
    until: Duration,
}

/// Of `doomed`, what no visible path refers to that stays: one that came between the plan and now, or whose own removal
/// failed.
fn not_referred_to(contents: &Contents, doomed: Vec<Id>) -> Vec<Id> {
    let graph = &contents.graph;
    let going: HashSet<Id> = doomed.iter().copied().collect();
    let kept = graph.reach(graph.visible().filter(|id| !going.contains(id)));
    doomed.into_iter().filter(|id| !kept.has(*id)).collect()
}

/// Referrers before what they refer to.
struct Order<'a> {
    contents: &'a Contents,
    doomed: &'a [Id],
    /// Of those that have not begun: how many doomed referrers are still there.
    referrers: HashMap<Id, u32>,
    ready: Vec<Id>,
    /// Something stays, and so does what it refers to.
    failed: bool,
}

impl<'a> Order<'a> {
    fn new(contents: &'a Contents, doomed: &'a [Id]) -> Self {
        let mut referrers: HashMap<Id, u32> = doomed.iter().map(|id| (*id, 0)).collect();
        for reference in doomed.iter().flat_map(|id| contents.graph.references(*id)) {
            if let Some(count) = referrers.get_mut(reference) {
                *count += 1;
            }
        }
        let ready = doomed.iter().rev().filter(|id| referrers[*id] == 0).copied().collect();
        Self { contents, doomed, referrers, ready, failed: false }
    }

    fn next(&mut self, is_idle: bool) -> Option<Id> {
        // Where only a cycle is left, which no store has made, any place to begin is as good.
        let next = self.ready.pop().or_else(|| match is_idle && !self.failed {
            true => self.doomed.iter().find(|id| self.referrers.contains_key(*id)).copied(),
            false => None,
        })?;
        self.referrers.remove(&next);
        Some(next)
    }

    fn deleted(&mut self, id: Id) {
        for reference in self.contents.graph.references(id) {
            if let Some(count) = self.referrers.get_mut(reference) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    self.ready.push(*reference);
                }
            }
        }
    }
}
