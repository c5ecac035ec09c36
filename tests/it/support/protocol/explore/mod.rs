//! All interleavings of a few processes, one request at a time.
//!
//! A process is a function of its answers (`machine`), so it need not run for every interleaving:
//! what it asks after some history of answers is found out once, by running the real thing, and
//! remembered (`process`). The search itself then goes over states that are a few numbers each: which bucket
//! (`buckets`), which history for each process, what time. A history that was run twice must have asked the same.
//!
//! What is a step: one request, carried out and answered at once; or the clocks of all going forward
//! together, with whatever waited still waiting. A crash needs no step of its own: a process that is
//! never chosen again has crashed, and promises are looked at in every state. The same goes for a
//! request that is held up: it is chosen later, or never. One with a time limit is refused when it
//! comes too late by the store's clock. A PUT that a DELETE of its key overtook may be lost, as with
//! Garage, or may win, as elsewhere: both are tried.
//!
//! What a process cannot see of an answer, for its code passes over it, is left out of it (`actors::Lens`); otherwise
//! every bucket would make another history.
//!
//! What is not a choice: a request that commutes with whatever others may do goes first (`Scenario::private`),
//! and a process that asks the same thing again and again until the answer changes is not asked to
//! unless it has changed.

mod buckets;
mod process;
mod quick;

use super::actors::{Actor, Ended};
use super::ask::{Answer, Ask, Failure};
use crate::support::memory::Object;
use buckets::Buckets;
use loft::bucket::Key;
use loft::nix::{PathHash, StorePath};
use process::{Process, elapsed, waiting_is_stale};
use quick::Quick;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, SystemTime};

/// At most so many processes.
const MANY: usize = 4;

pub struct Scenario {
    pub objects: BTreeMap<Key, Object>,
    pub now: SystemTime,
    pub actors: Vec<Actor>,
    /// Each may happen once, at any moment, in any order.
    pub jumps: Vec<Duration>,
    /// What each root stands for; push records are promises.
    pub closures: HashMap<StorePath, Vec<PathHash>>,
    /// Younger push records are promises.
    pub retention: Duration,
    /// Requests that commute with all that others may do, by themselves and by what their process has asked before.
    pub private: fn(&Ask, &Past<'_>) -> bool,
}

/// What a process has asked before.
pub type Past<'a> = dyn Fn(&dyn Fn(&Ask) -> bool) -> bool + 'a;

/// What a search found.
pub struct Found {
    pub states: usize,
    /// Histories of single processes: how often real code was run.
    pub histories: usize,
    pub buckets: usize,
    /// The first broken promise, and how it came about.
    pub broken: Option<(String, Vec<String>)>,
    /// Nothing was left out.
    pub is_complete: bool,
    /// How processes ended, and in how many histories.
    pub ends: BTreeMap<String, usize>,
}

/// Goes through at most `limit` states, nearest first.
pub fn explore(scenario: &Scenario, limit: usize) -> Found {
    Search::new(scenario).run(limit)
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct State {
    bucket: u32,
    /// Each process's history.
    at: [u32; MANY],
    /// Of its waiting requests: PUTs whose key was deleted since they were sent.
    overtaken: [u8; MANY],
    /// Which jumps have happened.
    time: u8,
}

#[derive(Clone, Copy, Debug)]
enum Move {
    /// Of a process: which of its requests, and whether it is lost to a deletion.
    Answer {
        actor: u8,
        ask: u8,
        lost: bool,
    },
    Jump(u8),
}

struct Search<'a> {
    scenario: &'a Scenario,
    buckets: Buckets,
    processes: Vec<Process<'a>>,
    states: Vec<(State, u32, Move)>,
    seen: HashSet<State, Quick>,
}

impl<'a> Search<'a> {
    fn new(scenario: &'a Scenario) -> Self {
        assert!(scenario.actors.len() <= MANY && scenario.jumps.len() <= 8);
        let processes = scenario.actors.iter().map(|actor| Process::new(actor, scenario)).collect();
        Self { scenario, buckets: Buckets::default(), processes, states: Vec::new(), seen: HashSet::default() }
    }

    fn run(mut self, limit: usize) -> Found {
        let bucket = self.buckets.intern(self.scenario.objects.clone());
        let mut at = [0; MANY];
        for (process, at) in self.processes.iter_mut().zip(&mut at) {
            *at = process.begin(0);
        }
        let first = State { bucket, at, overtaken: [0; MANY], time: 0 };
        self.seen.insert(first);
        self.states.push((first, 0, Move::Jump(0)));
        let mut next = 0;
        while next < self.states.len() {
            let state = self.states[next].0;
            if let Some(why) = self.broken(&state) {
                let trace = self.trace(next);
                return self.found(Some((why, trace)), true);
            }
            if self.states.len() >= limit {
                return self.found(None, false);
            }
            for (step, follower) in self.followers(&state) {
                if self.seen.insert(follower) {
                    self.states.push((follower, next as u32, step));
                }
            }
            next += 1;
        }
        self.found(None, true)
    }

