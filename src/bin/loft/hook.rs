//! `loft hook`: hands what Nix has just built to the service, or to its queue.
//!
//! Nix waits for the hook after every build and takes a failure of the hook for one of the build. So
//! whatever goes wrong is told on stderr, and the exit status is 0 within a second. What is lost that
//! way is not lost: the service sees the registration as well.

use crate::action::Invocation;
use crate::config;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::tell;
use loft::clock::{Clock as _, SystemClock};
use loft::ledger::Ledger;
use loft::nix::StorePath;
use loft::quantity::paths as count;
use loft::service::socket_path;
use loft::watch::is_pushed;
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::channel;
use std::time::Duration;

/// All of it together; a build is not held up for longer whatever hangs.
const PATIENCE: Duration = Duration::from_secs(1);
/// For the service's answer; it is there in a millisecond or two, unless the service hangs.
const ANSWER: Duration = Duration::from_millis(300);

/// Whether the command line is a hook's, also where it cannot be understood otherwise.
pub fn is_asked_for() -> bool {
    std::env::var_os("OUT_PATHS").is_some() && std::env::args_os().skip(1).any(|argument| argument == "hook")
}

pub fn hook(invocation: &Invocation) -> Exit {
    let (done, waiting) = channel();
    let config = invocation.config.clone();
    let flags = invocation.flags.clone();
    let voice = invocation.voice;
    // A thread that hangs in a system call ends with the process.
    std::thread::spawn(move || {
        let invocation = Invocation { action: crate::action::Action::Hook, config, flags, voice };
        let _ = done.send(queue(&invocation));
    });
    match waiting.recv_timeout(PATIENCE) {
        Ok(Ok(())) => {}
        Ok(Err(failure)) => tell(&failure.hint(NOT_LOST).render()),
        Err(_) => tell(&Failure::new("The hook could not queue what was built in time").hint(NOT_LOST).render()),
    }
    Exit::Done
}

const NOT_LOST: &str = "the build is fine; a service that reads the store's database sees the paths by itself";

fn queue(invocation: &Invocation) -> Result<(), Failure> {
    let variable = std::env::var("OUT_PATHS").map_err(|source| VariableError { source })?;
    let paths = variable.split_whitespace().map(out_path).collect::<Result<Vec<_>, _>>()?;
    let named = paths.len();
    let paths: Vec<StorePath> = paths.into_iter().filter(is_pushed).collect();
    let debug = |text: String| {
        if invocation.voice.debug {
            tell(&text);
        }
    };
    if paths.is_empty() {
        debug(match named {
            // Nix 2.8.0 names none.
            0 => "OUT_PATHS is empty: nothing to queue\n".to_owned(),
            named => {
                format!("OUT_PATHS names {} of kinds that are not pushed: nothing to queue\n", count(named as u64))
            }
        });
        return Ok(());
    }
    let ledger = config::read(invocation)?.settings.ledger;
    let handed = count(paths.len() as u64);
    match hand_over(&socket_path(&ledger), &paths) {
        Ok(()) => debug(format!("{handed} handed to the service\n")),
        Err(error) => {
            let opened = Ledger::open(&ledger).brief();
            opened.queue().add(&paths, SystemClock.wall())?;
            debug(format!("{handed} queued in {}, for no service listens: {error}\n", ledger.display()));
        }
    }
    Ok(())
}

/// The store directory is the daemon's business: the base name says all.
fn out_path(text: &str) -> Result<StorePath, OutPathError> {
    let base = text.rsplit('/').next().unwrap_or_default();
    StorePath::parse(base).map_err(|source| OutPathError { text: text.to_owned(), source })
}

/// To a service that listens; an error where none does, or it does not say that the paths are safe.
fn hand_over(socket: &Path, paths: &[StorePath]) -> std::io::Result<()> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_write_timeout(Some(ANSWER))?;
    stream.set_read_timeout(Some(ANSWER))?;
    let lines: String = paths.iter().flat_map(|path| [path.as_str(), "\n"]).collect();
    stream.write_all(lines.as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.take(100).read_to_string(&mut answer)?;
    match answer.starts_with("queued ") {
        true => Ok(()),
        false => Err(std::io::Error::other("the service did not take the paths")),
    }
}

#[derive(Debug, thiserror::Error)]
#[error("Could not read OUT_PATHS, which Nix sets for its post-build hook")]
struct VariableError {
    source: std::env::VarError,
}

#[derive(Debug, thiserror::Error)]
#[error("OUT_PATHS names {text:?}, which is no store path")]
struct OutPathError {
    text: String,
    source: loft::nix::StorePathError,
}
