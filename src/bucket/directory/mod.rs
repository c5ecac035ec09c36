//! A directory as a bucket (`file://`): a key is a path below the root, and Nix reads it as it is.
//!
//! An object appears by `rename` of a finished, synced file, and the rename is synced too before the
//! call returns. That costs two syncs an object, and is what makes "a visible narinfo points at a
//! complete NAR" hold through a power cut: without them the narinfo may reach the disk before its NAR.
//!
//! Unfinished files stand below `.loft` in the root: the same file system, so that they can be
//! renamed, and a first segment that no key may have, so that nothing lists or reads them.

mod file;
mod list;
mod upload;

use super::error::Cause;
use super::{Body, Bucket, BucketError, Headers, Key, ObjectInfo, Page, Part, Prefix, Upload};
use crate::clock::Clock;
use async_trait::async_trait;
use bytes::Bytes;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

/// Where unfinished files stand; never the first segment of a key.
const UNFINISHED: &str = ".loft";

/// A page costs a reading of whole directories, so it is larger than S3's.
const PAGE: usize = 10_000;

/// See the module's head.
pub struct Directory {
    root: Arc<Root>,
    clock: Arc<dyn Clock>,
}

/// The blocking half: everything that touches the disk.
struct Root {
    path: PathBuf,
    page: usize,
    clock: Arc<dyn Clock>,
    /// Leftovers of dead processes have been looked for.
    is_tidy: AtomicBool,
}

impl Directory {
    /// Creates nothing yet; the first write creates the directory itself, not the ones above it.
    pub fn new(root: PathBuf, clock: Arc<dyn Clock>) -> Self {
        Self::with_page_size(root, clock, PAGE)
    }

    /// With pages of at most `page` keys.
    pub fn with_page_size(root: PathBuf, clock: Arc<dyn Clock>, page: usize) -> Self {
        let root = Root { path: root, page: page.max(1), clock: clock.clone(), is_tidy: AtomicBool::new(false) };
        Self { root: Arc::new(root), clock }
    }

    async fn run<T: Send + 'static>(
        &self,
        doing: &'static str,
        object: impl Into<String>,
        work: impl FnOnce(&Root) -> Result<T, Cause> + Send + 'static,
    ) -> Result<T, BucketError> {
        let root = self.root.clone();
        let result = match tokio::task::spawn_blocking(move || work(&root)).await {
            Ok(result) => result,
            Err(error) => Err(Cause::Io(io::Error::other(error))),
        };
        result.map_err(|cause| BucketError::new(doing, object, self.describe(), cause))
    }
}

impl Root {
    /// Where a key's object is.
    fn place(&self, key: &Key) -> Result<PathBuf, Cause> {
        let text = key.as_str();
        let mut segments = text.split('/');
        if segments.clone().any(|segment| matches!(segment, "" | "." | "..")) {
            return Err(Cause::Key("it is empty or has a segment that is empty, . or .."));
        }
        if text.contains('\0') || segments.next() == Some(UNFINISHED) {
            return Err(Cause::Key("no file can have this name"));
        }
        Ok(self.path.join(text))
    }

