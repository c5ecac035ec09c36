//! The service: pushes what becomes valid, for as long as it runs and since it ran last.
//!
//! One loop over one closed set of events (`event.rs`). What was noticed is queued durably in the
//! same transaction that moves the cursor on, and leaves the queue only by landing or by leaving the
//! store; so a crash at any moment costs at most a look at what has landed already. One push is
//! under way at a time; what is noticed meanwhile is the next one.

mod attend;
mod doubts;
mod event;
mod fates;
mod lock;
mod looking;
mod outage;
mod pace;
mod pruning;
mod quiet;
mod reloading;
mod settling;
mod socket;
mod starting;
mod status;
mod stopping;
mod timetable;
mod work;

pub use doubts::{Doubts, doubts};
pub use event::Command;
pub use lock::{Lock, LockError};
pub use pace::Pace;
pub use pruning::{Pruning, next_prune};
pub use socket::path as socket_path;

use crate::ledger::{BucketIdentity, LedgerError};
use crate::nix::StorePath;
use crate::push::{Ends, Interrupt, Options};
use crate::store::{Location, Store, StoreError};
use crate::watch::{Place, Wake};
use async_trait::async_trait;
use attend::{Alive, attended};
use event::Event;
use outage::{Need, Outages};
use quiet::Quiet;
use std::collections::{BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::net::UnixListener;
use tokio::sync::{Notify, mpsc};
use tokio::task::{AbortHandle, LocalSet};
use tokio::time::{Instant, sleep_until};
use work::Work;

/// What the configuration makes of the service; made anew when that is reread.
pub struct Setup {
    /// Its `store` is the first one; the service opens others as it needs them.
    pub ends: Ends,
    pub options: Options,
    pub store: crate::store::Settings,
    /// Queue the whole store once.
    pub scan: bool,
    /// Fill the ledger from a listing first.
    pub populate: bool,
    /// Prune by a schedule.
    pub prune: Option<Pruning>,
}

/// The program around the service, and what supervises that.
#[async_trait]
pub trait Host: Send + Sync {
    /// Reads the configuration again; the error says why the old one stays.
    async fn reload(&self) -> Result<Setup, String>;
    /// The service watches: whatever becomes valid from now on is seen.
    fn ready(&self);
    /// What it does, for people.
    fn status(&self, text: &str);
    fn reloading(&self);
    fn stopping(&self);
    /// A sign of life; asked for this often, if at all.
    fn alive(&self);
    fn alive_every(&self) -> Option<Duration>;
}

/// What goes on beside the loop and talks to it.
pub struct Inlets {
    pub commands: mpsc::Receiver<Command>,
    /// For post-build hooks.
    pub socket: Option<UnixListener>,
    /// From [`doubts()`].
    pub doubts: Doubts,
}

/// Why the service ended although nobody wanted it to.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    #[error("Could not read the Nix store")]
    Store(#[from] StoreError),
    #[error("The service keeps its place and its queue in the ledger")]
    Ledger(#[from] LedgerError),
    #[error(
        "The ledger {} was damaged, deleted or replaced while the service ran, and with it the queue. Start the service \
         again: after damage it looks at the whole store", file.display()
    )]
    LostLedger { file: PathBuf },
}

/// Listens for post-build hooks beside the ledger, whose lock the caller holds.
pub fn listen(ledger: &std::path::Path) -> std::io::Result<UnixListener> {
    socket::listen(ledger)
}

/// Runs until it is told to stop.
pub async fn run(setup: Setup, host: &dyn Host, inlets: Inlets, pace: Pace) -> Result<(), ServiceError> {
    // A push is a task beside the loop, on the loop's own thread: its future does not travel.
    LocalSet::new().run_until(turn(setup, host, inlets, pace)).await
}

async fn turn(setup: Setup, host: &dyn Host, inlets: Inlets, pace: Pace) -> Result<(), ServiceError> {
    let (mut service, mut sources) = Service::start(setup, host, inlets, pace)?;
    let mut alive = Alive::new(host);
    // The first look comes before anybody is told that nothing will be missed.
    let mut event = Event::StoreChanged;
    let mut is_ready = false;
    loop {
        if matches!(event, Event::Command(Command::Stop)) {
            break;
        }
        let Some(()) = attended(&mut alive, &mut sources, service.handle(event)).await else { break };
        // From a place on nothing is missed.
        if !is_ready && service.place != Place::Nowhere {
            is_ready = true;
            host.ready();
        }
        let Some(()) = attended(&mut alive, &mut sources, service.start_work()).await else { break };
        if service.setup.ends.ledger.is_lost() {
            return Err(ServiceError::LostLedger { file: service.setup.ends.ledger.file() });
        }
        service.tell_status();
        event = service.next(&mut sources, &mut alive).await;
    }
    service.stop(&mut sources).await;
    Ok(())
}

