//! The loop never waits unheard: while a step waits for a ledger, a store or a daemon, signs of life and the wish to
//! stop go on.

use super::event::Command;
use super::{Host, Sources};
use std::future::Future;
use std::pin::pin;
use tokio::time::{Instant, sleep_until};

/// Carries a step out, with signs of life while it waits for a ledger, a store or a daemon. Nothing when the service is
/// to stop instead: what the step was to write is then written whole or not at all, and found again by the next run.
pub async fn attended<T>(alive: &mut Alive<'_>, sources: &mut Sources, step: impl Future<Output = T>) -> Option<T> {
    let mut step = pin!(step);
    loop {
        tokio::select! {
            biased;
            done = &mut step => return Some(done),
            command = sources.commands.recv() => match command {
                Some(Command::Reload) => sources.reload = true,
                Some(Command::Stop) | None => return None,
            },
            () = alive.wanted() => alive.tell(),
        }
    }
}

/// Signs of life, where a watchdog wants them.
pub struct Alive<'h> {
    host: &'h dyn Host,
    at: Option<Instant>,
}

impl<'h> Alive<'h> {
    pub fn new(host: &'h dyn Host) -> Self {
        Self { host, at: host.alive_every().map(|_| Instant::now()) }
    }

    /// Returns when it is time for the next one.
    pub async fn wanted(&self) {
        match self.at {
            Some(at) => sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    pub fn tell(&mut self) {
        self.host.alive();
        self.at = self.host.alive_every().map(|every| Instant::now() + every);
    }
}
