//! Temporary roots without a daemon, as Nix itself holds them.
//!
//! A process lists what it needs in `temproots/<number>` below the state directory and keeps a lock on that
//! file. The collector takes a file that it can lock for stale, and reads the others. The number is
//! the process id; it has to be one, but nothing looks for that process.
//!
//! - A shared lock is enough, and with Nix up to 2.4, whose collector takes a shared lock to read, needed.
//! - A root counts for collections that start later. So it is written under a shared lock on `gc.lock`, which
//!   a collector holds exclusively; where one is running already, it is told through `gc-socket` (Nix 2.5 on).
//!
//! Source: `addTempRoot` and `findTempRoots` in Nix's `gc.cc`, 2.3 to 2.34.

use crate::nix::{StoreDir, StorePath};
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Process ids on Linux stay below 2^22, so adding this cannot hit another process's file.
const BEYOND_PROCESS_IDS: u32 = 1 << 22;
/// Stores open at once in this process, and containers that share the store but not process ids.
const MOST_FILES: u32 = 256;
/// A collector that is starting or ending has no socket for a moment; Nix itself waits 0.1 s each time.
const COLLECTOR_ATTEMPTS: u32 = 50;
const COLLECTOR_PAUSE: Duration = Duration::from_millis(100);
/// The collector answers when it is through with deleting one path.
const COLLECTOR_TIMEOUT: Duration = Duration::from_secs(120);

/// Roots of this process in one state directory; they end with this value.
pub struct TempRoots {
    state_dir: PathBuf,
    dir: StoreDir,
    held: Mutex<Option<RootsFile>>,
}

struct RootsFile {
    path: PathBuf,
    file: File,
    roots: BTreeSet<StorePath>,
}

impl TempRoots {
    pub fn new(state_dir: PathBuf, dir: StoreDir) -> Self {
        Self { state_dir, dir, held: Mutex::new(None) }
    }

    /// Keeps `path` and its closure from being collected. The error says what stood in the way.
    pub fn add(&self, path: &StorePath) -> io::Result<()> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let roots = match &mut *held {
            Some(roots) => roots,
            None => held.insert(RootsFile::create(&self.state_dir)?),
        };
        if roots.roots.contains(path) {
            return Ok(());
        }
        let full = self.dir.join(path);
        // Released at the end of this function.
        let _no_collection = self.wait_for_collector(&full)?;
        roots.file.write_all(format!("{full}\0").as_bytes())?;
        roots.roots.insert(path.clone());
        Ok(())
    }

    /// Either no collection runs while the result lives, or the running one knows of `root`.
    fn wait_for_collector(&self, root: &str) -> io::Result<File> {
        let lock = self.state_dir.join("gc.lock");
        let lock = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(lock)?;
        for attempt in 0..COLLECTOR_ATTEMPTS {
            if attempt > 0 {
                std::thread::sleep(COLLECTOR_PAUSE);
            }
            match lock.try_lock_shared() {
                Ok(()) => return Ok(lock),
                Err(TryLockError::Error(error)) => return Err(error),
                Err(TryLockError::WouldBlock) => {}
            }
            match tell_collector(&self.state_dir.join("gc-socket/socket"), root) {
                Ok(()) => return Ok(lock),
                Err(error) if is_between_collections(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::new(io::ErrorKind::WouldBlock, "a garbage collection is running"))
    }
}

impl RootsFile {
    fn create(state_dir: &Path) -> io::Result<Self> {
        let folder = state_dir.join("temproots");
        match std::fs::create_dir(&folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        for number in 0..MOST_FILES {
            let path = folder.join((std::process::id() + number * BEYOND_PROCESS_IDS).to_string());
            match OpenOptions::new().read(true).append(true).create_new(true).mode(0o600).open(&path) {
                Ok(file) => {
                    // The collector may have found the file before it was locked: then it has marked it as
                    // stale, by writing into it, and deleted it.
                    if file.try_lock_shared().is_ok() && file.metadata()?.len() == 0 && path.exists() {
                        return Ok(Self { path, file, roots: BTreeSet::new() });
                    }
                }
                // Another store value of this process, or left behind by a process of this id.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::new(io::ErrorKind::AlreadyExists, "every name for a file of temporary roots is taken"))
    }
}

impl Drop for RootsFile {
    fn drop(&mut self) {
        // Where this fails, the next collection removes the file, since its lock is gone.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn tell_collector(socket: &Path, root: &str) -> io::Result<()> {
    let mut collector = UnixStream::connect(socket)?;
    collector.set_read_timeout(Some(COLLECTOR_TIMEOUT))?;
    collector.set_write_timeout(Some(COLLECTOR_TIMEOUT))?;
    collector.write_all(format!("{root}\n").as_bytes())?;
    let mut answer = [0];
    collector.read_exact(&mut answer)?;
    match &answer {
        b"1" => Ok(()),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "the running garbage collection gave a strange answer")),
    }
}

/// It has ended meanwhile, or has not begun to listen.
fn is_between_collections(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset, NotFound, UnexpectedEof};
    matches!(error.kind(), NotFound | ConnectionRefused | ConnectionReset | BrokenPipe | UnexpectedEof)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead as _, BufReader};
    use std::os::unix::net::UnixListener;

    fn path(name: &str) -> StorePath {
        StorePath::parse(&format!("{}-{name}", "0".repeat(32))).unwrap()
    }

    fn files(state: &Path) -> Vec<PathBuf> {
        std::fs::read_dir(state.join("temproots")).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    #[test]
    fn roots_are_listed_and_locked_until_dropped() {
        let state = tempfile::tempdir().unwrap();
        let roots = TempRoots::new(state.path().to_owned(), StoreDir::default());
        let other = TempRoots::new(state.path().to_owned(), StoreDir::default());
        roots.add(&path("a")).unwrap();
        roots.add(&path("b")).unwrap();
        roots.add(&path("a")).unwrap();
        other.add(&path("c")).unwrap();
        let found = files(state.path());
        assert_eq!(found.len(), 2);
        for file in &found {
            // What the collector does to find stale files.
            assert!(File::open(file).unwrap().try_lock().is_err());
        }
        let own = state.path().join(format!("temproots/{}", std::process::id()));
        let (a, b) = ("0".repeat(32) + "-a", "0".repeat(32) + "-b");
        assert_eq!(std::fs::read_to_string(own).unwrap(), format!("/nix/store/{a}\0/nix/store/{b}\0"));
        drop((roots, other));
        assert!(files(state.path()).is_empty());
    }

    #[test]
    fn a_running_collector_is_told() {
        let state = tempfile::tempdir().unwrap();
        std::fs::create_dir(state.path().join("gc-socket")).unwrap();
        let collector = File::create(state.path().join("gc.lock")).unwrap();
        collector.lock().unwrap();
        let listener = UnixListener::bind(state.path().join("gc-socket/socket")).unwrap();
        let told = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut line = String::new();
            BufReader::new(stream.try_clone().unwrap()).read_line(&mut line).unwrap();
            stream.write_all(b"1").unwrap();
            line
        });
        let roots = TempRoots::new(state.path().to_owned(), StoreDir::default());
        roots.add(&path("a")).unwrap();
        assert_eq!(told.join().unwrap(), format!("/nix/store/{}-a\n", "0".repeat(32)));
        assert_eq!(files(state.path()).len(), 1);
    }

    #[test]
    fn a_state_directory_that_is_missing_is_an_error() {
        let roots = TempRoots::new(PathBuf::from("/nonexistent/state"), StoreDir::default());
        assert!(roots.add(&path("a")).is_err());
    }
}
