//! Pushing what becomes valid while something else goes on, for example a command.
//!
//! Batches go out while it lasts, one at a time: what becomes valid during one waits for the next look, since
//! the store itself remembers it. What does not land goes into the last batch, after the end, which decides.

mod tally;

use crate::nix::StorePath;
use crate::plan::Request;
use crate::push::{self, Ends, Options, PushError};
use crate::remedy::{Remedy, chain};
use crate::report::{Event, Outcome, Summary};
use crate::store::StoreError;
use crate::watch::{Place, Wake, is_pushed, look};
use std::future::Future;
use std::mem::take;
use std::sync::Arc;
use std::time::Duration;
use tally::Tally;
use tokio::time::sleep;

/// What becomes valid within it goes together.
const BETWEEN_PUSHES: Duration = Duration::from_secs(2);
/// How often the last look is tried while the store says "later".
const LAST_LOOKS: u32 = 10;
const BETWEEN_LOOKS: Duration = Duration::from_millis(200);

/// How it went, all batches together.
#[derive(Debug)]
pub struct Followed {
    /// Each path is counted once, by what became of it in the end.
    pub summary: Summary,
    /// What stopped the last batch, if anything did.
    pub error: Option<PushError>,
    /// What became valid and is in the cache, pushed or there before; sorted.
    pub landed: Vec<StorePath>,
    /// Became valid and was not reached because of `error`.
    pub left: Vec<StorePath>,
}

/// Pushes what becomes valid after `place` until `ended` is done, and then the rest.
///
/// A failure never ends it early. Paths that were collected before their turn are told and left out.
pub async fn follow(ends: &Ends, options: &Options, place: Place, ended: impl Future<Output = ()>) -> Followed {
    // Listens before the first look, so that nothing comes between.
    let mut wake = Wake::new(ends.store.location(), matches!(place, Place::Inventory(_)));
    let mut follower = Follower::new(ends, options, place);
    let mut over = false;
    tokio::pin!(ended);
    while !over {
        let found = {
            let round = follower.round();
            tokio::pin!(round);
            loop {
                tokio::select! {
                    found = &mut round => break found,
                    () = &mut ended, if !over => over = true,
                }
            }
        };
        if !over {
            tokio::select! {
                () = &mut ended => over = true,
                // Nobody waits for what lands meanwhile, and every push leaves a record in the bucket.
                () = sleep(BETWEEN_PUSHES), if found => {}
                () = wake.next(), if !found => {}
            }
        }
    }
    follower.last().await
}

struct Follower {
    ends: Ends,
    options: Options,
    tally: Arc<Tally>,
    place: Place,
    /// For the last batch.
    later: Vec<StorePath>,
    /// Something is wrong that time will not heal: nothing is tried before the end.
    holds: bool,
    warned: bool,
    pushing: Duration,
}

/// A push that stopped, and what it had not reached.
struct Stopped {
    error: PushError,
    left: Vec<StorePath>,
}

impl Follower {
    fn new(ends: &Ends, options: &Options, place: Place) -> Self {
        let tally = Arc::new(Tally::new(ends.report.clone()));
        Self {
            ends: Ends { report: tally.clone(), ..ends.clone() },
            options: options.clone(),
            tally,
            place,
            later: Vec::new(),
            holds: false,
            warned: false,
            pushing: Duration::ZERO,
        }
    }

    /// Looks, and pushes what is new; says whether something was.
    async fn round(&mut self) -> bool {
        if self.holds {
            return false;
        }
        // A store that cannot be read now is asked again; the last look tells.
        let Ok(batch) = self.look().await else { return false };
        if batch.is_empty() {
            return false;
        }
        if let Err(stopped) = self.push(batch).await {
            self.holds = stopped.error.remedy() != Remedy::Retry;
            self.later.extend(stopped.left);
            if !std::mem::replace(&mut self.warned, true) {
                let why = chain(&stopped.error);
                self.warn(&format!("What became valid could not be pushed yet and is tried again at the end: {why}"));
            }
        }
        true
    }

