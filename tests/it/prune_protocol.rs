//! The protocol of pushes and prunes holds in all interleavings of a few processes.

use crate::support::fixture_store::FixtureStore;
use crate::support::memory::Memory;
use crate::support::protocol::actors::{self, Actor, plain, push_options, pusher, run_alone};
use crate::support::protocol::ask::Ask;
use crate::support::protocol::explore::{Found, Scenario, explore};
use crate::support::protocol::shelf::Shelf;
use loft::nix::StorePath;
use std::sync::Arc;
use std::time::{Duration, Instant};

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);
const RETENTION: Duration = Duration::from_secs(30 * 86_400);

/// N is old; A and B, which both refer to it, are pushed.
struct Shared {
    shelf: Arc<Shelf>,
    n: StorePath,
    a: StorePath,
    b: StorePath,
}

fn shared() -> Shared {
    let store = FixtureStore::new();
    let n = store.add("n").file("n", b"n").finish();
    let a = store.add("a").file("a", b"a").reference(&n).finish();
    let b = store.add("b").file("b", b"b").reference(&n).finish();
    let shelf = Shelf::new(store, &[n.clone(), a.clone(), b.clone()]);
    Shared { shelf, n, a, b }
}

impl Shared {
    fn scenario(&self, actors: Vec<Actor>, jumps: &[Duration]) -> Scenario {
        let bucket = Memory::garage();
        let old = pusher("before", &self.shelf, &[self.n.clone()], &push_options("before"), plain());
        println!("{:?}", run_alone(&old, &bucket));
        bucket.clock.advance(60 * DAY);
        let hashes = |root: &StorePath| self.shelf.closure(&[root.clone()]).iter().map(StorePath::hash_part).collect();
        Scenario {
            objects: bucket.objects(),
            now: loft::clock::Clock::wall(bucket.clock.as_ref()),
            actors,
            jumps: jumps.to_vec(),
            closures: [&self.n, &self.a, &self.b].map(|root| (root.clone(), hashes(root))).into(),
            retention: RETENTION,
            private,
        }
    }
}

/// What commutes with all that others may ask: what nobody writes any more, and a NAR under a key that
/// is its own. Nobody looks at such a NAR before a narinfo points at it: a prune leaves it alone
/// because it is young.
fn private(ask: &Ask) -> bool {
    match ask {
        Ask::Get { key, .. } => actors::is_settled_early(key),
        Ask::Put { key, .. } => key.starts_with("nar/"),
        Ask::Uploads { .. } => true,
        _ => false,
    }
}

fn tell(name: &str, found: &Found, since: Instant) {
    let Found { states, histories, buckets, is_complete, .. } = found;
    println!("{name}: {states} states, {histories} histories, {buckets} buckets, complete: {is_complete}, {:?}", since.elapsed());
    if let Some((why, trace)) = &found.broken {
        println!("{why}\n  {}", trace.join("\n  "));
    }
}

#[test]
fn two_pushers() {
    let shared = shared();
    let push = |name: &str, root: &StorePath| pusher(name, &shared.shelf, &[root.clone()], &push_options(name), plain());
    for jumps in [&[][..], &[12 * MINUTE], &[61 * MINUTE], &[12 * MINUTE, 61 * MINUTE]] {
        let scenario = shared.scenario(vec![push("A", &shared.a), push("B", &shared.b)], jumps);
        let since = Instant::now();
        let found = explore(&scenario, 1_000_000);
        tell(&format!("two pushers, jumps {jumps:?}"), &found, since);
        assert!(found.broken.is_none() && found.is_complete);
    }
}
