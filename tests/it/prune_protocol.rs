//! The protocol of pushes and prunes holds in all interleavings of a few processes, and not without any one of its parts.
//!
//! The processes are the library's own `push::run`, `prune::plan` with `carry_out`, and `prune::undo`; how all
//! interleavings of real code can be gone through is told in `support::protocol::explore`. What is gone through by default:
//!
//! - two pushes and two prunes, completely (some 20 million states), with the two hard cases: an old reference that new
//!   roots share, and an old root that is pushed again;
//! - a push, and a prune or two, of what was removed before and whose NAR is due; an undo beside a push and a prune;
//! - leases that expire and sweeps that pass their deadline, at any moment, with one push and one prune (once two
//!   pushes); `time_passes_for_three` has the rest of three processes and takes long. Two and two while time passes are
//!   left to the seeds (`prune_seeds`).
//!
//! What is left out by default: that something comes between the listing of an object and its being read
//! (`every_request_counts` has that for two processes, and once three); requests that fail (`prune_seeds` has those).
//!
//! Each test tells how many states there were, and a broken promise with the shortest way to it (`--no-capture`).

use crate::support::fixture_store::FixtureStore;
use crate::support::memory::{Memory, Object};
use crate::support::protocol::ablation::Ablation;
use crate::support::protocol::actors::{
    self, Actor, Wrap, plain, prune_options, pruner, push_options, pusher, run_alone, undoer,
};
use crate::support::protocol::ask::Ask;
use crate::support::protocol::explore::{Found, Past, Scenario, explore};
use crate::support::protocol::shelf::Shelf;
use crate::support::protocol::sim::keys;
use loft::bucket::{Key, Kind, Prefix};
use loft::clock::Clock;
use loft::nix::StorePath;
use loft::push::Options;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use ulid::Ulid;

const DAY: Duration = Duration::from_secs(86_400);
const RETENTION: Duration = Duration::from_secs(30 * 86_400);
/// A sweep counts for 11 minutes, a lease for 60 and 5 more that clocks may be off.
const SWEEP_EXPIRES: Duration = Duration::from_secs(12 * 60);
const LEASE_EXPIRES: Duration = Duration::from_secs(66 * 60);
/// More states than any scenario here has.
const LIMIT: usize = 40_000_000;

/// What is in the bucket at first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    /// N alone, which has expired; A and B, which are pushed, refer to it.
    OldReference,
    /// R and N, to which it refers, have expired; R is pushed again, which only renews it.
    OldRoot,
    /// N was removed long ago, and its NAR is due; A and B, which are pushed, refer to it.
    RemovedReference,
}

/// n, and r, a, b that refer to it.
struct Shared {
    shelf: Arc<Shelf>,
    n: StorePath,
    r: StorePath,
    a: StorePath,
    b: StorePath,
    options: Options,
}

fn shared() -> Shared {
    let store = FixtureStore::new();
    let n = store.add("n").file("n", b"n").finish();
    let [r, a, b] = ["r", "a", "b"].map(|name| store.add(name).file("f", name).reference(&n).finish());
    let shelf = Shelf::new(store, &[n.clone(), r.clone(), a.clone(), b.clone()]);
    Shared { shelf, n, r, a, b, options: push_options("p") }
}

impl Shared {
    /// Pushes what a scenario has for this pusher.
    fn push(&self, name: &str, before: Before, wrap: Wrap) -> Actor {
        let root = match (name, before) {
            ("before", Before::OldReference | Before::RemovedReference) => &self.n,
            (_, Before::OldRoot) => &self.r,
            ("A", _) => &self.a,
            _ => &self.b,
        };
        pusher(name, &self.shelf, std::slice::from_ref(root), &self.options, wrap)
    }

    fn prune(&self, name: &str, wrap: Wrap) -> Actor {
        pruner(name, &prune_options(RETENTION), wrap)
    }

    /// So many pushers and pruners.
    fn actors(&self, before: Before, pushers: usize, pruners: usize) -> Vec<Actor> {
        self.actors_with(before, (pushers, plain()), (pruners, plain()))
    }

    fn actors_with(&self, before: Before, pushers: (usize, Wrap), pruners: (usize, Wrap)) -> Vec<Actor> {
        let pushes = ["A", "B"].iter().take(pushers.0).map(|name| self.push(name, before, pushers.1.clone()));
        pushes.chain(["X", "Y"].iter().take(pruners.0).map(|name| self.prune(name, pruners.1.clone()))).collect()
    }

