//! Telling fates: what follows from the verdicts at once, what landed after a last look.

use super::Ends;
use super::error::{PathError, PushError};
use super::pipeline::Fates;
use super::presence;
use crate::nix::PathHash;
use crate::plan::{Plan, Verdict};
use crate::report::{Event, Outcome, Report, Summary};
use std::collections::HashSet;

/// Tells the fates that follow from the verdicts alone; uploads are left to the pipeline.
pub fn decided(plan: &Plan, report: &dyn Report) -> Summary {
    let counts = plan.counts();
    for planned in &plan.paths {
        let outcome = match &planned.verdict {
            Verdict::Upload => continue,
            Verdict::AlreadyPresent => Outcome::Present,
            Verdict::SignedUpstream { key } => Outcome::Upstream { key: key.clone() },
            Verdict::Ignored { why } => Outcome::Ignored { why: why.clone() },
            Verdict::Dangling { reference } => Outcome::Failed {
                why: format!(
                    "It refers to {reference}, which is neither in the cache nor upstream; push it with its closure"
                ),
                blocked_by: Some(reference.clone()),
            },
        };
        report.event(Event::Settled { path: &planned.info.path, outcome: &outcome });
    }
    for path in &plan.invalid {
        report.event(Event::Settled { path, outcome: &Outcome::Invalid });
    }
    Summary {
        considered: counts.considered,
        present: counts.present,
        upstream: counts.upstream,
        ignored: counts.ignored,
        failed: counts.invalid + counts.dangling,
        ..Summary::default()
    }
}

/// Tells what a dry run would push.
pub fn would_push(plan: &Plan, report: &dyn Report, summary: &mut Summary) {
    for planned in plan.uploads() {
        let outcome = Outcome::WouldPush { nar_size: planned.info.nar_size.map_or(0, u64::from) };
        report.event(Event::Settled { path: &planned.info.path, outcome: &outcome });
        summary.would_push += 1;
    }
}

/// P7: sees the narinfos again before success is claimed, then tells which paths were pushed. The
/// answer is the hashes of those.
pub async fn published(
    ends: &Ends,
    plan: &Plan,
    fates: &Fates,
    bucket_size: u64,
    summary: &mut Summary,
) -> Result<Vec<PathHash>, PushError> {
    summary.failed += fates.failed;
    summary.interrupted = fates.interrupted;
    let written: HashSet<PathHash> = fates.published.iter().map(|(_, published)| published.hash()).collect();
    if written.is_empty() {
        return Ok(Vec::new());
    }
    let size = bucket_size + written.len() as u64;
    let seen = presence::look(ends.bucket.as_ref(), &written, Some(size)).await?;
    let mut landed = Vec::with_capacity(written.len());
    for (path, published) in &fates.published {
        let outcome = if seen.present.contains(&published.hash()) {
            landed.push(published.hash());
            summary.pushed += 1;
            summary.reused += u64::from(published.sent() == 0);
            summary.nar_size += published.nar_size();
            summary.file_size += published.sent();
            Outcome::Pushed { nar_size: published.nar_size(), file_size: published.sent() }
        } else {
            summary.failed += 1;
            PathError::Gone.outcome()
        };
        ends.report.event(Event::Settled { path: &plan.paths[*path].info.path, outcome: &outcome });
    }
    Ok(landed)
}
