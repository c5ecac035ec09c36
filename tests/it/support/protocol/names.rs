//! Names that are the same in every run.
//!
//! Processes make up ULIDs, which differ from run to run. Outside a process they are called by who
//! made them, for what, and as its how many-th: the time in a ULID stays, and the low 16 bits of a
//! NAR's (the tag of its packing); the rest becomes a digest of that. So two runs that did the same
//! are the same.

use super::ask::{Answer, Ask};
use bytes::Bytes;
use loft::bucket::{Key, ObjectInfo};
use loft::nix::Sha256;
use std::collections::HashMap;
use ulid::Ulid;

/// What one process calls its own ULIDs, and what everybody else does.
pub struct Names {
    process: String,
    out: HashMap<Ulid, Ulid>,
    back: HashMap<Ulid, Ulid>,
    /// How many of a kind were made.
    made: HashMap<String, u64>,
    /// NARs were among them, which narinfos name.
    has_nars: bool,
}

impl Names {
    pub fn new(process: &str) -> Self {
        Self {
            process: process.to_owned(),
            out: HashMap::new(),
            back: HashMap::new(),
            made: HashMap::new(),
            has_nars: false,
        }
    }

    /// A request as others see it.
    pub fn outward(&mut self, ask: Ask) -> Ask {
        match ask {
            Ask::Put { key, bytes, within } => {
                // A NAR that is packed has a tag in its name; one that is copied has not.
                self.name(&key, if key.starts_with("nar/") { u128::from(u16::MAX) } else { 0 });
                let key = rename_key(key, &self.out);
                let is_text = self.has_nars && !key.starts_with("nar/");
                let bytes = if is_text { rename(&bytes, &self.out) } else { bytes };
                Ask::Put { key, bytes, within }
            }
            Ask::Copy { from, to } => {
                self.name(&to, 0);
                Ask::Copy { from: rename_key(from, &self.out), to: rename_key(to, &self.out) }
            }
            Ask::Get { key, limit } => Ask::Get { key: rename_key(key, &self.out), limit },
            Ask::Head { key } => Ask::Head { key: rename_key(key, &self.out) },
            Ask::Delete { key, within } => Ask::Delete { key: rename_key(key, &self.out), within },
            Ask::List { prefix, after } => Ask::List { prefix, after: after.map(|after| rename_key(after, &self.out)) },
            ask @ Ask::Uploads { .. } => ask,
        }
    }

    /// An answer as the process knows it.
    pub fn inward(&self, answer: Answer) -> Answer {
        match answer {
            Answer::Object(Some((info, bytes))) => {
                let is_text = self.has_nars && !info.key.as_str().starts_with("nar/");
                let bytes = if is_text { rename(&bytes, &self.back) } else { bytes };
                Answer::Object(Some((self.info_inward(info), bytes)))
            }
            Answer::Info(Some(info)) => Answer::Info(Some(self.info_inward(info))),
            Answer::Objects { objects, next } => {
                let objects = objects.into_iter().map(|info| self.info_inward(info)).collect();
                Answer::Objects { objects, next: next.map(|next| rename_key(next, &self.back)) }
            }
            answer => answer,
        }
    }

    /// Names what is new in a key that is written to: what is only read, others have made. Of its low bits these are
    /// `kept`.
    pub fn name(&mut self, key: &str, kept: u128) {
        let Some((at, own)) = id_of(key).filter(|(_, id)| !self.out.contains_key(id)) else { return };
        let stem = &key[..at];
        let number = self.made.entry(stem.to_owned()).or_default();
        let name = format!("{} {stem} {number}", self.process);
        *number += 1;
        let middle = Sha256::of(name.as_bytes()).as_bytes()[..8].iter().fold(0, |n, b| n << 8 | u128::from(*b));
        let named = Ulid(own.0 >> 80 << 80 | middle << 16 | own.0 & kept);
        self.out.insert(own, named);
        self.back.insert(named, own);
        self.has_nars |= key.starts_with("nar/");
    }

    fn info_inward(&self, info: ObjectInfo) -> ObjectInfo {
        match id_of(info.key.as_str()).is_some_and(|(_, id)| self.back.contains_key(&id)) {
            true => ObjectInfo { key: Key::listed(rename_key(info.key.as_str().to_owned(), &self.back)), ..info },
            false => info,
        }
    }
}

/// A ULID's length; no hash has it.
const LENGTH: usize = 26;

/// The ULID in a key and where it is: at its end, or after a NAR's hash.
fn id_of(key: &str) -> Option<(usize, Ulid)> {
    let at = match key.starts_with("nar/") {
        true => key.find('-')? + 1,
        false => key.starts_with("loft/").then(|| key.rfind('/'))?? + 1,
    };
    Some((at, Ulid::from_string(key.get(at..at + LENGTH)?).ok()?))
}

fn rename_key(mut key: String, names: &HashMap<Ulid, Ulid>) -> String {
    if let Some((at, name)) = id_of(&key).and_then(|(at, id)| Some((at, names.get(&id)?))) {
        let name = if key.starts_with("nar/") { name.to_string().to_lowercase() } else { name.to_string() };
        key.replace_range(at..at + LENGTH, &name);
    }
    key
}

const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// In texts, only NARs are named. Leases and sweeps, which are compressed, name paths alone.
fn rename(bytes: &Bytes, names: &HashMap<Ulid, Ulid>) -> Bytes {
    let is_compressed = bytes.starts_with(&ZSTD);
    let text = if is_compressed { zstd::stream::decode_all(bytes.as_ref()).ok() } else { Some(bytes.to_vec()) };
    let Some(mut text) = text.and_then(|text| String::from_utf8(text).ok()) else { return bytes.clone() };
    let urls: Vec<usize> = text.match_indices("nar/").map(|(at, _)| at).collect();
    let mut is_renamed = false;
    for at in urls {
        if let Some((id_at, id)) = id_of(&text[at..])
            && let Some(name) = names.get(&id)
        {
            text.replace_range(at + id_at..at + id_at + LENGTH, &name.to_string().to_lowercase());
            is_renamed = true;
        }
    }
    match is_renamed {
        false => bytes.clone(),
        true if is_compressed => zstd::bulk::compress(text.as_bytes(), 3).unwrap().into(),
        true => text.into(),
    }
}
