//! A service over a fixture store and a fake bucket, on a thread of its own, with short waits.

use super::world::World;
use async_trait::async_trait;
use loft::clock::SystemClock;
use loft::ledger::Ledger;
use loft::nix::StorePath;
use loft::push::Ends;
use loft::report::{Event, Outcome, Report};
use loft::service::{self, Command, Host, Inlets, Lock, Pace, Pruning, Setup};
use loft::store::Settings;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// For something to come about; a machine under load is slow.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What was told, in order.
#[derive(Default)]
pub struct Told {
    pub lines: Mutex<Vec<String>>,
    pub outcomes: Mutex<BTreeMap<StorePath, Vec<Outcome>>>,
}

impl Report for Told {
    fn event(&self, event: Event<'_>) {
        let line = match &event {
            Event::Settled { path, outcome } => {
                let mut outcomes = self.outcomes.lock().unwrap();
                outcomes.entry((*path).clone()).or_default().push((*outcome).clone());
                return;
            }
            Event::Warning { message } => format!("warning: {message}"),
            Event::Outage { what, error, .. } => format!("outage: {what}: {error}"),
            Event::Recovered { what, .. } => format!("recovered: {what}"),
            Event::Postponed { path, attempt, .. } => format!("postponed: {path}: {attempt}"),
            Event::Noticed { paths } => format!("noticed: {paths}"),
            Event::Scanned => "scanned".to_owned(),
            Event::Pruned { removed, .. } => format!("pruned: {removed}"),
            _ => return,
        };
        self.lines.lock().unwrap().push(line);
    }
}

impl Told {
    pub fn has(&self, text: &str) -> bool {
        self.lines.lock().unwrap().iter().any(|line| line.contains(text))
    }

    pub fn count(&self, text: &str) -> usize {
        self.lines.lock().unwrap().iter().filter(|line| line.contains(text)).count()
    }
}

/// A bench on which services run one after the other, with the same ledger.
pub struct Bench {
    pub world: World,
    pub told: Arc<Told>,
    pub scan: bool,
    pub populate: bool,
    pub prune: Option<Pruning>,
    pub pace: Pace,
    pub alive_every: Option<Duration>,
    pub daemon_timeout: Option<Duration>,
    folder: tempfile::TempDir,
}

/// One that runs.
pub struct Running {
    pub commands: mpsc::Sender<Command>,
    pub host: Arc<Program>,
    thread: Option<JoinHandle<()>>,
}

/// The program around the service.
pub struct Program {
    pub calls: Mutex<Vec<String>>,
    pub reloads: Mutex<Vec<Result<Setup, String>>>,
    alive_every: Option<Duration>,
}

#[async_trait]
impl Host for Program {
    async fn reload(&self) -> Result<Setup, String> {
        self.reloads.lock().unwrap().remove(0)
    }
    fn ready(&self) {
        self.calls.lock().unwrap().push("ready".to_owned());
    }
    fn status(&self, text: &str) {
        self.calls.lock().unwrap().push(format!("status: {text}"));
    }
    fn reloading(&self) {
        self.calls.lock().unwrap().push("reloading".to_owned());
    }
    fn stopping(&self) {
        self.calls.lock().unwrap().push("stopping".to_owned());
    }
    fn alive(&self) {
        self.calls.lock().unwrap().push("alive".to_owned());
    }
    fn alive_every(&self) -> Option<Duration> {
        self.alive_every
    }
}

impl Bench {
    pub fn new() -> Self {
        let pace = Pace {
            first_delay: Duration::from_millis(100),
            longest_for_path: Duration::from_millis(200),
            longest_for_all: Duration::from_millis(200),
            settling: Duration::from_secs(10),
            batch: 2000,
        };
        Self {
            world: World::new(),
            told: Arc::default(),
            scan: false,
            populate: false,
            prune: None,
            pace,
            alive_every: None,
            daemon_timeout: None,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub fn ledger_file(&self) -> PathBuf {
        self.folder.path().join("cache.db")
    }

    pub fn ledger(&self) -> Ledger {
        Ledger::open(&self.ledger_file())
    }

    pub fn setup(&self) -> Setup {
        // Waits are stored as times of the wall clock, which must go on.
        let ends = Ends {
            ledger: Arc::new(self.ledger()),
            clock: Arc::new(SystemClock),
            report: self.told.clone(),
            ..self.world.ends()
        };
        let options = self.world.options.clone();
        let store = Settings { daemon_timeout: self.daemon_timeout, ..self.world.store.settings() };
        Setup { ends, options, store, scan: self.scan, populate: self.populate, prune: self.prune.clone() }
    }

    /// Starts a service and waits until it watches.
    pub fn start(&self) -> Running {
        let (setup, pace, file) = (self.setup(), self.pace, self.ledger_file());
        let host =
            Arc::new(Program { calls: Mutex::default(), reloads: Mutex::default(), alive_every: self.alive_every });
        let (commands, receiver) = mpsc::channel(4);
        let around = host.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(async {
                let _lock = Lock::take(&file).unwrap();
                let (_, doubts) = service::doubts(Arc::new(loft::report::Silent));
                let inlets = Inlets { commands: receiver, socket: Some(service::listen(&file).unwrap()), doubts };
                service::run(setup, around.as_ref(), inlets, pace).await.unwrap();
            });
            runtime.shutdown_timeout(Duration::from_millis(100));
        });
        let running = Running { commands, host, thread: Some(thread) };
        eventually("ready", || running.said("ready"));
        running
    }

    /// Waits until `paths` are visible, all promises kept.
    pub fn lands(&self, paths: &[StorePath]) {
        eventually("the paths land", || {
            let visible = self.world.visible();
            paths.iter().all(|path| visible.contains(path))
        });
    }

    pub fn waiting(&self) -> u64 {
        self.ledger().queue().counts().unwrap().waiting
    }

    /// Waits until nothing is queued.
    pub fn empties(&self) {
        eventually("the queue is empty", || self.waiting() == 0);
    }
}

impl Running {
    pub fn said(&self, call: &str) -> bool {
        self.host.calls.lock().unwrap().iter().any(|said| said.starts_with(call))
    }

    pub fn command(&self, command: Command) {
        self.commands.blocking_send(command).unwrap();
    }

    /// Stops it as SIGTERM does, and waits for its end.
    pub fn stop(mut self) {
        self.command(Command::Stop);
        self.thread.take().unwrap().join().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            for _ in 0..2 {
                let _ = self.commands.blocking_send(Command::Stop);
            }
            let _ = thread.join();
        }
    }
}

pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "it never came about: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
