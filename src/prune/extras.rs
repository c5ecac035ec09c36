//! What stands beside narinfos and NARs: build logs (`log/…`), listings (`<hash>.ls`), and links to debug information
//! (`debuginfo/…`). Nobody needs them to install a path. Each goes when nothing that is there, or that an undo can put
//! back, has a use for it any more.
//!
//! Unlike NARs, they keep their keys: a push that writes a path again writes them again, and that renews their dates. So
//! each is looked at once more right before it is deleted.

use super::contents::MOST_ORPHANS;
use super::decide::FLOOR;
use super::error::PruneError;
use super::garbage::{DELETE_WITHIN, PARALLEL, told};
use super::graph::{Graph, PointedAt};
use super::{Ends, Options};
use crate::bucket::{Body, Bucket, BucketError, Headers, Key, Kind, ObjectInfo, Piece, Prefix, Walk};
use crate::catalog::{Read, Reader};
use crate::nix::{BuildId, DebugLink, NarUrl, PathHash, StorePath};
use crate::push::SWEEP_LIFE;
use crate::remedy::{Remedy, chain};
use crate::report::Event;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, SystemTime};

/// Those of a bucket that nothing has a use for, as far as has been seen. What is seen later can only take some out.
pub struct Extras {
    secret: RandomState,
    ages: Ages,
    /// Logs, by derivation, with their dates.
    logs: HashMap<StorePath, SystemTime>,
    /// Of more logs than can be held, those are whose hashes are not above this: other ones in every run.
    drawn: u64,
    /// A damaged narinfo does not tell its derivation: any log may be of it.
    any_log_may_be_named: bool,
    listings: HashMap<PathHash, SystemTime>,
    /// By the key of a NAR that nothing points at: the links that name it.
    links: HashMap<String, Named>,
    /// By their NarHash, as text: for a NAR that links name and nothing points at, one of the same content.
    twins: HashMap<String, Option<NarUrl>>,
    /// All links that are there, by a hash; `None` where nobody could look.
    seen_links: Option<HashSet<u64>>,
}

/// How old something must be before it goes.
#[derive(Debug, Clone, Copy)]
struct Ages {
    now: SystemTime,
    log: Duration,
    listing: Duration,
}

/// Links that name one NAR.
#[derive(Default)]
struct Named {
    is_there: bool,
    links: Vec<(Key, BuildId, SystemTime)>,
}

/// What is to be done about them.
#[derive(Debug, Default)]
pub struct Due {
    /// To delete, if it is that old still.
    pub delete: Vec<(Key, Duration)>,
    /// To name another NAR of the same content.
    pub relink: Vec<Relink>,
}

/// A link that names a NAR which is about to go.
#[derive(Debug)]
pub struct Relink {
    pub key: Key,
    pub from: NarUrl,
    pub to: DebugLink,
}

impl Extras {
    pub fn new(options: &Options, now: SystemTime) -> Self {
        let listing = (options.nar_grace + SWEEP_LIFE).max(FLOOR);
        Self {
            secret: RandomState::new(),
            ages: Ages { now, log: listing.max(options.retention), listing },
            logs: HashMap::new(),
            drawn: u64::MAX,
            any_log_may_be_named: false,
            listings: HashMap::new(),
            links: HashMap::new(),
            twins: HashMap::new(),
            seen_links: None,
        }
    }

    /// Before any narinfo is looked at, so that each log is there which a narinfo that is looked at may name.
    pub async fn look_at_logs(&mut self, ends: &Ends) -> Result<(), PruneError> {
        let looked = self.list_logs(ends.bucket.as_ref()).await;
        if looked.is_err() {
            self.logs.clear();
        }
        or_warn(ends, "Build logs are not looked at, so none is removed", looked)
    }

    async fn list_logs(&mut self, bucket: &dyn Bucket) -> Result<(), BucketError> {
        let mut walk = Walk::new(bucket, Piece::of(Prefix::logs()));
        while let Some(page) = walk.next().await? {
            for object in page {
                if let Kind::Log(derivation) = object.key.kind()
                    && self.ages.is_over(object.modified, self.ages.log)
                    && self.secret.hash_one(&derivation) <= self.drawn
                {
                    self.logs.insert(derivation, object.modified);
                }
            }
            while self.logs.len() > MOST_ORPHANS {
                self.drawn /= 2;
                self.logs.retain(|derivation, _| self.secret.hash_one(derivation) <= self.drawn);
            }
        }
        Ok(())
    }

