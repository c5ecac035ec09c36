//! Noticing: news of the store go into the queue.

use super::fates;
use super::outage::Need;
use super::socket::Asked;
use super::{Service, ServiceError, Setup};
use crate::ledger::{Ledger, LedgerError};
use crate::nix::StorePath;
use crate::remedy::chain;
use crate::report::Event;
use crate::store::{Location, Protection, Stamp, Store, StoreError};
use crate::watch::{News, Place, is_pushed, look};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// Temporary roots at once: each costs the daemon a line and a round trip. What is beyond is collected only by a
/// collector that runs at this very moment, and is then named.
pub const MOST_PROTECTED: usize = 2000;

/// Names a store in the ledger.
pub fn key(location: &Location) -> String {
    let Location { real_store_dir, state_dir, daemon_socket, .. } = location;
    format!("{} {} {}", real_store_dir.display(), state_dir.display(), daemon_socket.display())
}

/// Where the last run stopped looking.
pub fn known_place(setup: &Setup, store: &str) -> Result<Place, ServiceError> {
    let watch = setup.ends.ledger.watch();
    if let Some(inventory) = watch.inventory(store)? {
        return Ok(Place::Inventory(Arc::new(inventory)));
    }
    Ok(watch.cursor(store)?.map_or(Place::Nowhere, Place::Cursor))
}

/// File systems tell times this coarsely, at worst.
const COARSE: Duration = Duration::from_secs(3);

/// Whether a look can bring anything. It is the net below the events, so it trusts nothing but the files.
#[derive(Debug, Default)]
pub struct Quiet {
    /// What the database's files were like, and since when that was seen.
    stamp: Option<(Stamp, Instant)>,
    /// A look began so long after that, that whatever changes the files now changes the stamp.
    is_settled: bool,
}

impl Quiet {
    /// Whether nothing was written since the last look but one. To be asked before each look.
    fn is_unchanged(&mut self, store: Option<&dyn Store>, lists_all: bool) -> bool {
        // A daemon's list has other sources.
        let found = store.filter(|_| !lists_all).and_then(Store::stamp);
        match (&self.stamp, found) {
            (Some((known, since)), Some(found)) if *known == found => {
                let is_unchanged = self.is_settled;
                self.is_settled = since.elapsed() >= COARSE;
                is_unchanged
            }
            (_, found) => {
                *self = Self { stamp: found.map(|stamp| (stamp, Instant::now())), is_settled: false };
                false
            }
        }
    }
}

/// What a look means for the queue.
struct Noticed {
    paths: Vec<StorePath>,
    /// They are all that the store has.
    scan: bool,
}

