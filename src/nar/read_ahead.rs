//! Looks ahead in a walk, and has the files that come next brought into the page cache.
//!
//! Reading many small files from a cold disk is waiting, one file at a time. A few scouts that open the files ahead
//! and advise the kernel to read them keep the disk busy instead. They only warm the cache: what goes into the NAR,
//! and what is an error, is decided by the one thread that reads, so a scout that fails or lags behind changes nothing.
//!
//! What is cached already gains nothing, and for 50 000 such files the scouts would cost half as much as reading. So
//! a few of the files ahead are tried first, and scouts are called only where one of them is not in the cache.
//!
//! Bounded three ways: [`LOOK_AHEAD`] steps of the walk, [`ADVISED_LEN`] of each file, and [`SCOUTS`] threads, which
//! are only started once a tree has shown [`MANY_FILES`]; most store paths have fewer.

use super::error::PackError;
use super::tree_walk::{Kind, Step, TreeWalk};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Scope};

/// Steps of the walk that are known before they are taken.
const LOOK_AHEAD: usize = 512;
/// Of each file; the rest of a large one the kernel reads ahead by itself. With `LOOK_AHEAD` at most 64 MiB.
const ADVISED_LEN: u64 = 128 * 1024;
/// More made no difference with 50 000 files on a virtual disk.
const SCOUTS: usize = 6;
/// Regular files within `LOOK_AHEAD`.
const MANY_FILES: usize = 48;
/// Of the files that come into sight at once, how many are tried.
const SAMPLES: usize = 3;
/// Files that a scout takes at once.
const BATCH: usize = 16;

/// The steps of a walk.
pub(super) struct Steps<'scope, 'env> {
    walk: TreeWalk,
    ahead: VecDeque<Step>,
    at_end: bool,
    scope: &'scope Scope<'scope, 'env>,
    orders: &'env Orders,
    scouting: bool,
    is_cold: fn(&Path) -> bool,
}

impl<'scope, 'env> Steps<'scope, 'env> {
    /// Gives `consume` the steps of the tree at `root`; the scouts end with it.
    pub fn walk<T>(
        root: &Path,
        consume: impl FnOnce(&mut Steps<'_, '_>) -> Result<T, PackError>,
    ) -> Result<T, PackError> {
        Self::walk_where(is_cold, root, consume)
    }

    fn walk_where<T>(
        is_cold: fn(&Path) -> bool,
        root: &Path,
        consume: impl FnOnce(&mut Steps<'_, '_>) -> Result<T, PackError>,
    ) -> Result<T, PackError> {
        let orders = Orders::default();
        thread::scope(|scope| {
            let _end = EndOnDrop(&orders);
            consume(&mut Steps {
                walk: TreeWalk::new(root),
                ahead: VecDeque::new(),
                at_end: false,
                scope,
                orders: &orders,
                scouting: false,
                is_cold,
            })
        })
    }

    /// The next step, or nothing at the end of the tree.
    pub fn next(&mut self) -> Result<Option<Step>, PackError> {
        if self.ahead.len() < LOOK_AHEAD / 2 && !self.at_end {
            self.look_ahead()?;
        }
        Ok(self.ahead.pop_front())
    }

    fn look_ahead(&mut self) -> Result<(), PackError> {
        let known = self.ahead.len();
        while self.ahead.len() < LOOK_AHEAD && !self.at_end {
            match self.walk.next()? {
                Some(step) => self.ahead.push_back(step),
                None => self.at_end = true,
            }
        }
        let files: Vec<_> = self.ahead.iter().skip(known).filter_map(file).collect();
        let many = self.scouting || files.len() >= MANY_FILES;
        if !many || !files.iter().step_by(files.len().div_ceil(SAMPLES).max(1)).any(|path| (self.is_cold)(path)) {
            return Ok(());
        }
        // What scouts did not come to of the steps before is being read by now.
        self.orders.replace(known, files.into_iter().map(Path::to_owned).collect());
        if !self.scouting {
            self.scouting = true;
            for _ in 0..SCOUTS {
                let orders = self.orders;
                // Without threads to spare it merely goes slower.
                let _ = thread::Builder::new().name("read-ahead".into()).spawn_scoped(self.scope, || orders.scout());
            }
        }
        Ok(())
    }
}

fn file(step: &Step) -> Option<&Path> {
    match step {
        Step::Enter(entry) if entry.kind == Kind::Regular => Some(&entry.path),
        _ => None,
    }
}

/// What is to be scouted.
#[derive(Default)]
struct Orders {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    files: VecDeque<PathBuf>,
    ended: bool,
}

impl Orders {
    /// Adds `files` behind at most `keep` of those that wait.
    fn replace(&self, keep: usize, files: Vec<PathBuf>) {
        let mut queue = self.lock();
        let stale = queue.files.len().saturating_sub(keep);
        queue.files.drain(..stale);
        queue.files.extend(files);
        drop(queue);
        self.changed.notify_all();
    }

