//! What a process does after some history of answers: found out once, by running the real thing (`machine`).

use super::Scenario;
use super::buckets::Answers;
use super::quick::Quick;
use crate::support::protocol::actors::{Actor, Ended, Next};
use crate::support::protocol::ask::Ask;
use crate::support::protocol::machine::Machine;
use crate::support::time::TestClock;
use loft::nix::Sha256;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

/// What is known of one process: a tree of histories.
pub struct Process<'a> {
    pub actor: &'a Actor,
    scenario: &'a Scenario,
    pub nodes: Vec<Node>,
    /// By history, request, answer and time.
    edges: HashMap<(u32, u8, u32, u8), u32, Quick>,
    /// Where it goes on from a value alone, by that value and the time.
    phases: HashMap<(String, u8), u32>,
    pub asks: Vec<Ask>,
    /// Real ones that are where some history ends.
    live: VecDeque<(u32, Machine<Ended>)>,
}

pub struct Node {
    from: From,
    pub waiting: Vec<Waiting>,
    pub ended: Option<Ended>,
}

#[derive(Clone)]
enum From {
    Start { next: Next, time: u8 },
    Answer { node: u32, ask: u8, answer: u32, time: u8 },
}

pub struct Waiting {
    pub ask: Ask,
    /// Among all asks of the process.
    pub number: u32,
    pub is_private: bool,
    /// When, after the start.
    pub asked: Duration,
    /// Where it is asked again after a sleep: what the answer was, and when.
    last: Option<(u32, u8)>,
}

/// Machines that are kept alive for each process; each has a thread.
const LIVE: usize = 48;

impl<'a> Process<'a> {
    pub fn new(actor: &'a Actor, scenario: &'a Scenario) -> Self {
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

    pub fn node(&self, at: u32) -> &Node {
        &self.nodes[at as usize]
    }

    pub fn begin(&mut self, time: u8) -> u32 {
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
    pub fn follow(&mut self, node: u32, ask: usize, answer: u32, time: u8, answers: &Answers) -> u32 {
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
    pub fn carry_marks(&self, before: u32, after: u32, marks: u8, answered: usize) -> u8 {
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
    pub fn last_answer(&self, before: u32, ask: u8, after: u32) -> Option<u32> {
        let edge =
            self.edges.iter().find(|((node, asked, _, _), to)| *node == before && *asked == ask && **to == after);
        edge.map(|((_, _, answer, _), _)| *answer)
    }
}

/// A poll whose answer is what it was, at the time that it was, changes nothing.
pub fn waiting_is_stale(node: &Node, ask: usize, answer: u32, time: u8) -> bool {
    node.waiting[ask].last == Some((answer, time))
}

pub fn elapsed(scenario: &Scenario, time: u8) -> Duration {
    let happened = scenario.jumps.iter().enumerate().filter(|(n, _)| time >> n & 1 == 1);
    happened.map(|(_, jump)| *jump).sum()
}