    /// What the sweep of the past has put into trash.
    fn sweep_before(&self, objects: &BTreeMap<Key, Object>) -> Ulid {
        objects.keys().find(|key| key.kind() == Kind::Trash).and_then(Key::id).unwrap()
    }

    /// `wrap` stood between whoever pushed in the past and the bucket.
    fn scenario(&self, before: Before, wrap: Wrap, actors: Vec<Actor>, jumps: &[Duration]) -> Scenario {
        let objects = self.objects(before, wrap);
        self.scenario_of(objects, actors, jumps)
    }

    fn objects(&self, before: Before, wrap: Wrap) -> (BTreeMap<Key, Object>, SystemTime) {
        let bucket = Memory::garage();
        run_alone(&self.push("before", before, wrap), &bucket);
        if before == Before::RemovedReference {
            bucket.clock.advance(50 * DAY);
            run_alone(&self.prune("before", plain()), &bucket);
        }
        bucket.clock.advance(60 * DAY);
        // An expired record keeps nothing; that each prune deletes it would only multiply states.
        for key in keys(&bucket, Prefix::pushes().as_str()) {
            bucket.lose(&key);
        }
        (bucket.objects(), bucket.clock.wall())
    }

    fn scenario_of(
        &self,
        (objects, now): (BTreeMap<Key, Object>, SystemTime),
        actors: Vec<Actor>,
        jumps: &[Duration],
    ) -> Scenario {
        let hashes = |root: &StorePath| {
            self.shelf.closure(std::slice::from_ref(root)).iter().map(StorePath::hash_part).collect()
        };
        Scenario {
            objects,
            now,
            actors,
            jumps: jumps.to_vec(),
            closures: [&self.n, &self.r, &self.a, &self.b].map(|root| (root.clone(), hashes(root))).into(),
            retention: RETENTION,
            private: if jumps.is_empty() { private } else { private_in_time },
        }
    }
}

/// What commutes with all that others may ask, so that its place among theirs does not matter:
///
/// - reading what nobody writes any more, and the pins and unfinished uploads that there are none of;
/// - a NAR under a key that is its own. A prune leaves it alone while it is young, whether it sees it or not, and
///   nobody else looks for it before a narinfo points at it;
/// - the probe of a prune, which only its own prune looks for;
/// - trash: what is in it matters days later;
/// - the look for logs and links to debug information, which nobody writes here (`prune_seeds` has those);
/// - the look for what crashed prunes have left, which finds nothing that others are still at;
/// - reading an object that was just listed. This alone does not commute: it leaves out that the object goes or changes
///   in between, which `every_request_counts` puts in again.
fn private(ask: &Ask, past: &Past<'_>) -> bool {
    matches!(ask, Ask::Get { .. }) || private_but_for_gets(ask, past)
}

/// Where time passes, what a prune takes for the time is a choice as well, and so is how long its records take.
fn private_in_time(ask: &Ask, past: &Past<'_>) -> bool {
    private(ask, past) && ask.on() != Key::cache_info().as_str() && !ask.on().starts_with(Prefix::trash().as_str())
}

fn private_but_for_gets(ask: &Ask, past: &Past<'_>) -> bool {
    let is_about = |prefixes: &[&str]| prefixes.iter().any(|prefix| ask.on().starts_with(prefix));
    match ask {
        Ask::Get { key, .. } => actors::is_settled_early(key) || is_about(&["loft/v1/trash/"]),
        Ask::Put { key, .. } if is_about(&["nar/"]) => key.contains('-'),
        Ask::Put { .. } => is_about(&["loft/v1/probe/", "loft/v1/trash/"]),
        Ask::Delete { .. } => is_about(&["loft/v1/probe/"]),
        Ask::List { .. } if is_about(&["loft/v1/sweep/"]) => past(&|ask| ask.on() == "nar/"),
        Ask::List { .. } => is_about(&["loft/v1/probe/", "loft/v1/pin/", "loft/v1/trash/", "log/", "debuginfo/"]),
        Ask::Uploads { .. } => true,
        _ => false,
    }
}