    /// Advises file after file until the end.
    fn scout(&self) {
        loop {
            let mut queue = self.lock();
            while queue.files.is_empty() && !queue.ended {
                queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
            if queue.ended {
                return;
            }
            let some = queue.files.len().min(BATCH);
            let batch: Vec<_> = queue.files.drain(..some).collect();
            drop(queue);
            batch.iter().for_each(|path| advise(path));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets the scouts go however the reading ended.
struct EndOnDrop<'a>(&'a Orders);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.lock().ended = true;
        self.0.changed.notify_all();
    }
}

/// Whether reading the file's beginning would wait for the disk; true where that cannot be told.
#[cfg(target_os = "linux")]
fn is_cold(path: &Path) -> bool {
    use rustix::io::{ReadWriteFlags, preadv2};
    let Ok(file) = open(path) else { return false };
    preadv2(&file, &mut [std::io::IoSliceMut::new(&mut [0])], 0, ReadWriteFlags::NOWAIT).is_err()
}

#[cfg(target_os = "linux")]
fn advise(path: &Path) {
    use rustix::fs::{Advice, fadvise};
    if let Ok(file) = open(path) {
        let _ = fadvise(&file, 0, std::num::NonZeroU64::new(ADVISED_LEN), Advice::WillNeed);
    }
}

#[cfg(target_os = "linux")]
fn open(path: &Path) -> rustix::io::Result<std::os::fd::OwnedFd> {
    rustix::fs::open(path, super::tree_walk::OPEN, rustix::fs::Mode::empty())
}

/// Other systems have no such calls.
#[cfg(not(target_os = "linux"))]
fn is_cold(_path: &Path) -> bool {
    false
}

#[cfg(not(target_os = "linux"))]
fn advise(_path: &Path) {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// `directories` of `files` each.
    fn tree(directories: usize, files: usize) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for d in 0..directories {
            fs::create_dir(dir.path().join(d.to_string())).unwrap();
            for f in 0..files {
                fs::write(dir.path().join(format!("{d}/{f}")), b"x").unwrap();
            }
        }
        dir
    }

    /// The steps as text, and whether scouts were called.
    fn steps(root: &Path, is_cold: fn(&Path) -> bool) -> (Vec<String>, bool) {
        let mut seen = Vec::new();
        let scouting = Steps::walk_where(is_cold, root, |steps| {
            while let Some(step) = steps.next()? {
                seen.push(format!("{step:?}"));
                assert!(steps.ahead.len() <= LOOK_AHEAD);
            }
            Ok(steps.scouting)
        });
        (seen, scouting.unwrap())
    }

    #[test]
    fn scouts_do_not_change_the_walk() {
        let dir = tree(20, 100);
        let mut walk = TreeWalk::new(dir.path());
        let mut plain = Vec::new();
        while let Some(step) = walk.next().unwrap() {
            plain.push(format!("{step:?}"));
        }
        assert_eq!(plain.len(), 2 * 21 + 2000);
        assert_eq!(steps(dir.path(), |_| true), (plain.clone(), true));
        assert_eq!(steps(dir.path(), |_| false), (plain, false), "no threads for what is cached");
    }

    #[test]
    fn few_files_call_no_scouts() {
        assert!(!steps(tree(1, MANY_FILES - 1).path(), |_| true).1);
        assert!(steps(tree(1, MANY_FILES).path(), |_| true).1);
    }

    #[test]
    fn an_error_ends_the_scouts() {
        let dir = tree(10, 200);
        let result: Result<(), _> = Steps::walk_where(
            |_| true,
            dir.path(),
            |steps| {
                steps.next()?;
                assert!(steps.scouting);
                Err(PackError::Vanished { path: "x".into() })
            },
        );
        // Had they not ended, the scope would not have, either.
        assert!(matches!(result, Err(PackError::Vanished { .. })));
    }

    #[test]
    fn what_waits_is_bounded_however_slow_the_scouts_are() {
        let orders = Orders::default();
        for round in 0..100 {
            orders.replace(LOOK_AHEAD / 2, (0..LOOK_AHEAD / 2).map(|n| format!("{round}/{n}").into()).collect());
            assert!(orders.lock().files.len() <= LOOK_AHEAD);
        }
        assert_eq!(orders.lock().files.back().unwrap(), Path::new("99/255"));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn advised_files_come_into_the_cache() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, vec![1; 1 << 16]).unwrap();
        fs::File::open(&path).unwrap().sync_all().unwrap();
        rustix::fs::fadvise(open(&path).unwrap(), 0, None, rustix::fs::Advice::DontNeed).unwrap();
        // In a file system that lives in memory nothing is ever cold, or nothing can be told.
        if is_cold(&path) {
            advise(&path);
            let warm = (0..1000).any(|_| {
                thread::sleep(std::time::Duration::from_millis(10));
                !is_cold(&path)
            });
            let tells = fs::read(&path).is_ok() && !is_cold(&path);
            assert!(warm || !tells);
        }
        advise(&dir.path().join("nothing"));
        assert!(!is_cold(&dir.path().join("nothing")));
    }
}
