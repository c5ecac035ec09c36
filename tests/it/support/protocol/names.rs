//! Names that are the same in every run.
//!
//! Processes make up ULIDs, which differ from run to run. Outside a process they are called by who
//! made them, for what, and as its how many-th: the time in a ULID stays, and the low 16 bits of a
//! NAR's (the tag of its packing); the rest becomes a digest of that. So two runs that did the same
//! are the same.

use super::ask::{Ask, Answer};
use bytes::Bytes;
use loft::bucket::{Key, ObjectInfo};
use loft::nix::Sha256;
use std::collections::{HashMap, HashSet};
use ulid::Ulid;

/// What one process calls its own ULIDs, and what everybody else does.
pub struct Names {
    process: String,
    out: HashMap<Ulid, Ulid>,
    back: HashMap<Ulid, Ulid>,
    /// Others made these.
    foreign: HashSet<Ulid>,
    /// How many of a kind were made.
    made: HashMap<String, u64>,
}

impl Names {
    pub fn new(process: &str) -> Self {
        Self {
            process: process.to_owned(),
            out: HashMap::new(),
            back: HashMap::new(),
            foreign: HashSet::new(),
            made: HashMap::new(),
        }
    }

    /// A request as others see it.
    pub fn outward(&mut self, ask: Ask) -> Ask {
        match ask {
            Ask::Put { key, bytes, within } => {
                // A NAR that is packed has a tag in its name; one that is copied has not.
                self.name(&key, if key.starts_with("nar/") { u128::from(u16::MAX) } else { 0 });
                let key = rename_text(&key, &self.out);
                let bytes = if key.starts_with("nar/") { bytes } else { rename(&bytes, &self.out) };
                Ask::Put { key, bytes, within }
            }
            Ask::Copy { from, to } => {
                self.name(&to, 0);
                Ask::Copy { from: rename_text(&from, &self.out), to: rename_text(&to, &self.out) }
            }
            Ask::Get { key, limit } => Ask::Get { key: rename_text(&key, &self.out), limit },
            Ask::Head { key } => Ask::Head { key: rename_text(&key, &self.out) },
            Ask::Delete { key, within } => Ask::Delete { key: rename_text(&key, &self.out), within },
            Ask::List { prefix, after } => {
                let after = after.map(|after| rename_text(&after, &self.out));
                Ask::List { prefix: rename_text(&prefix, &self.out), after }
            }
            ask @ Ask::Uploads { .. } => ask,
        }
    }

    /// An answer as the process knows it.
    pub fn inward(&mut self, answer: Answer) -> Answer {
        match answer {
            Answer::Object(Some((info, bytes))) => {
                let is_nar = info.key.as_str().starts_with("nar/");
                let bytes = if is_nar { bytes } else { self.learn(&bytes) };
                Answer::Object(Some((self.info_inward(info), bytes)))
            }
            Answer::Info(Some(info)) => Answer::Info(Some(self.info_inward(info))),
            Answer::Objects { objects, next } => {
                let objects = objects.into_iter().map(|info| self.info_inward(info)).collect();
                Answer::Objects { objects, next: next.map(|next| rename_text(&next, &self.back)) }
            }
            answer => answer,
        }
    }

    /// Names what is new in a key that is written to: what is only read, others have made.
    fn name(&mut self, key: &str, kept: u128) {
        for (at, own) in ulids(key) {
            if !self.out.contains_key(&own) && !self.foreign.contains(&own) {
                let stem = &key[..at];
                let number = self.made.entry(stem.to_owned()).or_default();
                let name = format!("{} {stem} {number}", self.process);
                *number += 1;
                let middle = Sha256::of(name.as_bytes()).as_bytes()[..8].iter().fold(0, |n, b| n << 8 | u128::from(*b));
                let named = Ulid(own.0 >> 80 << 80 | middle << 16 | own.0 & kept);
                self.out.insert(own, named);
                self.back.insert(named, own);
            }
        }
    }

    fn info_inward(&mut self, info: ObjectInfo) -> ObjectInfo {
        self.meet(info.key.as_str());
        ObjectInfo { key: Key::listed(rename_text(info.key.as_str(), &self.back)), ..info }
    }

    fn learn(&mut self, bytes: &Bytes) -> Bytes {
        if let Some(text) = plain(bytes) {
            self.meet(&text);
        }
        rename(bytes, &self.back)
    }

    fn meet(&mut self, text: &str) {
        self.foreign.extend(ulids(text).map(|(_, id)| id).filter(|id| !self.back.contains_key(id)));
    }
}

/// Every ULID in a text and where it is: words of 26 characters, which no hash has.
fn ulids(text: &str) -> impl Iterator<Item = (usize, Ulid)> {
    let mut start = 0;
    text.split(|c: char| !c.is_ascii_alphanumeric()).filter_map(move |word| {
        let at = start;
        start += word.len() + 1;
        if word.len() != 26 { None } else { Ulid::from_string(word).ok().map(|id| (at, id)) }
    })
}

fn rename_text(text: &str, names: &HashMap<Ulid, Ulid>) -> String {
    let mut renamed = text.to_owned();
    for (at, id) in ulids(text) {
        if let Some(name) = names.get(&id) {
            let is_lower = text[at..at + 26].bytes().any(|byte| byte.is_ascii_lowercase());
            let name = if is_lower { name.to_string().to_lowercase() } else { name.to_string() };
            renamed.replace_range(at..at + 26, &name);
        }
    }
    renamed
}

const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

fn plain(bytes: &[u8]) -> Option<String> {
    let text = match bytes.starts_with(&ZSTD) {
        true => zstd::stream::decode_all(bytes).ok()?,
        false => bytes.to_vec(),
    };
    String::from_utf8(text).ok()
}

fn rename(bytes: &Bytes, names: &HashMap<Ulid, Ulid>) -> Bytes {
    let Some(text) = plain(bytes).filter(|_| !names.is_empty()) else { return bytes.clone() };
    let renamed = rename_text(&text, names);
    if renamed == text {
        return bytes.clone();
    }
    match bytes.starts_with(&ZSTD) {
        true => zstd::bulk::compress(renamed.as_bytes(), 3).unwrap().into(),
        false => renamed.into(),
    }
}
