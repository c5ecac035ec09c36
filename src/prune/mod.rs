//! Pruning: removes what retention no longer covers, while other machines push and prune (docs/pruning.md says what is
//! promised, docs/protocol.md why it holds).
//!
//! A plan is a value: [`plan`] looks and decides, [`carry_out`] does it. Nothing is deleted but what a plan names, and of
//! that only what a second look confirms.
//!
//! refuse on any doubt → look → decide → put back what is missed → announce, look again, trash, delete → garbage

mod contents;
mod decide;
mod error;
mod extras;
mod garbage;
pub(crate) mod graph;
mod guard;
mod quarantine;
mod records;
mod restore;
mod sweep;
mod undo;

pub use contents::Orphan;
pub use decide::Reason;
pub use error::{PruneError, Refusal};
pub use garbage::Garbage;
pub use guard::CLOCK_TOLERANCE;
pub(crate) use guard::safe_to_change;
pub(crate) use quarantine::{quarantine, restore};
pub use restore::Restored;
pub(crate) use sweep::Ruins;
pub use undo::{Trashed, Undone, list_trash, undo};

use crate::bucket::{Body, Bucket, Headers, Key};
use crate::catalog;
use crate::clock::Clock;
use crate::ledger::Ledger;
use crate::nix::{NarInfo, PathHash};
use crate::push::Interrupt;
use crate::record::{Removed, TrashRecord, Why, seconds};
use crate::report::{Event, Report};
use bytes::Bytes;
use contents::Contents;
use decide::{Decision, Retirement};
use graph::Id;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use sweep::{Ground, Swept};
use ulid::Ulid;

/// What does the work.
#[derive(Clone)]
pub struct Ends {
    pub bucket: Arc<dyn Bucket>,
    pub ledger: Arc<Ledger>,
    pub clock: Arc<dyn Clock>,
    pub report: Arc<dyn Report>,
}

/// What a user can set.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long a root stays after it was last pushed.
    pub retention: Duration,
    pub max_size: Option<MaxSize>,
    /// How long a NAR stays after nothing points at it any more.
    pub nar_grace: Duration,
    /// Lifts the safety stop: more than half of all paths may go at once.
    pub remove_most: bool,
    /// Writes nothing, not even to see whether it would be listed.
    pub dry_run: bool,
    /// For people who wonder whose sweep that is: `user@host`.
    pub who: String,
    pub interrupt: Interrupt,
}

/// Clients that have seen a narinfo may come for its NAR for so long.
pub const NAR_GRACE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// A limit on the stored bytes that narinfos point at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxSize {
    /// Above this the oldest roots go,
    pub max: u64,
    /// until no more than this is left.
    pub target: u64,
}

/// What a prune will do, and why.
pub struct PrunePlan {
    contents: Contents,
    retirement: Retirement,
    /// Referrers before what they refer to.
    condemned: Vec<(Id, Reason)>,
    /// To be put back from trash.
    missed: HashSet<PathHash>,
    garbage: Garbage,
    pub counts: Counts,
}

/// The plan in numbers. Sizes are bytes as stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Narinfos.
    pub paths: u64,
    /// Not understood, and therefore kept with all that they may refer to.
    pub damaged: u64,
    /// Past their retention.
    pub expired: u64,
    /// Retired because the bucket is too large.
    pub retired: u64,
    /// To be put back from trash, since something refers to them.
    pub restored: u64,
    /// Bytes of NARs that narinfos point at, before and after.
    pub bytes: u64,
    pub bytes_kept: u64,
    /// The size limit is still exceeded by what may not be removed (pins, pushes in progress, the last 24 hours).
    pub is_still_too_large: bool,
    /// All NARs, and their bytes.
    pub nars: u64,
    pub stored: u64,
    /// NARs that nothing points at; `due_*` go now, the others when their grace has passed.
    pub garbage: u64,
    pub garbage_bytes: u64,
    pub due: u64,
    pub due_bytes: u64,
    pub uploads: u64,
    /// Records that have expired; logs, listings and links that are of no use any more.
    pub records: u64,
}

