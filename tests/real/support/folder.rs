//! A folder as the whole system of a program: chroot.

use super::fixture_store::FixtureStore;
use super::process::stdout_of;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

pub struct Folder {
    root: TempDir,
}

impl Folder {
    pub fn empty() -> Self {
        assert_eq!(std::fs::metadata("/proc/self").expect("proc").uid(), 0, "this test uses chroot: run it as root");
        Self { root: tempfile::Builder::new().prefix("loft-folder-").tempdir().expect("temporary folder") }
    }

    /// Where something is, seen from outside.
    pub fn at(&self, path: &str) -> PathBuf {
        self.root.path().join(path.trim_start_matches('/'))
    }

    pub fn put(&self, file: &Path, path: &str) {
        std::fs::copy(file, self.at(path)).unwrap_or_else(|error| panic!("{} to {path}: {error}", file.display()));
    }

    /// A command in the folder, with nothing of this machine's environment.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("chroot");
        command.arg(self.root.path()).arg(program).env_clear();
        command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }

    /// A Nix store of three paths at /nix; gives the one that refers to the others.
    pub fn add_store(&self) -> String {
        let store = FixtureStore::new();
        let library = store.add("lib-1.0").file("lib/words", "hello\n".repeat(50_000)).finish();
        let tool = store.add("tool-1.0").executable("bin/tool", "#!/bin/sh\n").reference(&library).finish();
        let root = store.add("env-1.0").symlink("bin", store.logical(&tool)).reference(&tool).finish();
        stdout_of(Command::new("cp").arg("-a").arg(store.root().join("nix")).arg(self.at("/")));
        store.logical(&root)
    }
}