    /// Whether "no such file" may be believed: a root that is not there yet is an empty bucket, but
    /// only where it could be created. A parent that is missing too is a mount that is missing, or a
    /// mistyped path.
    fn believe_absent(&self) -> Result<(), Cause> {
        match std::fs::metadata(&self.path) {
            Ok(metadata) if metadata.is_dir() => Ok(()),
            Ok(_) => Err(Cause::Setting(format!("{:?} is not a directory", self.path))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => match self.path.parent() {
                Some(parent) if parent.is_dir() => Ok(()),
                _ => Err(Cause::NoDirectory(self.path.clone())),
            },
            Err(error) => Err(Cause::Io(error)),
        }
    }

    /// Creates the root and what is needed in it for unfinished files.
    fn prepare(&self) -> Result<PathBuf, Cause> {
        let unfinished = self.path.join(UNFINISHED);
        if !unfinished.is_dir() {
            self.believe_absent()?;
            for directory in [&self.path, &unfinished] {
                match std::fs::create_dir(directory) {
                    Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(Cause::Io(error)),
                    _ => {}
                }
            }
        }
        if !self.is_tidy.swap(true, Ordering::Relaxed) {
            file::remove_leftovers(&unfinished, self.clock.wall());
        }
        Ok(unfinished)
    }

    /// An absent file is `None`, with the doubt above.
    fn absent<T>(&self, error: io::Error) -> Result<Option<T>, Cause> {
        match error.kind() {
            // `a/b` where `a` is a file.
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => self.believe_absent().map(|()| None),
            _ => Err(Cause::Io(error)),
        }
    }

    fn head(&self, key: &Key) -> Result<Option<ObjectInfo>, Cause> {
        match std::fs::metadata(self.place(key)?) {
            Ok(metadata) if metadata.is_file() => file::info(key.clone(), &metadata).map(Some).map_err(Cause::Io),
            Ok(_) => Ok(None),
            Err(error) => self.absent(error),
        }
    }

    fn read(&self, key: &Key, offset: u64, length: u64) -> Result<Option<(ObjectInfo, Bytes)>, Cause> {
        let file = match std::fs::File::open(self.place(key)?) {
            Ok(file) => file,
            Err(error) => return self.absent(error),
        };
        let metadata = file.metadata().map_err(Cause::Io)?;
        if !metadata.is_file() {
            return Ok(None);
        }
        let info = file::info(key.clone(), &metadata).map_err(Cause::Io)?;
        let bytes = file::read(file, offset, length).map_err(Cause::Io)?;
        Ok(Some((info, bytes)))
    }

    /// `is_in_time` is asked when only the rename is left, since writing and syncing may take long.
    fn put(&self, key: &Key, bytes: &[u8], is_in_time: impl FnOnce() -> bool) -> Result<(), Cause> {
        let place = self.place(key)?;
        let unfinished = self.prepare()?;
        let write = |new: &mut std::fs::File| io::Write::write_all(new, bytes);
        match file::publish_if(&unfinished, &self.path, &place, write, is_in_time).map_err(Cause::Io)? {
            true => Ok(()),
            false => Err(Cause::Expired),
        }
    }

    fn delete(&self, key: &Key) -> Result<(), Cause> {
        match std::fs::remove_file(self.place(key)?) {
            Ok(()) => Ok(()),
            Err(error) => self.absent::<()>(error).map(drop),
        }
    }

    fn copy(&self, from: &Key, to: &Key) -> Result<bool, Cause> {
        let to = self.place(to)?;
        // A true copy, not a link: its age must be its own. File systems that can share the blocks do.
        let mut source = match std::fs::File::open(self.place(from)?) {
            Ok(source) => source,
            Err(error) => return self.absent::<()>(error).map(|_| false),
        };
        let unfinished = self.prepare()?;
        let done = file::publish(&unfinished, &self.path, &to, |new| io::copy(&mut source, new).map(drop));
        done.map(|()| true).map_err(Cause::Io)
    }
}

fn random_name() -> Result<String, io::Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(data_encoding::HEXLOWER.encode(&bytes))
}

#[async_trait]
impl Bucket for Directory {
    fn describe(&self) -> String {
        format!("file://{}", self.root.path.display())
    }

    async fn check_access(&self) -> Result<(), BucketError> {
        self.run("get access to", "the directory", |root| root.believe_absent()).await
    }

    async fn create(&self) -> Result<bool, BucketError> {
        self.run("create", "the directory", |root| {
            let was_there = root.path.is_dir();
            root.prepare().map(|_| !was_there)
        })
        .await
    }

    /// Files have no headers; what Nix needs of them follows from their names.
    async fn put(&self, key: &Key, body: Body, _headers: Headers) -> Result<(), BucketError> {
        let target = key.clone();
        self.run("put", key.as_str(), move |root| root.put(&target, &body.bytes, || true)).await
    }

    async fn put_before(&self, key: &Key, body: Body, _headers: Headers, within: Duration) -> Result<(), BucketError> {
        let (target, clock) = (key.clone(), self.clock.clone());
        let deadline = clock.boot().saturating_add(within);
        self.run("put", key.as_str(), move |root| root.put(&target, &body.bytes, || clock.boot() < deadline)).await
    }

