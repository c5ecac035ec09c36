//! The `loft` program, as its users run it: arguments, a configuration file, an environment.

use super::local_store::LocalStore;
use super::process::{Ended, end_of};
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;

/// One machine's loft: its home, configuration and ledger. A second value is a second machine.
pub struct Loft {
    home: TempDir,
}

/// What a push with `--json` said, and how it ended.
#[derive(Debug)]
pub struct Pushed {
    pub code: Option<i32>,
    pub events: Vec<Value>,
    pub stderr: String,
}

impl Loft {
    pub fn new() -> Self {
        let home = tempfile::Builder::new().prefix("loft-home-").tempdir().expect("temporary folder");
        let loft = Self { home };
        loft.configure("");
        loft
    }

    /// Where the configuration stands; the ledger is beside it.
    pub fn home(&self) -> PathBuf {
        self.home.path().to_owned()
    }

    /// Writes `loft.toml`; `rest` goes below `[loft]`.
    pub fn configure(&self, rest: &str) {
        let ledger = self.home.path().join("ledger.db");
        std::fs::write(self.home.path().join("loft.toml"), format!("[loft]\nlocal_cache_path = {ledger:?}\n{rest}\n"))
            .expect("loft.toml");
    }

    /// Forgets what the bucket has.
    pub fn delete_ledger(&self) {
        for entry in std::fs::read_dir(self.home.path()).expect("home") {
            let path = entry.expect("file").path();
            if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ledger.db")) {
                std::fs::remove_file(path).expect("ledger");
            }
        }
    }

    /// The program with nothing of this machine's environment that could steer it. It runs in its home.
    pub fn command(&self) -> Command {
        let program = std::env::var_os("LOFT_TEST_PROGRAM").unwrap_or_else(|| env!("CARGO_BIN_EXE_loft").into());
        let mut command = Command::new(program);
        command.env_clear().current_dir(self.home.path()).env("HOME", self.home.path());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command
    }

    /// `loft push` of closures, to where and with what `more` says.
    pub fn push(&self, store: &LocalStore, paths: &[&str], more: impl FnOnce(&mut Command)) -> Pushed {
        let mut command = self.push_command(store, paths);
        more(&mut command);
        Pushed::read(end_of(&mut command))
    }

    /// A prune with this machine's ledger.
    pub fn prune_command(&self) -> Command {
        let mut command = self.command();
        command.args(["prune", "--json"]);
        command
    }

    pub fn push_command(&self, store: &LocalStore, paths: &[&str]) -> Command {
        let mut command = self.command();
        command.args(["push", "--json", "--store", &store.url()]).args(paths);
        command
    }
}

impl Pushed {
    pub fn read(ended: Ended) -> Self {
        let events = ended
            .stdout
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("--json printed {line:?}: {error}")));
        Self { code: ended.code, events: events.collect(), stderr: ended.stderr }
    }

    /// All landed.
    #[track_caller]
    pub fn expect_success(self) -> Self {
        assert_eq!(self.code, Some(0), "loft push did not succeed:\n{}\n{:#?}", self.stderr, self.failures());
        assert_eq!(self.number("failed"), 0);
        let parts = ["pushed", "present", "upstream", "ignored", "failed"].map(|part| self.number(part));
        assert_eq!(self.number("considered"), parts.iter().sum::<u64>(), "the summary does not add up: {parts:?}");
        self
    }

    /// A number of the summary.
    #[track_caller]
    pub fn number(&self, name: &str) -> u64 {
        let summary = self.events.iter().find(|event| event["event"] == "finished");
        let summary = summary.unwrap_or_else(|| panic!("no summary; exit {:?}:\n{}", self.code, self.stderr));
        summary[name].as_u64().unwrap_or_else(|| panic!("the summary has no {name}: {summary}"))
    }

    /// Full paths whose fate was `event`, sorted.
    pub fn paths(&self, event: &str) -> Vec<String> {
        let of_event = self.events.iter().filter(|found| found["event"] == event);
        let mut paths: Vec<_> =
            of_event.map(|found| format!("/nix/store/{}", found["path"].as_str().expect("a path"))).collect();
        paths.sort();
        paths
    }

    fn failures(&self) -> Vec<&Value> {
        self.events.iter().filter(|event| event["event"] == "failed" || event["event"] == "warning").collect()
    }
}
