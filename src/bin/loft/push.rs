//! `loft push`, `--upload-path`, `--force-scan`: settings in, one push, an exit status out.

use crate::action::{Invocation, PushRequest, Roots};
use crate::config;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::json::JsonLines;
use crate::network::Network;
use crate::output::tell;
use crate::terminal::Terminal;
use loft::config::Loaded;
use loft::ledger::Ledger;
use loft::nix::StorePath;
use loft::plan::{Policy, Request};
use loft::push::{self, Interrupt, Options, PushError};
use loft::quantity::paths;
use loft::report::{Report, Summary};
use loft::store::{self, Store};
use std::io::BufRead as _;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

pub fn push(invocation: &Invocation, request: &PushRequest) -> Result<Exit, Failure> {
    let loaded = config::read(invocation)?;
    // Before anything is read: without a bucket nothing else matters.
    loaded.bucket()?;
    let json = Arc::new(JsonLines::default());
    let report: Arc<dyn Report> = match request.json {
        true => json.clone(),
        false => Arc::new(Terminal::new(invocation.voice, request.dry_run)),
    };
    let interrupt = Interrupt::default();
    let options = options(&loaded, request, interrupt.clone())?;
    let store: Arc<dyn Store> = Arc::from(store::open(&loaded.settings.store)?);
    let wanted = wanted(store.as_ref(), request)?;
    if wanted.is_empty() {
        tell("warning: no paths were given on stdin, so nothing is pushed\n");
        return Ok(Exit::Done);
    }

    let network = Network::start()?;
    let ends = network.ends(&loaded, store, report)?;
    let trouble = Trouble::of(&ends.ledger);
    network.catch_signals(interrupt);
    let result = network.run(push::run(&ends, &options, wanted));
    trouble.tell_new(&ends.ledger);
    network.stop();
    if let Some(failure) = json.failure() {
        return Err(failure);
    }
    match result {
        Ok(summary) => Ok(exit(&summary)),
        Err(PushError::Interrupted) => Ok(Exit::Interrupted),
        Err(error) => Err(error.into()),
    }
}

/// What was wrong with the ledger before the work.
pub struct Trouble(Option<String>);

impl Trouble {
    pub fn of(ledger: &Ledger) -> Self {
        Self(ledger.trouble())
    }

    /// A disk that filled up meanwhile costs the next push its short cut.
    pub fn tell_new(&self, ledger: &Ledger) {
        if let Some(trouble) = ledger.trouble().filter(|trouble| Some(trouble) != self.0.as_ref()) {
            tell(&format!("warning: {trouble}\n"));
        }
    }
}

/// `--populate-cache`.
pub fn fill_ledger(invocation: &Invocation) -> Result<Exit, Failure> {
    let loaded = config::read(invocation)?;
    let store: Arc<dyn Store> = Arc::from(store::open(&loaded.settings.store)?);
    let network = Network::start()?;
    let ends = network.ends(&loaded, store, Arc::new(Terminal::new(invocation.voice, false)))?;
    let known = network.run(push::populate(&ends, upstreams(&loaded)))?;
    if let Some(trouble) = ends.ledger.trouble() {
        return Err(Failure::new(trouble));
    }
    tell(&format!("The ledger knows {} of {}.\n", paths(known), ends.bucket.describe()));
    Ok(Exit::Done)
}

/// Keys and URLs of the caches that clients use beside this one.
pub fn upstreams(loaded: &Loaded) -> Vec<String> {
    let push = &loaded.settings.push;
    push.skip_signed_by.iter().map(|key| key.name.to_string()).chain(push.upstreams.iter().cloned()).collect()
}

pub fn exit(summary: &Summary) -> Exit {
    match summary {
        Summary { interrupted: 1.., .. } => Exit::Interrupted,
        Summary { failed: 1.., .. } => Exit::Unfinished,
        _ => Exit::Done,
    }
}

pub fn options(loaded: &Loaded, request: &PushRequest, interrupt: Interrupt) -> Result<Options, Failure> {
    let settings = &loaded.settings;
    let signing = loaded.signing_keys()?;
    config::tell_warnings(&signing.warnings);
    if signing.keys.is_empty() && !request.dry_run {
        tell(
            "warning: no signing key is configured, so clients that require signatures (the default) \
             will not use these paths, and what is in the cache already is not signed later\n  \
             hint: loft key generate NAME, then --signing-key FILE or signing_key_path\n",
        );
    }
    Ok(Options {
        policy: Policy { skip_signed_by: settings.push.skip_signed_by.clone(), exclude: settings.push.exclude.clone() },
        keys: signing.keys.into(),
        packing: settings.packing,
        extras: settings.push.extras,
        upload_threads: NonZeroUsize::new(settings.push.upload_threads).unwrap_or(NonZeroUsize::MIN),
        memory_limit: settings.push.memory_limit,
        priority: settings.push.priority,
        upstreams: upstreams(loaded),
        who: who(),
        pin: request.pin.clone(),
        trust_ledger: request.use_ledger,
        anew: Arc::default(),
        dry_run: request.dry_run,
        interrupt,
    })
}

/// What was typed, as store paths.
fn wanted(store: &dyn Store, request: &PushRequest) -> Result<Request, Failure> {
    let typed = match &request.roots {
        Roots::WholeStore => return Ok(Request::WholeStore),
        Roots::Typed { paths, stdin } => {
            let mut typed = paths.clone();
            if *stdin {
                typed.extend(lines_of_stdin()?);
            }
            typed
        }
    };
    let resolved: Result<Vec<StorePath>, _> = typed.iter().map(|path| store::resolve(store.location(), path)).collect();
    Ok(match request.closure {
        true => Request::Closures(resolved?),
        false => Request::Only(resolved?),
    })
}

fn lines_of_stdin() -> Result<Vec<PathBuf>, Failure> {
    let mut paths = Vec::new();
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|source| StdinError { source })?;
        if !line.trim().is_empty() {
            paths.push(PathBuf::from(line.trim()));
        }
    }
    Ok(paths)
}

#[derive(Debug, thiserror::Error)]
#[error("Could not read store paths from stdin")]
struct StdinError {
    source: std::io::Error,
}

/// `user@host`, for people who wonder whose lease that is.
pub fn who() -> String {
    let user = ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok());
    let host =
        std::fs::read_to_string("/proc/sys/kernel/hostname").or_else(|_| std::fs::read_to_string("/etc/hostname"));
    format!("{}@{}", user.as_deref().unwrap_or("unknown"), host.as_deref().map_or("unknown", str::trim))
}