    async fn get(&self, key: &Key, limit: u64) -> Result<Option<(ObjectInfo, Bytes)>, BucketError> {
        let target = key.clone();
        self.run("get", key.as_str(), move |root| match root.read(&target, 0, limit.saturating_add(1))? {
            Some((_, bytes)) if bytes.len() as u64 > limit => Err(Cause::TooLarge { limit }),
            found => Ok(found),
        })
        .await
    }

    async fn get_range(&self, key: &Key, offset: u64, length: u64) -> Result<Option<Bytes>, BucketError> {
        let target = key.clone();
        let found = self.run("get part of", key.as_str(), move |root| root.read(&target, offset, length)).await?;
        Ok(found.map(|(_, bytes)| bytes))
    }

    async fn head(&self, key: &Key) -> Result<Option<ObjectInfo>, BucketError> {
        let target = key.clone();
        self.run("look for", key.as_str(), move |root| root.head(&target)).await
    }

    async fn list(&self, prefix: &Prefix, after: Option<&str>) -> Result<Page, BucketError> {
        let (wanted, after) = (prefix.as_str().to_owned(), after.map(str::to_owned));
        self.run("list", format!("{:?}", prefix.as_str()), move |root| root.list(&wanted, after.as_deref())).await
    }

    async fn delete(&self, key: &Key) -> Result<(), BucketError> {
        let target = key.clone();
        self.run("delete", key.as_str(), move |root| root.delete(&target)).await
    }

    async fn delete_before(&self, key: &Key, within: Duration) -> Result<(), BucketError> {
        let (target, clock) = (key.clone(), self.clock.clone());
        let deadline = clock.boot().saturating_add(within);
        self.run("delete", key.as_str(), move |root| match clock.boot() < deadline {
            true => root.delete(&target),
            false => Err(Cause::Expired),
        })
        .await
    }

    async fn copy(&self, from: &Key, to: &Key, _headers: Headers) -> Result<bool, BucketError> {
        let (source, target) = (from.clone(), to.clone());
        self.run("copy", format!("{from} to {to}"), move |root| root.copy(&source, &target)).await
    }

    async fn start_upload(&self, key: &Key, _headers: Headers) -> Result<Upload, BucketError> {
        let target = key.clone();
        self.run("start the upload of", key.as_str(), move |root| root.start_upload(&target)).await
    }

    async fn put_part(&self, upload: &Upload, number: u32, body: Body) -> Result<Part, BucketError> {
        let target = upload.clone();
        let object = format!("part {number} of {}", upload.key);
        self.run("upload", object, move |root| root.put_part(&target, number, &body.bytes)).await
    }

    async fn finish_upload(&self, upload: &Upload, parts: &[Part]) -> Result<(), BucketError> {
        let (target, parts) = (upload.clone(), parts.to_vec());
        self.run("finish the upload of", upload.key.as_str(), move |root| root.finish_upload(&target, &parts)).await
    }

    async fn abort_upload(&self, upload: &Upload) -> Result<(), BucketError> {
        let target = upload.clone();
        self.run("abort the upload of", upload.key.as_str(), move |root| root.abort_upload(&target)).await
    }

    async fn list_parts(&self, upload: &Upload) -> Result<Option<Vec<Part>>, BucketError> {
        let target = upload.clone();
        self.run("list the parts of", upload.key.as_str(), move |root| root.list_parts(&target)).await
    }

    async fn list_uploads(&self, prefix: &Prefix) -> Result<Vec<(Upload, SystemTime)>, BucketError> {
        let wanted = prefix.as_str().to_owned();
        self.run("list the uploads below", format!("{wanted:?}"), move |root| root.list_uploads(&wanted)).await
    }

    async fn now(&self) -> Result<SystemTime, BucketError> {
        Ok(self.clock.wall())
    }
}

/// Syncs a directory, so that what was renamed into it stays.
fn sync_directory(path: &Path) -> io::Result<()> {
    std::fs::File::open(path)?.sync_all()
}
