//! All interleavings of a few processes, one request at a time.
//!
//! A process is a function of its answers (`machine`), so it need not run for every interleaving:
//! what it asks after some history of answers is found out once, by running the real thing, and
//! remembered. The search itself then goes over states that are a few numbers each: which bucket,
//! which history for each process, what time. A history that was run twice must have asked the same.
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

use super::actors::{Actor, Ended, Next};
use super::ask::{Answer, Ask, Failure};
use super::machine::Machine;
use crate::support::memory::{Memory, Object};
use crate::support::oracle::Oracle;
use crate::support::time::TestClock;
use loft::bucket::{Key, Kind};
use loft::nix::{PathHash, Sha256, StorePath};
use loft::record::PushRecord;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
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

/// A poll whose answer is what it was, at the time that it was, changes nothing.
fn waiting_is_stale(node: &Node, ask: usize, answer: u32, time: u8) -> bool {
    node.waiting[ask].last == Some((answer, time))
}

fn elapsed(scenario: &Scenario, time: u8) -> Duration {
    let happened = scenario.jumps.iter().enumerate().filter(|(n, _)| time >> n & 1 == 1);
    happened.map(|(_, jump)| *jump).sum()
}

/// What is known of one process: a tree of histories.
struct Process<'a> {
    actor: &'a Actor,
    scenario: &'a Scenario,
    nodes: Vec<Node>,
    /// By history, request, answer and time.
    edges: HashMap<(u32, u8, u32, u8), u32, Quick>,
    /// Where it goes on from a value alone, by that value and the time.
    phases: HashMap<(String, u8), u32>,
    asks: Vec<Ask>,
    /// Real ones that are where some history ends.
    live: VecDeque<(u32, Machine<Ended>)>,
}

struct Node {
    from: From,
    waiting: Vec<Waiting>,
    ended: Option<Ended>,
}

#[derive(Clone)]
enum From {
    Start { next: Next, time: u8 },
    Answer { node: u32, ask: u8, answer: u32, time: u8 },
}

struct Waiting {
    ask: Ask,
    /// Among all asks of the process.
    number: u32,
    is_private: bool,
    /// When, after the start.
    asked: Duration,
    /// Where it is asked again after a sleep: what the answer was, and when.
    last: Option<(u32, u8)>,
}

/// Machines that are kept alive for each process; each has a thread.
const LIVE: usize = 48;

impl<'a> Process<'a> {
    fn new(actor: &'a Actor, scenario: &'a Scenario) -> Self {
        Self {
            actor,
            scenario,
            nodes: Vec::new(),
            edges: HashMap::default(),
            phases: HashMap::new(),
            asks: Vec::new(),
            live: VecDeque::new(),
        }
    }

    fn node(&self, at: u32) -> &Node {
        &self.nodes[at as usize]
    }

    fn begin(&mut self, time: u8) -> u32 {
        self.phase(Next { key: "start".to_owned(), start: self.actor.start.clone() }, time)
    }

    /// Where the process is that starts with `next`.
    fn phase(&mut self, next: Next, time: u8) -> u32 {
        let key = (next.key.clone(), time);
        if let Some(node) = self.phases.get(&key) {
            return *node;
        }
        let from = From::Start { next, time };
        let machine = self.start(&from);
        let node = self.add(from, machine);
        self.phases.insert(key, node);
        node
    }

    /// Where the process is after one more answer.
    fn follow(&mut self, node: u32, ask: usize, answer: u32, time: u8, answers: &Answers) -> u32 {
        let edge = (node, ask as u8, answer, time);
        if let Some(follower) = self.edges.get(&edge) {
            return *follower;
        }
        let mut machine = self.machine_at(node, answers);
        self.step(&mut machine, node, ask, answer, time, answers);
        let follower = match machine.result() {
            Some(Ended::Then(next)) => self.phase(next, time),
            _ => self.add(From::Answer { node, ask: ask as u8, answer, time }, machine),
        };
        self.edges.insert(edge, follower);
        follower
    }

    fn step(&self, machine: &mut Machine<Ended>, node: u32, ask: usize, answer: u32, time: u8, answers: &Answers) {
        let waiting: Vec<Ask> = self.node(node).waiting.iter().map(|waiting| waiting.ask.clone()).collect();
        assert_eq!(machine.waiting(), waiting, "{} is no function of its answers", self.actor.name);
        if !self.actor.clock_stands {
            machine.set_elapsed(elapsed(self.scenario, time));
        }
        machine.answer(&waiting[ask], answers.get(answer).clone(), self.scenario.now + elapsed(self.scenario, time));
    }

