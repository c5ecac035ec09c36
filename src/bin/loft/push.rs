//! `loft push`, `--upload-path`, `--force-scan`: settings in, one push, an exit status out.

use crate::action::{Invocation, PushRequest, Roots};
use crate::config;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::json::JsonLines;
use crate::output::tell;
use crate::terminal::Terminal;
use loft::bucket::{self, Counter};
use loft::clock::SystemClock;
use loft::config::Loaded;
use loft::ledger::Ledger;
use loft::nix::StorePath;
use loft::plan::{Policy, Request};
use loft::push::{self, Ends, Interrupt, Options, PushError};
use loft::report::{Report, Summary};
use loft::store::{self, Store};
use std::io::BufRead as _;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

pub fn push(invocation: &Invocation, request: &PushRequest) -> Result<Exit, Failure> {
    let loaded = config::read(invocation)?;
    let report: Arc<dyn Report> = match request.json {
        true => Arc::new(JsonLines::new()),
        false => Arc::new(Terminal::new(invocation.voice, request.dry_run)),
    };
    let interrupt = Interrupt::default();
    let options = options(&loaded, request, interrupt.clone())?;
    let store: Arc<dyn Store> = Arc::from(store::open(&loaded.settings.store)?);
    let roots = roots(store.as_ref(), request)?;

    let runtime = runtime()?;
    let result = runtime.block_on(async {
        let counter = Counter::default();
        let target = loaded.bucket()?;
        let bucket = bucket::open(target, config::environment(), counter.clone(), report.clone()).await?;
        let ledger = Arc::new(Ledger::open(&loaded.settings.ledger));
        if let Some(trouble) = ledger.trouble() {
            tell(&format!("warning: {trouble}\n"));
        }
        catch_signals(interrupt);
        let ends = Ends { store, bucket, ledger, clock: Arc::new(SystemClock), report };
        Ok::<_, Failure>(push::run(&ends, &options, roots).await)
    })?;
    // Threads that still read files are not waited for: what they do has no effect any more.
    runtime.shutdown_background();
    match result {
        Ok(summary) => Ok(exit(&summary)),
        Err(PushError::Interrupted) => Ok(Exit::Interrupted),
        Err(error) => Err(error.into()),
    }
}

fn exit(summary: &Summary) -> Exit {
    if summary.interrupted {
        Exit::Interrupted
    } else if summary.failed > 0 {
        Exit::Unfinished
    } else {
        Exit::Done
    }
}
