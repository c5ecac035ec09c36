//! S7 and S8: NARs whose grace has passed, uploads that nobody will finish, records that have expired.
//!
//! A NAR goes only once a trash record has named it for the whole grace: clients that have seen its narinfo may still
//! fetch it. What nothing points at and no trash record names is named by this prune's.

use super::contents::{Contents, Orphan, Trash};
use super::decide::FLOOR;
use super::error::PruneError;
use super::extras::{self, Due};
use super::{Ends, Options, Summary};
use crate::bucket::{BucketError, Key, Upload};
use crate::nix::NarUrl;
use crate::push::SWEEP_LIFE;
use crate::remedy::chain;
use crate::report::Event;
use futures_util::stream::{self, StreamExt as _};
use std::time::{Duration, SystemTime};

/// Pushes go on with uploads that are younger than a day (`push/upload/resume.rs`), and may have begun to just before.
const ABANDONED: Duration = Duration::from_secs(48 * 60 * 60);
/// What a push has sent may bear a date from before the push, when the upload that it went on with began; and the clock
/// of its machine may be off by an hour.
const BEFORE_LEASE: Duration = Duration::from_secs(25 * 60 * 60);
/// A delete of garbage that is on its way for longer is refused: other programs may write a key again.
pub const DELETE_WITHIN: Duration = Duration::from_secs(60);
pub const PARALLEL: usize = 32;

/// What is garbage in a bucket.
#[derive(Debug, Default)]
pub struct Garbage {
    /// NARs to delete now.
    pub due: Vec<(NarUrl, Orphan)>,
    /// NARs that have no trash record yet.
    pub new: Vec<NarUrl>,
    /// Bytes of all NARs that nothing points at, whenever they go.
    pub bytes: u64,
    pub uploads: Vec<Upload>,
    /// Records that have expired or that crashed prunes have left.
    pub records: Vec<Key>,
    /// Logs, listings and links that are of no use any more.
    pub extras: Due,
}

/// A pure function of what is in the bucket; asked again before anything is deleted.
pub fn find(contents: &Contents, options: &Options) -> Garbage {
    let now = contents.opened.now;
    let old = |since: SystemTime, age: Duration| now.duration_since(since).is_ok_and(|found| found > age);
    // A push in progress may have sent it, and not said so yet.
    let newest = contents.records.oldest_lease().map(|since| since.checked_sub(BEFORE_LEASE).unwrap_or(since));
    let is_nobodys = |stamp: SystemTime| newest.is_none_or(|newest| stamp < newest);
    let grace = options.nar_grace + SWEEP_LIFE;
    let pointed_at = contents.graph.pointed_at();
    let mut garbage = Garbage::default();
    // With a narinfo that does not tell its NAR, any may be it.
    let orphans = contents.orphans.iter().filter(|(url, _)| !contents.nar_unknown && !pointed_at.has(url.as_str()));
    for (url, orphan) in orphans {
        garbage.bytes += orphan.size;
        if !old(orphan.modified, FLOOR) || !is_nobodys(orphan.modified) {
            continue;
        }
        match orphan.trashed {
            Some(_) if contents.wanted_nars.contains(url) => {}
            Some(since) if old(since, grace) => garbage.due.push((url.clone(), *orphan)),
            Some(_) => {}
            None => garbage.new.push(url.clone()),
        }
    }
    garbage.due.sort_unstable_by(|(a, _), (b, _)| a.as_str().cmp(b.as_str()));
    garbage.new.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
    let uploads = contents.uploads.iter().filter(|(_, began)| old(*began, ABANDONED) && is_nobodys(*began));
    garbage.uploads = uploads.map(|(upload, _)| upload.clone()).collect();
    garbage.records = contents.records.stale.iter().chain(&contents.left_over).cloned().collect();
    garbage.extras = contents.extras.due(&pointed_at, is_nobodys);
    garbage
}

/// Deletes it. What cannot be deleted is told, and is found again by the next prune.
pub async fn collect(
    ends: &Ends,
    options: &Options,
    contents: &Contents,
    garbage: &Garbage,
    summary: &mut Summary,
) -> Result<(), PruneError> {
    let named = extras::relink(ends, options, &garbage.extras.relink).await;
    let mut failures = named.len() as u64;
    let mut nars = stream::iter(garbage.due.iter().filter(|(url, _)| !named.contains(url)))
        .take_while(|_| std::future::ready(!options.interrupt.is_raised()))
        .map(|(url, orphan)| async move {
            let key = Key::nar(url);
            (orphan, ends.bucket.delete_before(&key, DELETE_WITHIN).await)
        })
        .buffer_unordered(PARALLEL);
    while let Some((orphan, result)) = nars.next().await {
        match told(ends, result) {
            true => {
                summary.nars += 1;
                summary.freed += orphan.size;
            }
            false => failures += 1,
        }
    }
    drop(nars);
    let mut uploads = stream::iter(&garbage.uploads)
        .take_while(|_| std::future::ready(!options.interrupt.is_raised()))
        .map(|upload| ends.bucket.abort_upload(upload))
        .buffer_unordered(PARALLEL);
    while let Some(result) = uploads.next().await {
        match told(ends, result) {
            true => summary.uploads += 1,
            false => summary.failed += 1,
        }
    }
    let now = contents.opened.now;
    let mut old = stream::iter(&garbage.extras.delete)
        .take_while(|_| std::future::ready(!options.interrupt.is_raised()))
        .map(|(key, age)| extras::delete_old(ends.bucket.as_ref(), now, key, *age))
        .buffer_unordered(PARALLEL);
    while let Some(result) = old.next().await {
        match result {
            Ok(is_deleted) => summary.records += u64::from(is_deleted),
            Err(error) => {
                told(ends, Err(error));
                summary.failed += 1;
            }
        }
    }
    drop(old);
    // A trash record is needed for as long as a NAR that it names is there.
    let grace = options.nar_grace + SWEEP_LIFE;
    let all_gone = failures == 0 && !options.interrupt.is_raised() && is_settled(contents, garbage, grace);
    let over = |trash: &&Trash| contents.opened.now.duration_since(trash.at).is_ok_and(|age| age > grace);
    let trash = contents.trash.iter().filter(over).map(|trash| &trash.key);
    let trash = trash.filter(|key| all_gone && !contents.wanted_trash.contains(key));
    let mut records = stream::iter(garbage.records.iter().chain(trash))
        .take_while(|_| std::future::ready(!options.interrupt.is_raised()))
        .map(|key| ends.bucket.delete(key))
        .buffer_unordered(PARALLEL);
    while let Some(result) = records.next().await {
        match told(ends, result) {
            true => summary.records += 1,
            false => summary.failed += 1,
        }
    }
    summary.failed += failures;
    Ok(())
}

/// Whether no NAR waits for more than its grace: for the end of a push, say.
fn is_settled(contents: &Contents, garbage: &Garbage, grace: Duration) -> bool {
    let over = |since: SystemTime| contents.opened.now.duration_since(since).is_ok_and(|age| age > grace);
    let trashed = contents.orphans.values().filter(|orphan| orphan.trashed.is_some_and(over)).count();
    garbage.due.len() == trashed || contents.records.oldest_lease().is_none() && !contents.nar_unknown
}

pub fn told(ends: &Ends, result: Result<(), BucketError>) -> bool {
    if let Err(error) = &result {
        ends.report.event(Event::Warning { message: &chain(error) });
    }
    result.is_ok()
}
