//! The program, a fixture store and a cache in a directory whose files can be made old.

use super::fixture_store::FixtureStore;
use loft::nix::StorePath;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, SystemTime};

pub struct LocalCache {
    pub store: FixtureStore,
    dir: tempfile::TempDir,
}

#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl LocalCache {
    /// `more` are lines of `[loft]`.
    pub fn new(more: &str) -> Self {
        let cache = Self { store: FixtureStore::new(), dir: tempfile::tempdir().unwrap() };
        let toml = format!("[loft]\nlocal_cache_path = \"ledger.db\"\n{more}\n");
        fs::write(cache.path("loft.toml"), toml).unwrap();
        cache
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The cache's directory.
    pub fn at(&self, key: &str) -> PathBuf {
        self.path("cache").join(key)
    }

    /// Without a Nix store: one that is asked for is an error.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loft"));
        command.args(args).current_dir(self.dir.path()).env_clear().stdin(Stdio::null());
        command.env("HOME", self.dir.path()).env("USER", "ann").env("NIX_REMOTE", "unix:///no/socket/here");
        command.env("LOFT_CACHE", format!("file://{}", self.path("cache").display()));
        command
    }

    pub fn with_store(&self, args: &[&str]) -> Command {
        let mut command = self.command(args);
        command.env("NIX_REMOTE", format!("local?root={}", self.store.root().display()));
        command
    }

    #[track_caller]
    pub fn run(&self, code: i32, args: &[&str]) -> Ran {
        ended(code, self.command(args).output().unwrap())
    }

    #[track_caller]
    pub fn run_with_store(&self, code: i32, args: &[&str]) -> Ran {
        ended(code, self.with_store(args).output().unwrap())
    }

    #[track_caller]
    pub fn push(&self, paths: &[&StorePath]) {
        let paths: Vec<String> = paths.iter().map(|path| format!("/nix/store/{path}")).collect();
        let args: Vec<&str> = ["push"].into_iter().chain(paths.iter().map(String::as_str)).collect();
        self.run_with_store(0, &args);
    }

    /// Makes everything in the cache older.
    pub fn pass(&self, time: Duration) {
        for (file, modified) in self.files() {
            fs::File::options().append(true).open(file).unwrap().set_modified(modified - time).unwrap();
        }
    }

    fn files(&self) -> Vec<(PathBuf, SystemTime)> {
        let (mut found, mut folders) = (Vec::new(), vec![self.path("cache")]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let entry = entry.unwrap();
                match entry.file_type().unwrap().is_dir() {
                    true => folders.push(entry.path()),
                    false => found.push((entry.path(), entry.metadata().unwrap().modified().unwrap())),
                }
            }
        }
        found
    }

    /// All keys that begin with `prefix`, in order.
    pub fn keys(&self, prefix: &str) -> Vec<String> {
        let cache = self.path("cache");
        let key = |file: &Path| file.strip_prefix(&cache).unwrap().to_str().unwrap().to_owned();
        let mut keys: Vec<String> = self.files().iter().map(|(file, _)| key(file)).collect();
        keys.retain(|key| key.starts_with(prefix));
        keys.sort();
        keys
    }

    pub fn has(&self, path: &StorePath) -> bool {
        self.at(&format!("{}.narinfo", path.hash_part())).exists()
    }
}

#[track_caller]
pub fn ended(code: i32, output: Output) -> Ran {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let ran = Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) };
    assert_eq!(ran.code, Some(code), "{ran:?}");
    assert!(!ran.stderr.contains("panicked") && !ran.stderr.contains("has a bug"), "{ran:?}");
    ran
}

impl Ran {
    #[track_caller]
    pub fn tells(&self, parts: &[&str]) -> &Self {
        parts.iter().for_each(|part| assert!(self.stderr.contains(part), "{part:?} is missing: {}", self.stderr));
        self
    }

    #[track_caller]
    pub fn prints(&self, parts: &[&str]) -> &Self {
        parts.iter().for_each(|part| assert!(self.stdout.contains(part), "{part:?} is missing: {}", self.stdout));
        self
    }

    /// What was printed, an object a line.
    #[track_caller]
    pub fn json(&self) -> Vec<serde_json::Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The objects of this event.
    #[track_caller]
    pub fn events(&self, event: &str) -> Vec<serde_json::Value> {
        self.json().into_iter().filter(|object| object["event"] == event).collect()
    }
}
