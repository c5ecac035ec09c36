//! All narinfos: listed, read (each version once, the ledger keeps copies), and judged one by one.

use super::examine::{Examined, Judge};
use super::finding::Kind;
use super::tables::Tables;
use super::{Check, CheckError, Ruin};
use crate::bucket::{BucketError, Key, Kind as Object, ObjectInfo, nar_info_pages};
use crate::catalog::Reader;
use crate::nix::PathHash;
use crate::report::Event;
use futures_util::stream::{self, TryStreamExt as _};
use std::collections::HashSet;
use std::sync::Arc;

/// Portions of a listing that are read and judged at once; signatures take a core.
const PARALLEL: usize = 4;
/// Narinfos that are in memory together are no more, whatever their number.
const PORTION: u64 = 16 << 20;

pub async fn look(check: &mut Check<'_>, judge: Arc<Judge>) -> Result<(), CheckError> {
    let bucket = check.ends.bucket.clone();
    let reader = check.reader.clone();
    check.tables.graph.begin_round();
    let mut listings: HashSet<PathHash> = HashSet::new();
    let listed = nar_info_pages(bucket.as_ref())
        .map_ok(|page| stream::iter(portions(page).into_iter().map(Ok::<_, BucketError>)))
        .try_flatten();
    let mut portions = listed
        .map_err(CheckError::from)
        .map_ok(|(narinfos, listings)| {
            let (reader, judge) = (reader.clone(), judge.clone());
            async move { Ok((judged(&reader, judge, narinfos).await?, listings)) }
        })
        .try_buffer_unordered(PARALLEL);
    while let Some((examined, found)) = portions.try_next().await? {
        for examined in examined {
            check.extras.named(&examined.deriver);
            check.note(examined);
        }
        // A narinfo stands right after its listing, so few are left of each portion.
        listings.extend(found.into_iter().filter(|hash| !check.tables.has(hash)));
        let count = check.checked.counts.paths;
        check.ends.report.event(Event::Looked { what: "narinfos", count });
    }
    drop(portions);
    listings.retain(|hash| !check.tables.has(hash));
    for hash in listings {
        check.find(Kind::ListingUnreferenced, &Key::listing(&hash), None, "there is no narinfo of this path");
    }
    Ok(())
}

type Portion = (Vec<(PathHash, ObjectInfo)>, Vec<PathHash>);

/// Narinfos of bounded size together, and the listings (`.ls`) among them.
fn portions(page: Vec<ObjectInfo>) -> Vec<Portion> {
    let mut portions = vec![Portion::default()];
    let mut size = 0;
    for object in page {
        let last = portions.len() - 1;
        match object.key.kind() {
            Object::NarInfo(hash) if size > 0 && size + object.size > PORTION => {
                size = object.size;
                portions.push((vec![(hash, object)], Vec::new()));
            }
            Object::NarInfo(hash) => {
                size += object.size;
                portions[last].0.push((hash, object));
            }
            Object::Listing(hash) => portions[last].1.push(hash),
            _ => {}
        }
    }
    portions
}

async fn judged(
    reader: &Reader,
    judge: Arc<Judge>,
    narinfos: Vec<(PathHash, ObjectInfo)>,
) -> Result<Vec<Examined>, CheckError> {
    let objects = narinfos.into_iter().map(|(_, object)| object).collect();
    let read = reader.read(objects).await?;
    let judged = tokio::task::spawn_blocking(move || {
        let each = read.into_iter().filter_map(|(object, read)| match object.key.kind() {
            Object::NarInfo(hash) => judge.examine(hash, object, &read),
            _ => None,
        });
        each.collect()
    });
    judged.await.map_err(CheckError::Task)
}

impl Check<'_> {
    fn note(&mut self, examined: Examined) {
        let Examined { hash, object, links, claim, findings, ruined, info, .. } = examined;
        self.checked.counts.paths += 1;
        let is_double = self.tables.read(&hash, &object, &links, claim.as_ref());
        findings.into_iter().for_each(|finding| self.tell(finding));
        if let Some(nar_hash) = ruined {
            self.checked.damages.paths.insert(hash, Ruin { etag: object.etag, nar_hash });
        }
        if let (true, Some(info)) = (is_double, info) {
            let problem = format!("{} holds what another NAR holds, too (NarHash {})", info.url, info.nar_hash);
            self.find(Kind::NarDuplicate, &Key::nar_info(&hash), Some(info.path), problem);
        }
    }

    /// Forgets the ledger's copies of narinfos that are not there any more.
    pub(super) async fn tidy_ledger(&self, tables: Arc<Tables>) {
        let are_there = move |key: &str| match Key::listed(key).kind() {
            Object::NarInfo(hash) => tables.has(&hash),
            Object::Nar => tables.has_nar(key),
            _ => true,
        };
        self.reader.forget_others(are_there).await;
    }
}
