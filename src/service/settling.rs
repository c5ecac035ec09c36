//! What follows from the end of a piece of work.

use super::outage::Need;
use super::work::{Done, Ended, Failed, Work};
use super::{Service, looking};
use crate::ledger::{Settlement, Totals};
use crate::nix::StorePath;
use crate::push::PushError;
use crate::record::seconds;
use crate::remedy::{Remedy, chain};
use crate::report::{Event, Outcome, Summary};
use crate::store::Store;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::time::Instant;

impl Service<'_> {
    /// What follows from the end of the work.
    pub(super) async fn settle(&mut self, ended: Ended) {
        let began = self.under_way.take().map_or(SystemTime::UNIX_EPOCH, |under_way| under_way.began);
        let Ended { work, result, outcomes } = ended;
        let worked = result.is_ok();
        let settlement = match result {
            Ok(done) => self.done(done, &outcomes, began),
            Err(failed) => self.failed(work, &failed, began),
        };
        if worked {
            let ends = &self.setup.ends;
            self.outages.works(Need::Bucket, &ends.ledger, ends.report.as_ref());
        }
        self.write(settlement).await;
    }

    fn done(&mut self, done: Done, outcomes: &HashMap<StorePath, Outcome>, began: SystemTime) -> Settlement {
        match done {
            Done::Greeted | Done::Populated => Settlement::default(),
            Done::Scanned { bucket, queued } => {
                if let Some(paths) = queued {
                    self.setup.ends.report.event(Event::Noticed { paths });
                }
                self.scanning = Some(bucket);
                self.due_at = Some(Instant::now());
                Settlement::default()
            }
            Done::Pruned(summary) => {
                self.pruned(began, &summary);
                self.due_at = Some(Instant::now());
                Settlement::default()
            }
            Done::Pushed(summary) => {
                // Whatever else was due was left for the next batch.
                self.due_at = Some(Instant::now());
                self.settlement(outcomes, &summary)
            }
        }
    }

    /// A push that failed as a whole: one path's fault, or everybody's?
    ///
    /// All of it stays queued, also what had landed before: it may not have been recorded.
    fn failed(&mut self, work: Work, failed: &Failed, began: SystemTime) -> Settlement {
        let why = chain(failed);
        if work == Work::Prune {
            self.due_at = Some(Instant::now());
            if self.prune_failed(began, failed) {
                self.bucket_failed(&why);
            }
            return Settlement::default();
        }
        // A task that broke down may have done so over one path: the others must not wait for it for ever.
        let broke_down = matches!(failed, Failed::Task(_) | Failed::Push(PushError::Task(_)));
        let is_final = matches!(failed, Failed::Push(error) if error.remedy() != Remedy::Retry);
        let about_item = broke_down || matches!(failed, Failed::Push(error) if error.remedy() == Remedy::GiveUpOnItem);
        match (work, failed) {
            (_, Failed::Push(PushError::Interrupted)) => {}
            (Work::Populate, _) if is_final => {
                // It saves requests; pushes need other rights than a listing does.
                let message = format!("The ledger was not filled from a listing of the bucket: {why}");
                self.setup.ends.report.event(Event::Warning { message: &message });
            }
            (Work::Push(mut paths), _) if about_item && paths.len() > 1 => {
                // Nobody says which one: halves will.
                let rest = paths.split_off(paths.len() / 2);
                self.first.push_front(Work::Push(rest));
                self.first.push_front(Work::Push(paths));
            }
            (Work::Push(paths), _) if about_item => {
                let failed = |path| (path, Outcome::Failed { why: why.clone(), blocked_by: None });
                let outcomes = paths.into_iter().map(failed).collect();
                return self.settlement(&outcomes, &Summary { failed: 1, ..Summary::default() });
            }
            (work, failed) => {
                if let Work::Greet | Work::Populate | Work::Scan = work {
                    self.first.push_front(work);
                }
                self.due_at = Some(Instant::now());
                match failed {
                    Failed::Store(_) | Failed::Push(PushError::Store(_)) => self.store_failed(&why),
                    Failed::Ledger(_) => self.ledger_failed(&why),
                    Failed::Push(_) | Failed::Prune(_) | Failed::Task(_) => self.bucket_failed(&why),
                }
            }
        }
        Settlement::default()
    }

    fn bucket_failed(&mut self, why: &str) {
        let ends = &self.setup.ends;
        let now = ends.clock.wall();
        self.outages.failed(Need::Bucket, why, &self.pace, &ends.ledger, now, ends.report.as_ref());
    }

    /// Which paths leave the queue, and which stay until when.
    fn settlement(&mut self, outcomes: &HashMap<StorePath, Outcome>, summary: &Summary) -> Settlement {
        let ends = &self.setup.ends;
        let now = ends.clock.wall();
        let attempts = attempts(ends, outcomes);
        let mut settlement = Settlement::default();
        for (path, outcome) in outcomes {
            match outcome {
                Outcome::Failed { why, .. } => {
                    let Some(before) = attempts.get(path) else { continue };
                    let attempt = before + 1;
                    let delay = self.pace.delay(attempt, self.pace.longest_for_path);
                    ends.report.event(Event::Postponed { path, attempt, delay });
                    settlement.postponed.push((path.clone(), why.clone(), now + delay));
                }
                Outcome::Interrupted => {}
                // Collected, it may have been built again since the push looked.
                Outcome::Invalid | Outcome::Ignored { .. } | Outcome::Upstream { .. }
                    if self.meanwhile.contains(path) => {}
                Outcome::Pushed { .. }
                | Outcome::Present
                | Outcome::Upstream { .. }
                | Outcome::Ignored { .. }
                | Outcome::Invalid
                | Outcome::WouldPush { .. } => settlement.done.push(path.clone()),
            }
        }
        for path in &settlement.done {
            if self.unsaved.remove(path) {
                self.landed.insert(path.clone());
            }
        }
        settlement.totals = Totals {
            batches: u64::from(summary.considered > 0),
            pushed: summary.pushed,
            failed: settlement.postponed.len() as u64,
            nar_size: summary.nar_size,
            file_size: summary.file_size,
            last_success: match summary {
                Summary { pushed: 1.., .. } | Summary { present: 1.., failed: 0, .. } => seconds(now),
                _ => 0,
            },
        };
        settlement
    }

    async fn write(&mut self, settlement: Settlement) {
        let (ledger, scanning, now) =
            (self.setup.ends.ledger.clone(), self.scanning.clone(), self.setup.ends.clock.wall());
        let written = tokio::task::spawn_blocking(move || {
            if !settlement.is_empty() {
                ledger.watch().settle(&settlement)?;
            }
            match &scanning {
                Some(bucket) => ledger.watch().end_scan(bucket, now),
                None => Ok(false),
            }
        })
        .await;
        match written {
            Ok(Ok(scan_ended)) => {
                let ends = &self.setup.ends;
                // What it has not taken may be refused again at once.
                if self.unsaved.is_empty() {
                    self.outages.works(Need::Ledger, &ends.ledger, ends.report.as_ref());
                }
                // A dry run has landed nothing.
                if scan_ended && !self.setup.options.dry_run {
                    ends.report.event(Event::Scanned);
                }
            }
            Ok(Err(error)) => self.ledger_failed(&chain(&error)),
            Err(_) => {}
        }
    }

    /// Temporary roots end with their connection alone: what is still queued gets new ones before the
    /// old connection goes.
    pub(super) async fn renew_store(&mut self) {
        let Some(old) = self.store.take() else { return };
        let (settings, ledger) = (self.setup.store.clone(), self.setup.ends.ledger.clone());
        let unsaved: Vec<StorePath> = self.unsaved.iter().cloned().collect();
        let renewed = tokio::task::spawn_blocking(move || {
            // What cannot be looked up may still need the old roots.
            let Ok(queued) = ledger.queue().list(looking::MOST_PROTECTED) else { return Some(old) };
            let waiting: Vec<StorePath> = queued.into_iter().map(|queued| queued.path).chain(unsaved).collect();
            if waiting.is_empty() {
                return None;
            }
            let store: Option<Arc<dyn Store>> = crate::store::open(&settings).ok().map(Arc::from);
            if let Some(store) = &store {
                looking::protect(store.as_ref(), &waiting);
            }
            drop(old);
            store
        })
        .await;
        self.store = renewed.ok().flatten();
    }
}

/// How often the queued ones among the failed were tried before.
fn attempts(ends: &crate::push::Ends, outcomes: &HashMap<StorePath, Outcome>) -> HashMap<StorePath, u32> {
    let failed: Vec<&StorePath> = outcomes
        .iter()
        .filter(|(_, outcome)| matches!(outcome, Outcome::Failed { .. }))
        .map(|(path, _)| path)
        .collect();
    ends.ledger.queue().attempts(&failed).unwrap_or_default()
}