/// Goes through a scenario and tells what it found.
fn search(name: &str, scenario: &Scenario) -> Found {
    let since = Instant::now();
    let found = explore(scenario, LIMIT);
    let Found { states, histories, buckets, is_complete, .. } = &found;
    let all = if *is_complete { "all of them" } else { "not all" };
    println!("{name}: {states} states ({all}), {histories} histories, {buckets} buckets, {:?}", since.elapsed());
    if let Some((why, trace)) = &found.broken {
        println!("{why}\n    {}", trace.join("\n    "));
    }
    found
}

/// No state breaks a promise, and none was left out; and what the processes were for did happen.
fn holds(name: &str, scenario: &Scenario) {
    let found = search(name, scenario);
    assert!(found.broken.is_none() && found.is_complete);
    for actor in &scenario.actors {
        let ends: Vec<&String> =
            found.ends.keys().filter(|end| end.starts_with(&format!("{}: ", actor.name))).collect();
        let had = |what: &str| ends.iter().any(|end| end.contains(what));
        assert!(had("success") || had("Summary") || had("Undone"), "{} never came to its end: {ends:?}", actor.name);
    }
}

fn holds_for(before: Before, pushers: usize, pruners: usize, jumps: &[Duration]) {
    let shared = shared();
    let scenario = shared.scenario(before, plain(), shared.actors(before, pushers, pruners), jumps);
    let minutes: Vec<u64> = jumps.iter().map(|jump| jump.as_secs() / 60).collect();
    holds(&format!("{before:?}, {pushers} pushes, {pruners} prunes, jumps {minutes:?}"), &scenario);
}

#[test]
fn two_pushes_that_share_an_old_reference_and_two_prunes() {
    holds_for(Before::OldReference, 2, 2, &[]);
}

#[test]
fn two_pushes_that_renew_an_old_root_and_two_prunes() {
    holds_for(Before::OldRoot, 2, 2, &[]);
}

#[test]
fn a_push_of_what_was_removed_before_its_nar_is_collected() {
    holds_for(Before::RemovedReference, 1, 2, &[]);
}

#[test]
fn leases_are_lost_and_sweeps_pass_their_deadline() {
    for jump in [SWEEP_EXPIRES, LEASE_EXPIRES] {
        holds_for(Before::OldReference, 1, 1, &[jump]);
        holds_for(Before::OldRoot, 1, 1, &[jump]);
    }
    holds_for(Before::RemovedReference, 1, 1, &[LEASE_EXPIRES]);
    holds_for(Before::OldRoot, 2, 1, &[LEASE_EXPIRES]);
}

/// What the others leave out.
#[test]
#[ignore = "takes a quarter of an hour"]
fn time_passes_for_three() {
    for jump in [SWEEP_EXPIRES, LEASE_EXPIRES] {
        for before in [Before::OldReference, Before::OldRoot] {
            holds_for(before, 1, 2, &[jump]);
            holds_for(before, 2, 1, &[jump]);
        }
    }
    holds_for(Before::OldReference, 1, 1, &[SWEEP_EXPIRES, LEASE_EXPIRES]);
    holds_for(Before::OldRoot, 1, 1, &[SWEEP_EXPIRES, LEASE_EXPIRES]);
    holds_for(Before::RemovedReference, 1, 1, &[SWEEP_EXPIRES]);
    holds_for(Before::RemovedReference, 2, 1, &[]);
}

#[test]
fn every_request_counts() {
    let shared = shared();
    for (before, pushers, pruners) in [
        (Before::OldReference, 1, 1),
        (Before::OldRoot, 1, 1),
        (Before::RemovedReference, 1, 1),
        (Before::OldRoot, 2, 1),
    ] {
        let scenario = shared.scenario(before, plain(), shared.actors(before, pushers, pruners), &[]);
        let scenario = Scenario { private: private_but_for_gets, ..scenario };
        holds(&format!("{before:?}, {pushers} pushes, {pruners} prunes, each GET a step"), &scenario);
    }
}

#[test]
fn an_undo_beside_a_push_and_a_prune() {
    let shared = shared();
    let before = Before::RemovedReference;
    let objects = shared.objects(before, plain());
    let undo = undoer("undo", shared.sweep_before(&objects.0), &prune_options(RETENTION), plain());
    let mut actors = shared.actors(before, 1, 1);
    actors.push(undo);
    holds("an undo, a push, a prune", &shared.scenario_of(objects, actors, &[]));
}