    /// A narinfo, visible or in trash, names this derivation.
    pub fn names_log(&mut self, derivation: &StorePath) {
        self.logs.remove(derivation);
    }

    /// A narinfo cannot be understood, and if it names a derivation is not to be seen.
    pub fn may_name_any_log(&mut self) {
        self.any_log_may_be_named = true;
    }

    /// Listings of paths without a narinfo.
    pub fn add_listings(&mut self, found: impl IntoIterator<Item = (PathHash, ObjectInfo)>) {
        for (path, object) in found {
            if self.listings.len() < MOST_ORPHANS && self.ages.is_over(object.modified, self.ages.listing) {
                self.listings.insert(path, object.modified);
            }
        }
    }

    /// What has been visible since this prune began is in trash at least, when it has gone.
    pub fn drop_listings_of_known(&mut self, graph: &Graph) {
        self.listings.retain(|path, _| !graph.was_seen(path));
    }

    /// The path can be put back.
    pub fn is_in_trash(&mut self, path: &PathHash) {
        self.listings.remove(path);
    }

    /// After the narinfos, since it is about NARs that none points at, and before those are listed.
    pub async fn look_at_links(&mut self, ends: &Ends, reader: &Reader, graph: &Graph) -> Result<(), PruneError> {
        let looked = self.read_links(ends.bucket.as_ref(), reader, graph).await;
        if looked.is_err() {
            (self.links, self.seen_links) = (HashMap::new(), None);
        }
        self.twins = self.links.keys().filter_map(|nar| Some((content(nar)?, None))).collect();
        or_warn(ends, "Links to debug information are not looked at, so none is removed", looked)
    }

    async fn read_links(&mut self, bucket: &dyn Bucket, reader: &Reader, graph: &Graph) -> Result<(), BucketError> {
        let pointed_at = graph.pointed_at();
        let mut seen = HashSet::new();
        let mut count = 0;
        let mut walk = Walk::new(bucket, Piece::of(Prefix::debug_info()));
        while let Some(page) = walk.next().await? {
            seen.extend(page.iter().map(|object| self.secret.hash_one(object.key.as_str())));
            for (object, link) in links_of(reader, page).await? {
                if count < MOST_ORPHANS && !pointed_at.has(link.nar.as_str()) {
                    count += 1;
                    let named = self.links.entry(link.nar.as_str().to_owned()).or_default();
                    named.links.push((object.key, link.id, object.modified));
                }
            }
        }
        self.seen_links = Some(seen);
        Ok(())
    }

    /// A listing shows this NAR.
    pub fn saw_nar(&mut self, key: &str, is_pointed_at: bool) {
        match is_pointed_at {
            false => self.links.get_mut(key).into_iter().for_each(|named| named.is_there = true),
            true if self.twins.is_empty() => {}
            true => {
                if let Some(twin) = content(key).and_then(|content| self.twins.get_mut(&content)) {
                    *twin = NarUrl::parse(key).ok();
                }
            }
        }
    }

    /// Whether a link of this key was there, as far as anybody could look.
    pub fn link_check(&self) -> impl Fn(&str) -> bool + Send + 'static {
        let (secret, seen) = (self.secret.clone(), self.seen_links.clone());
        move |key| seen.as_ref().is_none_or(|seen| seen.contains(&secret.hash_one(key)))
    }

    /// A pure function of what was seen. What `is_nobodys` does not say so of, a push in progress may have written.
    pub fn due(&self, pointed_at: &PointedAt<'_>, is_nobodys: impl Fn(SystemTime) -> bool) -> Due {
        let mut due = Due::default();
        for (derivation, modified) in self.logs.iter().filter(|_| !self.any_log_may_be_named) {
            if is_nobodys(*modified) {
                due.delete.push((Key::log(derivation), self.ages.log));
            }
        }
        for (path, _) in self.listings.iter().filter(|(_, modified)| is_nobodys(**modified)) {
            due.delete.push((Key::listing(path), self.ages.listing));
        }
        for (nar, named) in self.links.iter().filter(|(nar, _)| !pointed_at.has(nar)) {
            let twin = content(nar).and_then(|content| self.twins.get(&content)?.clone());
            match twin.filter(|twin| pointed_at.has(twin.as_str())) {
                Some(twin) => due.relink.extend(named.links.iter().filter_map(|(key, id, _)| {
                    let to = DebugLink { nar: twin.clone(), id: id.clone() };
                    Some(Relink { key: key.clone(), from: NarUrl::parse(nar).ok()?, to })
                })),
                None if named.is_there => {}
                None => {
                    let old = named.links.iter().filter(|(_, _, at)| self.ages.is_over(*at, FLOOR) && is_nobodys(*at));
                    due.delete.extend(old.map(|(key, ..)| (key.clone(), FLOOR)));
                }
            }
        }
        due.delete.sort_unstable();
        due.relink.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        due
    }
}

