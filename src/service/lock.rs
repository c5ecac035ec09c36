//! One service for one ledger: two would push everything twice and take each other's queue.

use rustix::fs::OFlags;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Whoever else may write beside the ledger must not lead us elsewhere, nor hold us up with a FIFO.
const NO_LINK: i32 = (OFlags::NOFOLLOW.bits() | OFlags::NONBLOCK.bits()) as i32;

/// Held as long as it lives; the kernel lets go of it when the process ends, in whatever way.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error(
        "Another loft service works with this ledger already (process {holder}, lock {}): stop it, or give this one \
         another local_cache_path", file.display()
    )]
    Held { file: PathBuf, holder: String },
    #[error("Could not lock {}", file.display())]
    File { file: PathBuf, source: io::Error },
}

impl Lock {
    /// Takes the lock that stands beside `ledger`.
    pub fn take(ledger: &Path) -> Result<Self, LockError> {
        let file = beside(ledger, ".lock");
        let failed = |source| LockError::File { file: file.clone(), source };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(NO_LINK);
        let mut opened = options.open(&file).map_err(failed)?;
        match try_for_a_moment(&opened) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = Read::take(&mut opened, 20).read_to_string(&mut holder);
                return Err(LockError::Held { file, holder: holder.trim().to_owned() });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        // For whoever is refused; on a full disk they are refused without it.
        let _ = opened.set_len(0);
        let _ = opened.rewind();
        let _ = writeln!(opened, "{}", std::process::id());
        Ok(Self { _file: opened })
    }

    /// Whether a service holds the lock beside `ledger` now.
    pub fn is_held(ledger: &Path) -> bool {
        let opened = OpenOptions::new().read(true).custom_flags(NO_LINK).open(beside(ledger, ".lock"));
        let Ok(file) = opened else { return false };
        matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
    }
}

/// Whoever asks whether the lock is held takes it for a moment.
fn try_for_a_moment(file: &File) -> Result<(), TryLockError> {
    for _ in 0..5 {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(20)),
            other => return other,
        }
    }
    file.try_lock()
}

/// A file that stands beside the ledger's.
pub(super) fn beside(ledger: &Path, suffix: &str) -> PathBuf {
    let mut name = ledger.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_refuse_each_other_and_the_next_one_may() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = dir.path().join("cache.db");
        assert!(!Lock::is_held(&ledger));
        let first = Lock::take(&ledger).unwrap();
        assert!(Lock::is_held(&ledger));
        let told = Lock::take(&ledger).unwrap_err().to_string();
        assert!(told.contains(&std::process::id().to_string()) && told.contains("cache.db.lock"), "{told}");
        drop(first);
        assert!(!Lock::is_held(&ledger));
        Lock::take(&ledger).unwrap();
    }
}
