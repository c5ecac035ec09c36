//! P6: what a push leaves behind for retention and checks.

use super::error::{PathError, PushError};
use super::lease::Lease;
use super::{Ends, Options};
use crate::bucket::{Body, Cause, Headers, Key};
use crate::nix::{PathHash, StorePath};
use crate::plan::{Plan, Verdict};
use crate::record::{PinRecord, PushRecord, seconds};
use crate::report::{Event, Summary};
use bytes::Bytes;
use std::collections::HashSet;
use ulid::Ulid;

/// The paths that keep what this push relies on: the visible ones of `roots`, and where a root was
/// left to upstream or out, the topmost visible paths below it.
pub fn roots(plan: &Plan, roots: &[StorePath], visible: &HashSet<PathHash>) -> Vec<StorePath> {
    let mut kept: Vec<StorePath> = roots.iter().filter(|root| visible.contains(&root.hash_part())).cloned().collect();
    let left_out = |verdict: &Verdict| matches!(verdict, Verdict::SignedUpstream { .. } | Verdict::Ignored { .. });
    let asked: HashSet<&StorePath> = roots.iter().collect();
    // Referrers stand after their references, so one walk from the end carries the mark down.
    let mut below: HashSet<&StorePath> = HashSet::new();
    for planned in plan.paths.iter().rev() {
        let path = &planned.info.path;
        let marked = below.contains(path) || asked.contains(path);
        if !marked {
            continue;
        }
        if left_out(&planned.verdict) {
            below.extend(planned.info.references.iter().filter(|reference| *reference != path));
        } else if visible.contains(&path.hash_part()) && !asked.contains(path) {
            kept.push(path.clone());
        }
    }
    kept
}

/// Writes the push record, and the pin where one was asked for. Without the lease neither counts:
/// what they name may be gone already.
pub async fn write(
    ends: &Ends,
    options: &Options,
    lease: &Lease,
    plan: &Plan,
    summary: &Summary,
    roots: Vec<StorePath>,
) -> Result<(), PushError> {
    let now = ends.clock.wall();
    let id = Ulid::from_datetime(now);
    match &options.pin {
        Some(pin) if roots.is_empty() => {
            let name = &pin.name;
            let message = format!("Nothing is pinned as {name}: none of the paths is in the cache");
            ends.report.event(Event::Warning { message: &message });
        }
        Some(pin) => {
            let record = PinRecord::new(options.who.clone(), seconds(now), roots.clone(), pin.keep);
            put(ends, lease, &Key::pin(&pin.name, id), record.print()).await?;
        }
        None => {}
    }
    if roots.is_empty() && summary.pushed == 0 {
        return Ok(());
    }
    let (who, external) = (options.who.clone(), plan.external.clone());
    let record = PushRecord::new(who, seconds(now), roots, external, summary.pushed, summary.present);
    put(ends, lease, &Key::push_record(id), record.print()).await
}

async fn put(ends: &Ends, lease: &Lease, key: &Key, bytes: Vec<u8>) -> Result<(), PushError> {
    let lost = |error: PathError| match error {
        PathError::LeaseLost { minutes } => Some(PushError::LeaseLost { minutes }),
        _ => None,
    };
    let within = match lease.remaining() {
        Ok(within) => within,
        Err(error) => return lost(error).map_or(Ok(()), Err),
    };
    match ends.bucket.put_before(key, Body::from(Bytes::from(bytes)), Headers::RECORD, within).await {
        Ok(()) => Ok(()),
        Err(error) if matches!(error.cause, Cause::Expired) => {
            Err(lease.remaining().err().and_then(lost).unwrap_or(PushError::Bucket(error)))
        }
        Err(error) => Err(error.into()),
    }
}