/// One path that is to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    pub path: PathHash,
    pub reason: Reason,
    /// Stored bytes of its NAR, which other paths may share.
    pub size: u64,
    /// When it was last pushed as a root, or written.
    pub last_pushed: SystemTime,
    /// `None` where it was not asked for, or is gone since.
    pub info: Option<NarInfo>,
}

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Paths whose narinfos were deleted.
    pub removed: Vec<PathHash>,
    /// Condemned, but needed again at the second look.
    pub rescued: u64,
    /// Put back from trash.
    pub restored: u64,
    /// Objects that could not be deleted or put back.
    pub failed: u64,
    /// NARs that were deleted, and their bytes.
    pub nars: u64,
    pub freed: u64,
    pub uploads: u64,
    pub records: u64,
    /// What can be undone, by these ids.
    pub trash: Vec<Ulid>,
    /// Time ran out or the user stopped it: the next prune goes on.
    pub is_unfinished: bool,
}

/// S0 and S1: looks at everything, decides, and changes nothing but a probe object.
pub async fn plan(ends: &Ends, options: &Options) -> Result<PrunePlan, PruneError> {
    let opened = guard::open(ends, options).await?;
    let contents = tokio::select! {
        contents = Contents::look(ends, options, opened) => contents?,
        () = options.interrupt.raised() => return Err(PruneError::Interrupted),
    };
    Ok(PrunePlan::new(contents, options))
}

/// S2 to S8; `summary` counts what is done. An error means that nothing more was tried: what had been begun was ended
/// properly and stays done.
pub async fn carry_out(
    ends: &Ends,
    options: &Options,
    mut plan: PrunePlan,
    summary: &mut Summary,
) -> Result<(), PruneError> {
    plan.check_harm(options)?;
    plan.restore(ends, options, summary).await?;
    let PrunePlan { mut contents, retirement, condemned, garbage, .. } = plan;
    let condemned: Vec<Id> = condemned.into_iter().map(|(id, _)| id).collect();
    let mut orphans = garbage.new;
    let ground = Ground::Retention(&retirement);
    for batch in condemned.chunks(sweep::BATCH) {
        let orphans = std::mem::take(&mut orphans);
        let swept = sweep::sweep(ends, options, &mut contents, &ground, batch, orphans, summary).await?;
        if swept == Swept::Unfinished || options.interrupt.is_raised() {
            summary.is_unfinished = true;
            return Ok(());
        }
    }
    if !orphans.is_empty() {
        let id = Ulid::from_datetime(ends.clock.wall());
        let mut trash = TrashRecord::new(options.who.clone(), seconds(ends.clock.wall()), Why::Retention);
        trash.orphans = orphans;
        let body = Body::from(Bytes::from(trash.print()));
        ends.bucket.put(&Key::trash(id), body, Headers::COMPRESSED_RECORD).await?;
    }
    if !garbage.due.is_empty() || !garbage.extras.delete.is_empty() {
        // Time has passed since the plan was made.
        contents.look_again(ends, &Default::default()).await?;
    }
    let mut garbage = garbage::find(&contents, options);
    let retired = contents.records.pushes.iter().filter(|push| retirement.covers(&contents, push));
    garbage.records.extend(retired.map(|push| push.key.clone()));
    garbage::collect(ends, options, &contents, &garbage, summary).await?;
    contents.tidy_ledger().await;
    summary.is_unfinished = options.interrupt.is_raised();
    Ok(())
}

impl PrunePlan {
    fn new(contents: Contents, options: &Options) -> Self {
        let Decision { retirement, condemned, bytes, bytes_kept, is_still_too_large } =
            decide::decide(&contents, options.max_size);
        let garbage = garbage::find(&contents, options);
        let graph = &contents.graph;
        let reasons: HashMap<Id, Reason> = condemned.iter().copied().collect();
        let ids: Vec<Id> = condemned.iter().map(|(id, _)| *id).collect();
        let condemned: Vec<(Id, Reason)> =
            graph.referrers_first(&ids).into_iter().map(|id| (id, reasons[&id])).collect();
        let missed = missed(&contents, &reasons);
        let count = |reason| condemned.iter().filter(|(_, why)| *why == reason).count() as u64;
        let counts = Counts {
            paths: graph.visible().count() as u64,
            damaged: graph.visible().filter(|id| graph.is_damaged(*id)).count() as u64,
            expired: count(Reason::Retention),
            retired: count(Reason::Size),
            restored: missed.len() as u64,
            bytes,
            bytes_kept,
            is_still_too_large,
            nars: contents.nars,
            stored: contents.stored,
            garbage: contents.orphans.len() as u64,
            garbage_bytes: garbage.bytes,
            due: garbage.due.len() as u64,
            due_bytes: garbage.due.iter().map(|(_, orphan)| orphan.size).sum(),
            uploads: garbage.uploads.len() as u64,
            records: (garbage.records.len() + garbage.extras.delete.len()) as u64,
        };
        Self { contents, retirement, condemned, missed, garbage, counts }
    }

