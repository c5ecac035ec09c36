//! Metrics for Prometheus: what the ledger says, as text, and a listener that hands it out.
//!
//! They come from the ledger alone, so that a scrape asks the bucket nothing, and `loft status --prometheus`
//! tells the same whether or not the service runs.

mod endpoint;
mod text;

pub use endpoint::serve;

use crate::ledger::{Ledger, Scan, Snapshot};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use text::{Kind, Text};

/// What a response with [`render`]'s text is.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What can be in trouble; each has a sample always, so that an alert need not ask for absent ones.
const PARTS: [&str; 4] = ["bucket", "configuration", "prune", "store"];

/// The metrics of a ledger's file, by a view of its own: whoever works with that ledger is not held up.
pub fn of_file(ledger: &Path, now: SystemTime) -> String {
    let snapshot = Ledger::view(ledger).and_then(|view| view.snapshot(0).ok());
    render(snapshot.as_ref(), now)
}

/// All metrics in Prometheus's text format 0.0.4; `None` where the ledger could not be read.
pub fn render(snapshot: Option<&Snapshot>, now: SystemTime) -> String {
    let mut text = Text::default();
    text.family("loft_build_info", Kind::Gauge, "The version of loft, as a label.");
    text.sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    text.family("loft_ledger_readable", Kind::Gauge, "Whether the other metrics could be read: 1 or 0.");
    text.sample(&[], u8::from(snapshot.is_some()));
    if let Some(snapshot) = snapshot {
        queue(&mut text, snapshot, now);
        watcher(&mut text, snapshot);
        totals(&mut text, snapshot);
        prunes(&mut text, snapshot);
        ledger(&mut text, snapshot);
    }
    text.finish()
}

fn queue(text: &mut Text, snapshot: &Snapshot, now: SystemTime) {
    let counts = snapshot.queue;
    text.family("loft_queue_paths", Kind::Gauge, "Store paths that wait to be pushed.");
    text.sample(&[], counts.waiting);
    text.family("loft_queue_scan_paths", Kind::Gauge, "Of those, put there by a scan of the whole store.");
    text.sample(&[], counts.scan);
    text.family("loft_queue_failing_paths", Kind::Gauge, "Of those, failed at least once.");
    text.sample(&[], counts.failing);
    text.family("loft_queue_oldest_age_seconds", Kind::Gauge, "How long the oldest of them waits; 0 if none does.");
    let age = counts.oldest.and_then(|oldest| now.duration_since(oldest).ok()).unwrap_or(Duration::ZERO);
    text.sample(&[], age.as_secs());
}

fn watcher(text: &mut Text, snapshot: &Snapshot) {
    let since = |part: &str| snapshot.outages.iter().find(|outage| outage.what == part).map(|outage| outage.since);
    let others = snapshot.outages.iter().map(|outage| outage.what.as_str()).filter(|what| !PARTS.contains(what));
    let parts: Vec<&str> = PARTS.into_iter().chain(others).collect();
    text.family("loft_trouble", Kind::Gauge, "Whether a part does not work: 1 or 0.");
    for part in &parts {
        text.sample(&[("part", part)], u8::from(since(part).is_some()));
    }
    text.family("loft_trouble_since_timestamp_seconds", Kind::Gauge, "Since when a part does not work; 0 if it does.");
    for part in &parts {
        text.sample(&[("part", part)], since(part).map_or(0, seconds));
    }
    text.family("loft_first_scan_done", Kind::Gauge, "Whether all that the store had has landed once: 1 or 0.");
    for bucket in &snapshot.buckets {
        let done = matches!(bucket.scan, Scan::Done(_));
        text.sample(&[("bucket", &bucket.identity.url)], u8::from(done));
    }
    text.family("loft_cursor_id", Kind::Gauge, "The store's last registration that was noticed.");
    for (store, cursor) in &snapshot.places {
        if let Some(cursor) = cursor {
            text.sample(&[("store", store)], cursor.id);
        }
    }
}

fn totals(text: &mut Text, snapshot: &Snapshot) {
    let totals = snapshot.totals;
    let help = "When the bucket last took, or had, a path of a batch; 0 for never.";
    text.family("loft_last_success_timestamp_seconds", Kind::Gauge, help);
    text.sample(&[], totals.last_success);
    for (name, help, value) in [
        ("loft_batches_total", "Batches of paths that were worked on.", totals.batches),
        ("loft_pushed_paths_total", "Store paths that landed.", totals.pushed),
        ("loft_pushed_nar_bytes_total", "Their NARs before compression.", totals.nar_size),
        ("loft_sent_nar_bytes_total", "Bytes of NARs that were sent, after compression.", totals.file_size),
        ("loft_failed_attempts_total", "Attempts at single paths that failed.", totals.failed),
    ] {
        text.family(name, Kind::Counter, help);
        text.sample(&[], value);
    }
}

fn prunes(text: &mut Text, snapshot: &Snapshot) {
    let prunes = snapshot.prunes;
    let help = "When the service's last prune that ended well was begun; 0 for never.";
    text.family("loft_prune_last_success_timestamp_seconds", Kind::Gauge, help);
    text.sample(&[], prunes.last_success.map_or(0, seconds));
    text.family("loft_prune_removed_paths_total", Kind::Counter, "Store paths that the service's prunes removed.");
    text.sample(&[], prunes.removed);
    text.family("loft_prune_freed_bytes_total", Kind::Counter, "Bytes of NARs that they deleted.");
    text.sample(&[], prunes.freed);
}

fn ledger(text: &mut Text, snapshot: &Snapshot) {
    text.family("loft_ledger_rows", Kind::Gauge, "Store paths that the ledger knows to be in a bucket.");
    text.sample(&[], snapshot.rows);
    text.family("loft_ledger_size_bytes", Kind::Gauge, "Size of the ledger's file and journal.");
    text.sample(&[], snapshot.bytes);
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests;