    fn start(&self, from: &From) -> Machine<Ended> {
        let From::Start { next, time } = from else { panic!("only a phase can be started") };
        let passed = elapsed(self.scenario, *time);
        let clock = TestClock::default();
        clock.set_wall(self.scenario.now);
        if !self.actor.clock_stands {
            clock.advance(passed);
        }
        // A later phase makes up names of its own.
        let name = format!("{} {} {time}", self.actor.name, Sha256::of(next.key.as_bytes()).to_hex());
        let mut machine = Machine::start(&name, clock, self.scenario.now + passed, &next.start);
        machine.began_at(passed);
        machine
    }

    /// A machine with this very history: one that is at hand, or one that is run once more.
    fn machine_at(&mut self, node: u32, answers: &Answers) -> Machine<Ended> {
        if let Some(at) = self.live.iter().position(|(other, _)| *other == node) {
            return self.live.remove(at).unwrap().1;
        }
        let mut steps = Vec::new();
        let mut at = node;
        let mut machine = loop {
            if let Some(live) = self.live.iter().position(|(other, _)| *other == at) {
                break self.live.remove(live).unwrap().1;
            }
            match self.node(at).from.clone() {
                from @ From::Start { .. } => break self.start(&from),
                From::Answer { node, ask, answer, time } => {
                    steps.push((node, ask, answer, time));
                    at = node;
                }
            }
        };
        for (node, ask, answer, time) in steps.into_iter().rev() {
            self.step(&mut machine, node, usize::from(ask), answer, time, answers);
        }
        machine
    }

    fn add(&mut self, from: From, machine: Machine<Ended>) -> u32 {
        let ended = machine.result();
        let time = match &from {
            From::Start { time, .. } | From::Answer { time, .. } => *time,
        };
        let now = elapsed(self.scenario, time);
        let asks = if ended.is_some() { Vec::new() } else { machine.waiting() };
        let waiting = asks.into_iter().map(|ask| {
            let number = self.number(&ask);
            let before = match &from {
                From::Answer { node, ask: answered, .. } => {
                    let others = self.node(*node).waiting.iter().enumerate();
                    let mut others = others.filter(|(n, _)| *n != usize::from(*answered)).map(|(_, waiting)| waiting);
                    others.find(|waiting| waiting.ask == ask).map(|waiting| waiting.asked)
                }
                From::Start { .. } => None,
            };
            let is_private = (self.scenario.private)(&ask, &|sought| self.has_asked(&from, sought));
            let last = if !machine.slept().is_zero() { self.last(&from, &ask) } else { None };
            Waiting { number, is_private, asked: before.unwrap_or(now), last, ask }
        });
        let waiting = waiting.collect();
        let node = u32::try_from(self.nodes.len()).unwrap();
        if ended.is_none() {
            self.live.push_back((node, machine));
            if self.live.len() > LIVE {
                self.live.pop_front();
            }
        }
        self.nodes.push(Node { from, waiting, ended });
        node
    }

    fn number(&mut self, ask: &Ask) -> u32 {
        let at = self.asks.iter().position(|other| other == ask).unwrap_or_else(|| {
            self.asks.push(ask.clone());
            self.asks.len() - 1
        });
        at as u32
    }

    /// What `ask` was answered last before `from`, if the process asked it before.
    fn last(&self, from: &From, ask: &Ask) -> Option<(u32, u8)> {
        let mut from = from;
        while let From::Answer { node, ask: asked, answer, time } = from {
            if self.node(*node).waiting[usize::from(*asked)].ask == *ask {
                return Some((*answer, *time));
            }
            from = &self.node(*node).from;
        }
        None
    }

    /// Whether one of the requests that were answered up to `from` is `sought`.
    fn has_asked(&self, from: &From, sought: &dyn Fn(&Ask) -> bool) -> bool {
        let mut from = from;
        while let From::Answer { node, ask, .. } = from {
            if sought(&self.node(*node).waiting[usize::from(*ask)].ask) {
                return true;
            }
            from = &self.node(*node).from;
        }
        false
    }

    /// The marks of `before` that still apply after its `answered`-th request was answered.
    fn carry_marks(&self, before: u32, after: u32, marks: u8, answered: usize) -> u8 {
        if marks == 0 {
            return 0;
        }
        let (before, after) = (&self.node(before).waiting, &self.node(after).waiting);
        let mut carried = 0;
        for (n, waiting) in before.iter().enumerate() {
            if marks >> n & 1 == 1 && n != answered {
                let at = after.iter().position(|other| other.ask == waiting.ask && other.asked == waiting.asked);
                carried |= at.map_or(0, |at| 1 << at);
            }
        }
        carried
    }

