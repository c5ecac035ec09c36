//! `kill -9` of a prune and of a push after every request, among three writers: what is visible is whole at each of
//! these moments, the others are not hurt, and a rerun ends what was begun.
//!
//! `LOFT_TEST_KILLS=200` kills at so many random requests more, each.

use crate::support::fixture_store::FixtureStore;
use crate::support::local_store::LocalStore;
use crate::support::loft::Loft;
use crate::support::moments::Moments;
use crate::support::nix::Nix;
use crate::support::process::end_of;
use crate::support::proxy::{Moment, Proxy, Verdict};
use crate::support::pruning::{Pruned, RETENTION, Running, add_closure, send};
use crate::support::time::DAY;
use loft::nix::StorePath;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Prune,
    Push,
}

/// Three writers and a pruner; forty days lie between two rounds, so that each prune has something to do.
struct World {
    cache: Pruned,
    fixture: FixtureStore,
    library: Vec<StorePath>,
    machines: [Loft; 4],
    /// The root that the round before has left: no push names it, but one relies on it.
    last: Vec<StorePath>,
    round: u32,
    /// Kills that came when narinfos had begun to go, or to come.
    halfway: u32,
}

impl World {
    fn new() -> Self {
        let (cache, fixture, machines) = (Pruned::new(), FixtureStore::new(), [(); 4].map(|()| Loft::new()));
        let library = add_closure(&fixture, "library", &[], 4);
        let last = add_closure(&fixture, "last", &library, 6);
        let root = fixture.logical(last.last().unwrap());
        cache.push(&machines[0], &LocalStore::at(fixture.root()), &[&root]);
        Self { cache, fixture, library, machines, last, round: 0, halfway: 0 }
    }

