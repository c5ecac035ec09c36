//! For repairs: what is damaged and cannot be mended goes, by the same protocol as what has expired, and can be undone.

use super::contents::Contents;
use super::error::{PruneError, Refusal};
use super::graph::Id;
use super::restore::{Restored, put_back, read_trash, with_references};
use super::sweep::{self, Ground, Ruins, Swept};
use super::{Ends, Options, Summary, guard};
use crate::bucket::{Prefix, list_all};
use crate::nix::PathHash;
use std::collections::HashSet;

/// Removes `ruins` with all that refers to them, referrers first; their bytes go into trash. `summary` counts what is done,
/// also before an error.
pub async fn quarantine(
    ends: &Ends,
    options: &Options,
    ruins: &Ruins,
    summary: &mut Summary,
) -> Result<(), PruneError> {
    let opened = guard::open(ends, options).await?;
    let mut contents = Contents::look(ends, options, opened).await?;
    let graph = &contents.graph;
    let ruined = ruins.ruined(&contents, |_, _| true);
    let condemned: Vec<Id> = graph.visible().filter(|id| ruined.has(*id)).collect();
    let total = graph.visible().count() as u64;
    if condemned.len() as u64 * 2 > total && !options.remove_most {
        return Err(Refusal::TooMuchDamage { condemned: condemned.len() as u64, total }.into());
    }
    let condemned = graph.referrers_first(&condemned);
    for batch in condemned.chunks(sweep::BATCH) {
        let ground = Ground::Damage(ruins);
        let swept = sweep::sweep(ends, options, &mut contents, &ground, batch, Vec::new(), summary).await?;
        if swept == Swept::Unfinished || options.interrupt.is_raised() {
            summary.is_unfinished = true;
            break;
        }
    }
    Ok(())
}

/// Puts back from trash what of `damaged` (whose narinfos are there) and `missing` it has in good order, the newest first.
/// `back` is what came back, also before an error.
pub async fn restore(
    ends: &Ends,
    options: &Options,
    damaged: &HashSet<PathHash>,
    missing: &HashSet<PathHash>,
    back: &mut HashSet<PathHash>,
) -> Result<(), PruneError> {
    let opened = guard::open(ends, options).await?;
    let mut listed = list_all(ends.bucket.as_ref(), &Prefix::trash()).await?;
    listed.sort_by(|a, b| (b.modified, &b.key).cmp(&(a.modified, &a.key)));
    for object in listed {
        let record = match read_trash(ends, &object.key).await {
            Ok(Some(record)) => record,
            Ok(None) | Err(PruneError::Record(_)) => continue,
            Err(error) => return Err(error),
        };
        let is_wanted = |hash: &PathHash| (damaged.contains(hash) || missing.contains(hash)) && !back.contains(hash);
        let wanted: Vec<PathHash> = record.removed.iter().map(|removed| removed.path).filter(is_wanted).collect();
        if wanted.is_empty() {
            continue;
        }
        let removed = with_references(&opened, &record, &wanted);
        let external = record.external.iter().copied().filter(|hash| !missing.contains(hash)).collect();
        let damaged: HashSet<PathHash> = damaged.difference(back).copied().collect();
        let mut fates = Vec::new();
        let result = put_back(ends, options, &opened, &removed, &external, &damaged, &mut fates).await;
        back.extend(fates.into_iter().filter(|(_, restored)| *restored == Restored::Done).map(|(path, _)| path));
        result?;
    }
    Ok(())
}