    /// The answer that led from one history to another.
    fn last_answer(&self, before: u32, ask: u8, after: u32) -> Option<u32> {
        let edge =
            self.edges.iter().find(|((node, asked, _, _), to)| *node == before && *asked == ask && **to == after);
        edge.map(|((_, _, answer, _), _)| *answer)
    }
}

type Asked = (u32, u8, u32, u8);

/// Every content that the bucket had, and what requests do to it.
#[derive(Default)]
struct Buckets {
    all: Vec<BTreeMap<Key, Object>>,
    known: HashMap<Sha256, u32>,
    answers: Answers,
    /// By content, process and lens, its request and the time: the answer, and the content after.
    done: HashMap<Asked, (u32, u32), Quick>,
    verdicts: HashMap<u32, Result<HashSet<PathHash>, String>>,
    oracle: Oracle,
}

impl Buckets {
    fn intern(&mut self, objects: BTreeMap<Key, Object>) -> u32 {
        let mut text = Vec::new();
        for (key, object) in &objects {
            text.extend_from_slice(key.as_str().as_bytes());
            text.extend_from_slice(format!("{:?}", object.modified).as_bytes());
            text.extend_from_slice(&(object.bytes.len() as u64).to_le_bytes());
            text.extend_from_slice(&object.bytes);
        }
        let all = &mut self.all;
        *self.known.entry(Sha256::of(&text)).or_insert_with(|| {
            all.push(objects);
            u32::try_from(all.len() - 1).unwrap()
        })
    }

    fn carry_out(&mut self, asked: Asked, ask: &Ask, now: SystemTime, lens: impl Fn(Answer) -> Answer) -> (u32, u32) {
        let bucket = asked.0;
        if let Some(done) = self.done.get(&asked) {
            return *done;
        }
        let memory = Memory::garage();
        memory.clock.set_wall(now);
        memory.restore(self.all[bucket as usize].clone());
        let answer = self.answers.intern(lens(ask.carry_out(&memory)));
        let after = if ask.changes() { self.intern(memory.objects()) } else { bucket };
        self.done.insert(asked, (answer, after));
        (answer, after)
    }

    /// What is visible, or the promise that is broken by the bucket alone.
    fn verdict(&mut self, bucket: u32, scenario: &Scenario) -> Result<&HashSet<PathHash>, String> {
        let (objects, oracle) = (&self.all[bucket as usize], &mut self.oracle);
        let verdict = self.verdicts.entry(bucket).or_insert_with(|| judge(objects, oracle, scenario));
        verdict.as_ref().map_err(Clone::clone)
    }
}

fn judge(
    objects: &BTreeMap<Key, Object>,
    oracle: &mut Oracle,
    scenario: &Scenario,
) -> Result<HashSet<PathHash>, String> {
    let contents = objects.iter().map(|(key, object)| (key.clone(), object.bytes.clone())).collect();
    let visible: HashSet<PathHash> = oracle.check(&contents)?.iter().map(|info| info.path.hash_part()).collect();
    for (key, object) in objects {
        let is_promise = object.modified + scenario.retention > scenario.now;
        if key.kind() != Kind::Push || !is_promise {
            continue;
        }
        let record = PushRecord::parse(key.as_str(), &object.bytes).map_err(|error| error.to_string())?;
        for root in &record.roots {
            if let Some(lost) = scenario.closures[root].iter().find(|path| !visible.contains(*path)) {
                return Err(format!("I3: the record {key} names {root}, and {lost} is not there"));
            }
        }
    }
    Ok(visible)
}

/// Answers by number.
#[derive(Default)]
struct Answers {
    all: Vec<Answer>,
    known: HashMap<String, u32>,
}

impl Answers {
    fn intern(&mut self, answer: Answer) -> u32 {
        let all = &mut self.all;
        *self.known.entry(format!("{answer:?}")).or_insert_with(|| {
            all.push(answer);
            u32::try_from(all.len() - 1).unwrap()
        })
    }

    fn get(&self, answer: u32) -> &Answer {
        &self.all[answer as usize]
    }
}

/// For small keys of numbers, of which there are millions.
type Quick = BuildHasherDefault<QuickHasher>;

#[derive(Default)]
struct QuickHasher(u64);

impl Hasher for QuickHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }
    fn write_u8(&mut self, n: u8) {
        self.write_u64(u64::from(n));
    }
    fn write_u32(&mut self, n: u32) {
        self.write_u64(u64::from(n));
    }
    fn write_u64(&mut self, n: u64) {
        self.0 = (self.0.rotate_left(5) ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    fn write_usize(&mut self, n: usize) {
        self.write_u64(n as u64);
    }
    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 29
    }
}
