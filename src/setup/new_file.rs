//! Files that appear whole: a new one never in the place of another, a changed one in one step.

use rustix::fs::{Access, access};
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Makes a file that was not there; [`AlreadyExists`](io::ErrorKind::AlreadyExists) where it was, and then nothing happens.
/// Nobody sees it half-written, and its mode is right from the start, whatever the umask: a key is nobody else's, and
/// a `nix.conf` that users cannot read would stop their Nix.
pub fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    // Cheaper than finding out at the end, and no other error for a folder that cannot be written.
    if std::fs::symlink_metadata(path).is_ok() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let (unfinished, mut file) = unfinished(path, mode)?;
    let exact = file.set_permissions(Permissions::from_mode(mode));
    let written = exact.and_then(|()| file.write_all(bytes)).and_then(|()| file.sync_all());
    let linked = written.and_then(|()| std::fs::hard_link(&unfinished, path));
    let removed = std::fs::remove_file(&unfinished);
    match linked {
        Ok(()) => removed.and_then(|()| sync_parent(path)),
        // File systems without links: then at least it is not overwritten.
        Err(error) if matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied) => {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
            let written = file.write_all(bytes).and_then(|()| file.sync_all());
            // Half a file is worse than none; the first error is the one to tell.
            written.inspect_err(|_| drop(std::fs::remove_file(path)))
        }
        Err(error) => Err(error),
    }
}

/// Puts new contents in the place of a file that is there, with its mode and owner, and leaves a copy of the old
/// contents beside it.
pub fn replace(path: &Path, old: &[u8], new: &[u8]) -> io::Result<PathBuf> {
    let before = std::fs::metadata(path)?;
    let backup = keep_copy(path, old, before.mode() & 0o777)?;
    let (unfinished, mut file) = unfinished(path, 0o600)?;
    let written = (|| {
        // Only root may give files away, and for its own there is nothing to give.
        let made = file.metadata()?;
        if (made.uid(), made.gid()) != (before.uid(), before.gid()) {
            std::os::unix::fs::fchown(&file, Some(before.uid()), Some(before.gid()))?;
        }
        file.set_permissions(before.permissions())?;
        file.write_all(new)?;
        file.sync_all()?;
        std::fs::rename(&unfinished, path)
    })();
    if let Err(error) = written {
        let _ = std::fs::remove_file(&unfinished);
        return Err(error);
    }
    sync_parent(path)?;
    Ok(backup)
}

/// `FILE.before-loft`, then `FILE.before-loft.2` and so on: no earlier copy is lost.
fn keep_copy(path: &Path, bytes: &[u8], mode: u32) -> io::Result<PathBuf> {
    let mut number = 1;
    loop {
        let suffix = if number == 1 { ".before-loft".to_owned() } else { format!(".before-loft.{number}") };
        let copy = beside(path, &suffix);
        match write_new(&copy, bytes, mode) {
            Ok(()) => return Ok(copy),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(error),
        }
    }
}

/// A folder of loft's own, which is made where it is missing; any other must be there.
pub fn own_folder(path: &Path) -> Option<&Path> {
    path.parent().filter(|parent| parent.ends_with("loft"))
}

/// Whether a new file could be made there.
pub fn check_place(path: &Path) -> io::Result<()> {
    let here = Path::new(".");
    let mut folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(here);
    if own_folder(path).is_some() {
        // A relative one begins here.
        folder = folder.ancestors().find(|folder| folder.exists()).unwrap_or(here);
    }
    if !std::fs::metadata(folder)?.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    Ok(access(folder, Access::WRITE_OK | Access::EXEC_OK)?)
}

fn unfinished(path: &Path, mode: u32) -> io::Result<(PathBuf, File)> {
    let name = beside(path, &format!(".loft-{:08x}", getrandom::u32().map_err(io::Error::other)?));
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&name)?;
    Ok((name, file))
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}
