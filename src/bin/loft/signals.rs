//! Signals on their way to the command that `loft run` runs.

use crate::failure::Failure;
use rustix::process::{Pid, Signal, getpgrp, kill_process};
use rustix::termios::tcgetpgrp;
use std::fs::File;
use std::future::poll_fn;
use std::process::ExitStatus;
use std::task::Poll;
use std::time::Duration;
use tokio::process::Child;
use tokio::signal::unix;

/// What is passed on. The first four also mean "stop" once the command has ended.
const CAUGHT: [Signal; 6] = [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT, Signal::USR1, Signal::USR2];

/// What ended the command may reach us a moment after the news of its end.
const STRAGGLERS: Duration = Duration::from_millis(50);

pub struct Signals {
    streams: Vec<(Signal, unix::Signal)>,
}

impl Signals {
    /// Catches them from now on. What is ignored already (`nohup`, jobs in the background) stays so, for the
    /// command as well.
    pub fn catch() -> Result<Self, Failure> {
        let ignored = ignored();
        let mut streams = Vec::new();
        for signal in CAUGHT.into_iter().filter(|signal| ignored & (1 << (signal.as_raw() - 1)) == 0) {
            let stream = unix::signal(unix::SignalKind::from_raw(signal.as_raw()));
            streams.push((signal, stream.map_err(|source| CatchError { source })?));
        }
        Ok(Self { streams })
    }

    async fn next(&mut self) -> Signal {
        poll_fn(|context| {
            let mut streams = self.streams.iter_mut();
            let came = streams.find_map(|(signal, stream)| match stream.poll_recv(context) {
                Poll::Ready(Some(())) => Some(*signal),
                Poll::Ready(None) | Poll::Pending => None,
            });
            came.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Passes signals on to `child` until it has ended; `ended` is called at once.
    pub async fn pass_on(&mut self, child: &mut Child, ended: impl FnOnce()) -> Result<ExitStatus, Failure> {
        let status = loop {
            tokio::select! {
                biased;
                signal = self.next() => pass(child, signal),
                status = child.wait() => break status.map_err(|source| WaitError { source })?,
            }
        };
        ended();
        // Not taken for the wish to stop the last push.
        let _ = tokio::time::timeout(STRAGGLERS, async {
            loop {
                self.next().await;
            }
        })
        .await;
        Ok(status)
    }

    /// Returns once somebody wants loft itself to stop.
    pub async fn stop(&mut self) {
        while matches!(self.next().await, Signal::USR1 | Signal::USR2) {}
    }
}

fn pass(child: &Child, signal: Signal) {
    // A terminal tells the command itself; twice would be once too often for many a program.
    let is_typed = matches!(signal, Signal::INT | Signal::QUIT) && is_in_foreground();
    let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    if let (Some(pid), false) = (pid, is_typed) {
        // One that has just ended needs none.
        let _ = kill_process(pid, signal);
    }
}

/// Whether Ctrl-C reaches us and, being in our process group, the command.
fn is_in_foreground() -> bool {
    File::open("/dev/tty").ok().and_then(|terminal| tcgetpgrp(terminal).ok()) == Some(getpgrp())
}

/// One bit for each signal that was ignored when loft started; elsewhere than on Linux nobody says.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

#[derive(Debug, thiserror::Error)]
#[error("Could not catch signals")]
struct CatchError {
    source: std::io::Error,
}

#[derive(Debug, thiserror::Error)]
#[error("Could not wait for the command, which was killed")]
struct WaitError {
    source: std::io::Error,
}
