//! What is done next, and when.

use super::outage::Need;
use super::work::{self, Work};
use super::{Service, UnderWay};
use crate::ledger::LedgerError;
use crate::nix::StorePath;
use crate::push::Interrupt;
use crate::remedy::chain;
use crate::store::Store;
use std::sync::Arc;
use tokio::time::Instant;

impl Service<'_> {
    /// Starts the next piece of work, where there is one and nothing forbids it.
    pub(super) async fn start_work(&mut self) {
        self.mind_the_clock();
        // The ledger, too: where nothing can leave the queue, the same paths would be due again at once.
        let needs = [Need::Bucket, Need::Store, Need::Ledger];
        if self.under_way.is_some() || !needs.iter().all(|need| self.outages.allow(*need)) {
            return;
        }
        let work = match self.first.pop_front() {
            Some(work) => work,
            // Before the queue, which may never be empty.
            None if self.prune_is_due() => Work::Prune,
            None => match self.batch().await {
                Some(paths) => Work::Push(paths),
                None => return,
            },
        };
        let opened = match work {
            // It reads the bucket alone.
            Work::Prune => Some(self.setup.ends.store.clone()),
            _ => self.open_store().await,
        };
        let Some(store) = opened else {
            self.first.push_front(work);
            return;
        };
        let paths = match &work {
            Work::Push(paths) => paths.len(),
            Work::Greet | Work::Populate | Work::Scan | Work::Prune => 0,
        };
        let (began, is_prune) = (self.setup.ends.clock.wall(), work == Work::Prune);
        let interrupt = Interrupt::default();
        let (warned, ended) = (self.warned.clone(), self.ended.clone());
        let abort = work::start(work, &self.setup, store, interrupt.clone(), warned, ended);
        self.meanwhile.clear();
        self.under_way = Some(UnderWay { interrupt, abort, paths, began, is_prune });
    }

    /// Paths that are due.
    async fn batch(&mut self) -> Option<Vec<StorePath>> {
        if self.unsaved.is_empty() && self.due_at.is_none_or(|at| at > Instant::now()) {
            return None;
        }
        let (ledger, now, limit) = (self.setup.ends.ledger.clone(), self.setup.ends.clock.wall(), self.pace.batch);
        let unsaved: Vec<StorePath> = self.unsaved.iter().cloned().collect();
        let found = tokio::task::spawn_blocking(move || {
            if !unsaved.is_empty() {
                ledger.queue().add(&unsaved, now)?;
            }
            let due = ledger.queue().due(now, limit)?;
            let next = if due.is_empty() { ledger.queue().next_due(now)? } else { None };
            Ok::<_, LedgerError>((due, next))
        })
        .await;
        let error = match found {
            Ok(Ok((due, next))) => {
                self.unsaved.clear();
                self.due_at = next.map(|at| Instant::now() + at.duration_since(now).unwrap_or_default());
                let paths: Vec<StorePath> = due.into_iter().map(|queued| queued.path).collect();
                return (!paths.is_empty()).then_some(paths);
            }
            Ok(Err(error)) => chain(&error),
            Err(error) => chain(&error),
        };
        self.due_at = None;
        self.ledger_failed(&error);
        // A ledger that takes nothing keeps nothing from the bucket.
        let paths: Vec<StorePath> = self.unsaved.iter().take(limit).cloned().collect();
        (!paths.is_empty()).then_some(paths)
    }

    pub(super) async fn open_store(&mut self) -> Option<Arc<dyn Store>> {
        if let Some(store) = &self.store {
            return Some(store.clone());
        }
        let settings = self.setup.store.clone();
        match tokio::task::spawn_blocking(move || crate::store::open(&settings)).await {
            Ok(Ok(store)) => {
                let store: Arc<dyn Store> = Arc::from(store);
                self.store = Some(store.clone());
                Some(store)
            }
            Ok(Err(error)) => {
                self.store_failed(&chain(&error));
                None
            }
            Err(error) => {
                self.store_failed(&chain(&error));
                None
            }
        }
    }

    /// When something that is put off may be tried.
    pub(super) fn next_attempt(&self) -> Option<Instant> {
        if self.under_way.is_some() {
            return None;
        }
        let is_idle = self.first.is_empty() && self.unsaved.is_empty();
        let pushing = if is_idle { self.due_at } else { Some(Instant::now()) };
        let wanted = [pushing, self.prune_wake()].into_iter().flatten().min()?;
        let needs = [Need::Bucket, Need::Store, Need::Ledger];
        Some(needs.iter().filter_map(|need| self.outages.until(*need)).fold(wanted, Instant::max))
    }
}
