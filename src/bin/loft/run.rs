//! `loft run`: a command, everything that becomes valid while it runs, and the command's own exit status.

use crate::action::{Invocation, PushRequest, Roots, Voice};
use crate::config;
use crate::exit::Exit;
use crate::failure::{Failure, printable};
use crate::network::Network;
use crate::output::tell;
use crate::push::{self, Trouble};
use crate::signals::Signals;
use crate::terminal::Terminal;
use loft::follow::{Followed, follow};
use loft::nix::StorePath;
use loft::pin::{self, PinError};
use loft::push::{Ends, Interrupt, Lessee, Options, Pin, PushError};
use loft::quantity::paths;
use loft::report::{Event, Report, Summary};
use loft::store::{self, Store, StoreError};
use loft::watch::{Place, look};
use std::ffi::OsString;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::process::Command;
use tokio::sync::oneshot;
use tokio::task::{LocalSet, spawn_local};

pub fn run(invocation: &Invocation, command: &[OsString], pin: Option<&Pin>) -> Result<Exit, Failure> {
    // A mistake is told before the command starts: afterwards hours of building may be lost.
    let loaded = config::read(invocation)?;
    loaded.bucket()?;
    let interrupt = Interrupt::default();
    let options = push::options(&loaded, &whatever_comes(), interrupt.clone())?;
    let store: Arc<dyn Store> = Arc::from(store::open(&loaded.settings.store).map_err(no_store)?);
    let talk = Arc::new(Talk::new(invocation.voice));
    let network = Network::start()?;
    let ends = network.ends(&loaded, store, talk.clone())?;
    let trouble = Trouble::of(&ends.ledger);
    let place = look(ends.store.as_ref(), &Place::Nowhere).map_err(PushError::Store)?.place;
    let result = network.run(LocalSet::new().run_until(beside(command, &ends, options, place, talk, pin)));
    trouble.tell_new(&ends.ledger);
    network.stop();
    result
}

/// Runs `command` while what becomes valid is pushed.
async fn beside(
    command: &[OsString],
    ends: &Ends,
    options: Options,
    place: Place,
    talk: Arc<Talk>,
    pin: Option<&Pin>,
) -> Result<Exit, Failure> {
    let Some((program, arguments)) = command.split_first() else { return Ok(Exit::Done) };
    let mut signals = Signals::catch()?;
    // Should loft itself break down, nothing is left running.
    let mut child = match Command::new(program).args(arguments).kill_on_drop(true).spawn() {
        Ok(child) => child,
        Err(source) => {
            let exit = Exit::not_started(&source);
            let program = program.to_string_lossy().into_owned();
            tell(&Failure::from(StartError { program, source }).render());
            return Ok(exit);
        }
    };
    let (over, ended) = oneshot::channel();
    let interrupt = options.interrupt.clone();
    let (who, lasting) = (options.who.clone(), interrupt.clone());
    let (bucket, clock, report) = (ends.bucket.clone(), ends.clock.clone(), ends.report.clone());
    let lessee = Lessee { bucket, clock, report, who, interrupt: lasting };
    let ends = ends.clone();
    // In a task of its own: not even a bug in it may touch the command.
    let following = spawn_local(async move {
        follow(&ends, &options, place, async {
            let _ = ended.await;
        })
        .await
    });
    let ended = || {
        talk.speak();
        let _ = over.send(());
    };
    let failure = Exit::failure_of(signals.pass_on(&mut child, ended).await?);
    let stopping = tokio::spawn(async move {
        signals.stop().await;
        tell("interrupted: what is in flight is settled first; once more to stop at once\n");
        interrupt.raise();
        signals.stop().await;
        std::process::exit(failure.unwrap_or(Exit::Interrupted).code().into());
    });
    let followed = following.await;
    let own = match followed {
        Ok(mut followed) => {
            let landed = std::mem::take(&mut followed.landed);
            let own = end(followed);
            match pin {
                // A build that failed is no release.
                Some(pin) if failure.is_none() && own == Exit::Done => keep(&lessee, pin, landed, &talk).await,
                _ => own,
            }
        }
        // The panic hook has told it.
        Err(_) => Exit::Stopped,
    };
    stopping.abort();
    Ok(failure.unwrap_or(own))
}

