//! The protocol of pushes and prunes holds in all interleavings of a few processes.

use crate::support::fixture_store::FixtureStore;
use crate::support::memory::Memory;
use crate::support::protocol::actors::{self, Actor, plain, prune_options, pruner, push_options, pusher, run_alone};
use crate::support::protocol::ask::Ask;
use crate::support::protocol::explore::{Found, Past, Scenario, explore};
use crate::support::protocol::shelf::Shelf;
use crate::support::protocol::sim::keys;
use loft::nix::StorePath;
use loft::push::Options;
use std::sync::Arc;
use std::time::{Duration, Instant};

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);
const RETENTION: Duration = Duration::from_secs(30 * 86_400);

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
    fn push(&self, name: &str, root: &StorePath) -> Actor {
        pusher(name, &self.shelf, &[root.clone()], &self.options, plain())
    }

    fn prune(&self, name: &str) -> Actor {
        pruner(name, &prune_options(RETENTION), plain())
    }

    /// So many pushers and pruners.
    fn actors(&self, before: Before, pushers: usize, pruners: usize) -> Vec<Actor> {
        let roots = if before == Before::OldRoot { [&self.r, &self.r] } else { [&self.a, &self.b] };
        let pushes = ["A", "B"].iter().zip(roots).map(|(name, root)| self.push(name, root)).take(pushers);
        pushes.chain(["1", "2"].iter().map(|name| self.prune(name)).take(pruners)).collect()
    }

    fn scenario(&self, before: Before, actors: Vec<Actor>, jumps: &[Duration]) -> Scenario {
        let bucket = Memory::garage();
        run_alone(&self.push("before", if before == Before::OldRoot { &self.r } else { &self.n }), &bucket);
        if before == Before::RemovedReference {
            bucket.clock.advance(50 * DAY);
            println!("{:?}", run_alone(&self.prune("before"), &bucket));
        }
        bucket.clock.advance(60 * DAY);
        // An expired record keeps nothing; that each prune deletes it would only multiply states.
        for key in keys(&bucket, "loft/v1/push/") {
            bucket.lose(&key);
        }
        let hashes = |root: &StorePath| self.shelf.closure(&[root.clone()]).iter().map(StorePath::hash_part).collect();
        Scenario {
            objects: bucket.objects(),
            now: loft::clock::Clock::wall(bucket.clock.as_ref()),
            actors,
            jumps: jumps.to_vec(),
            closures: [&self.n, &self.r, &self.a, &self.b].map(|root| (root.clone(), hashes(root))).into(),
            retention: RETENTION,
            private,
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
/// - the look for what crashed prunes have left, which finds nothing that others are still at;
/// - reading an object that was just listed: by itself, this choice leaves out that it goes in between, which
///   `every_request_counts` puts in again.
fn private(ask: &Ask, past: &Past<'_>) -> bool {
    matches!(ask, Ask::Get { .. }) || private_but_for_gets(ask, past)
}

fn private_but_for_gets(ask: &Ask, past: &Past<'_>) -> bool {
    let is_about = |prefixes: &[&str]| prefixes.iter().any(|prefix| ask.on().starts_with(prefix));
    match ask {
        Ask::Get { key, .. } => actors::is_settled_early(key) || is_about(&["loft/v1/trash/"]),
        Ask::Put { .. } => is_about(&["nar/", "loft/v1/probe/", "loft/v1/trash/"]),
        Ask::Delete { .. } => is_about(&["loft/v1/probe/"]),
        Ask::List { .. } if is_about(&["loft/v1/sweep/"]) => past(&|ask| ask.on() == "nar/"),
        Ask::List { .. } => is_about(&["loft/v1/probe/", "loft/v1/pin/", "loft/v1/trash/"]),
        Ask::Uploads { .. } => true,
        _ => false,
    }
}

fn tell(name: &str, found: &Found, since: Instant) {
    let Found { states, histories, buckets, is_complete, .. } = found;
    println!("{name}: {states} states, {histories} histories, {buckets} buckets, complete: {is_complete}, {:?}", since.elapsed());
    for (end, count) in found.ends.iter().filter(|_| std::env::var("ENDS").is_ok()) {
        println!("    {count} × {end}");
    }
    if let Some((why, trace)) = &found.broken {
        println!("{why}\n  {}", trace.join("\n  "));
    }
}

#[test]
fn sizes() {
    let shared = shared();
    for before in [Before::OldReference, Before::OldRoot, Before::RemovedReference] {
        for (pushers, pruners) in [(1, 1), (1, 2), (2, 1), (2, 2)] {
            let scenario = shared.scenario(before, shared.actors(before, pushers, pruners), &[]);
            let since = Instant::now();
            let found = explore(&scenario, 2_000_000);
            tell(&format!("{before:?}, {pushers} + {pruners}"), &found, since);
            assert!(found.broken.is_none());
        }
    }
}
