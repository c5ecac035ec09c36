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
use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};
use tempfile::TempDir;

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

    /// So much passes at once, and Garage's answers say so: it renders their date once a second.
    pub fn pass(&self, by: Duration) {
        self.time.pass(by);
        let since = Instant::now();
        loop {
            let (date, now) =
                (self.bucket().date(), SystemTime::now() + Duration::from_secs(self.time.ahead().unsigned_abs()));
            if now.duration_since(date).is_ok_and(|behind| behind < by / 2) || date > now {
                return;
            }
            assert!(since.elapsed() < Duration::from_secs(10), "Garage still says {date:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
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

/// A program under way; gone with this value. What it says goes to files, so that it never waits for a reader.
pub struct Running {
    child: Child,
    folder: TempDir,
}

impl Running {
    pub fn start(mut command: Command) -> Self {
        let folder = tempfile::tempdir().expect("temporary folder");
        let file = |name| File::create(folder.path().join(name)).expect("a file for output");
        let child = command.stdin(Stdio::null()).stdout(file("stdout")).stderr(file("stderr")).spawn();
        Self { child: child.expect("it starts"), folder }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end.
    pub fn end(&mut self) -> Ended {
        let status = self.child.wait().expect("its end");
        let read = |name| std::fs::read_to_string(self.folder.path().join(name)).expect("what it said");
        Ended { code: status.code(), stdout: read("stdout"), stderr: read("stderr") }
    }

    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal; a process that has ended does not mind.
pub fn send(signal: &str, process: u32) {
    let _ = end_of(Command::new("kill").args([&format!("-{signal}"), &process.to_string()]));
}
