//! Long runs that a seed decides: pushes and prunes beside each other, over weeks, with everything
//! going wrong that can.
//!
//! Every choice is made by `Dice` while all processes wait, so a seed is always the same run.

use super::actors::{Actor, Ended};
use super::ask::{Answer, Ask, Failure};
use super::dice::Dice;
use super::judge::{Change, Judge};
use super::machine::Machine;
use crate::support::memory::Memory;
use crate::support::oracle::Oracle;
use crate::support::time::TestClock;
use loft::bucket::Key;
use loft::clock::Clock;
use loft::ledger::Ledger;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

const MINUTE: Duration = Duration::from_secs(60);
/// A request that was given up and has no limit lands within this, or never.
const STRAY: Duration = Duration::from_secs(3600);

/// What goes wrong, in thousandths of all requests for each kind.
#[derive(Debug, Clone, Copy)]
pub struct Trouble {
    pub faults: u64,
    /// Of a process, at some point of its life.
    pub crashes: u64,
    /// Minutes that pass between two requests.
    pub pauses: u64,
}

impl Trouble {
    pub const NONE: Self = Self { faults: 0, crashes: 0, pauses: 0 };
    /// 5 % of each kind of fault.
    pub const MUCH: Self = Self { faults: 50, crashes: 150, pauses: 15 };
}

/// A process that is to run, and by how many seconds its clock is ahead of the store's.
pub struct Player {
    pub actor: Actor,
    pub ahead: i64,
}

pub struct Sim {
    pub dice: Dice,
    pub bucket: Memory,
    pub judge: Judge,
    /// What one machine remembers.
    pub ledger: Arc<Ledger>,
    /// A NAR was copied in this run. Its process has narinfos in its ledger that call the copy by a name of its own
    /// (`names`), by which later processes do not know it.
    has_private_names: bool,
    pub steps: u64,
    /// What happened how often.
    pub tally: BTreeMap<&'static str, u64>,
    began: SystemTime,
    running: Vec<Running>,
    strays: Vec<Waiting>,
    /// Requests that were carried out.
    done: u64,
    /// What happened, where somebody wants to know.
    log: Option<Vec<String>>,
    oracle: Oracle,
}

struct Running {
    name: String,
    machine: Machine<Ended>,
    waiting: Vec<Waiting>,
    /// How much it had asked when it was last looked at.
    asked: u64,
    /// The store's time when it started.
    since: SystemTime,
    /// Answers until it crashes.
    life: Option<usize>,
    ended: Option<Ended>,
    /// How seldom it gets its turn.
    slowness: usize,
    /// When it looked at single objects, in requests that were carried out.
    looks: HashMap<String, u64>,
}

#[derive(Clone)]
struct Waiting {
    ask: Ask,
    /// Among all requests of its process.
    number: u64,
    asked: SystemTime,
    /// A DELETE of the key came later.
    is_overtaken: bool,
    /// When its process looked at the key last.
    looked: Option<u64>,
}

impl Sim {
    pub fn new(seed: u64, judge: Judge, has_log: bool) -> Self {
        let bucket = Memory::garage();
        let began = bucket.clock.wall();
        Self {
            dice: Dice::new(seed),
            bucket,
            judge,
            ledger: Arc::new(Ledger::in_memory()),
            has_private_names: false,
            steps: 0,
            tally: BTreeMap::new(),
            began,
            running: Vec::new(),
            strays: Vec::new(),
            done: 0,
            log: has_log.then(Vec::new),
            oracle: Oracle::new(),
        }
    }

    pub fn now(&self) -> SystemTime {
        self.bucket.clock.wall()
    }

    pub fn log(&self) -> &[String] {
        self.log.as_deref().unwrap_or_default()
    }

    pub fn note(&mut self, text: impl FnOnce() -> String) {
        if let Some(log) = &mut self.log {
            let hours = self.bucket.clock.wall().duration_since(self.began).unwrap().as_secs_f64() / 3600.0;
            log.push(format!("{hours:9.2} h  {}", text()));
        }
    }

