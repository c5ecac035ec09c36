//! Which paths stay and which go: a pure function of what is in the bucket and of what the user wants.
//!
//! Whatever can be reached from a root stays. Roots are pins, what leases name, and everything young: a path whose
//! newest push record, or whose narinfo itself, is younger than the retention. That a narinfo's own date counts makes
//! it gentle to take over a bucket that another program has filled.
//!
//! A narinfo that was not understood stays in any case, with all that it may refer to.

use super::MaxSize;
use super::contents::Contents;
use super::graph::{Id, Marks};
use crate::record::seconds;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, SystemTime};

/// Nothing younger is removed, whatever the size limit says.
pub const FLOOR: Duration = Duration::from_secs(24 * 60 * 60);

/// Which roots no longer count. It is applied again to what the bucket holds later.
#[derive(Debug, Default)]
pub struct Retirement {
    /// By path: roots as young as this or older are retired for the size's sake. Seconds since 1970.
    retired: HashMap<Id, u64>,
}

/// Why a path goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Nothing that is young enough reaches it.
    Retention,
    /// It was the oldest of a bucket that is too large.
    Size,
}

/// What was decided.
pub struct Decision {
    pub retirement: Retirement,
    /// In no order.
    pub condemned: Vec<(Id, Reason)>,
    /// Bytes of NARs that visible narinfos point at now.
    pub bytes: u64,
    /// And those that stay.
    pub bytes_kept: u64,
    /// The size limit is still exceeded by what may not be removed.
    pub is_still_too_large: bool,
}

/// S1.
pub fn decide(contents: &Contents, max_size: Option<MaxSize>) -> Decision {
    let graph = &contents.graph;
    let young = keep(contents, &Retirement::default());
    let everything = graph.reach(graph.visible());
    let by_age = graph.bytes_of(&young);
    let (retirement, is_still_too_large) = match max_size.filter(|size| by_age > size.max) {
        Some(size) => retire(contents, size.target),
        None => (Retirement::default(), false),
    };
    let kept = if retirement.retired.is_empty() { young.clone() } else { keep(contents, &retirement) };
    let reason = |id| if young.has(id) { Reason::Size } else { Reason::Retention };
    let condemned: Vec<_> = graph.visible().filter(|id| !kept.has(*id)).map(|id| (id, reason(id))).collect();
    Decision {
        bytes: graph.bytes_of(&everything),
        bytes_kept: graph.bytes_of(&kept),
        retirement,
        condemned,
        is_still_too_large,
    }
}

/// All that stays.
pub fn keep(contents: &Contents, retirement: &Retirement) -> Marks {
    let mut marks = contents.graph.reach(protected(contents));
    let limit = since(contents, contents.retention);
    let aged = roots(contents)
        .into_iter()
        .filter(|(id, at)| *at > limit && retirement.retired.get(id).is_none_or(|retired| at > retired));
    contents.graph.reach_more(&mut marks, aged.map(|(id, _)| id));
    marks
}

/// Roots that no setting can retire.
fn protected(contents: &Contents) -> HashSet<Id> {
    let (graph, records) = (&contents.graph, &contents.records);
    let named = records.pinned.iter().chain(records.leases.iter().flat_map(|lease| &lease.paths));
    let mut protected: HashSet<Id> = named.filter_map(|hash| graph.find(hash)).collect();
    protected.extend(graph.visible().filter(|id| graph.is_damaged(*id)));
    let floor = since(contents, FLOOR);
    protected.extend(roots(contents).into_iter().filter(|(_, at)| *at > floor).map(|(id, _)| id));
    protected
}

/// Every visible path, with the time from which its age counts, in seconds since 1970.
fn roots(contents: &Contents) -> Vec<(Id, u64)> {
    let graph = &contents.graph;
    let mut pushed: HashMap<Id, u64> = HashMap::new();
    for push in &contents.records.pushes {
        for id in push.roots.iter().filter_map(|root| graph.find(root)) {
            let at = pushed.entry(id).or_default();
            *at = (*at).max(seconds(push.at));
        }
    }
    let at = |id| seconds(graph.modified(id)).max(pushed.get(&id).copied().unwrap_or_default());
    graph.visible().map(|id| (id, at(id))).collect()
}

/// Retires the oldest roots until what is left has no more than `target` bytes; or all that may be.
///
/// Retiring one more root never adds bytes, so halving finds the fewest that suffice.
fn retire(contents: &Contents, target: u64) -> (Retirement, bool) {
    let graph = &contents.graph;
    let fixed = graph.reach(protected(contents));
    let limit = since(contents, contents.retention);
    let mut aged: Vec<(Id, u64)> =
        roots(contents).into_iter().filter(|(id, at)| *at > limit && !fixed.has(*id)).collect();
    aged.sort_unstable_by_key(|(id, at)| (*at, graph.hash(*id)));
    let bytes_without = |count: usize| {
        let mut marks = fixed.clone();
        graph.reach_more(&mut marks, aged[count..].iter().map(|(id, _)| *id));
        graph.bytes_of(&marks)
    };
    let (mut few, mut enough) = (0, aged.len());
    while few < enough {
        let half = few + (enough - few) / 2;
        match bytes_without(half) <= target {
            true => enough = half,
            false => few = half + 1,
        }
    }
    let is_still_too_large = bytes_without(enough) > target;
    (Retirement { retired: aged.into_iter().take(enough).collect() }, is_still_too_large)
}

impl Retirement {
    /// Whether all that a push record keeps is retired: then it keeps nothing.
    pub fn covers(&self, contents: &Contents, push: &super::records::Push) -> bool {
        !self.retired.is_empty()
            && !push.roots.is_empty()
            && push.roots.iter().all(|root| {
                let id = contents.graph.find(root);
                id.is_none_or(|id| self.retired.get(&id).is_some_and(|retired| seconds(push.at) <= *retired))
            })
    }
}

fn since(contents: &Contents, age: Duration) -> u64 {
    contents.opened.now.checked_sub(age).map_or(0, seconds)
}

/// How old a path is, as its age counts.
pub fn ages(contents: &Contents) -> HashMap<Id, SystemTime> {
    let time = |at| SystemTime::UNIX_EPOCH + Duration::from_secs(at);
    roots(contents).into_iter().map(|(id, at)| (id, time(at))).collect()
}
