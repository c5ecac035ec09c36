//! F5: build logs that no narinfo names, and links to debug information that lead nowhere.

use super::examine::Deriver;
use super::finding::Kind;
use super::nars::{PARALLEL, if_young};
use super::{Check, CheckError, Ends};
use crate::bucket::{BucketError, Key, Kind as Object, ObjectInfo, Piece, Prefix, Walk};
use crate::catalog::Read;
use crate::nix::{DebugLink, StorePath};
use crate::remedy::{Remedy, chain};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};

/// What is known of logs.
#[derive(Default)]
pub struct Extras {
    secret: RandomState,
    /// By a hash: those that no narinfo has named so far.
    logs: HashSet<u64>,
    /// A damaged narinfo does not tell its derivation: any log may be of it.
    any_log_may_be_named: bool,
    /// Why nobody could look.
    trouble: Option<BucketError>,
}

impl Extras {
    /// Before any narinfo is looked at: a log comes before the narinfo that names it.
    pub async fn look(ends: &Ends) -> Result<Self, CheckError> {
        let mut extras = Self::default();
        let mut walk = Walk::new(ends.bucket.as_ref(), Piece::of(Prefix::logs()));
        loop {
            match walk.next().await {
                Ok(None) => return Ok(extras),
                Ok(Some(page)) => extras.logs.extend(logs(page).map(|(_, log)| extras.secret.hash_one(log))),
                Err(error) if error.remedy() == Remedy::Retry => return Err(error.into()),
                Err(error) => return Ok(Self { trouble: Some(error), ..Self::default() }),
            }
        }
    }

    pub fn named(&mut self, deriver: &Deriver) {
        match deriver {
            Deriver::Named(derivation) => drop(self.logs.remove(&self.secret.hash_one(derivation))),
            Deriver::None => {}
            Deriver::Unknown => self.any_log_may_be_named = true,
        }
    }
}

/// After narinfos and NARs.
pub async fn judge(check: &mut Check<'_>) -> Result<(), CheckError> {
    let Extras { secret, logs: unnamed, any_log_may_be_named, trouble } = std::mem::take(&mut check.extras);
    if let Some(error) = trouble {
        could_not_tell(check, "log/", &error);
    }
    let bucket = check.ends.bucket.clone();
    if !unnamed.is_empty() && !any_log_may_be_named {
        let mut walk = Walk::new(bucket.as_ref(), Piece::of(Prefix::logs()));
        while let Some(page) = walk.next().await? {
            for (object, derivation) in logs(page).filter(|(_, log)| unnamed.contains(&secret.hash_one(log))) {
                let young = if_young(check, &object);
                let problem = format!("no narinfo names {derivation} as its deriver{young}");
                check.find(Kind::LogUnreferenced, &object.key, None, problem);
            }
        }
    }
    let mut walk = Walk::new(bucket.as_ref(), Piece::of(Prefix::debug_info()));
    loop {
        match walk.next().await {
            Ok(None) => return Ok(()),
            Ok(Some(page)) => judge_links(check, page).await?,
            Err(error) if error.remedy() == Remedy::Retry => return Err(error.into()),
            Err(error) => {
                could_not_tell(check, "debuginfo/", &error);
                return Ok(());
            }
        }
    }
}

fn logs(page: Vec<ObjectInfo>) -> impl Iterator<Item = (ObjectInfo, StorePath)> {
    page.into_iter().filter_map(|object| match object.key.kind() {
        Object::Log(derivation) => Some((object, derivation)),
        _ => None,
    })
}

async fn judge_links(check: &mut Check<'_>, mut page: Vec<ObjectInfo>) -> Result<(), CheckError> {
    page.retain(|object| object.key.build_id().is_some());
    let (page, too_long): (Vec<_>, Vec<_>) = page.into_iter().partition(|object| object.size <= DebugLink::MAX_LEN);
    for object in too_long {
        check.find(Kind::DebugInfoMalformed, &object.key, None, format!("it has {} bytes", object.size));
    }
    let mut suspects: BTreeMap<Key, Vec<Key>> = BTreeMap::new();
    for (object, read) in check.reader.read(page).await? {
        let parsed = match &read {
            Read::Gone => continue,
            Read::Unreadable(error) => Err(chain(error)),
            Read::Bytes(bytes) => object
                .key
                .build_id()
                .and_then(|id| DebugLink::parse(&id, bytes))
                .ok_or_else(|| "it does not name a file in a NAR of this cache by its build id".to_owned()),
        };
        match parsed {
            Err(why) => check.find(Kind::DebugInfoMalformed, &object.key, None, why),
            Ok(link) if check.tables.has_listed_nar(link.nar.as_str()) => {}
            Ok(link) => suspects.entry(Key::nar(&link.nar)).or_default().push(object.key),
        }
    }
    // Its narinfo may have gone, and the NAR be there for some days more.
    let bucket = check.ends.bucket.clone();
    let looks = stream::iter(suspects).map(|(nar, links)| {
        let bucket = bucket.clone();
        async move { Ok::<_, BucketError>(bucket.head(&nar).await?.is_none().then_some((nar, links))) }
    });
    let dangling: Vec<_> = looks.buffer_unordered(PARALLEL).try_collect().await?;
    for (nar, links) in dangling.into_iter().flatten() {
        for key in links {
            check.find(Kind::DebugInfoDangling, &key, None, format!("{nar}, which it names, is not there"));
        }
    }
    Ok(())
}

fn could_not_tell(check: &mut Check<'_>, prefix: &str, error: &BucketError) {
    check.find(Kind::CouldNotTell, &Key::listed(prefix), None, format!("what is below it: {}", chain(error)));
}
