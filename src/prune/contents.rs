//! What is in the bucket, as far as pruning goes: looked at once for the plan, and again before anything is deleted.

use super::error::PruneError;
use super::extras::Extras;
use super::graph::{Graph, Id, Links};
use super::guard::{Opened, check_stamp};
use super::records::{Ages, Records};
use super::{Ends, Options};
use crate::bucket::{Key, Kind, ObjectInfo, Prefix, Upload, list_all, nar_info_pages, nar_pages};
use crate::catalog::{self, Read, Reader};
use crate::nix::{NarUrl, PathHash};
use crate::push::SWEEP_LIFE;
use crate::record::{MAX_SIZE, TrashRecord, Why};
use crate::report::Event;
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, SystemTime};

/// More unreferenced NARs than this are left for the next prune, and so is what a trash record would have to name.
pub const MOST_ORPHANS: usize = 100_000;

/// See the module's head.
pub struct Contents {
    pub opened: Opened,
    pub retention: Duration,
    pub graph: Graph,
    pub records: Records,
    /// A narinfo that was not understood does not even tell its NAR: any NAR may be its own.
    pub nar_unknown: bool,
    /// NARs that no narinfo pointed at, by URL.
    pub orphans: HashMap<NarUrl, Orphan>,
    /// Logs, listings and links that are of no use any more.
    pub extras: Extras,
    /// All NARs.
    pub nars: u64,
    /// Their bytes as stored.
    pub stored: u64,
    pub trash: Vec<Trash>,
    /// Missing references that are in trash, and not as damaged.
    pub in_trash: HashSet<PathHash>,
    /// What is missed and could not be put back: its NARs, and the trash records that tell of it.
    pub wanted_nars: HashSet<NarUrl>,
    pub wanted_trash: HashSet<Key>,
    /// Uploads that were begun and not finished.
    pub uploads: Vec<(Upload, SystemTime)>,
    /// Objects of crashed prunes.
    pub left_over: Vec<Key>,
    reader: Reader,
}

/// A NAR that nothing points at.
#[derive(Debug, Clone, Copy)]
pub struct Orphan {
    pub size: u64,
    pub modified: SystemTime,
    /// Since when a trash record has named it.
    pub trashed: Option<SystemTime>,
}

/// A trash record.
#[derive(Debug)]
pub struct Trash {
    pub key: Key,
    pub at: SystemTime,
}

impl Contents {
    /// S1: looks at everything.
    pub async fn look(ends: &Ends, options: &Options, opened: Opened) -> Result<Self, PruneError> {
        let reader = Reader::new(ends.bucket.clone(), ends.ledger.clone(), opened.identity.clone());
        let mut contents = Self {
            extras: Extras::new(options, opened.now),
            opened,
            retention: options.retention,
            graph: Graph::default(),
            records: Records::default(),
            nar_unknown: false,
            orphans: HashMap::new(),
            nars: 0,
            stored: 0,
            trash: Vec::new(),
            in_trash: HashSet::new(),
            wanted_nars: HashSet::new(),
            wanted_trash: HashSet::new(),
            uploads: Vec::new(),
            left_over: Vec::new(),
            reader,
        };
        contents.extras.look_at_logs(ends).await?;
        contents.look_again(ends, &HashSet::new()).await?;
        contents.extras.look_at_links(ends, &contents.reader, &contents.graph).await?;
        contents.look_at_nars(ends).await?;
        contents.look_at_trash(ends).await?;
        contents.look_at_remains(ends).await?;
        Ok(contents)
    }

    /// S3, in this order: leases, push records and pins, narinfos. What of `wanted` is there now is the answer.
    pub async fn look_again(
        &mut self,
        ends: &Ends,
        wanted: &HashSet<PathHash>,
    ) -> Result<HashMap<PathHash, ObjectInfo>, PruneError> {
        let ages = Ages { now: self.opened.now, retention: self.retention };
        self.records.look(ends.bucket.as_ref(), &self.reader, ages).await?;
        self.look_at_narinfos(ends, wanted).await
    }

