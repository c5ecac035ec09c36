//! The file system objects of a tree in the order of its NAR.
//!
//! An explicit stack of sorted listings: a deep tree costs heap, and the length of a path bounds how deep it can be.
//! Every name is looked up without following symlinks, so nothing outside the tree is ever read.

use super::error::PackError;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// One step of the walk.
#[derive(Debug)]
pub(super) enum Step {
    Enter(Entry),
    /// The end of the innermost directory entered.
    Leave,
}

/// A file system object as its directory listed it.
#[derive(Debug)]
pub(super) struct Entry {
    pub path: PathBuf,
    /// The name in the NAR; `None` for the root, which has none.
    pub name: Option<Box<[u8]>>,
    pub kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Regular,
    Directory,
    Symlink,
}

pub(super) struct TreeWalk {
    root: Option<PathBuf>,
    /// Entered, not yet listed.
    next_directory: Option<PathBuf>,
    stack: Vec<Listing>,
}

struct Listing {
    directory: PathBuf,
    entries: std::vec::IntoIter<Listed>,
}

struct Listed {
    /// In the NAR.
    name: Box<[u8]>,
    /// On disk, where that differs.
    on_disk: Option<Box<[u8]>>,
    kind: FileType,
}

impl TreeWalk {
    pub fn new(root: &Path) -> Self {
        // Taken apart and put together: a final slash would follow a symlink.
        Self { root: Some(root.components().collect()), next_directory: None, stack: Vec::new() }
    }

    /// The next step, or nothing at the end of the tree.
    pub fn next(&mut self) -> Result<Option<Step>, PackError> {
        if let Some(path) = self.root.take() {
            let kind = kind_of(&path)?;
            return Ok(Some(self.enter(path, None, kind)?));
        }
        if let Some(directory) = self.next_directory.take() {
            let entries = list(&directory)?.into_iter();
            self.stack.push(Listing { directory, entries });
        }
        let Some(listing) = self.stack.last_mut() else { return Ok(None) };
        let Some(listed) = listing.entries.next() else {
            self.stack.pop();
            return Ok(Some(Step::Leave));
        };
        let path = listing.directory.join(OsStr::from_bytes(listed.on_disk.as_ref().unwrap_or(&listed.name)));
        // Some file systems do not say the type in their listings.
        let kind = if listed.kind == FileType::Unknown { kind_of(&path)? } else { listed.kind };
        Ok(Some(self.enter(path, Some(listed.name), kind)?))
    }

    fn enter(&mut self, path: PathBuf, name: Option<Box<[u8]>>, kind: FileType) -> Result<Step, PackError> {
        let kind = match kind {
            FileType::RegularFile => Kind::Regular,
            FileType::Symlink => Kind::Symlink,
            FileType::Directory => {
                self.next_directory = Some(path.clone());
                Kind::Directory
            }
            other => return Err(PackError::UnsupportedType { path, kind: describe(other) }),
        };
        Ok(Step::Enter(Entry { path, name, kind }))
    }
}

/// Opens without following a symlink, and without waiting for a writer should it have become a fifo.
pub(super) const OPEN: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

fn kind_of(path: &Path) -> Result<FileType, PackError> {
    let stat = rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW).map_err(|error| read_error(path, error))?;
    Ok(FileType::from_raw_mode(stat.st_mode))
}

/// The directory's entries, sorted by the bytes of their names.
fn list(path: &Path) -> Result<Vec<Listed>, PackError> {
    let failed = |error| read_error(path, error);
    let directory = rustix::fs::open(path, OPEN | OFlags::DIRECTORY, Mode::empty()).map_err(failed)?;
    let mut entries = Vec::new();
    for entry in Dir::new(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            let plain = without_case_hack(name);
            let on_disk = (plain != name).then(|| name.into());
            entries.push(Listed { name: plain.into(), on_disk, kind: entry.file_type() });
        }
    }
    entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    if let Some(same) = entries.windows(2).find(|pair| pair[0].name == pair[1].name) {
        let name = same[1].on_disk.as_ref().unwrap_or(&same[1].name);
        return Err(PackError::Collision { path: path.join(OsStr::from_bytes(name)) });
    }
    Ok(entries)
}

/// On macOS Nix marks names that differ from another only by case; the mark is not part of the NAR. Elsewhere it is a
/// name like any other.
fn without_case_hack(name: &[u8]) -> &[u8] {
    const MARK: &[u8] = b"~nix~case~hack~";
    if !cfg!(target_os = "macos") {
        return name;
    }
    match name.windows(MARK.len()).position(|window| window == MARK) {
        Some(at) => &name[..at],
        None => name,
    }
}

fn describe(kind: FileType) -> &'static str {
    match kind {
        FileType::Fifo => "a fifo",
        FileType::Socket => "a socket",
        FileType::CharacterDevice => "a character device",
        FileType::BlockDevice => "a block device",
        _ => "of an unknown type",
    }
}

/// What a failed system call on something that was listed tells about it.
pub(super) fn read_error(path: &Path, error: impl Into<io::Error>) -> PackError {
    let source = error.into();
    let path = path.to_owned();
    match Errno::from_io_error(&source) {
        Some(Errno::NOENT) => PackError::Vanished { path },
        Some(Errno::NOTDIR | Errno::LOOP | Errno::INVAL | Errno::NXIO) => {
            PackError::Changed { path, change: "it became another type of file" }
        }
        Some(Errno::ACCESS | Errno::PERM) => PackError::Unreadable { path, source },
        _ => PackError::Read { path, source },
    }
}