    async fn last(mut self) -> Followed {
        let (mut batch, mut error) = match self.last_look().await {
            Ok(paths) => (paths, None),
            Err(error) => (Vec::new(), Some(error)),
        };
        batch.append(&mut take(&mut self.later));
        batch.extend(self.tally.failed());
        let mut left = Vec::new();
        if !batch.is_empty()
            && let Err(stopped) = self.push(batch).await
        {
            error = Some(stopped.error);
            left = stopped.left;
            left.retain(|path| !self.tally.is_told(path));
            left.sort();
            left.dedup();
        }
        let mut summary = self.tally.finish();
        summary.duration = self.pushing;
        summary.requests = self.ends.requests.total();
        if error.is_none() {
            self.tally.tell(Event::Finished(&summary));
        }
        Followed { summary, error, landed: self.tally.landed(), left }
    }

    async fn last_look(&mut self) -> Result<Vec<StorePath>, PushError> {
        for _ in 1..LAST_LOOKS {
            match self.look().await {
                Err(error) if error.remedy() == Remedy::Retry => sleep(BETWEEN_LOOKS).await,
                looked => return looked,
            }
        }
        self.look().await
    }

    /// What became valid since the last look and is to be pushed.
    async fn look(&mut self) -> Result<Vec<StorePath>, PushError> {
        let (store, place) = (self.ends.store.clone(), self.place.clone());
        let looking = tokio::task::spawn_blocking(move || look(store.as_ref(), &place));
        let news = looking.await.map_err(PushError::Task)??;
        if news.from_start && self.place != Place::Nowhere {
            self.warn("The store's database was replaced meanwhile, so everything that is valid in it counts as new");
        }
        for damaged in &news.damaged {
            self.warn(damaged);
        }
        self.place = news.place;
        let paths: Vec<StorePath> = news.appeared.into_iter().filter(is_pushed).collect();
        if !paths.is_empty() {
            self.tally.tell(Event::Noticed { paths: paths.len() as u64 });
        }
        Ok(paths)
    }

    /// Pushes closures. What is wrong with one path costs that path alone.
    async fn push(&mut self, paths: Vec<StorePath>) -> Result<(), Stopped> {
        let started = self.ends.clock.boot();
        let result = self.push_apart(paths).await;
        self.pushing += self.ends.clock.boot().saturating_sub(started);
        result
    }

    async fn push_apart(&self, paths: Vec<StorePath>) -> Result<(), Stopped> {
        let mut open = vec![paths];
        while let Some(mut batch) = open.pop() {
            let error = match self.options.interrupt.is_raised() {
                true => PushError::Interrupted,
                false => match push::run(&self.ends, &self.options, Request::Closures(batch.clone())).await {
                    Ok(_) => continue,
                    Err(error) => error,
                },
            };
            match (&error, batch.as_slice()) {
                (PushError::Store(cause), [path]) if cause.remedy() == Remedy::GiveUpOnItem => {
                    self.tally.settle(path, give_up(path, cause));
                }
                // Which path it is about is not always told, and there may be more than one.
                (PushError::Store(cause), [_, _, ..]) if cause.remedy() == Remedy::GiveUpOnItem => {
                    open.push(batch.split_off(batch.len() / 2));
                    open.push(batch);
                }
                _ => {
                    batch.extend(open.into_iter().flatten());
                    return Err(Stopped { error, left: batch });
                }
            }
        }
        Ok(())
    }

    fn warn(&self, message: &str) {
        self.tally.tell(Event::Warning { message });
    }
}

/// What becomes of a path that cannot even be planned.
fn give_up(path: &StorePath, error: &StoreError) -> Outcome {
    match error {
        StoreError::NotValid { path: gone, .. } if gone == path => Outcome::Invalid,
        error => Outcome::Failed { why: chain(error), blocked_by: None },
    }
}