    fn found(&self, broken: Option<(String, Vec<String>)>, is_complete: bool) -> Found {
        let histories = self.processes.iter().map(|process| process.nodes.len()).sum();
        let mut ends = BTreeMap::new();
        for process in &self.processes {
            for ended in process.nodes.iter().filter_map(|node| node.ended.as_ref()) {
                *ends.entry(format!("{}: {ended:?}", process.actor.name)).or_default() += 1;
            }
        }
        Found { states: self.states.len(), histories, buckets: self.buckets.known.len(), broken, is_complete, ends }
    }

    fn followers(&mut self, state: &State) -> Vec<(Move, State)> {
        let mut followers = Vec::new();
        for actor in 0..self.processes.len() {
            for ask in 0..self.processes[actor].node(state.at[actor]).waiting.len() {
                let is_private = self.processes[actor].node(state.at[actor]).waiting[ask].is_private;
                if is_private {
                    followers.clear();
                }
                let is_overtaken = state.overtaken[actor] >> ask & 1 == 1;
                for lost in [false, true].into_iter().take(1 + usize::from(is_overtaken)) {
                    if let Some(follower) = self.answer(state, actor, ask, lost) {
                        followers.push((Move::Answer { actor: actor as u8, ask: ask as u8, lost }, follower));
                    }
                }
                if is_private {
                    return followers;
                }
            }
        }
        for jump in 0..self.scenario.jumps.len() {
            if state.time >> jump & 1 == 0 {
                followers.push((Move::Jump(jump as u8), State { time: state.time | 1 << jump, ..*state }));
            }
        }
        followers
    }

    /// The state after a request is carried out and answered.
    fn answer(&mut self, state: &State, actor: usize, ask: usize, lost: bool) -> Option<State> {
        let elapsed = elapsed(self.scenario, state.time);
        let waiting = &self.processes[actor].node(state.at[actor]).waiting[ask];
        let is_late = waiting.ask.within().is_some_and(|within| elapsed - waiting.asked >= within);
        let request = waiting.number;
        let is_private = waiting.is_private;
        let (answer, bucket) = match (is_late, lost) {
            (true, _) => (self.buckets.answers.intern(Answer::Failed(Failure::Expired)), state.bucket),
            (false, true) => (self.buckets.answers.intern(Answer::Done), state.bucket),
            (false, false) => {
                let asked = (state.bucket, actor as u8 * 2 + u8::from(is_private), request, state.time);
                let ask = &self.processes[actor].asks[request as usize];
                let (lens, now) = (self.scenario.actors[actor].lens, self.scenario.now + elapsed);
                self.buckets.carry_out(asked, ask, now, |answer| lens(ask, answer, now, is_private))
            }
        };
        if waiting_is_stale(self.processes[actor].node(state.at[actor]), ask, answer, state.time) {
            return None;
        }
        let mut follower = State { bucket, ..*state };
        let process = &mut self.processes[actor];
        follower.at[actor] = process.follow(state.at[actor], ask, answer, state.time, &self.buckets.answers);
        follower.overtaken[actor] =
            process.carry_marks(state.at[actor], follower.at[actor], state.overtaken[actor], ask);
        // Whoever is putting what was just deleted may lose it.
        if let Ask::Delete { key, .. } = &self.processes[actor].asks[request as usize]
            && bucket != state.bucket
        {
            let key = key.clone();
            for other in (0..self.processes.len()).filter(|other| *other != actor) {
                let node = self.processes[other].node(follower.at[other]);
                for (n, waiting) in node.waiting.iter().enumerate() {
                    if matches!(&waiting.ask, Ask::Put { key: putting, .. } if *putting == key) {
                        follower.overtaken[other] |= 1 << n;
                    }
                }
            }
        }
        Some(follower)
    }

    fn broken(&mut self, state: &State) -> Option<String> {
        let visible = match self.buckets.verdict(state.bucket, self.scenario) {
            Ok(visible) => visible,
            Err(why) => return Some(why),
        };
        for (process, at) in self.processes.iter().zip(state.at) {
            if let Some(Ended::Promised(paths)) = &process.node(at).ended
                && let Some(lost) = paths.iter().find(|path| !visible.contains(*path))
            {
                return Some(format!("I3: {} had success, and {lost} is not there", process.actor.name));
            }
        }
        None
    }

    fn trace(&mut self, mut at: usize) -> Vec<String> {
        let mut steps = Vec::new();
        while at != 0 {
            let (state, from, step) = self.states[at];
            let before = self.states[from as usize].0;
            steps.push(match step {
                Move::Jump(jump) => format!("{} minutes pass", self.scenario.jumps[jump as usize].as_secs() / 60),
                Move::Answer { actor, ask, lost } => {
                    let process = &self.processes[actor as usize];
                    let asked = &process.node(before.at[actor as usize]).waiting[ask as usize].ask;
                    let answer = process.last_answer(before.at[actor as usize], ask, state.at[actor as usize]);
                    let answer = answer.map_or_else(String::new, |answer| self.buckets.answers.get(answer).brief());
                    let lost = if lost { " (lost to a deletion)" } else { "" };
                    let ended = process.node(state.at[actor as usize]).ended.as_ref();
                    let ended = ended.map_or_else(String::new, |ended| format!("; ends: {ended:?}"));
                    format!("{}: {asked:?} → {answer}{lost}{ended}", process.actor.name)
                }
            });
            at = from as usize;
        }
        steps.reverse();
        steps
    }
}