    /// Whether the victim was still alive when the moment came.
    fn round(&mut self, victim: Victim, request: usize, moment: fn(Moment) -> bool) -> bool {
        self.round += 1;
        self.cache.pass(40 * DAY);
        let (store, name) = (LocalStore::at(self.fixture.root()), format!("r{}", self.round));
        let size = if victim == Victim::Push { 20 } else { 6 };
        let own = add_closure(&self.fixture, &format!("{name}-a"), &self.library, size);
        let leaning = add_closure(&self.fixture, &format!("{name}-b"), &self.last[self.last.len() - 1..], 3);
        // The third relies on a part of what the second pushes.
        let third = add_closure(&self.fixture, &format!("{name}-c"), &[leaning[0].clone(), self.library[3].clone()], 3);
        let roots = [&own, &leaning, &third].map(|paths| self.fixture.logical(paths.last().unwrap()));

        let (process, count) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicUsize::new(0)));
        let proxy = Proxy::gated(&self.cache.bucket().endpoint, {
            let process = process.clone();
            move |now, _| {
                if !moment(now) {
                    return Verdict::Pass;
                }
                match count.fetch_add(1, Ordering::SeqCst).cmp(&request) {
                    std::cmp::Ordering::Less => Verdict::Pass,
                    // Those that arrive while it is being killed never do.
                    std::cmp::Ordering::Greater => Verdict::Drop,
                    std::cmp::Ordering::Equal => {
                        while process.load(Ordering::SeqCst) == 0 {
                            std::thread::yield_now();
                        }
                        send("KILL", process.load(Ordering::SeqCst));
                        Verdict::Drop
                    }
                }
            }
        });
        let through = |whose: bool| if whose { proxy.endpoint.clone() } else { self.cache.bucket().endpoint.clone() };
        let push = |machine: usize| {
            let endpoint = through(victim == Victim::Push && machine == 0);
            self.cache.push_command(&self.machines[machine], &store, &[&roots[machine]], &endpoint)
        };
        let prune = |endpoint: &str| {
            self.cache.prune_command(&self.machines[3], endpoint, &["--retention", RETENTION, "--remove-most"])
        };
        let commands = [push(0), push(1), push(2), prune(&through(victim == Victim::Prune))];
        let mut running = commands.map(Running::start);
        let chosen = if victim == Victim::Push { 0 } else { 3 };
        process.store(running[chosen].id(), Ordering::SeqCst);
        let ended = running[chosen].end();
        process.store(u32::MAX, Ordering::SeqCst);
        let killed = ended.code.is_none();
        assert!(killed || ended.code == Some(0), "{victim:?} {request}: {ended:?}");
        let method = if victim == Victim::Push { "PUT" } else { "DELETE" };
        let has_begun = proxy.seen().iter().any(|seen| seen.method == method && seen.target.contains(".narinfo"));
        self.halfway += u32::from(killed && has_begun);

        // The others hold still while the bucket is looked at; what they had under way settles.
        let when = format!("round {}: {victim:?} ended {:?} at request {request}", self.round, ended.code);
        let others: Vec<usize> = (0..4).filter(|other| *other != chosen).collect();
        others.iter().for_each(|other| send("STOP", running[*other].id()));
        std::thread::sleep(Duration::from_millis(30));
        self.cache.expect_sound(&when);
        others.iter().for_each(|other| send("CONT", running[*other].id()));
        // A sweep whose pruner is dead makes others wait until it expires.
        let later = Duration::from_secs(12 * 60);
        if killed && victim == Victim::Prune {
            self.cache.pass(later);
        }
        for other in others {
            let ended = running[other].end();
            assert_eq!(ended.code, Some(0), "{when}: machine {other}: {ended:?}");
        }
        self.cache.expect_sound(&when);

        // The same machine again, and for a push now and then another one.
        match victim {
            Victim::Prune => {
                let ended = end_of(&mut prune(&self.cache.bucket().endpoint));
                assert_eq!(ended.code, Some(0), "{when}: again: {ended:?}");
            }
            Victim::Push => {
                let other = Loft::new();
                let machine = if self.round.is_multiple_of(3) { &other } else { &self.machines[0] };
                self.cache.push(machine, &store, &[&roots[0]]);
            }
        }
        self.cache.expect_sound(&format!("{when}, and run again"));
        let wanted: BTreeSet<String> = store.closure(&roots.each_ref().map(String::as_str)).into_iter().collect();
        let visible: BTreeSet<String> = self.cache.visible().into_iter().collect();
        match victim {
            Victim::Prune => {
                assert_eq!(visible, wanted, "{when}");
                assert_eq!(self.cache.bucket().keys_below("loft/v1/sweep/"), Vec::<String>::new(), "{when}");
            }
            Victim::Push => assert!(visible.is_superset(&wanted), "{when}: {:?}", wanted.difference(&visible)),
        }
        self.last = own;
        killed
    }

    fn end(&self) {
        let root = self.fixture.logical(self.last.last().unwrap());
        Nix::installed().fetch(&self.cache.garage.web, &[&root], &self.cache.key.public);
    }
}

fn arrived(moment: Moment) -> bool {
    moment == Moment::Arrived
}

fn answered(moment: Moment) -> bool {
    matches!(moment, Moment::Answered(_))
}

fn killed_after_every_request(victim: Victim) {
    let mut world = World::new();
    // Nobody knows beforehand how many requests there are: they end where the victim does.
    let (mut request, mut in_time) = (0, 0);
    while in_time < 2 {
        // Before the server hears of it, or before the victim hears of the server.
        let moment = if request % 2 == 0 { arrived } else { answered };
        in_time = if world.round(victim, request, moment) { 0 } else { in_time + 1 };
        request += 1;
    }
    let halfway = world.halfway;
    println!("{victim:?}: killed at each of {request} requests, {halfway} times with some narinfos written or deleted");
    assert!(request >= 20 && halfway >= 6, "{request} requests, {halfway} times half-way");
    let more = std::env::var("LOFT_TEST_KILLS").map_or(0, |text| text.parse().expect("a number"));
    let mut moments = Moments::new();
    for _ in 0..more {
        let at = moments.next(Duration::from_nanos(2 * request as u64)).as_nanos() as usize;
        world.round(victim, at / 2, if at.is_multiple_of(2) { arrived } else { answered });
    }
    world.end();
}

#[test]
#[ignore = "needs Garage: ./test --full"]
fn long_kills_of_a_prune_of_garage() {
    killed_after_every_request(Victim::Prune);
}

#[test]
#[ignore = "needs Garage: ./test --full"]
fn long_kills_of_a_push_beside_a_prune_of_garage() {
    killed_after_every_request(Victim::Push);
}
