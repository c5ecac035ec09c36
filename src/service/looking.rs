//! Noticing: news of the store go into the queue.

use super::fates;
use super::outage::Need;
use super::quiet::Quiet;
use super::socket::Asked;
use super::{Service, ServiceError, Setup};
use crate::ledger::{Ledger, LedgerError};
use crate::nix::StorePath;
use crate::remedy::chain;
use crate::report::Event;
use crate::store::{Location, Protection, Store, StoreError};
use crate::watch::{News, Place, is_pushed, look};
use std::sync::Arc;
use std::time::SystemTime;
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
        // A hook that found no socket has queued without a word, and the wall clock jumps.
        self.due_at = Some(Instant::now());
        if self.quiet.is_unchanged(self.watched.as_deref(), self.lists_all) && self.all_is_saved() {
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
        let noticed = self.noticed(&news);
        let lists_all = matches!(news.place, Place::Inventory(_));
        if lists_all != self.lists_all {
            self.watch(lists_all);
        }
        if noticed.paths.is_empty() && news.place == self.place && self.all_is_saved() {
            // Nothing is written while nothing happens.
            return;
        }
        let Noticed { mut paths, scan } = noticed;
        paths.retain(|path| !self.landed.contains(path));
        let new = paths.iter().filter(|path| !self.unsaved.contains(path)).count();
        if new > 0 {
            ends.report.event(Event::Noticed { paths: new as u64 });
        }
        self.asked_for(&paths);
        if self.place == Place::Nowhere && paths.is_empty() {
            // What comes after this look is new, even if the ledger cannot be told so now.
            self.place = news.place.clone();
        }
        // The place moves on together with all that lies behind it, or not at all.
        self.unsaved.extend(paths.iter().cloned());
        if self.outages.allow(Need::Ledger) {
            self.save(news, scan).await;
        }
        self.protect(paths).await;
    }

    fn all_is_saved(&self) -> bool {
        self.place_is_saved && self.unsaved.is_empty()
    }

    async fn save(&mut self, news: News, scan: bool) {
        let ends = self.setup.ends.clone();
        let queued = self.unsaved.iter().cloned().collect();
        let (place, store_key, ledger, now) =
            (news.place.clone(), self.store_key.clone(), ends.ledger.clone(), ends.clock.wall());
        let saved = tokio::task::spawn_blocking(move || {
            save(&ledger, &store_key, &Noticed { paths: queued, scan }, &news, now)
        })
        .await;
        match saved {
            Ok(Ok(())) => {
                (self.place, self.place_is_saved) = (place, true);
                self.unsaved.clear();
                self.landed.clear();
                self.outages.works(Need::Ledger, &ends.ledger, ends.report.as_ref());
            }
            Ok(Err(error)) => self.ledger_failed(&chain(&error)),
            Err(error) => self.ledger_failed(&chain(&error)),
        }
    }

    /// A post-build hook hands over what was built; the answer is whether that is safe now.
    pub(super) async fn take_over(&mut self, asked: Asked) {
        let (ledger, now) = (self.setup.ends.ledger.clone(), self.setup.ends.clock.wall());
        let paths: Vec<StorePath> = asked.paths.into_iter().filter(is_pushed).collect();
        self.asked_for(&paths);
        let queued = paths.clone();
        let saved = tokio::task::spawn_blocking(move || ledger.queue().add(&queued, now)).await;
        if let Ok(Err(error)) = &saved {
            // They are pushed all the same, but a hook must not be told that they are safe.
            self.unsaved.extend(paths);
            self.ledger_failed(&chain(error));
        }
        self.due_at = Some(Instant::now());
        let _ = asked.answer.send(matches!(saved, Ok(Ok(()))));
    }

    /// A push under way may have found them collected before they came back.
    fn asked_for(&mut self, paths: &[StorePath]) {
        if self.under_way.is_some() {
            self.meanwhile.extend(paths.iter().cloned());
        }
    }

    /// Comes after the queue: a daemon grants roots only when a collection that marks lets it.
    async fn protect(&mut self, paths: Vec<StorePath>) {
        if paths.is_empty() {
            return;
        }
        let Some(store) = self.open_store().await else { return };
        let protecting = tokio::task::spawn_blocking(move || protect(store.as_ref(), &paths));
        if let Ok(Some(why)) = protecting.await {
            self.warn_unprotected(&why);
        }
    }

    fn noticed(&self, news: &News) -> Noticed {
        let first_time = news.from_start && self.place == Place::Nowhere;
        // The first look ever only says from where on to watch, unless an earlier place was lost.
        if first_time && !self.setup.ends.ledger.has_lost_one() {
            return Noticed { paths: Vec::new(), scan: false };
        }
        if news.from_start {
            let message = match (&self.place, &news.place) {
                (Place::Nowhere, _) => {
                    "The place up to which the store was looked at is lost: everything in it is looked at"
                }
                (_, Place::Inventory(_)) => {
                    "The store's database cannot be read any more: everything that the daemon lists is looked at"
                }
                _ => "The store's database is not the one of the last look: everything in it is looked at",
            };
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