impl Ages {
    fn is_over(&self, since: SystemTime, age: Duration) -> bool {
        self.now.duration_since(since).is_ok_and(|found| found > age)
    }
}

/// The NarHash in the key of a NAR.
fn content(nar: &str) -> Option<String> {
    NarUrl::parse(nar).ok()?.nar_hash().map(|hash| hash.to_nix32())
}

/// What these credentials may not look at stays; where nobody could look, nobody knows.
fn or_warn(ends: &Ends, what: &str, looked: Result<(), BucketError>) -> Result<(), PruneError> {
    match looked {
        Err(error) if error.remedy() != Remedy::Retry => {
            ends.report.event(Event::Warning { message: &format!("{what}: {}", chain(&error)) });
            Ok(())
        }
        looked => Ok(looked?),
    }
}

/// The links in a page of a listing. What is none is not ours: `loft check` tells of it.
async fn links_of(reader: &Reader, mut page: Vec<ObjectInfo>) -> Result<Vec<(ObjectInfo, DebugLink)>, BucketError> {
    page.retain(|object| object.key.build_id().is_some() && object.size <= DebugLink::MAX_LEN);
    let link = |(object, read): (ObjectInfo, Read)| {
        let Read::Bytes(bytes) = read else { return None };
        let link = DebugLink::parse(&object.key.build_id()?, &bytes)?;
        Some((object, link))
    };
    Ok(reader.read(page).await?.into_iter().filter_map(link).collect())
}

/// Writes these links; those that could not be written name NARs that must stay. (Once interrupted, no NAR goes.)
pub async fn relink(ends: &Ends, options: &Options, links: &[Relink]) -> HashSet<NarUrl> {
    let mut failed = HashSet::new();
    let mut writes = stream::iter(links)
        .take_while(|_| std::future::ready(!options.interrupt.is_raised()))
        .map(|link| async move { (link, put_link(ends.bucket.as_ref(), &link.key, &link.to).await) })
        .buffer_unordered(PARALLEL);
    while let Some((link, result)) = writes.next().await {
        if !told(ends, result) {
            failed.insert(link.from.clone());
        }
    }
    failed
}

/// A request that was held up for long would speak of a NAR that has gone.
async fn put_link(bucket: &dyn Bucket, key: &Key, link: &DebugLink) -> Result<(), BucketError> {
    bucket.put_before(key, Body::from(Bytes::from(link.print())), Headers::DEBUG_INFO, DELETE_WITHIN).await
}

/// Deletes it, unless somebody has written it again. Whether it was deleted.
pub async fn delete_old(bucket: &dyn Bucket, now: SystemTime, key: &Key, age: Duration) -> Result<bool, BucketError> {
    let Some(found) = bucket.head(key).await? else { return Ok(false) };
    if !now.duration_since(found.modified).is_ok_and(|found| found > age) {
        return Ok(false);
    }
    bucket.delete_before(key, DELETE_WITHIN).await.map(|()| true)
}

/// Links to NARs that were copied, for those who came back: they name the copies from now on.
pub async fn follow(ends: &Ends, reader: &Reader, moved: &HashMap<NarUrl, NarUrl>) -> Result<(), BucketError> {
    let bucket = ends.bucket.as_ref();
    let mut walk = Walk::new(bucket, Piece::of(Prefix::debug_info()));
    while let Some(page) = walk.next().await? {
        let links = links_of(reader, page).await?;
        let writes = links.into_iter().filter_map(|(object, link)| {
            let link = DebugLink { nar: moved.get(&link.nar)?.clone(), ..link };
            Some(async move { put_link(bucket, &object.key, &link).await })
        });
        let mut writes = stream::iter(writes).buffer_unordered(PARALLEL);
        while let Some(result) = writes.next().await {
            result?;
        }
    }
    Ok(())
}
