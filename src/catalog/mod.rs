//! Objects of a bucket that whoever looks at all of it wants to read: narinfos and records.
//!
//! A listing says which version of each is there, and the ledger keeps a copy of every version that was read; so a
//! second look at an unchanged bucket lists and reads nothing.

mod narinfo;

pub use narinfo::{Remnants, Unusable, parse, remnants};

use crate::bucket::{Bucket, BucketError, Key, ObjectInfo};
use crate::ledger::{BucketIdentity, Ledger, Version};
use crate::nix::PathHash;
use crate::remedy::Remedy;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use std::sync::Arc;

/// Requests at once.
const PARALLEL: usize = 32;
/// A narinfo has a few kilobytes, some megabytes with very many references; records that are kept have no more.
const LIMIT: u64 = 16 << 20;

/// Reads objects, each version once.
#[derive(Clone)]
pub struct Reader {
    bucket: Arc<dyn Bucket>,
    ledger: Arc<Ledger>,
    identity: BucketIdentity,
}

/// What became of one object of a listing.
#[derive(Debug)]
pub enum Read {
    Bytes(Bytes),
    /// The store says that it is not there any more.
    Gone,
    /// This one object cannot be read: it is too large, say.
    Unreadable(BucketError),
}

impl Reader {
    pub fn new(bucket: Arc<dyn Bucket>, ledger: Arc<Ledger>, identity: BucketIdentity) -> Self {
        Self { bucket, ledger, identity }
    }

    /// Reads `objects` (a page of a listing, say). The answer's infos are those of what was read, which may be newer
    /// than what was listed. An error means that the bucket could not be asked.
    pub async fn read(&self, objects: Vec<ObjectInfo>) -> Result<Vec<(ObjectInfo, Read)>, BucketError> {
        let versions: Vec<Version> = objects.iter().map(version).collect();
        let mut known = self.with_ledger(move |ledger, of| ledger.copies(&of).get(&versions)).await.unwrap_or_default();
        let mut found = Vec::with_capacity(objects.len());
        let mut wanted = Vec::new();
        for object in objects {
            match known.remove(object.key.as_str()) {
                Some(bytes) => found.push((object, Read::Bytes(bytes))),
                None => wanted.push(object),
            }
        }
        let read: Vec<(ObjectInfo, Read)> = stream::iter(wanted)
            .map(|object| async move {
                match self.bucket.get(&object.key, LIMIT).await {
                    Ok(Some((info, bytes))) => Ok((info, Read::Bytes(bytes))),
                    Ok(None) => Ok((object, Read::Gone)),
                    Err(error) if error.remedy() == Remedy::GiveUpOnItem => Ok((object, Read::Unreadable(error))),
                    Err(error) => Err(error),
                }
            })
            .buffer_unordered(PARALLEL)
            .try_collect()
            .await?;
        let new: Vec<(Version, Bytes)> = read
            .iter()
            .filter_map(|(object, read)| match read {
                Read::Bytes(bytes) => Some((version(object), bytes.clone())),
                Read::Gone | Read::Unreadable(_) => None,
            })
            .collect();
        if !new.is_empty() {
            self.with_ledger(move |ledger, of| ledger.copies(&of).keep(&new)).await;
        }
        found.extend(read);
        Ok(found)
    }

    /// The narinfos of `paths` in no order: as they were read last, and from the bucket where they never were.
    pub async fn recall(&self, paths: Vec<PathHash>) -> Result<Vec<(PathHash, Bytes)>, BucketError> {
        let keys: Vec<String> = paths.iter().map(|path| Key::nar_info(path).to_string()).collect();
        let mut known = self.with_ledger(move |ledger, of| ledger.copies(&of).last(&keys)).await.unwrap_or_default();
        stream::iter(paths)
            .map(|path| (path, Key::nar_info(&path)))
            .map(|(path, key)| (path, known.remove(key.as_str()), key))
            .map(|(path, known, key)| async move {
                match known {
                    Some(bytes) => Ok(Some((path, bytes))),
                    None => Ok(self.bucket.get(&key, LIMIT).await?.map(|(_, bytes)| (path, bytes))),
                }
            })
            .buffer_unordered(PARALLEL)
            .try_filter_map(|found| async move { Ok(found) })
            .try_collect()
            .await
    }

    /// Forgets the copies of all that `are_there` does not name.
    pub async fn forget_others(&self, are_there: impl Fn(&str) -> bool + Send + 'static) {
        self.with_ledger(move |ledger, of| ledger.copies(&of).forget_others(are_there)).await;
    }

    /// The ledger is a file: whoever reads it must not hold up the network. Nothing where the task broke down.
    async fn with_ledger<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Ledger, BucketIdentity) -> T + Send + 'static,
    ) -> Option<T> {
        let (ledger, identity) = (self.ledger.clone(), self.identity.clone());
        tokio::task::spawn_blocking(move || work(&ledger, identity)).await.ok()
    }
}

fn version(object: &ObjectInfo) -> Version {
    Version { key: object.key.as_str().to_owned(), etag: object.etag.clone() }
}
