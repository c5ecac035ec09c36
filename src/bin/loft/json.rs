//! `--json`: one object per event on stdout, for programs.
//!
//! Every object has `event`; paths are base names, sizes bytes, durations seconds.

use crate::failure::Failure;
use crate::output::print;
use loft::report::{Counts, Event, NOT_VALID, Outcome, Report, Summary};
use serde_json::{Value, json};
use std::sync::{Mutex, PoisonError};

/// Writes events as they come.
#[derive(Default)]
pub struct JsonLines {
    /// The first line that could not be written.
    failure: Mutex<Option<Failure>>,
}

impl JsonLines {
    /// Why some event is missing, if so. The push goes on meanwhile: half a push helps nobody.
    pub fn failure(&self) -> Option<Failure> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Report for JsonLines {
    fn event(&self, event: Event<'_>) {
        if let Some(object) = object(event)
            && let Err(failure) = print(&format!("{object}\n"))
        {
            self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
        }
    }
}

fn object(event: Event<'_>) -> Option<Value> {
    Some(match event {
        Event::Planned(counts) => planned(counts),
        Event::Started { path, nar_size } => json!({"event": "started", "path": path, "nar_size": nar_size}),
        // Several a second for each path: of use to a bar alone.
        Event::Progress { .. } => return None,
        // Its fate follows; programs want one line a path.
        Event::Landed { .. } => return None,
        Event::Settled { path, outcome } => settled(&json!(path), outcome),
        Event::Retrying { what, error, attempt, delay } => json!({
            "event": "retrying", "what": what, "error": error, "attempt": attempt, "delay": delay.as_secs_f64(),
        }),
        Event::Looked { what, count } => json!({"event": "looked", "what": what, "count": count}),
        Event::Pruned { removed, restored, failed, nars, freed } => json!({
            "event": "pruned", "removed": removed, "restored": restored, "failed": failed, "nars": nars, "freed": freed,
        }),
        Event::Waiting { reason } => json!({"event": "waiting", "reason": reason}),
        Event::Watching { what } => json!({"event": "watching", "what": what}),
        Event::Noticed { paths } => json!({"event": "noticed", "paths": paths}),
        Event::Scanned => json!({"event": "scanned"}),
        Event::Postponed { path, attempt, delay } => {
            json!({"event": "postponed", "path": path, "attempt": attempt, "delay": delay.as_secs_f64()})
        }
        Event::Outage { what, error, delay } => {
            json!({"event": "outage", "what": what, "error": error, "delay": delay.as_secs_f64()})
        }
        Event::Recovered { what, lasted } => {
            json!({"event": "recovered", "what": what, "seconds": lasted.as_secs_f64()})
        }
        Event::Reread => json!({"event": "reread"}),
        Event::Warning { message } => json!({"event": "warning", "message": message}),
        Event::Finished(summary) => finished(summary),
    })
}

fn planned(counts: &Counts) -> Value {
    json!({
        "event": "planned",
        "considered": counts.considered,
        "upload": counts.upload,
        "present": counts.present,
        "upstream": counts.upstream,
        "ignored": counts.ignored,
        "invalid": counts.invalid,
        "dangling": counts.dangling,
        "upload_nar_size": counts.upload_nar_size,
    })
}

fn settled(path: &Value, outcome: &Outcome) -> Value {
    match outcome {
        Outcome::Pushed { nar_size, file_size } => {
            json!({"event": "pushed", "path": path, "nar_size": nar_size, "file_size": file_size})
        }
        Outcome::Present => json!({"event": "present", "path": path}),
        Outcome::Upstream { key } => json!({"event": "upstream", "path": path, "key": key.as_str()}),
        Outcome::Ignored { why } => json!({"event": "ignored", "path": path, "why": why}),
        Outcome::Failed { why, blocked_by } => {
            json!({"event": "failed", "path": path, "why": why, "blocked_by": blocked_by})
        }
        Outcome::Invalid => json!({"event": "failed", "path": path, "why": NOT_VALID, "blocked_by": null}),
        Outcome::Interrupted => json!({"event": "interrupted", "path": path}),
        Outcome::WouldPush { nar_size } => json!({"event": "would_push", "path": path, "nar_size": nar_size}),
    }
}

fn finished(summary: &Summary) -> Value {
    json!({
        "event": "finished",
        "considered": summary.considered,
        "pushed": summary.pushed,
        "present": summary.present,
        "upstream": summary.upstream,
        "ignored": summary.ignored,
        "failed": summary.failed,
        "would_push": summary.would_push,
        "reused": summary.reused,
        "nar_size": summary.nar_size,
        "file_size": summary.file_size,
        "requests": summary.requests,
        "seconds": summary.duration.as_secs_f64(),
        "interrupted": summary.interrupted,
    })
}