/// What the loop knows. Its parts are in the files of the events that change them.
struct Service<'h> {
    setup: Setup,
    host: &'h dyn Host,
    pace: Pace,
    /// Names the store in the ledger.
    store_key: String,
    /// The one that is looked at. It holds no temporary roots, and stays open: where a connection to the daemon
    /// is what makes the database readable, a new one for each look would be a change to look at.
    watched: Option<Arc<dyn Store>>,
    quiet: Quiet,
    /// Open while something is queued or under way: its connection holds the temporary roots.
    store: Option<Arc<dyn Store>>,
    place: Place,
    /// The ledger knows a place; not so while the first one could not be written.
    place_is_saved: bool,
    outages: Outages,
    /// Work that goes before the queue.
    first: VecDeque<Work>,
    /// Noticed, but the ledger has not taken them yet.
    unsaved: BTreeSet<StorePath>,
    /// Were unsaved and have landed; the place in the ledger still lies before them.
    landed: BTreeSet<StorePath>,
    /// Asked for again since the work under way began.
    meanwhile: BTreeSet<StorePath>,
    under_way: Option<UnderWay>,
    /// Whose first scan is being worked off.
    scanning: Option<BucketIdentity>,
    status: String,
    wake: Arc<Notify>,
    waking: Helper,
    /// A look asks a daemon for every valid path.
    lists_all: bool,
    warned: fates::Warned,
    ended: mpsc::Sender<work::Ended>,
    /// When the next path of the queue is due.
    due_at: Option<Instant>,
    /// When the next prune is due, by the wall clock.
    prune_at: Option<SystemTime>,
}

struct UnderWay {
    interrupt: Interrupt,
    abort: AbortHandle,
    paths: usize,
    began: SystemTime,
    is_prune: bool,
}

/// Where events come from.
struct Sources {
    commands: mpsc::Receiver<Command>,
    asked: mpsc::Receiver<socket::Asked>,
    doubts: Doubts,
    ended: mpsc::Receiver<work::Ended>,
    /// Wanted while something else was being done.
    reload: bool,
    _listening: Option<Helper>,
}

/// A task that ends with its owner.
struct Helper(AbortHandle);

impl Drop for Helper {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl<'h> Service<'h> {
    fn start(setup: Setup, host: &'h dyn Host, inlets: Inlets, pace: Pace) -> Result<(Self, Sources), ServiceError> {
        let location = setup.ends.store.location().clone();
        let store_key = looking::key(&location);
        let place = looking::known_place(&setup, &store_key)?;
        Outages::forget_old(&setup.ends.ledger);

        let lists_all = matches!(place, Place::Inventory(_));
        let wake = Arc::new(Notify::new());
        let waking = waking(&location, lists_all, wake.clone());
        let (ask, asked) = mpsc::channel(64);
        let listening = inlets.socket.map(|listener| Helper(tokio::spawn(socket::serve(listener, ask)).abort_handle()));
        let (ended, endings) = mpsc::channel(1);
        let mut first = VecDeque::from([Work::Greet]);
        if setup.populate {
            first.push_back(Work::Populate);
        }
        if setup.scan {
            first.push_back(Work::Scan);
        }
        let mut service = Self {
            watched: None,
            quiet: Quiet::default(),
            store: None,
            store_key,
            place_is_saved: place != Place::Nowhere,
            place,
            outages: Outages::default(),
            first,
            unsaved: BTreeSet::new(),
            landed: BTreeSet::new(),
            meanwhile: BTreeSet::new(),
            under_way: None,
            scanning: None,
            status: String::new(),
            wake,
            waking,
            lists_all,
            warned: fates::Warned::default(),
            ended,
            // What an earlier run has left.
            due_at: Some(Instant::now()),
            prune_at: None,
            setup,
            host,
            pace,
        };
        service.schedule_prune();
        let Inlets { commands, doubts, .. } = inlets;
        Ok((service, Sources { commands, asked, doubts, ended: endings, reload: false, _listening: listening }))
    }

    /// Waits for news in the way that suits the store.
    fn watch(&mut self, lists_all: bool) {
        self.lists_all = lists_all;
        self.waking = waking(self.setup.ends.store.location(), lists_all, self.wake.clone());
    }

    async fn handle(&mut self, event: Event) {
        match event {
            Event::StoreChanged => self.look().await,
            Event::Asked(asked) => self.take_over(asked).await,
            Event::Doubt(error) => self.doubt(&error),
            Event::WorkEnded(ended) => {
                self.settle(*ended).await;
                self.renew_store().await;
            }
            Event::Command(Command::Reload) => self.reload().await,
            Event::TimeIsUp | Event::Command(Command::Stop) => {}
        }
    }

    /// Waits for what happens next.
    async fn next(&mut self, sources: &mut Sources, alive: &mut Alive<'_>) -> Event {
        if std::mem::take(&mut sources.reload) {
            return Event::Command(Command::Reload);
        }
        let next_attempt = self.next_attempt();
        let time_is_up = async {
            match next_attempt {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = alive.wanted() => {
                alive.tell();
                Event::TimeIsUp
            }
            command = sources.commands.recv() => Event::Command(command.unwrap_or(Command::Stop)),
            Some(ended) = sources.ended.recv() => Event::WorkEnded(Box::new(ended)),
            Some(asked) = sources.asked.recv() => Event::Asked(asked),
            () = self.wake.notified() => Event::StoreChanged,
            Some(error) = sources.doubts.recv() => Event::Doubt(error),
            () = time_is_up => Event::TimeIsUp,
        }
    }

    fn doubt(&mut self, error: &str) {
        // The push that had it has ended well or badly since, and says so itself.
        if self.under_way.is_none() {
            return;
        }
        let now = self.setup.ends.clock.wall();
        self.outages.doubted(Need::Bucket, error, &self.setup.ends.ledger, now);
    }
}

/// Notifies `wake` whenever it is time to look, and at once.
fn waking(location: &Location, lists_all: bool, wake: Arc<Notify>) -> Helper {
    let mut waking = Wake::new(location, lists_all);
    wake.notify_one();
    let task = tokio::spawn(async move {
        loop {
            waking.next().await;
            wake.notify_one();
        }
    });
    Helper(task.abort_handle())
}