    /// The safety stop; `carry_out` asks it first.
    pub fn check_harm(&self, options: &Options) -> Result<(), PruneError> {
        let (condemned, total) = (self.condemned.len() as u64, self.counts.paths);
        if condemned * 2 > total && !options.remove_most {
            return Err(Refusal::TooMuch { condemned, total }.into());
        }
        Ok(())
    }

    /// What would go, referrers before what they refer to, without names.
    pub fn condemned(&self) -> Vec<Removal> {
        let graph = &self.contents.graph;
        let ages = decide::ages(&self.contents);
        let removal = |(id, reason): &(Id, Reason)| Removal {
            path: graph.hash(*id),
            reason: *reason,
            size: graph.size(*id),
            last_pushed: ages.get(id).copied().unwrap_or(SystemTime::UNIX_EPOCH),
            info: None,
        };
        self.condemned.iter().map(removal).collect()
    }

    /// Gives `removals` their names: read again where the ledger has no copy. Each takes a kilobyte or more.
    pub async fn name(&self, removals: &mut [Removal]) -> Result<(), PruneError> {
        for page in removals.chunks_mut(1000) {
            let ids: Vec<Id> = page.iter().filter_map(|removal| self.contents.graph.find(&removal.path)).collect();
            let recalled = self.contents.recall(&ids).await?.into_iter();
            let mut infos: HashMap<PathHash, NarInfo> = recalled
                .filter_map(|(hash, bytes)| {
                    Some((hash, catalog::parse(&self.contents.opened.dir, &hash, &bytes).ok()?))
                })
                .collect();
            for removal in page {
                removal.info = infos.remove(&removal.path);
            }
        }
        Ok(())
    }

    /// All that would go, with names.
    pub async fn removals(&self) -> Result<Vec<Removal>, PruneError> {
        let mut removals = self.condemned();
        self.name(&mut removals).await?;
        Ok(removals)
    }

    /// By the store's clock, when the plan was made.
    pub fn at(&self) -> SystemTime {
        self.contents.opened.now
    }

    /// Puts back what visible paths refer to and only trash has: some program that takes no lease relied on it. What cannot
    /// be put back now may be later, so its trash and its NAR stay.
    async fn restore(&mut self, ends: &Ends, options: &Options, summary: &mut Summary) -> Result<(), PruneError> {
        if self.missed.is_empty() {
            return Ok(());
        }
        let found = restore::from_all_trash(ends, &self.contents, &self.missed).await?;
        let wanted: Vec<Removed> = found.removed.values().cloned().collect();
        let (none, mut fates) = (HashSet::new(), Vec::new());
        let opened = &self.contents.opened;
        let result = restore::put_back(ends, options, opened, &wanted, &found.external, &none, &mut fates).await;
        for (path, restored) in fates {
            match restored {
                Restored::Done => summary.restored += 1,
                Restored::Present | Restored::AsItWas => {}
                Restored::Failed(why) => {
                    let message = format!("{path} is referred to again, but was not put back: {why}");
                    ends.report.event(Event::Warning { message: &message });
                    summary.failed += 1;
                    let nar = found.removed.get(&path).and_then(|removed| catalog::remnants(&removed.bytes()).url);
                    self.contents.wanted_nars.extend(nar);
                    self.contents.wanted_trash.extend(found.records.iter().cloned());
                }
            }
        }
        result
    }
}

/// References of what stays that are in trash.
fn missed(contents: &Contents, going: &HashMap<Id, Reason>) -> HashSet<PathHash> {
    let graph = &contents.graph;
    let staying = graph.visible().filter(|id| !going.contains_key(id));
    let references = staying.flat_map(|id| graph.references(id)).filter(|reference| !graph.is_visible(**reference));
    references.map(|reference| graph.hash(*reference)).filter(|hash| contents.in_trash.contains(hash)).collect()
}
