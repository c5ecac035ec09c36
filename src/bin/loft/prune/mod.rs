//! `loft prune` and `--prune`: plan, tell, carry out, tell. No Nix store is opened.

mod json;
mod text;
mod trash;

pub use trash::{list_trash, undo};

use crate::action::{Invocation, PruneRequest};
use crate::config;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::json::JsonLines;
use crate::network::{self, Network};
use crate::output::{print, tell};
use crate::page;
use crate::push::{Trouble, who};
use crate::terminal::Terminal;
use loft::config::Loaded;
use loft::nix::{PathHash, StorePath};
use loft::page::Page;
use loft::prune::{self, Ends, NAR_GRACE, Options, PruneError, PrunePlan, Removal, Summary};
use loft::push::Interrupt;
use loft::remedy::chain;
use loft::report::Report;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

pub fn prune(invocation: &Invocation, request: &PruneRequest) -> Result<Exit, Failure> {
    let loaded = config::read(invocation)?;
    loaded.bucket()?;
    let interrupt = Interrupt::default();
    let mut options = options(&loaded, interrupt.clone());
    options.max_size = loaded.settings.prune.max_size(request.max_size);
    (options.dry_run, options.remove_most) = (request.dry_run, request.remove_most);
    let talk = Talk::new(invocation, request.json);
    let page = page::wanted(&loaded)?;
    let network = Network::start()?;
    let ends = network.run(network::prune_ends(&loaded, talk.report.clone()))?;
    let trouble = Trouble::of(&ends.ledger);
    network.catch_signals(interrupt);
    let result = network.run(async {
        let exit = work(&ends, &options, request, &talk).await?;
        if let Some(page) = page.filter(|_| exit == Exit::Done && !request.dry_run) {
            write_page(&ends, &page, &talk).await;
        }
        Ok(exit)
    });
    trouble.tell_new(&ends.ledger);
    network.stop();
    talk.end(result)
}

/// As configured, with nothing lifted.
pub fn options(loaded: &Loaded, interrupt: Interrupt) -> Options {
    let settings = &loaded.settings.prune;
    Options {
        retention: settings.retention(),
        max_size: settings.max_size(None),
        nar_grace: NAR_GRACE,
        remove_most: false,
        dry_run: false,
        who: who(),
        interrupt,
    }
}

/// The prune is done, whatever becomes of its page.
async fn write_page(ends: &Ends, page: &Page, talk: &Talk) {
    if let Err(error) = loft::page::write(ends.bucket.as_ref(), page).await {
        talk.clear();
        tell(&format!("warning: {}\n", chain(&error)));
    }
}

async fn work(ends: &Ends, options: &Options, request: &PruneRequest, talk: &Talk) -> Result<Exit, Failure> {
    let began = Instant::now();
    let plan = prune::plan(ends, options).await.map_err(Failure::from)?;
    talk.clear();
    match request.json {
        true => print(&json::planned(&plan.counts))?,
        false => talk.line(request.dry_run, &text::plan(&plan.counts, options)),
    }
    if request.dry_run {
        if let Err(refused) = plan.check_harm(options) {
            tell(&format!("warning: without --dry-run: {refused}\n"));
        }
        match request.json {
            true => print_all(&plan).await?,
            false => print(&text::removals(&plan, options, request.all).await?)?,
        }
        return Ok(Exit::Done);
    }
    let named = if request.json { names(&plan).await? } else { HashMap::new() };
    let counts = plan.counts.clone();
    let mut summary = Summary::default();
    let result = prune::carry_out(ends, options, plan, &mut summary).await;
    talk.clear();
    if result.is_ok() || summary != Summary::default() {
        let took = began.elapsed();
        if request.json {
            for hash in &summary.removed {
                print(&json::removed(hash, named.get(hash)))?;
            }
            print(&json::finished(&counts, &summary, took))?;
        } else {
            talk.line(false, &text::summary(&counts, &summary, took));
        }
    }
    result?;
    Ok(exit(&summary, options))
}

/// One line for each path of a dry run, in the order in which they would go.
async fn print_all(plan: &PrunePlan) -> Result<(), Failure> {
    for page in plan.condemned().chunks_mut(1000) {
        plan.name(page).await?;
        for removal in page {
            print(&json::would_remove(removal))?;
        }
    }
    Ok(())
}

/// What a JSON line tells of a path; narinfos are not kept for it.
async fn names(plan: &PrunePlan) -> Result<HashMap<PathHash, (Removal, Option<StorePath>)>, Failure> {
    let mut named = HashMap::new();
    for page in plan.condemned().chunks_mut(1000) {
        plan.name(page).await?;
        named.extend(page.iter_mut().map(|removal| {
            let name = removal.info.take().map(|info| info.path);
            (removal.path, (removal.clone(), name))
        }));
    }
    Ok(named)
}

fn exit(summary: &Summary, options: &Options) -> Exit {
    match summary {
        Summary { is_unfinished: true, .. } if options.interrupt.is_raised() => Exit::Interrupted,
        Summary { is_unfinished: true, .. } | Summary { failed: 1.., .. } => Exit::Unfinished,
        _ => Exit::Done,
    }
}

/// The way in which the three of them talk.
struct Talk {
    report: Arc<dyn Report>,
    json: Arc<JsonLines>,
    terminal: Option<Arc<Terminal>>,
    is_quiet: bool,
}

impl Talk {
    fn new(invocation: &Invocation, json: bool) -> Self {
        let lines = Arc::<JsonLines>::default();
        let terminal = (!json).then(|| Arc::new(Terminal::new(invocation.voice, false)));
        let report: Arc<dyn Report> = match &terminal {
            Some(terminal) => terminal.clone(),
            None => lines.clone(),
        };
        Self { report, json: lines, terminal, is_quiet: invocation.voice.quiet }
    }

    fn clear(&self) {
        if let Some(terminal) = &self.terminal {
            terminal.settle();
        }
    }

    /// `--quiet` tells results alone; of a dry run the plan is one.
    fn line(&self, is_result: bool, text: &str) {
        if is_result || !self.is_quiet {
            tell(&crate::failure::printable(text));
        }
    }

    fn end(&self, result: Result<Exit, Failure>) -> Result<Exit, Failure> {
        self.clear();
        match (result, self.json.failure()) {
            (_, Some(failure)) => Err(failure),
            (Err(failure), None) if matches!(failure.cause(), Some(PruneError::Interrupted)) => Ok(Exit::Interrupted),
            (result, None) => result,
        }
    }
}