/// Without one of its parts the protocol breaks a promise, and the search sees it.
fn breaks(promise: &str, scenario: &Scenario) {
    let found = search("without", scenario);
    let (why, trace) = found.broken.expect("no promise was broken");
    assert!(!trace.is_empty(), "it was broken from the start");
    assert!(why.starts_with(promise), "{promise} was to be broken, but: {why}");
}

/// With something between pushes and the bucket.
fn breaks_pushes(ablation: Ablation, promise: &str, before: Before, pushers: usize, pruners: usize) {
    let shared = shared();
    let actors = shared.actors_with(before, (pushers, ablation.clone().wrap()), (pruners, plain()));
    breaks(promise, &shared.scenario(before, ablation.wrap(), actors, &[]));
}

/// With something between prunes and the bucket.
fn breaks_prunes(ablation: Ablation, promise: &str, before: Before, jumps: &[Duration]) {
    let shared = shared();
    let actors = shared.actors_with(before, (1, plain()), (1, ablation.wrap()));
    breaks(promise, &shared.scenario(before, plain(), actors, jumps));
}

#[test]
fn without_leases() {
    breaks_pushes(Ablation::NoLeases, "I2", Before::OldReference, 1, 1);
    breaks_pushes(Ablation::NoLeases, "I3", Before::OldRoot, 1, 1);
}

#[test]
fn with_leases_but_sweeps_ignored() {
    breaks_pushes(Ablation::SweepsIgnored, "I2", Before::OldReference, 1, 1);
    breaks_pushes(Ablation::SweepsIgnored, "I3", Before::OldRoot, 1, 1);
}

#[test]
fn without_a_second_look() {
    breaks_prunes(Ablation::NoSecondLook, "I2", Before::OldReference, &[]);
    breaks_prunes(Ablation::NoSecondLook, "I3", Before::OldRoot, &[]);
}

#[test]
fn with_narinfos_read_before_leases() {
    breaks_prunes(Ablation::NarInfosFirst, "I2", Before::OldReference, &[]);
}

#[test]
fn with_records_read_before_leases() {
    breaks_prunes(Ablation::RecordsFirst, "I3", Before::OldRoot, &[]);
}

#[test]
fn without_time_limits_on_deletes() {
    breaks_prunes(Ablation::NoTimeLimit, "I2", Before::OldReference, &[SWEEP_EXPIRES]);
    breaks_prunes(Ablation::NoTimeLimit, "I3", Before::OldRoot, &[SWEEP_EXPIRES]);
}

#[test]
fn with_a_push_that_goes_on_after_losing_its_lease() {
    let shared = shared();
    for (before, promise) in [(Before::OldReference, "I2"), (Before::OldRoot, "I3")] {
        let mut actors = shared.actors_with(before, (1, Ablation::NoTimeLimit.wrap()), (1, plain()));
        actors[0].clock_stands = true;
        breaks(promise, &shared.scenario(before, plain(), actors, &[LEASE_EXPIRES]));
    }
}

#[test]
fn with_nar_keys_that_are_used_again() {
    breaks_pushes(Ablation::KeysReused, "I1", Before::RemovedReference, 1, 1);
}

#[test]
fn with_narinfos_before_nars() {
    breaks_pushes(Ablation::NarInfoBeforeNar, "I1", Before::OldReference, 1, 0);
}

#[test]
fn with_an_undo_that_points_at_the_old_nar() {
    let shared = shared();
    let before = Before::RemovedReference;
    let objects = shared.objects(before, plain());
    let sweep = shared.sweep_before(&objects.0);
    let undo = undoer("undo", sweep, &prune_options(RETENTION), Ablation::OldNarAgain.wrap());
    breaks("I1", &shared.scenario_of(objects, vec![undo, shared.prune("X", plain())], &[]));
}

#[test]
fn with_deletion_by_age_alone() {
    breaks_prunes(Ablation::AgeAlone, "I2", Before::OldReference, &[]);
}

#[test]
fn with_references_deleted_before_referrers() {
    let shared = shared();
    let [r, n] = [&shared.r, &shared.n].map(|path| Key::nar_info(&path.hash_part()));
    let actors = shared.actors_with(Before::OldRoot, (0, plain()), (1, Ablation::Swapped(r, n).wrap()));
    breaks("I2", &shared.scenario(Before::OldRoot, plain(), actors, &[]));
}
