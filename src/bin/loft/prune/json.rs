//! A prune as JSON, an object a line. Sizes are bytes, durations seconds, times seconds since 1970.

use loft::nix::{PathHash, StorePath};
use loft::prune::{Counts, Reason, Removal, Restored, Summary, Trashed, Undone};
use loft::record::{Why, seconds};
use serde_json::{Value, json};
use std::time::{Duration, SystemTime};
use ulid::Ulid;

pub fn planned(counts: &Counts) -> String {
    line(&json!({
        "event": "planned",
        "paths": counts.paths,
        "stay": counts.paths - counts.expired - counts.retired,
        "expired": counts.expired,
        "over_size": counts.retired,
        "damaged": counts.damaged,
        "restore": counts.restored,
        "bytes": counts.bytes,
        "bytes_kept": counts.bytes_kept,
        "still_too_large": counts.is_still_too_large,
        "nars": counts.nars,
        "stored": counts.stored,
        "garbage": counts.garbage,
        "garbage_bytes": counts.garbage_bytes,
        "due": counts.due,
        "due_bytes": counts.due_bytes,
        "uploads": counts.uploads,
        "records": counts.records,
    }))
}

pub fn would_remove(removal: &Removal) -> String {
    line(&path("would_remove", removal, removal.info.as_ref().map(|info| &info.path)))
}

pub fn removed(hash: &PathHash, known: Option<&(Removal, Option<StorePath>)>) -> String {
    line(&match known {
        Some((removal, name)) => path("removed", removal, name.as_ref()),
        None => json!({"event": "removed", "path": hash.as_str()}),
    })
}

pub fn finished(counts: &Counts, summary: &Summary, took: Duration) -> String {
    let condemned = counts.expired + counts.retired;
    let removed = summary.removed.len() as u64;
    line(&json!({
        "event": "finished",
        "condemned": condemned,
        "removed": removed,
        "rescued": summary.rescued,
        "left": condemned.saturating_sub(removed + summary.rescued),
        "restored": summary.restored,
        "failed": summary.failed,
        "nars": summary.nars,
        "freed": summary.freed,
        "uploads": summary.uploads,
        "records": summary.records,
        "trash": summary.trash.iter().map(Ulid::to_string).collect::<Vec<_>>(),
        "unfinished": summary.is_unfinished,
        "seconds": took.as_secs_f64(),
    }))
}

pub fn trashed(trash: &Trashed, until: SystemTime) -> String {
    line(&json!({
        "event": "trash",
        "id": trash.id.to_string(),
        "at": seconds(trash.at),
        "until": seconds(until),
        "who": trash.who,
        "why": why(trash.why),
        "paths": trash.paths,
        "nars": trash.paths + trash.orphans,
        "records": trash.records,
    }))
}

pub fn undone(undone: &Undone) -> String {
    let fates = undone.paths.iter().map(|(hash, restored)| {
        let (fate, reason) = match restored {
            Restored::Done => ("restored", None),
            Restored::AsItWas => ("restored_damaged", None),
            Restored::Present => ("present", None),
            Restored::Failed(why) => ("failed", Some(why)),
        };
        let name = undone.names.get(hash).map_or_else(|| hash.to_string(), StorePath::to_string);
        line(&json!({"event": fate, "path": name, "why": reason}))
    });
    let records = undone.records.iter().map(|key| line(&json!({"event": "restored_damaged", "record": key.as_str()})));
    fates.chain(records).collect()
}

const fn why(why: Why) -> &'static str {
    match why {
        Why::Retention => "retention",
        Why::Damage => "damage",
    }
}

fn path(event: &str, removal: &Removal, name: Option<&StorePath>) -> Value {
    let reason = match removal.reason {
        Reason::Retention => "retention",
        Reason::Size => "size",
    };
    json!({
        "event": event,
        "path": name.map_or_else(|| removal.path.to_string(), StorePath::to_string),
        "reason": reason,
        "size": removal.size,
        "last_pushed": seconds(removal.last_pushed),
    })
}

fn line(object: &Value) -> String {
    format!("{object}\n")
}
