//! `--json`: all of it as one object. Times are seconds since 1970, sizes bytes; what is unknown is `null`.

use super::local::Local;
use crate::failure::Failure;
use loft::ledger::{KnownBucket, Queued, Scan, Snapshot};
use loft::prune::NAR_GRACE;
use loft::survey::{Survey, Week};
use serde_json::{Value, json};
use std::time::SystemTime;

pub fn object(local: &Local, cache: &Result<Option<(String, Survey)>, Failure>) -> String {
    let cache = match cache {
        Ok(Some((name, found))) => survey(name, found),
        Ok(None) => Value::Null,
        Err(failure) => json!({"error": failure.render().trim_end()}),
    };
    let object = json!({
        "at": seconds(local.at),
        "version": env!("CARGO_PKG_VERSION"),
        "service_running": local.is_running,
        "local": self::local(local),
        "cache": cache,
    });
    format!("{object}\n")
}

fn local(local: &Local) -> Value {
    match &local.snapshot {
        Ok(Some(snapshot)) => self::snapshot(snapshot, local.next_prune(snapshot)),
        Ok(None) => Value::Null,
        Err(error) => json!({"error": error}),
    }
}

fn snapshot(snapshot: &Snapshot, next_prune: Option<SystemTime>) -> Value {
    let Snapshot { queue, totals, .. } = snapshot;
    let last_success = (totals.last_success > 0).then_some(totals.last_success);
    json!({
        "ledger": {"file": snapshot.file.display().to_string(), "bytes": snapshot.bytes, "rows": snapshot.rows},
        "queue": {
            "waiting": queue.waiting,
            "scan": queue.scan,
            "failing": queue.failing,
            "oldest": queue.oldest.map(seconds),
            "paths": snapshot.queued.iter().map(queued).collect::<Vec<_>>(),
        },
        "trouble": snapshot.outages.iter().map(|outage| {
            json!({"part": outage.what, "since": seconds(outage.since), "error": outage.error})
        }).collect::<Vec<_>>(),
        "stores": snapshot.places.iter().map(|(store, cursor)| {
            json!({"store": store, "cursor": cursor.as_ref().map(|cursor| cursor.id)})
        }).collect::<Vec<_>>(),
        "buckets": snapshot.buckets.iter().map(bucket).collect::<Vec<_>>(),
        "totals": {
            "batches": totals.batches,
            "pushed": totals.pushed,
            "failed": totals.failed,
            "nar_size": totals.nar_size,
            "file_size": totals.file_size,
            "last_success": last_success,
        },
        "prunes": {
            "last": snapshot.prunes.last.map(seconds),
            "last_success": snapshot.prunes.last_success.map(seconds),
            "removed": snapshot.prunes.removed,
            "freed": snapshot.prunes.freed,
            "next": next_prune.map(seconds),
        },
    })
}

fn queued(queued: &Queued) -> Value {
    json!({
        "path": queued.path,
        "since": seconds(queued.since),
        "scan": queued.scan,
        "due": seconds(queued.due),
        "attempts": queued.attempts,
        "error": queued.error,
    })
}

fn bucket(bucket: &KnownBucket) -> Value {
    let (scan, since) = match bucket.scan {
        Scan::Due => ("due", None),
        Scan::Begun(at) => ("begun", Some(seconds(at))),
        Scan::Done(at) => ("done", Some(seconds(at))),
    };
    json!({
        "url": bucket.identity.url,
        "generation": bucket.identity.generation,
        "paths_when_listed": bucket.size,
        "first_scan": scan,
        "first_scan_since": since,
    })
}

fn survey(name: &str, found: &Survey) -> Value {
    json!({
        "name": name,
        "at": seconds(found.at),
        "generation": found.record.as_ref().map(|record| &record.generation),
        "created": found.record.as_ref().map(|record| record.created),
        "priority": found.cache_info.as_ref().and_then(|info| info.priority),
        "paths": found.paths,
        "nars": found.nars,
        "stored": found.stored,
        "unpacked": found.unpacked.bytes,
        "unpacked_is_exact": found.unpacked.is_exact,
        "narinfos_read": found.unpacked.read,
        "ratio": found.unpacked.ratio,
        "largest": found.largest.iter().map(|large| json!({
            "key": large.key.as_str(),
            "size": large.size,
            "modified": seconds(large.modified),
            "path": large.path,
            "nar_size": large.nar_size,
        })).collect::<Vec<_>>(),
        "weeks": found.weeks.iter().copied().map(week).collect::<Vec<_>>(),
        "earlier": week(found.earlier),
        "pushes": found.pushes.iter().map(|push| json!({
            "at": seconds(push.at), "who": push.who, "pushed": push.pushed, "present": push.present, "roots": push.roots,
        })).collect::<Vec<_>>(),
        "leases": found.leases.iter().map(|lease| json!({
            "who": lease.who, "since": lease.since.map(seconds), "renewed": seconds(lease.renewed), "paths": lease.paths,
        })).collect::<Vec<_>>(),
        "sweeps": found.sweeps.iter().map(|sweep| json!({
            "who": sweep.who, "since": seconds(sweep.since), "condemned": sweep.condemned,
        })).collect::<Vec<_>>(),
        "trash": {
            "prunes": found.trash.records,
            "paths": found.trash.paths,
            "bytes": found.trash.bytes,
            "is_exact": found.trash.is_exact,
            "freed_from": found.trash.oldest.map(|at| seconds(at + NAR_GRACE)),
            "freed_until": found.trash.newest.map(|at| seconds(at + NAR_GRACE)),
        },
        "pins": found.pins.iter().map(|pin| json!({
            "name": pin.name, "count": pin.count, "newest": seconds(pin.newest),
        })).collect::<Vec<_>>(),
        "damaged": {"count": found.damaged.count, "named": found.damaged.named},
    })
}

fn week(week: Week) -> Value {
    json!({"nars": week.count, "bytes": week.bytes})
}

fn seconds(time: SystemTime) -> u64 {
    loft::record::seconds(time)
}
