//! Single files: written aside, synced, renamed.

use super::{Key, ObjectInfo, random_name, sync_directory};
use bytes::Bytes;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// A process that still writes a file is not silent for so long.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);

/// Makes `place` appear whole: `write` fills a new file below `unfinished`, which is then synced and
/// renamed, and the names on the way from `root` are synced.
pub(super) fn publish(
    unfinished: &Path,
    root: &Path,
    place: &Path,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    publish_if(unfinished, root, place, write, || true).map(drop)
}

/// As `publish`; `is_allowed` is asked last, when only the rename is left. `false`: it said no, and nothing appeared.
pub(super) fn publish_if(
    unfinished: &Path,
    root: &Path,
    place: &Path,
    write: impl FnOnce(&mut File) -> io::Result<()>,
    is_allowed: impl FnOnce() -> bool,
) -> io::Result<bool> {
    let temporary = Temporary(unfinished.join(format!("put-{}", random_name()?)));
    // World-readable as far as the umask allows: other users and web servers read a cache.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&temporary.0)?;
    write(&mut file)?;
    file.sync_all()?;
    drop(file);
    let parent = place.parent().unwrap_or(root);
    let new_directories = missing(root, parent);
    std::fs::create_dir_all(parent)?;
    if !is_allowed() {
        return Ok(false);
    }
    std::fs::rename(&temporary.0, place)?;
    sync_directory(parent)?;
    // A directory that was just made is a name in the one above it.
    for directory in new_directories {
        sync_directory(directory.parent().unwrap_or(root))?;
    }
    Ok(true)
}

/// Those of `below` and its parents, down from `root`, that do not exist.
fn missing<'a>(root: &Path, below: &'a Path) -> Vec<&'a Path> {
    below.ancestors().take_while(|directory| *directory != root && !directory.exists()).collect()
}

/// Removed unless it was renamed.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // Usually gone by now; what cannot be removed is a leftover for later.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Removes what dead processes left behind (uploads have an owner and stay). Best effort.
pub(super) fn remove_leftovers(unfinished: &Path, now: SystemTime) {
    let is_abandoned = |path: &Path| {
        let modified = std::fs::metadata(path).and_then(|metadata| metadata.modified());
        // The two times are the file system's and ours; a day is more than they differ.
        modified.is_ok_and(|modified| now.duration_since(modified).is_ok_and(|age| age > ABANDONED))
    };
    for entry in std::fs::read_dir(unfinished).into_iter().flatten().flatten() {
        if entry.file_name().as_encoded_bytes().starts_with(b"put-") && is_abandoned(&entry.path()) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

pub(super) fn read(mut file: File, offset: u64, length: u64) -> io::Result<Bytes> {
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes)?;
    Ok(bytes.into())
}

pub(super) fn info(key: Key, metadata: &Metadata) -> io::Result<ObjectInfo> {
    Ok(ObjectInfo { key, size: metadata.len(), modified: metadata.modified()?, etag: etag(metadata) })
}

/// Another file, or one that was written again, has another.
pub(super) fn etag(metadata: &Metadata) -> String {
    format!("{:x}-{:x}-{:x}.{:x}", metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec())
}