/// All that became valid is one pin, whatever batches it went in.
async fn keep(lessee: &Lessee, pin: &Pin, landed: Vec<StorePath>, talk: &Talk) -> Exit {
    if landed.is_empty() {
        tell(&format!("warning: Nothing is pinned as {}: nothing became valid that is in the cache\n", pin.name));
        return Exit::Done;
    }
    let count = landed.len() as u64;
    match pin::add(lessee, &pin.name, landed, pin.keep).await {
        Ok(()) => {
            if talk.tells_all {
                tell(&format!("Pinned {} as {}.\n", paths(count), pin.name));
            }
            Exit::Done
        }
        Err(PinError::Lease(PushError::Interrupted)) => Exit::Interrupted,
        Err(error) => {
            tell(
                &Failure::from(error)
                    .hint(format!("all was pushed; pin it with: loft pin add {} PATH", pin.name))
                    .render(),
            );
            Exit::Unfinished
        }
    }
}

/// Tells what the summary has not.
fn end(followed: Followed) -> Exit {
    let Followed { summary, error, left, .. } = followed;
    let Some(error) = error else { return push::exit(&summary) };
    let missing = match left.len() as u64 + summary.failed + summary.interrupted {
        0 => String::new(),
        count => format!("; {} that became valid did not land", paths(count)),
    };
    if let PushError::Interrupted = error {
        tell(&format!("interrupted: {} pushed{missing}\n", paths(summary.pushed)));
        return Exit::Interrupted;
    }
    let failure = Failure::from(error);
    let failure = match missing.is_empty() {
        true => failure,
        false => failure
            .hint(format!("{} pushed{missing}: push the result once more with `loft push`", paths(summary.pushed))),
    };
    tell(&failure.render());
    Exit::Stopped
}

fn no_store(error: StoreError) -> Failure {
    match error {
        StoreError::Unreachable { .. } => {
            Failure::from(error).hint("where Nix has never been used yet, make its store with: nix-store --init")
        }
        error => error.into(),
    }
}

/// A push of what nobody has named yet.
fn whatever_comes() -> PushRequest {
    PushRequest {
        roots: Roots::Typed { paths: Vec::new(), stdin: false },
        closure: true,
        pin: None,
        dry_run: false,
        json: false,
        use_ledger: true,
    }
}

/// Warnings alone while the command has the word, everything after it.
struct Talk {
    quiet: Terminal,
    full: Terminal,
    tells_all: bool,
    /// The command has ended.
    may_speak: AtomicBool,
    speaks: AtomicBool,
}

impl Talk {
    fn new(voice: Voice) -> Self {
        Self {
            quiet: Terminal::new(Voice { quiet: !voice.debug, ..voice }, false),
            full: Terminal::new(voice, false),
            tells_all: !voice.quiet,
            may_speak: AtomicBool::new(false),
            speaks: AtomicBool::new(false),
        }
    }

    fn speak(&self) {
        self.may_speak.store(true, Ordering::SeqCst);
    }
}

impl Report for Talk {
    fn event(&self, event: Event<'_>) {
        // In the middle of a push, bars would not know of what is ahead.
        if matches!(event, Event::Planned(_)) && self.may_speak.load(Ordering::SeqCst) {
            self.speaks.store(true, Ordering::SeqCst);
        }
        match event {
            Event::Finished(Summary { considered: 0, .. }) => {
                if self.tells_all {
                    tell("Nothing to push: nothing became valid in the store meanwhile\n");
                }
            }
            event if self.speaks.load(Ordering::SeqCst) => self.full.event(event),
            event => self.quiet.event(event),
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("Could not start {}", printable(program))]
struct StartError {
    program: String,
    source: io::Error,
}