impl Service<'_> {
    /// Looks what became valid, and queues it.
    pub(super) async fn look(&mut self) {
        if !self.outages.allow(Need::Store) {
            return;
        }
        // A hook that found no socket has queued without a word.
        self.due_at.get_or_insert_with(Instant::now);
        if self.quiet.is_unchanged(self.watched.as_deref(), self.lists_all) && self.unsaved.is_empty() {
            return;
        }
        let ends = self.setup.ends.clone();
        let (settings, open, place) = (self.setup.store.clone(), self.watched.clone(), self.place.clone());
        let looked = tokio::task::spawn_blocking(move || {
            let store = match open {
                Some(store) => store,
                None => Arc::from(crate::store::open(&settings)?),
            };
            let news = look(store.as_ref(), &place)?;
            Ok::<_, StoreError>((store, news))
        })
        .await;
        let news = match looked {
            Ok(Ok((store, news))) => {
                self.watched = Some(store);
                news
            }
            Ok(Err(error)) => return self.store_failed(&chain(&error)),
            Err(error) => return self.store_failed(&chain(&error)),
        };
        self.outages.works(Need::Store, &ends.ledger, ends.report.as_ref());
        for damaged in news.damaged.iter().filter(|damaged| fates::is_new(&self.warned, damaged)) {
            ends.report.event(Event::Warning { message: damaged });
        }
        let mut noticed = self.noticed(&news);
        let lists_all = matches!(news.place, Place::Inventory(_));
        if lists_all != self.lists_all {
            self.watch(lists_all);
        }
        if noticed.paths.is_empty() && news.place == self.place && self.unsaved.is_empty() {
            // Nothing is written while nothing happens.
            return;
        }
        let (place, found) = (news.place.clone(), noticed.paths.len() as u64);
        let is_empty = noticed.paths.is_empty();
        if !self.unsaved.is_empty() {
            let known: HashSet<StorePath> = noticed.paths.iter().cloned().collect();
            noticed.paths.extend(self.unsaved.waiting().into_iter().filter(|path| !known.contains(path)));
        }
        let store = if is_empty { None } else { self.open_store().await };
        let (store_key, ledger, now) = (self.store_key.clone(), ends.ledger.clone(), ends.clock.wall());
        let paths = noticed.paths.clone();
        let saved = tokio::task::spawn_blocking(move || {
            let unprotected = store.and_then(|store| protect(store.as_ref(), &noticed.paths));
            (save(&ledger, &store_key, &noticed, &news, now), unprotected)
        })
        .await;
        match saved {
            Ok((Ok(()), unprotected)) => {
                if !is_empty {
                    ends.report.event(Event::Noticed { paths: found });
                }
                self.place = place;
                self.unsaved.clear();
                self.due_at = Some(Instant::now());
                self.outages.works(Need::Ledger, &self.setup.ends.ledger, self.setup.ends.report.as_ref());
                if let Some(why) = unprotected {
                    self.warn_unprotected(&why);
                }
            }
            Ok((Err(error), _)) => {
                // The place stays where it was, so that they are noticed again; but it says from where on to watch.
                if self.place == Place::Nowhere {
                    self.place = place;
                }
                if self.unsaved.add(&paths) {
                    ends.report.event(Event::Noticed { paths: found });
                }
                self.ledger_failed(&chain(&error));
            }
            Err(error) => self.store_failed(&chain(&error)),
        }
    }

    /// A post-build hook hands over what was built; the answer is whether that is safe now.
    pub(super) async fn take_over(&mut self, asked: Asked) {
        let (ledger, now) = (self.setup.ends.ledger.clone(), self.setup.ends.clock.wall());
        let paths: Vec<StorePath> = asked.paths.into_iter().filter(is_pushed).collect();
        let queued = paths.clone();
        let saved = tokio::task::spawn_blocking(move || ledger.queue().add(&queued, now)).await;
        let saved = match saved {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                self.unsaved.add(&paths);
                self.ledger_failed(&chain(&error));
                // They are in memory: better than nothing, and the hook can do no better on a full disk.
                true
            }
            Err(_) => false,
        };
        self.due_at = Some(Instant::now());
        let _ = asked.answer.send(saved);
    }

    fn noticed(&self, news: &News) -> Noticed {
        let first_time = news.from_start && self.place == Place::Nowhere;
        // The first look ever only says from where on to watch, unless an earlier place was lost.
        if first_time && !self.setup.ends.ledger.has_lost_one() {
            return Noticed { paths: Vec::new(), scan: false };
        }
        if news.from_start {
            let message = "The store's database is not the one of the last look: everything in it is looked at";
            self.setup.ends.report.event(Event::Warning { message });
        }
        Noticed { paths: news.appeared.iter().filter(|path| is_pushed(path)).cloned().collect(), scan: news.from_start }
    }

    pub(super) fn store_failed(&mut self, error: &str) {
        // Whatever is wrong with them, others may be better.
        (self.store, self.watched, self.quiet) = (None, None, Quiet::default());
        let ends = &self.setup.ends;
        self.outages.failed(Need::Store, error, &self.pace, &ends.ledger, ends.clock.wall(), ends.report.as_ref());
    }

    pub(super) fn ledger_failed(&mut self, error: &str) {
        let ends = &self.setup.ends;
        self.outages.failed(Need::Ledger, error, &self.pace, &ends.ledger, ends.clock.wall(), ends.report.as_ref());
    }

    fn warn_unprotected(&self, why: &str) {
        let message = format!("The store's garbage collector may remove queued paths before they are pushed: {why}");
        if fates::is_new(&self.warned, &message) {
            self.setup.ends.report.event(Event::Warning { message: &message });
        }
    }
}

fn save(ledger: &Ledger, store: &str, noticed: &Noticed, news: &News, now: SystemTime) -> Result<(), LedgerError> {
    let Noticed { paths, scan } = noticed;
    match &news.place {
        Place::Cursor(cursor) => ledger.watch().notice(store, paths, *scan, cursor, now),
        Place::Inventory(_) => ledger.watch().notice_inventory(store, paths, *scan, &news.appeared, &news.gone, now),
        Place::Nowhere => Ok(()),
    }
}

/// Keeps queued paths from the store's collector, within reason; why that did not work, if so.
pub fn protect(store: &dyn Store, paths: &[StorePath]) -> Option<String> {
    for path in paths.iter().take(MOST_PROTECTED) {
        match store.protect(path) {
            Ok(Protection::Held) => {}
            Ok(Protection::Unheld(why)) => return Some(why),
            Err(error) => return Some(chain(&error)),
        }
    }
    None
}