    /// Runs `players` until each has ended or crashed; what became of each.
    pub fn run(&mut self, players: Vec<Player>, trouble: Trouble) -> Result<Vec<Option<Ended>>, String> {
        let now = self.now();
        for Player { actor, ahead } in players {
            let clock = TestClock::default();
            let by = Duration::from_secs(ahead.unsigned_abs());
            clock.set_wall(if ahead < 0 { now - by } else { now + by });
            let machine = Machine::start(&actor.name, clock, now, &actor.start);
            let life = self.dice.chance(trouble.crashes).then(|| self.dice.below(60));
            let slowness = *self.dice.pick(&[1, 1, 1, 5, 20]);
            let mut running = Running {
                name: actor.name,
                ended: None,
                waiting: Vec::new(),
                asked: 0,
                since: now,
                machine,
                life,
                slowness,
                looks: HashMap::new(),
            };
            running.look(now);
            self.running.push(running);
        }
        let mut over = Vec::new();
        over.resize_with(self.running.len(), || None);
        loop {
            for at in 0..self.running.len() {
                self.settle(at)?;
            }
            let alive: Vec<usize> = (0..self.running.len()).filter(|at| self.running[*at].is_alive()).collect();
            if alive.is_empty() {
                break;
            }
            self.steps += 1;
            if self.steps > 50_000 {
                return Err("it does not come to an end".to_owned());
            }
            if self.dice.chance(trouble.pauses) {
                self.pause();
            }
            if !self.strays.is_empty() && self.dice.chance(50) {
                let at = self.dice.below(self.strays.len());
                let stray = self.strays.swap_remove(at);
                self.land(&stray)?;
                continue;
            }
            let at = loop {
                let at = *self.dice.pick(&alive);
                if self.dice.below(self.running[at].slowness) == 0 {
                    break at;
                }
            };
            self.step(at, trouble)?;
        }
        for (over, running) in over.iter_mut().zip(self.running.drain(..)) {
            *over = running.ended;
        }
        if std::mem::take(&mut self.has_private_names) {
            self.ledger = Arc::new(Ledger::in_memory());
        }
        Ok(over)
    }

    /// Lets time pass between runs; strays land or are lost.
    pub fn pass(&mut self, by: Duration) -> Result<(), String> {
        for stray in std::mem::take(&mut self.strays) {
            if self.dice.chance(500) {
                self.land(&stray)?;
            }
        }
        self.bucket.clock.advance(by);
        self.note(|| format!("{} hours passed", by.as_secs() / 3600));
        Ok(())
    }

    /// The whole bucket, by the slow oracle.
    pub fn check_all(&mut self) -> Result<(), String> {
        let contents = self.bucket.contents();
        let visible = self.oracle.check(&contents)?;
        self.judge.agrees(&contents, &visible)
    }

    /// Tells what a process that ended said, and lets those crash whose time has come.
    fn settle(&mut self, at: usize) -> Result<(), String> {
        let running = &mut self.running[at];
        if !running.is_alive() {
            return Ok(());
        }
        if let Some(ended) = running.machine.result() {
            let text = format!("{}: {ended:?}", running.name);
            count(&mut self.tally, &ended);
            let promise = if let Ended::Promised(paths) = &ended { self.judge.promise(paths) } else { Ok(()) };
            running.ended = Some(ended);
            running.life = Some(0);
            self.note(|| text);
            return promise;
        }
        if running.life == Some(0) {
            let waiting = std::mem::take(&mut running.waiting);
            let text = format!("{} crashes", running.name);
            running.ended = Some(Ended::Over("crashed".to_owned()));
            self.strays.extend(waiting);
            *self.tally.entry("crashes").or_default() += 1;
            self.note(|| text);
        }
        Ok(())
    }

    /// Minutes pass. Whoever is awake has its timers fire; the others slept.
    fn pause(&mut self) {
        let by = *self.dice.pick(&[1, 1, 4, 6, 12, 31, 61]) * MINUTE;
        self.bucket.clock.advance(by);
        let now = self.now();
        self.note(|| format!("{} minutes passed", by.as_secs() / 60));
        for at in 0..self.running.len() {
            let is_awake = self.dice.chance(500);
            let running = &mut self.running[at];
            if running.is_alive() {
                running.machine.set_elapsed(now.duration_since(running.since).unwrap());
                if is_awake {
                    running.machine.pass(by);
                    let slept = running.machine.slept();
                    self.bucket.clock.advance(slept);
                    running.look(now + slept);
                }
            }
        }
    }

