//! `loft watch` and bare `loft`: the service, and what a service owes to the system around it.

use crate::action::{Invocation, PushRequest, Roots};
use crate::allocator;
use crate::config;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::log::Log;
use crate::network::{self, Network};
use crate::output::tell;
use crate::page;
use crate::push;
use crate::supervisor::Supervisor;
use async_trait::async_trait;
use loft::config::Loaded;
use loft::ledger::Ledger;
use loft::metrics;
use loft::prune;
use loft::push::{Interrupt, PushError};
use loft::report::{Event, Report};
use loft::service::{self, Command, Host, Inlets, Lock, Pace, Pruning, Setup};
use loft::store::{self, Store};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

pub fn serve(invocation: &Invocation, dry_run: bool) -> Result<Exit, Failure> {
    allocator::settle();
    let loaded = config::read(invocation)?;
    loaded.bucket()?;
    let (report, doubts) = service::doubts(Arc::new(Log::new(invocation.voice)));
    // The loop waits for it, and a watchdog for the loop.
    let ledger = Ledger::open(&loaded.settings.ledger).patient_for(Duration::from_secs(2));
    if let Some(trouble) = ledger.trouble() {
        tell(&format!("warning: {trouble}\n"));
    }
    // Beside the configured file, where hooks look for the socket, even if the ledger itself had to go elsewhere.
    let file = loaded.settings.ledger.clone();
    let _lock = if dry_run { None } else { Some(Lock::take(&file)?) };
    let ledger = Arc::new(if dry_run { copy_of_places(&ledger) } else { ledger });

    let network = Network::start()?;
    let supervisor = Supervisor::of_environment();
    let program = Program { invocation, dry_run, report: report.clone(), file: file.clone(), ledger, supervisor };
    let ended = network.run(async {
        let setup = program.setup(&loaded).await?;
        report_start(report.as_ref(), &setup);
        let socket = if dry_run { None } else { listen(&file, report.as_ref()) };
        let _metrics = match loaded.settings.service.metrics_address {
            Some(address) if !dry_run => Some(serve_metrics(address, program.ledger.file()).await?),
            _ => None,
        };
        let (commands, receiver) = mpsc::channel(4);
        pass_signals_on(commands)?;
        service::run(setup, &program, Inlets { commands: receiver, socket, doubts }, Pace::default()).await?;
        Ok::<_, Failure>(())
    });
    if !dry_run {
        // Nobody listens there any more; a stale one only costs hooks a failed connection.
        let _ = std::fs::remove_file(service::socket_path(&file));
    }
    network.stop();
    ended.map(|()| Exit::Done)
}

/// The service's way to the configuration and to systemd.
struct Program<'a> {
    invocation: &'a Invocation,
    dry_run: bool,
    report: Arc<dyn Report>,
    /// The ledger's, as configured.
    file: PathBuf,
    ledger: Arc<Ledger>,
    supervisor: Supervisor,
}

impl Program<'_> {
    async fn setup(&self, loaded: &Loaded) -> Result<Setup, Failure> {
        let request = PushRequest {
            roots: Roots::Typed { paths: Vec::new(), stdin: false },
            closure: true,
            pin: None,
            dry_run: self.dry_run,
            json: false,
            use_ledger: true,
        };
        let options = push::options(loaded, &request, Interrupt::default())?;
        let settings = loaded.settings.store.clone();
        // The service goes on meanwhile, and a daemon may take long to answer.
        let opening = tokio::task::spawn_blocking(move || store::open(&settings)).await;
        let store: Arc<dyn Store> = Arc::from(opening.map_err(PushError::Task)??);
        let ends = network::ends(loaded, store, self.ledger.clone(), self.report.clone()).await?;
        let service = &loaded.settings.service;
        Ok(Setup {
            ends,
            options,
            store: loaded.settings.store.clone(),
            scan: service.scan_on_startup,
            populate: service.populate_cache_on_startup && !self.dry_run,
            prune: self.pruning(loaded)?,
        })
    }
}