    /// The narinfos' bytes, read again where the ledger has no copy.
    pub async fn read(&self, objects: Vec<ObjectInfo>) -> Result<Vec<(ObjectInfo, Read)>, PruneError> {
        Ok(self.reader.read(objects).await?)
    }

    /// The narinfos of these paths in no order, as the ledger has them or the bucket.
    pub async fn recall(&self, ids: &[Id]) -> Result<Vec<(PathHash, Bytes)>, PruneError> {
        Ok(self.reader.recall(ids.iter().map(|id| self.graph.hash(*id)).collect()).await?)
    }

    /// Forgets the ledger's copies of what is not there any more.
    pub async fn tidy_ledger(&self) {
        let there: HashSet<PathHash> = self.graph.visible().map(|id| self.graph.hash(id)).collect();
        let records = self.records.seen().clone();
        let is_link_there = self.extras.link_check();
        self.reader
            .forget_others(move |key| match Key::listed(key).kind() {
                Kind::NarInfo(hash) => there.contains(&hash),
                Kind::Push | Kind::Pin => records.contains(&Key::listed(key)),
                Kind::DebugInfo => is_link_there(key),
                _ => true,
            })
            .await;
    }

    async fn look_at_narinfos(
        &mut self,
        ends: &Ends,
        wanted: &HashSet<PathHash>,
    ) -> Result<HashMap<PathHash, ObjectInfo>, PruneError> {
        let mut found = HashMap::new();
        let mut count = 0;
        let is_first = self.graph.begin_round() == 1;
        let mut pages = nar_info_pages(ends.bucket.as_ref());
        while let Some(page) = pages.try_next().await? {
            // Reading takes long in a large bucket, and pushes go on meanwhile.
            let clock = ends.bucket.now().await?;
            let (mut new, mut listings) = (Vec::new(), Vec::new());
            for object in page {
                match object.key.kind() {
                    Kind::NarInfo(hash) => {
                        check_stamp(&object, clock)?;
                        count += 1;
                        if wanted.contains(&hash) {
                            found.insert(hash, object.clone());
                        }
                        if self.graph.saw(&hash, &object) {
                            new.push(object);
                        }
                    }
                    // A younger one than the first look's is younger than any that goes.
                    Kind::Listing(hash) if is_first => listings.push((hash, object)),
                    _ => {}
                }
            }
            for (object, read) in self.reader.read(new).await? {
                let Kind::NarInfo(hash) = object.key.kind() else { continue };
                let links = match read {
                    Read::Bytes(bytes) => self.links(&hash, &bytes),
                    // Deleted since it was listed.
                    Read::Gone => continue,
                    Read::Unreadable(_) => self.damaged_links(&[]),
                };
                self.graph.read(&hash, &object, &links);
                if let Some(found) = found.get_mut(&hash) {
                    *found = object;
                }
            }
            // A narinfo stands right after its listing, so few are left of each page.
            listings.retain(|(hash, _)| !self.graph.was_seen(hash));
            self.extras.add_listings(listings);
            ends.report.event(Event::Looked { what: "narinfos", count });
        }
        self.extras.drop_listings_of_known(&self.graph);
        Ok(found)
    }

    fn links(&mut self, hash: &PathHash, bytes: &Bytes) -> Links {
        match catalog::parse(&self.opened.dir, hash, bytes) {
            Ok(info) => {
                info.deriver.iter().for_each(|deriver| self.extras.names_log(deriver));
                Links {
                    references: info.references.iter().map(|reference| reference.hash_part()).collect(),
                    size: info.file_size.unwrap_or(info.nar_size.get()),
                    nar: Some(info.url),
                    is_damaged: false,
                }
            }
            Err(_) => self.damaged_links(bytes),
        }
    }

    fn damaged_links(&mut self, bytes: &[u8]) -> Links {
        let left = catalog::remnants(bytes);
        self.nar_unknown |= left.url.is_none();
        match &left.deriver {
            Some(deriver) => self.extras.names_log(deriver),
            None => self.extras.may_name_any_log(),
        }
        Links { references: left.references, nar: left.url, size: 0, is_damaged: true }
    }

