//! The runtime and the ends of a run: made when a verb needs them, not before.

use crate::config;
use crate::failure::Failure;
use crate::output::tell;
use loft::bucket::{self, Requests};
use loft::clock::SystemClock;
use loft::config::Loaded;
use loft::ledger::Ledger;
use loft::prune;
use loft::push::{Ends, Interrupt};
use loft::report::Report;
use loft::store::Store;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};

/// The tokio runtime of one run.
pub struct Network {
    runtime: Runtime,
}

impl Network {
    pub fn start() -> Result<Self, Failure> {
        let runtime = Builder::new_multi_thread().enable_all().thread_name("loft-net").build();
        Ok(Self { runtime: runtime.map_err(|source| RuntimeError { source })? })
    }

    pub fn run<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// The first SIGINT or SIGTERM lets what is in flight settle; a second one ends the program.
    pub fn catch_signals(&self, interrupt: Interrupt) {
        self.runtime.spawn(async move {
            let (Ok(mut int), Ok(mut term)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) else {
                return;
            };
            let mut next = async || {
                tokio::select! {
                    _ = int.recv() => (),
                    _ = term.recv() => (),
                }
            };
            next().await;
            tell("interrupted: what is in flight is settled first; once more to stop at once\n");
            interrupt.raise();
            next().await;
            tell("stopped; others wait for what was announced and not finished until it expires, for up to an hour\n");
            std::process::exit(130);
        });
    }

    /// Everything that a push works with.
    pub fn ends(&self, loaded: &Loaded, store: Arc<dyn Store>, report: Arc<dyn Report>) -> Result<Ends, Failure> {
        self.run(ends(loaded, store, open_ledger(loaded), report))
    }
}

fn open_ledger(loaded: &Loaded) -> Arc<Ledger> {
    let ledger = Ledger::open(&loaded.settings.ledger);
    if let Some(trouble) = ledger.trouble() {
        tell(&format!("warning: {trouble}\n"));
    }
    Arc::new(ledger)
}

/// Everything that a prune works with.
pub async fn prune_ends(loaded: &Loaded, report: Arc<dyn Report>) -> Result<prune::Ends, Failure> {
    let clock = Arc::new(SystemClock);
    let environment = config::environment().collect();
    let bucket = bucket::open(loaded.bucket()?, &environment, clock.clone(), report.clone(), Arc::default()).await?;
    Ok(prune::Ends { bucket, ledger: open_ledger(loaded), clock, report })
}

/// The ends with a ledger that is open already.
pub async fn ends(
    loaded: &Loaded,
    store: Arc<dyn Store>,
    ledger: Arc<Ledger>,
    report: Arc<dyn Report>,
) -> Result<Ends, Failure> {
    let clock = Arc::new(SystemClock);
    let requests = Arc::<Requests>::default();
    let environment = config::environment().collect();
    let bucket = bucket::open(loaded.bucket()?, &environment, clock.clone(), report.clone(), requests.clone()).await?;
    Ok(Ends { store, bucket, ledger, clock, report, requests })
}

impl Network {
    /// Ends the runtime. A thread that still reads a file is not waited for: nobody wants its bytes.
    pub fn stop(self) {
        self.runtime.shutdown_timeout(Duration::from_millis(100));
    }
}

#[derive(Debug, thiserror::Error)]
#[error("Could not start the network threads")]
struct RuntimeError {
    source: std::io::Error,
}
