//! A clock that tests set forward, for Garage, curl, Nix and loft alike: a library of 50 lines (`time.c`) that stands
//! before the C library's clock.
//!
//! It is not libfaketime: to several threads that look at once, that (0.9.10) now and then tells the true time, one look
//! in 500 with four threads; then a server takes what has expired, or a program signs with a date of days ago.
//!
//! It is the wall clock alone. The clock that counts from boot, by which loft measures its time limits, goes on as it is:
//! let time pass only while nothing is under way, or mean it.

use super::process::stdout_of;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;

const LIBRARY: &str = "time.so";
const OFFSET: &str = "ahead";
pub const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Clones show the same time.
#[derive(Debug, Clone)]
pub struct Time(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    folder: TempDir,
    /// Mapped by whoever lives in this time.
    offset: File,
    ahead: Mutex<i64>,
}

impl Time {
    /// Shows the right time at first.
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("loft-time-").tempdir().expect("temporary folder");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real/support/time.c");
        stdout_of(
            Command::new("cc").args(["-shared", "-fPIC", "-O2", "-o"]).arg(folder.path().join(LIBRARY)).arg(source),
        );
        let offset = OpenOptions::new().write(true).create_new(true).open(folder.path().join(OFFSET)).expect("offset");
        let time = Self(Arc::new(Shared { folder, offset, ahead: Mutex::new(0) }));
        time.set(0);
        time
    }

    /// So much passes at once for all who look at it.
    pub fn pass(&self, by: Duration) {
        let ahead = *self.0.ahead.lock().expect("not poisoned");
        self.set(ahead + i64::try_from(by.as_secs()).expect("not that long"));
    }

    /// Seconds between it and the right time.
    pub fn set(&self, ahead: i64) {
        *self.0.ahead.lock().expect("not poisoned") = ahead;
        // Whoever looks sees the old number or the new one, never half of one: it is aligned, and written at once.
        self.0.offset.write_all_at(&ahead.to_ne_bytes(), 0).expect("offset");
    }

    pub fn ahead(&self) -> i64 {
        *self.0.ahead.lock().expect("not poisoned")
    }

    /// What is started by `command` lives in this time.
    pub fn apply(&self, command: &mut Command) {
        command.env("LD_PRELOAD", self.at(LIBRARY)).env("LOFT_TEST_TIME_AHEAD", self.at(OFFSET));
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.folder.path().join(name)
    }
}
