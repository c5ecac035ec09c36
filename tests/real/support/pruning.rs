//! A cache that is pruned: a Garage whose time passes as a test likes, machines that push to it, and pruners.

use super::audit::Cache;
use super::fixture_store::FixtureStore;
use super::garage::Garage;
use super::local_store::LocalStore;
use super::loft::{Loft, Pushed};
use super::nix::{KeyPair, Nix};
use super::process::{Ended, end_of};
use super::s3::Bucket;
use super::time::Time;
use loft::nix::StorePath;
use serde_json::Value;
use std::collections::BTreeSet;
use std::process::Command;

/// Days that a root stays.
pub const RETENTION: &str = "30";

pub struct Pruned {
    pub time: Time,
    pub garage: Garage,
    pub key: KeyPair,
}

impl Pruned {
    pub fn new() -> Self {
        let time = Time::new();
        Self { garage: Garage::start_at(&time), key: Nix::installed().generate_key("prune-1"), time }
    }

    pub fn bucket(&self) -> &Bucket {
        &self.garage.bucket
    }

    pub fn cache(&self) -> Cache<'_> {
        Cache::Bucket(&self.garage.bucket)
    }

    #[track_caller]
    pub fn expect_sound(&self, when: &str) {
        assert_eq!(self.cache().violations(&BTreeSet::new()), Vec::<String>::new(), "{when}");
    }

    /// Every visible path, sorted.
    pub fn visible(&self) -> Vec<String> {
        self.cache().narinfos().into_keys().collect()
    }

    /// `loft push`, through `endpoint`.
    pub fn push_command(&self, loft: &Loft, store: &LocalStore, roots: &[&str], endpoint: &str) -> Command {
        let mut command = loft.push_command(store, roots);
        command.args(["--to", &self.url(endpoint), "--signing-key"]).arg(self.key.secret_file());
        self.live_here(&mut command);
        command
    }

    #[track_caller]
    pub fn push(&self, loft: &Loft, store: &LocalStore, roots: &[&str]) -> Pushed {
        Pushed::read(end_of(&mut self.push_command(loft, store, roots, &self.bucket().endpoint))).expect_success()
    }

    pub fn prune_command(&self, loft: &Loft, endpoint: &str, more: &[&str]) -> Command {
        let mut command = loft.prune_command();
        command.args(["--to", &self.url(endpoint)]).args(more);
        self.live_here(&mut command);
        command
    }

    /// What a prune that ends well says.
    #[track_caller]
    pub fn prune(&self, loft: &Loft) -> Value {
        let ended = self.try_prune(loft, &["--retention", RETENTION, "--remove-most"]);
        assert_eq!(ended.code, Some(0), "{}\n{}", ended.stdout, ended.stderr);
        summary(&ended)
    }

    pub fn try_prune(&self, loft: &Loft, more: &[&str]) -> Ended {
        end_of(&mut self.prune_command(loft, &self.bucket().endpoint, more))
    }

    /// The bucket as loft takes it, reached at `endpoint`.
    pub fn url(&self, endpoint: &str) -> String {
        self.bucket().url().replace(&self.bucket().endpoint, endpoint)
    }

    fn live_here(&self, command: &mut Command) {
        command.envs(self.bucket().environment());
        self.time.apply(command);
    }
}

/// What a prune has said at its end.
#[track_caller]
pub fn summary(ended: &Ended) -> Value {
    let last = ended.stdout.lines().last().unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {:?} {}", ended.stdout, ended.stderr))
}

/// Paths with real files, in layers: each refers to some of those before it, the last to all that nothing refers to.
pub fn add_closure(store: &FixtureStore, name: &str, below: &[StorePath], count: usize) -> Vec<StorePath> {
    let mut paths: Vec<StorePath> = Vec::new();
    for n in 0..count {
        let text: String = (0..300).map(|i| char::from(b'a' + ((i * i * 31 + n * i) % 13) as u8)).collect();
        let mut references: BTreeSet<&StorePath> = below.iter().skip(n % 3).step_by(3).collect();
        match n + 1 == count {
            true => references.extend(&paths),
            false => references.extend(paths.iter().rev().step_by(2).take(3)),
        }
        let text = format!("{name} {n} {text}");
        let path = store.add(&format!("{name}-{n}")).file("f", text).references(references).finish();
        paths.push(path);
    }
    paths
}