impl Program<'_> {
    fn pruning(&self, loaded: &Loaded) -> Result<Option<Pruning>, Failure> {
        let settings = &loaded.settings.prune;
        if !settings.enabled || self.dry_run {
            return Ok(None);
        }
        let options = prune::Options {
            retention: settings.retention(),
            max_size: settings.max_size(None),
            nar_grace: prune::NAR_GRACE,
            remove_most: false,
            dry_run: false,
            who: push::who(),
            interrupt: Interrupt::default(),
        };
        Ok(Some(Pruning { options, schedule: settings.schedule, page: page::wanted(loaded)? }))
    }
}

#[async_trait]
impl Host for Program<'_> {
    async fn reload(&self) -> Result<Setup, String> {
        let told = |failure: Failure| failure.in_one_line();
        let loaded = config::read(self.invocation).map_err(told)?;
        if loaded.settings.ledger != self.file {
            let message = "Another local_cache_path needs a restart of the service; it goes on with the old one";
            self.report.event(Event::Warning { message });
        }
        self.setup(&loaded).await.map_err(told)
    }

    fn ready(&self) {
        self.supervisor.ready();
    }

    fn status(&self, text: &str) {
        self.supervisor.status(text);
    }

    fn reloading(&self) {
        self.supervisor.reloading();
    }

    fn stopping(&self) {
        self.supervisor.stopping();
    }

    fn alive(&self) {
        self.supervisor.alive();
    }

    fn alive_every(&self) -> Option<Duration> {
        self.supervisor.alive_every()
    }
}

/// SIGTERM and SIGINT settle and end; a second one ends at once. SIGHUP rereads the configuration.
fn pass_signals_on(commands: mpsc::Sender<Command>) -> Result<(), Failure> {
    let catch = |kind| signal(kind).map_err(|source| SignalError { source });
    let (mut int, mut term, mut hup) =
        (catch(SignalKind::interrupt())?, catch(SignalKind::terminate())?, catch(SignalKind::hangup())?);
    tokio::spawn(async move {
        loop {
            let command = tokio::select! {
                _ = int.recv() => Command::Stop,
                _ = term.recv() => Command::Stop,
                _ = hup.recv() => Command::Reload,
            };
            if commands.send(command).await.is_err() {
                return;
            }
        }
    });
    Ok(())
}

/// Answers Prometheus until it is dropped. A port that is taken ends the start: it is a mistake, or another loft.
async fn serve_metrics(address: SocketAddr, ledger: PathBuf) -> Result<JoinSet<Infallible>, Failure> {
    let listener = TcpListener::bind(address).await.map_err(|source| MetricsError { address, source })?;
    let mut task = JoinSet::new();
    task.spawn(metrics::serve(listener, move || metrics::of_file(&ledger, SystemTime::now())));
    Ok(task)
}

#[derive(Debug, thiserror::Error)]
#[error("Could not listen on {address} (metrics_address)")]
struct MetricsError {
    address: SocketAddr,
    source: std::io::Error,
}

/// A service without a socket still has its queue and the store's database.
fn listen(ledger: &Path, report: &dyn Report) -> Option<UnixListener> {
    match service::listen(ledger) {
        Ok(listener) => Some(listener),
        Err(error) => {
            let socket = service::socket_path(ledger);
            let message = format!("Could not listen for post-build hooks on {}: {error}", socket.display());
            report.event(Event::Warning { message: &message });
            None
        }
    }
}

/// A dry run goes on from where the service is, but moves nothing there.
fn copy_of_places(ledger: &Ledger) -> Ledger {
    let copy = Ledger::in_memory();
    // A ledger that cannot be read: the dry run watches from now on.
    let _ = ledger.watch().copy_places_to(&copy);
    copy
}

fn report_start(report: &dyn Report, setup: &Setup) {
    let what = format!("watching {} for {}", setup.ends.store.describe(), setup.ends.bucket.describe());
    report.event(Event::Watching { what: &what });
}

#[derive(Debug, thiserror::Error)]
#[error("Could not set up signal handling")]
struct SignalError {
    source: std::io::Error,
}
