//! What a bucket goes through: its contents by number, what requests make of them, and whether promises hold.

use super::Scenario;
use super::quick::Quick;
use crate::support::memory::{Memory, Object};
use crate::support::oracle::Oracle;
use crate::support::protocol::ask::{Answer, Ask};
use loft::bucket::{Key, Kind};
use loft::nix::{PathHash, Sha256};
use loft::record::PushRecord;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::SystemTime;

type Asked = (u32, u8, u32, u8);

/// Every content that the bucket had, and what requests do to it.
#[derive(Default)]
pub struct Buckets {
    all: Vec<BTreeMap<Key, Object>>,
    pub known: HashMap<Sha256, u32>,
    pub answers: Answers,
    /// By content, process and lens, its request and the time: the answer, and the content after.
    done: HashMap<Asked, (u32, u32), Quick>,
    verdicts: HashMap<u32, Result<HashSet<PathHash>, String>>,
    oracle: Oracle,
}

impl Buckets {
    pub fn intern(&mut self, objects: BTreeMap<Key, Object>) -> u32 {
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

    pub fn carry_out(
        &mut self,
        asked: Asked,
        ask: &Ask,
        now: SystemTime,
        lens: impl Fn(Answer) -> Answer,
    ) -> (u32, u32) {
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
    pub fn verdict(&mut self, bucket: u32, scenario: &Scenario) -> Result<&HashSet<PathHash>, String> {
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
pub struct Answers {
    all: Vec<Answer>,
    known: HashMap<String, u32>,
}

impl Answers {
    pub fn intern(&mut self, answer: Answer) -> u32 {
        let all = &mut self.all;
        *self.known.entry(format!("{answer:?}")).or_insert_with(|| {
            all.push(answer);
            u32::try_from(all.len() - 1).unwrap()
        })
    }

    pub fn get(&self, answer: u32) -> &Answer {
        &self.all[answer as usize]
    }
}