    /// One request of a process is carried out and answered, or meets its fate.
    fn step(&mut self, at: usize, trouble: Trouble) -> Result<(), String> {
        let now = self.now();
        let which = self.dice.below(self.running[at].waiting.len());
        let waiting = self.running[at].waiting.swap_remove(which);
        let fate = self.dice.below(1000) as u64;
        let answer = match fate / trouble.faults.max(1) {
            0 if trouble.faults > 0 => Answer::Failed(Failure::Unavailable),
            1 if trouble.faults > 0 => Answer::Failed(Failure::Reset),
            2 if trouble.faults > 0 => {
                self.carry_out(&waiting)?;
                Answer::Failed(Failure::Reset)
            }
            3 if trouble.faults > 0 => {
                self.strays.push(waiting.clone());
                Answer::Failed(Failure::TimeOut)
            }
            _ => self.carry_out(&waiting)?,
        };
        let done = self.done;
        let running = &mut self.running[at];
        if let Ask::Head { key } = &waiting.ask {
            running.looks.insert(key.clone(), done);
        }
        running.life = running.life.map(|life| life - 1);
        running.machine.set_elapsed(now.duration_since(running.since).unwrap());
        let text = self.log.is_some().then(|| format!("{}: {:?} → {}", running.name, waiting.ask, answer.brief()));
        running.machine.answer_to(waiting.number, answer, now);
        // What it asks after a sleep, it asks later.
        let slept = running.machine.slept();
        self.bucket.clock.advance(slept);
        running.machine.set_elapsed((now + slept).duration_since(running.since).unwrap());
        running.look(now + slept);
        if let Some(text) = text {
            self.note(|| text);
        }
        Ok(())
    }

    fn land(&mut self, stray: &Waiting) -> Result<(), String> {
        let is_old = self.now().duration_since(stray.asked).unwrap() > STRAY;
        if !stray.ask.changes() || is_old {
            return Ok(());
        }
        let answer = self.carry_out(stray)?;
        *self.tally.entry("strays").or_default() += 1;
        self.note(|| format!("late: {:?} → {}", stray.ask, answer.brief()));
        Ok(())
    }

    fn carry_out(&mut self, waiting: &Waiting) -> Result<Answer, String> {
        let now = self.now();
        let ask = &waiting.ask;
        if ask.within().is_some_and(|within| now.duration_since(waiting.asked).unwrap() >= within) {
            return Ok(Answer::Failed(Failure::Expired));
        }
        if waiting.is_overtaken && matches!(ask, Ask::Put { .. }) && self.dice.chance(500) {
            self.note(|| format!("a deletion of {} overtook this", ask.on()));
            self.judge.overtaken(&Key::listed(ask.on()));
            return Ok(Answer::Done);
        }
        let answer = ask.carry_out(&self.bucket);
        self.done += 1;
        self.has_private_names |= matches!(ask, Ask::Copy { .. });
        if ask.changes() {
            let object = self.bucket.object(ask.on());
            let change = Change { ask, at: self.done, looked: waiting.looked, now };
            self.judge.saw(&change, object.as_ref()).map_err(|why| format!("after {ask:?}: {why}"))?;
        }
        if let Ask::Delete { key, .. } = ask {
            let waiting = self.running.iter_mut().flat_map(|running| &mut running.waiting);
            for waiting in waiting.chain(&mut self.strays) {
                waiting.is_overtaken |= waiting.ask.on() == key;
            }
        }
        Ok(answer)
    }
}

impl Running {
    fn is_alive(&self) -> bool {
        self.ended.is_none()
    }

    /// Takes up what it asks now.
    fn look(&mut self, now: SystemTime) {
        let (new, count) = self.machine.waiting_since(self.asked);
        self.asked = count;
        for (ask, number) in new {
            let looked = self.looks.get(ask.on()).copied();
            self.waiting.push(Waiting { ask, number, asked: now, is_overtaken: false, looked });
        }
    }
}

/// Counts what a process did, as far as its words tell.
fn count(tally: &mut BTreeMap<&'static str, u64>, ended: &Ended) {
    let mut add = |what, count| *tally.entry(what).or_default() += count;
    match ended {
        Ended::Promised(_) => add("pushes", 1),
        Ended::Over(said) if said.starts_with("Summary") => {
            add("prunes", 1);
            for what in ["rescued", "restored", "nars"] {
                let number = said.split(&format!("{what}: ")).nth(1).and_then(|rest| rest.split(',').next());
                let number = number.and_then(|number| number.parse().ok()).unwrap_or(0);
                if number > 0 {
                    add(what, number);
                }
            }
            if !said.contains("removed: []") {
                add("removed", 1);
            }
        }
        Ended::Over(said) if said.starts_with("Undone") => add("undone", said.matches(", Done)").count() as u64),
        Ended::Over(said) if said.starts_with("Refused") => add("refused", 1),
        _ => add("failures", 1),
    }
}

/// Keys of `bucket` that begin so.
pub fn keys(bucket: &Memory, prefix: &str) -> Vec<String> {
    let contents = bucket.contents();
    contents.keys().map(Key::as_str).filter(|key| key.starts_with(prefix)).map(str::to_owned).collect()
}
