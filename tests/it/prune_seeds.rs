//! Weeks of pushes and prunes with faults, crashes, sleep and wrong clocks; a seed decides everything.
//!
//! `LOFT_SIM_SEEDS=from..to` runs these seeds instead of the usual ones, for a failure to be seen again
//! or for a long night. A seed that fails is told with the last steps.

use crate::support::fixture_store::FixtureStore;
use crate::support::protocol::actors::{Wrap, push_options, pusher};
use crate::support::protocol::dice::Dice;
use crate::support::protocol::judge::{Digests, Judge};
use crate::support::protocol::port::Port;
use crate::support::protocol::shelf::Shelf;
use crate::support::protocol::sim::{Player, Sim, Trouble};
use crate::support::time::PausedClock;
use loft::bucket::{RetryPolicy, Retrying};
use loft::nix::{PathHash, StorePath};
use loft::push::Options;
use loft::report::Silent;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

const HOUR: Duration = Duration::from_secs(3600);
const RETENTION: Duration = Duration::from_secs(30 * 86_400);

/// What all seeds share.
struct Bench {
    shelf: Arc<Shelf>,
    paths: Vec<StorePath>,
    closures: Arc<HashMap<StorePath, Vec<PathHash>>>,
    digests: Digests,
    options: Options,
}

impl Bench {
    /// 200 paths in five layers; some have the same files.
    fn new() -> Self {
        let store = FixtureStore::new();
        let mut dice = Dice::new(7);
        let mut paths: Vec<StorePath> = Vec::new();
        for n in 0..200 {
            let below = (n / 40 * 40).max(40) - 40..n / 40 * 40;
            let references: Vec<StorePath> = match below.is_empty() {
                true => Vec::new(),
                false => (0..1 + dice.below(2)).map(|_| paths[below.start + dice.below(40)].clone()).collect(),
            };
            let text = format!("the contents of {}", if dice.chance(100) { 0 } else { n });
            paths.push(store.add(&format!("p-{n}")).file("f", text).references(&references).finish());
        }
        let shelf = Shelf::new(store, &paths);
        let hashes = |path: &StorePath| shelf.closure(&[path.clone()]).iter().map(StorePath::hash_part).collect();
        let closures = paths.iter().map(|path| (path.clone(), hashes(path))).collect();
        Self { shelf: shelf.clone(), paths, closures: Arc::new(closures), digests: Digests::default(), options: push_options("p") }
    }

    fn pusher(&self, sim: &mut Sim, name: &str) -> Player {
        let roots: Vec<StorePath> = (0..1 + sim.dice.below(2)).map(|_| sim.dice.pick(&self.paths).clone()).collect();
        sim.note(|| format!("{name} pushes {roots:?}"));
        Player { actor: pusher(name, &self.shelf, &roots, &self.options, retrying()), ahead: 0 }
    }
}

/// Tries again as loft does, but without waiting long.
fn retrying() -> Wrap {
    Arc::new(|port: Arc<Port>| {
        let policy = RetryPolicy { base: Duration::ZERO, cap: Duration::ZERO, ..RetryPolicy::default() };
        let retrying = Retrying::new(port, policy, Arc::new(PausedClock::start()), Arc::new(Silent));
        Arc::new(retrying.with_jitter(Arc::new(|longest| longest)))
    })
}

fn run(bench: &Bench, seed: u64, has_log: bool) -> (Result<u64, String>, Sim) {
    let judge = Judge::new(bench.closures.clone(), RETENTION, bench.digests.clone());
    let mut sim = Sim::new(seed, judge, has_log);
    let result = weeks(bench, &mut sim).map(|()| sim.steps);
    (result, sim)
}

fn weeks(bench: &Bench, sim: &mut Sim) -> Result<(), String> {
    for episode in 0..3 {
        let mut players = Vec::new();
        for pusher in 0..1 + sim.dice.below(3) {
            players.push(bench.pusher(sim, &format!("push {episode}.{pusher}")));
        }
        sim.run(players, Trouble::MUCH)?;
        let hours = *sim.dice.pick(&[0, 1, 2, 30, 200, 800]);
        sim.pass(hours * HOUR)?;
    }
    sim.check_all()
}

fn seeds(usual: Range<u64>) -> Range<u64> {
    let Ok(asked) = std::env::var("LOFT_SIM_SEEDS") else { return usual };
    let (from, to) = asked.split_once("..").expect("LOFT_SIM_SEEDS is from..to");
    from.parse().unwrap()..to.parse().unwrap()
}

#[test]
fn weeks_of_trouble() {
    let bench = Bench::new();
    let (since, mut steps) = (Instant::now(), 0);
    let seeds = seeds(0..500);
    for seed in seeds.clone() {
        match run(&bench, seed, false).0 {
            Ok(taken) => steps += taken,
            Err(why) => {
                let (again, sim) = run(&bench, seed, true);
                let log = sim.log();
                let last = log[log.len().saturating_sub(60)..].join("\n");
                panic!("seed {seed}: {why}\nonce more: {again:?}\n{last}");
            }
        }
    }
    println!("{} seeds, {steps} steps, {:?}", seeds.end - seeds.start, since.elapsed());
}