    async fn look_at_nars(&mut self, ends: &Ends) -> Result<(), PruneError> {
        let mut pages = nar_pages(ends.bucket.as_ref());
        while let Some(page) = pages.try_next().await? {
            for object in page {
                self.nars += 1;
                self.stored += object.size;
                let is_pointed_at = self.graph.saw_nar(object.key.as_str(), object.size);
                self.extras.saw_nar(object.key.as_str(), is_pointed_at);
                if is_pointed_at {
                    continue;
                }
                // What no narinfo could name is not ours.
                if self.orphans.len() < MOST_ORPHANS
                    && let Ok(url) = NarUrl::parse(object.key.as_str())
                {
                    let orphan = Orphan { size: object.size, modified: object.modified, trashed: None };
                    self.orphans.insert(url, orphan);
                }
            }
            ends.report.event(Event::Looked { what: "NARs", count: self.nars });
        }
        Ok(())
    }

    async fn look_at_trash(&mut self, ends: &Ends) -> Result<(), PruneError> {
        let bucket = ends.bucket.as_ref();
        let missing: HashSet<PathHash> = self.missing();
        // Oldest first, so that the newest word stays.
        let mut listed = list_all(bucket, &Prefix::trash()).await?;
        listed.sort_by(|a, b| (a.modified, &a.key).cmp(&(b.modified, &b.key)));
        for object in listed {
            let Some((_, bytes)) = bucket.get(&object.key, MAX_SIZE).await? else { continue };
            // A damaged one costs the undo of what it names; its NARs are then garbage found anew.
            let record = match TrashRecord::parse(object.key.as_str(), &bytes) {
                Ok(record) => record,
                Err(error @ crate::record::RecordError::Newer { .. }) => return Err(error.into()),
                Err(_) => continue,
            };
            let mut urls = record.orphans;
            for removed in &record.removed {
                let left = catalog::remnants(&removed.bytes());
                left.deriver.iter().for_each(|deriver| self.extras.names_log(deriver));
                self.extras.is_in_trash(&removed.path);
                urls.extend(left.url);
            }
            for url in urls {
                if let Some(orphan) = self.orphans.get_mut(&url) {
                    // The newest: something may have pointed at it in between.
                    orphan.trashed = Some(object.modified);
                }
            }
            // What was set aside as damaged comes back only when somebody says so.
            let is_sound = record.why == Why::Retention;
            let paths = record.removed.iter().map(|removed| removed.path);
            self.in_trash.extend(paths.filter(|path| is_sound && missing.contains(path)));
            self.trash.push(Trash { key: object.key, at: object.modified });
        }
        Ok(())
    }

    /// References of visible narinfos that are not there; most come from upstream caches.
    fn missing(&self) -> HashSet<PathHash> {
        self.graph
            .visible()
            .flat_map(|id| self.graph.references(id))
            .filter(|reference| !self.graph.is_visible(**reference))
            .map(|reference| self.graph.hash(*reference))
            .collect()
    }

    async fn look_at_remains(&mut self, ends: &Ends) -> Result<(), PruneError> {
        let bucket = ends.bucket.as_ref();
        // A key without this right cannot abort either; the rest goes on.
        for prefix in Prefix::of_uploads() {
            match bucket.list_uploads(&prefix).await {
                Ok(uploads) => self.uploads.extend(uploads),
                Err(error) => {
                    let message = format!("Unfinished uploads are not looked at: {}", crate::remedy::chain(&error));
                    ends.report.event(Event::Warning { message: &message });
                    break;
                }
            }
        }
        for prefix in [Prefix::sweeps(), Prefix::probes()] {
            let old =
                |object: &ObjectInfo| self.opened.now.duration_since(object.modified).is_ok_and(|age| age > SWEEP_LIFE);
            let listed = list_all(bucket, &prefix).await?;
            self.left_over.extend(listed.into_iter().filter(old).map(|object| object.key));
        }
        Ok(())
    }
}
