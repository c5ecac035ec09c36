//! The local half: what the ledger says.

use super::layout::Page;
use crate::failure::Failure;
use loft::config::{PruneSettings, Settings};
use loft::ledger::{Ledger, Queued, Scan, Snapshot};
use loft::quantity::{age, batches, bytes, paths};
use loft::service::{Lock, next_prune};
use std::fs::File;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// Paths of the queue that are read; programs may want them all, within reason.
const LISTED: usize = 1000;
/// Of those, told to people.
const TOLD: usize = 8;

pub struct Local {
    pub at: SystemTime,
    pub file: PathBuf,
    /// Whether `scan_on_startup` is set.
    pub scans: bool,
    pub prune: PruneSettings,
    /// Whether a service works with this ledger now.
    pub is_running: bool,
    /// Nothing where there is no ledger; an error where it could not be read.
    pub snapshot: Result<Option<Snapshot>, String>,
}

impl Local {
    pub fn read(settings: &Settings, at: SystemTime) -> Self {
        let file = &settings.ledger;
        let (scans, prune) = (settings.service.scan_on_startup, settings.prune.clone());
        let snapshot = match Ledger::view(file) {
            None => Ok(None),
            Some(ledger) => ledger.snapshot(LISTED).map(Some).map_err(|error| {
                // What kept it from being opened is the better explanation.
                ledger.trouble().unwrap_or_else(|| loft::remedy::chain(&error))
            }),
        };
        Self { at, file: file.clone(), scans, prune, is_running: Lock::is_held(file), snapshot }
    }

    /// When the service prunes next, at the earliest.
    pub fn next_prune(&self, snapshot: &Snapshot) -> Option<SystemTime> {
        self.prune.enabled.then(|| next_prune(self.prune.schedule, snapshot.prunes.last, self.at))
    }

    /// Why this half could not be told.
    pub fn failure(&self) -> Option<Failure> {
        let failure = Failure::new(self.snapshot.as_ref().err()?.clone());
        // Of a file that can be read, the error says what to do.
        Some(match File::open(&self.file) {
            Ok(_) => failure,
            Err(_) => failure.hint("run it as the user whose ledger that is, or name another one in local_cache_path"),
        })
    }

    pub fn page(&self) -> String {
        let mut page = Page::default();
        let watcher = if self.is_running { "running" } else { "not running" };
        match &self.snapshot {
            Ok(Some(snapshot)) => {
                self.watcher(&mut page, watcher, snapshot);
                self.queue(&mut page, snapshot);
                self.rest(&mut page, snapshot);
            }
            Ok(None) => {
                page.line("Service", watcher);
                page.line("Ledger", &format!("none yet at {}", self.file.display()));
            }
            Err(_) => {
                page.line("Service", watcher);
                page.line("Queue", "unknown: the ledger could not be read");
            }
        }
        page.finish()
    }

    fn watcher(&self, page: &mut Page, state: &str, snapshot: &Snapshot) {
        page.line("Service", state);
        for (store, cursor) in &snapshot.places {
            let place = match cursor {
                Some(cursor) => format!("read up to registration {}", cursor.id),
                None => "compared with what it had before".to_owned(),
            };
            // The rest of its name only tells two stores of one directory apart.
            let directory = store.split(' ').next().unwrap_or(store);
            page.line("Store", &format!("{directory}: {place}"));
        }
        for bucket in snapshot.buckets.iter().filter(|bucket| bucket.scan != Scan::Due || !snapshot.places.is_empty()) {
            let scan = match bucket.scan {
                Scan::Due if self.scans => "not begun".to_owned(),
                Scan::Due => "not asked for, scan_on_startup is off".to_owned(),
                Scan::Begun(at) => format!("begun {}, {} of it queued", self.ago(at), paths(snapshot.queue.scan)),
                Scan::Done(at) => format!("done {}", self.ago(at)),
            };
            page.line("First scan", &format!("{scan} ({})", bucket.identity.url));
        }
        for outage in &snapshot.outages {
            let since = self.since(outage.since);
            page.line("Trouble", &format!("{}, for {since}: {}", outage.what, outage.error));
        }
    }

    fn queue(&self, page: &mut Page, snapshot: &Snapshot) {
        let counts = &snapshot.queue;
        let mut text = match counts.oldest {
            Some(oldest) if counts.waiting > 0 => {
                format!("{}, the oldest for {}", paths(counts.waiting), self.since(oldest))
            }
            _ => "empty".to_owned(),
        };
        if counts.failing > 0 {
            text.push_str(&format!("; {} failed before", counts.failing));
        }
        page.line("Queue", &text);
        let failing = || snapshot.queued.iter().filter(|queued| queued.attempts > 0);
        let mut error_before = None;
        for queued in failing().take(TOLD) {
            page.line("", &format!("  {}", queued.path));
            page.line("", &self.attempts(queued, error_before));
            error_before = queued.error.as_deref();
        }
        if counts.failing > TOLD as u64 {
            page.line("", &format!("  and {} more; --json has them", counts.failing - TOLD as u64));
        }
    }

    fn attempts(&self, queued: &Queued, error_before: Option<&str>) -> String {
        let tries = match queued.attempts {
            1 => "1 try".to_owned(),
            tries => format!("{tries} tries"),
        };
        let next = match queued.due.duration_since(self.at) {
            Ok(wait) if wait >= Duration::from_secs(1) => format!("next in {}", age(wait)),
            _ => "due now".to_owned(),
        };
        let error = match queued.error.as_deref() {
            error if error.is_some() && error == error_before => "the same",
            error => error.unwrap_or("no reason was noted"),
        };
        format!("    {tries} in {}, {next}: {error}", self.since(queued.since))
    }

    fn rest(&self, page: &mut Page, snapshot: &Snapshot) {
        let totals = &snapshot.totals;
        if totals.batches > 0 {
            let mut text = format!(
                "{} in {}, {} sent for {}",
                paths(totals.pushed),
                batches(totals.batches),
                bytes(totals.file_size),
                bytes(totals.nar_size),
            );
            if totals.last_success > 0 {
                let last = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(totals.last_success));
                text.push_str(&format!("; last success {}", last.map_or_else(String::new, |last| self.ago(last))));
            }
            match totals.failed {
                0 => {}
                1 => text.push_str("; 1 attempt failed"),
                failed => text.push_str(&format!("; {failed} attempts failed")),
            }
            page.line("Pushed", &text);
        }
        self.prunes(page, snapshot);
        let size = bytes(snapshot.bytes);
        page.line("Ledger", &format!("{} ({size}), knows {}", snapshot.file.display(), paths(snapshot.rows)));
    }

    fn prunes(&self, page: &mut Page, snapshot: &Snapshot) {
        let next = self.next_prune(snapshot);
        let prunes = &snapshot.prunes;
        if prunes.last_success.is_none() && next.is_none() {
            return;
        }
        let mut text = match prunes.last_success {
            Some(last) => {
                format!("{}, {} freed; last time {}", paths(prunes.removed), bytes(prunes.freed), self.ago(last))
            }
            None => "never".to_owned(),
        };
        if let Some(next) = next {
            let left = next.duration_since(self.at).unwrap_or_default();
            let when = if left.is_zero() { "soon".to_owned() } else { format!("in {}", age(left)) };
            text.push_str(&format!("; next {when}"));
        }
        page.line("Pruned", &text);
    }

    fn since(&self, time: SystemTime) -> String {
        age(self.at.duration_since(time).unwrap_or_default())
    }

    fn ago(&self, time: SystemTime) -> String {
        format!("{} ago", self.since(time))
    }
}
