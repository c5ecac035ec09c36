//! A clock that tests set forward, for Garage, curl, Nix and loft alike: Debian's libfaketime, read anew at each look.
//!
//! It is the wall clock alone. The clock that counts from boot, by which loft measures its time limits, goes on as it is:
//! let time pass only while nothing is under way, or mean it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;

pub const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Clones show the same time.
#[derive(Debug, Clone)]
pub struct Time(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    library: PathBuf,
    folder: TempDir,
    ahead: Mutex<i64>,
}

impl Time {
    /// Shows the right time at first.
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("loft-time-").tempdir().expect("temporary folder");
        let time = Self(Arc::new(Shared { library: find(), folder, ahead: Mutex::new(0) }));
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
        // Whoever looks sees the old offset or the new one, never half of one.
        let new = self.0.folder.path().join("new");
        std::fs::write(&new, format!("{ahead:+}\n")).expect("offset");
        std::fs::rename(new, self.offset()).expect("offset");
    }

    pub fn ahead(&self) -> i64 {
        *self.0.ahead.lock().expect("not poisoned")
    }

    /// What is started by `command` lives in this time.
    pub fn apply(&self, command: &mut Command) {
        command.env("LD_PRELOAD", &self.0.library).env("FAKETIME_TIMESTAMP_FILE", self.offset());
        // Each look reads the file; timers and the dates of files stay as they are.
        for setting in ["FAKETIME_NO_CACHE", "FAKETIME_DONT_FAKE_MONOTONIC", "NO_FAKE_STAT"] {
            command.env(setting, "1");
        }
    }

    fn offset(&self) -> PathBuf {
        self.0.folder.path().join("offset")
    }
}

fn find() -> PathBuf {
    if let Some(named) = std::env::var_os("LOFT_TEST_FAKETIME") {
        return named.into();
    }
    let name = "faketime/libfaketime.so.1";
    let folders = ["/usr/lib", "/usr/lib64", "/usr/local/lib"].into_iter().flat_map(|lib| {
        let triplets = std::fs::read_dir(lib).into_iter().flatten().flatten().map(|entry| entry.path());
        std::iter::once(Path::new(lib).to_owned()).chain(triplets).collect::<Vec<_>>()
    });
    let mut found = folders.map(|folder| folder.join(name)).filter(|library| library.exists());
    found.next().expect("No libfaketime at hand: apt-get install faketime, or name it in LOFT_TEST_FAKETIME")
}
