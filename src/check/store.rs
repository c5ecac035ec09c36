//! Damaged and missing paths from the local store: pushed as ever, by the protocol, over what is there.
//!
//! A path fits where its NarHash is the one that the narinfo gives; where the narinfo's own word is damaged, any valid
//! path of this hash part does: it is what the store calls by that name.

use super::repair::{Left, Repair};
use super::{CheckError, Ends};
use crate::nix::{PathHash, StorePath};
use crate::plan::{Policy, Request};
use crate::push::{self, PushError};
use crate::report::{Event, Outcome, Report};
use crate::store::Store;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

/// Pushes what the local store has of `left`. `pushed` is what landed of it, also before an error.
pub async fn push_again(
    ends: &Ends,
    repair: &Repair,
    local: Arc<dyn Store>,
    left: &Left,
    pushed: &mut Vec<StorePath>,
) -> Result<(), CheckError> {
    let fitting = fitting(local.clone(), left).await?;
    if fitting.is_empty() {
        return Ok(());
    }
    let anew: Arc<HashSet<PathHash>> =
        Arc::new(fitting.iter().map(StorePath::hash_part).filter(|hash| left.paths.contains_key(hash)).collect());
    let landed = Arc::new(Landed { report: ends.report.clone(), paths: Mutex::default() });
    let push_ends = push::Ends {
        store: local,
        bucket: ends.bucket.clone(),
        ledger: ends.ledger.clone(),
        clock: ends.clock.clone(),
        report: landed.clone(),
        requests: Arc::default(),
    };
    let options = push::Options { anew, trust_ledger: false, dry_run: false, pin: None, ..repair.push.clone() };
    let result = async {
        // With all that they refer to, since some of that may be missing as well.
        push::run(&push_ends, &options, Request::Closures(fitting.clone())).await?;
        let so_far = landed.paths();
        let rest: Vec<StorePath> = fitting.iter().filter(|path| !so_far.contains(path)).cloned().collect();
        if !rest.is_empty() {
            // What comes from upstream is left out by the user's policy; but this was in the bucket.
            let options = push::Options { policy: Policy::default(), ..options };
            push::run(&push_ends, &options, Request::Only(rest)).await?;
        }
        Ok::<_, PushError>(())
    }
    .await;
    let landed = landed.paths();
    pushed.extend(fitting.into_iter().filter(|path| landed.contains(path)));
    Ok(result?)
}

async fn fitting(local: Arc<dyn Store>, left: &Left) -> Result<Vec<StorePath>, CheckError> {
    let wanted: HashSet<PathHash> = left.paths.keys().chain(&left.missing).copied().collect();
    let found = tokio::task::spawn_blocking(move || {
        let paths: Vec<StorePath> =
            local.all_valid_paths()?.into_iter().filter(|path| wanted.contains(&path.hash_part())).collect();
        let infos = local.path_infos(&paths)?;
        Ok::<_, crate::store::StoreError>(infos)
    });
    let infos = found.await.map_err(CheckError::Task)?.map_err(PushError::Store)?;
    let fits = |info: &crate::nix::PathInfo| {
        let said = left.paths.get(&info.path.hash_part()).and_then(|ruin| ruin.nar_hash);
        said.is_none_or(|said| said == info.nar_hash)
    };
    Ok(infos.into_iter().flatten().filter(fits).map(|info| info.path).collect())
}

/// Remembers what landed, and passes on what is of use to those who watch a repair.
struct Landed {
    report: Arc<dyn Report>,
    paths: Mutex<HashSet<StorePath>>,
}

impl Landed {
    fn paths(&self) -> HashSet<StorePath> {
        self.paths.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Report for Landed {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Settled { path, outcome: Outcome::Pushed { .. } | Outcome::Present } => {
                self.paths.lock().unwrap_or_else(PoisonError::into_inner).insert(path.clone());
            }
            Event::Settled { path, outcome: Outcome::Failed { why, .. } } => {
                let message = format!("{path} could not be pushed again: {why}");
                self.report.event(Event::Warning { message: &message });
            }
            Event::Retrying { .. } | Event::Waiting { .. } | Event::Warning { .. } => self.report.event(event),
            _ => {}
        }
    }
}
