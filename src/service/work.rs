//! The one piece of work that is under way: a batch of the queue, or what comes before the first.

use super::Setup;
use super::fates::{Fates, Warned};
use super::pruning::Pruning;
use crate::ledger::{BucketIdentity, Scan};
use crate::nix::StorePath;
use crate::page;
use crate::plan::Request;
use crate::prune::{self, PruneError};
use crate::push::{self, Ends, Interrupt, Options, PushError};
use crate::remedy::chain;
use crate::report::{Event, Outcome, Summary};
use crate::store::Store;
use crate::watch::{Place, is_pushed, look};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use tokio::sync::mpsc;

/// What there is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// See whether the bucket lets us in: a mistake is told at the start, not with the first build.
    Greet,
    /// Fill the ledger from a listing (`populate_cache_on_startup`).
    Populate,
    /// Queue the whole store, unless that was done before for this bucket (`scan_on_startup`).
    Scan,
    /// Push these with their closures.
    Push(Vec<StorePath>),
    /// Prune the bucket.
    Prune,
}

/// How it ended.
pub struct Ended {
    pub work: Work,
    pub result: Result<Done, Failed>,
    /// Of the paths of a push; also where it failed as a whole.
    pub outcomes: HashMap<StorePath, Outcome>,
}

#[derive(Debug)]
pub enum Done {
    Greeted,
    Populated,
    /// `queued` is nothing where the scan was begun or done before.
    Scanned {
        bucket: BucketIdentity,
        queued: Option<u64>,
    },
    Pushed(Summary),
    Pruned(prune::Summary),
}

/// Why it failed as a whole.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    #[error(transparent)]
    Push(#[from] PushError),
    #[error(transparent)]
    Prune(#[from] Box<StoppedPrune>),
    #[error("Could not read the Nix store")]
    Store(#[from] crate::store::StoreError),
    #[error(transparent)]
    Ledger(#[from] crate::ledger::LedgerError),
    #[error("A task of the service failed")]
    Task(#[from] tokio::task::JoinError),
}

/// A prune that stopped: what was done until then stays done.
#[derive(Debug)]
pub struct StoppedPrune {
    pub error: PruneError,
    pub done: prune::Summary,
}

impl fmt::Display for StoppedPrune {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for StoppedPrune {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

/// Starts `work`; whoever aborts it loses no more than the work.
pub fn start(
    work: Work,
    setup: &Setup,
    store: Arc<dyn Store>,
    interrupt: Interrupt,
    warned: Warned,
    ended: mpsc::Sender<Ended>,
) -> tokio::task::AbortHandle {
    let fates = Arc::new(Fates::new(setup.ends.report.clone(), warned));
    let ends = Ends { store, report: fates.clone(), ..setup.ends.clone() };
    let mut pruning = setup.prune.clone();
    if let Some(pruning) = &mut pruning {
        pruning.options.interrupt = interrupt.clone();
    }
    let options = Options { interrupt, ..setup.options.clone() };
    let task = tokio::task::spawn_local({
        let work = work.clone();
        async move { carry_out(work, &ends, &options, pruning).await }
    });
    let abort = task.abort_handle();
    tokio::task::spawn_local(async move {
        let result = match task.await {
            Ok(result) => result,
            Err(error) => Err(error.into()),
        };
        // Nobody listens any more when the service has given up waiting.
        let _ = ended.send(Ended { work, result, outcomes: fates.take() }).await;
    });
    abort
}

async fn carry_out(work: Work, ends: &Ends, options: &Options, pruning: Option<Pruning>) -> Result<Done, Failed> {
    match work {
        Work::Greet => {
            ends.bucket.check_access().await.map_err(PushError::from)?;
            Ok(Done::Greeted)
        }
        Work::Populate => {
            push::populate(ends, options.upstreams.clone()).await?;
            Ok(Done::Populated)
        }
        Work::Scan => scan(ends, options).await,
        Work::Prune => match pruning {
            Some(pruning) => prune(ends, &pruning).await,
            // The configuration has changed its mind since it was due.
            None => Ok(Done::Pruned(prune::Summary::default())),
        },
        Work::Push(paths) => Ok(Done::Pushed(push::run(ends, options, Request::Closures(paths)).await?)),
    }
}

async fn prune(ends: &Ends, pruning: &Pruning) -> Result<Done, Failed> {
    let ends = prune::Ends {
        bucket: ends.bucket.clone(),
        ledger: ends.ledger.clone(),
        clock: ends.clock.clone(),
        report: ends.report.clone(),
    };
    let mut done = prune::Summary::default();
    let result = async {
        let plan = prune::plan(&ends, &pruning.options).await?;
        prune::carry_out(&ends, &pruning.options, plan, &mut done).await
    }
    .await;
    if let (Ok(()), Some(page)) = (&result, &pruning.page)
        && let Err(error) = page::write(ends.bucket.as_ref(), page).await
    {
        // The cache is as it should be all the same.
        ends.report.event(Event::Warning { message: &chain(&error) });
    }
    match result {
        Ok(()) => Ok(Done::Pruned(done)),
        Err(error) => Err(Box::new(StoppedPrune { error, done }).into()),
    }
}

async fn scan(ends: &Ends, options: &Options) -> Result<Done, Failed> {
    let bucket = push::identify(ends, options.upstreams.clone(), !options.dry_run).await?;
    let (ends, of) = (ends.clone(), bucket.clone());
    let queued = tokio::task::spawn_blocking(move || {
        if ends.ledger.watch().scan(&of)? != Scan::Due {
            return Ok(None);
        }
        // As a look at everything, which no damaged registration stops.
        let news = look(ends.store.as_ref(), &Place::Nowhere)?;
        let paths: Vec<StorePath> = news.appeared.into_iter().filter(is_pushed).collect();
        ends.ledger.watch().begin_scan(&of, &paths, ends.clock.wall())?;
        Ok::<_, Failed>(Some(paths.len() as u64))
    })
    .await??;
    Ok(Done::Scanned { bucket, queued })
}
