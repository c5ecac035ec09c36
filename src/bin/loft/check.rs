//! `loft check`: what is found, grouped for people or as it comes for programs.

use crate::action::{CheckRequest, Invocation, PushRequest, Roots};
use crate::config;
use crate::exit::Exit;
use crate::failure::{Failure, printable};
use crate::network::Network;
use crate::output::{print, tell};
use crate::push::upstreams;
use crate::terminal::Terminal;
use loft::bucket::{self, Key, Lifecycle, LifecycleRule, Quirks};
use loft::check::{self, CheckError, Checked, Counts, Ends, Finding, Found, Kind, Mended, Options, Repair, Severity};
use loft::clock::SystemClock;
use loft::config::Loaded;
use loft::ledger::Ledger;
use loft::nix::SecretKey;
use loft::push::Interrupt;
use loft::quantity::{bytes, paths};
use loft::remedy::chain;
use loft::store::{self, Store};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

/// So many of a kind are shown; `--json` has all.
const SHOWN: usize = 20;

pub fn check(invocation: &Invocation, request: &CheckRequest) -> Result<Exit, Failure> {
    let loaded = config::read(invocation)?;
    loaded.bucket()?;
    let interrupt = Interrupt::default();
    let options = options(&loaded, request, interrupt.clone())?;
    let repair = request.repair.then(|| repair(&loaded, request, interrupt.clone())).transpose()?;
    let network = Network::start()?;
    let report = Arc::new(Terminal::new(invocation.voice, false));
    let ledger = Arc::new(Ledger::open(&loaded.settings.ledger));
    let environment = config::environment().collect();
    network.catch_signals(interrupt);
    let result = network.run(async {
        let clock = Arc::new(SystemClock);
        let bucket =
            bucket::open(loaded.bucket()?, &environment, clock.clone(), report.clone(), Arc::default()).await?;
        let findings = Arc::new(Findings::new(request.json));
        let ends = Ends { bucket, ledger, clock, report: report.clone(), found: findings.clone() };
        let checked = check::check(&ends, &options).await?;
        report.settle();
        findings.finish(&checked)?;
        match repair {
            Some(repair) if !checked.is_clean() => mend(ends, &options, &repair, &checked, &report, request.json).await,
            _ => Ok(if checked.is_clean() { Exit::Done } else { Exit::Damaged }),
        }
    });
    network.stop();
    match result {
        Err(Stop::Check(CheckError::Interrupted)) => Ok(Exit::Interrupted),
        Err(Stop::Check(error)) => Err(error.into()),
        Err(Stop::Other(failure)) => Err(failure),
        Ok(exit) => Ok(exit),
    }
}

/// Repairs, and looks again: what counts is how the bucket is then.
async fn mend(
    ends: Ends,
    options: &Options,
    repair: &Repair,
    checked: &Checked,
    terminal: &Terminal,
    json: bool,
) -> Result<Exit, Stop> {
    let mut mended = Mended::default();
    let result = check::repair(&ends, repair, checked, &mut mended).await;
    terminal.settle();
    if mended == Mended::default()
        && let Err(error) = result
    {
        return Err(match error {
            CheckError::Interrupted => error.into(),
            error => Stop::Other(Failure::from(error).hint("nothing was changed")),
        });
    }
    print(&match json {
        true => format!("{}\n", repaired(&mended)),
        false => repairs(&mended),
    })?;
    if let Err(error) = result {
        let is_interrupted = matches!(error, CheckError::Interrupted);
        tell(&Failure::from(error).render());
        return Ok(if is_interrupted { Exit::Interrupted } else { Exit::Unfinished });
    }
    let findings = Arc::new(Findings::new(json));
    let ends = Ends { found: findings.clone(), ..ends };
    let checked = check::check(&ends, options).await?;
    terminal.settle();
    findings.finish(&checked)?;
    let is_done = mended.is_complete() && checked.is_clean();
    Ok(if is_done { Exit::Done } else { Exit::Unfinished })
}

/// Why there is no result.
enum Stop {
    Check(CheckError),
    Other(Failure),
}

impl From<CheckError> for Stop {
    fn from(error: CheckError) -> Self {
        Self::Check(error)
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Other(failure)
    }
}

impl From<bucket::BucketError> for Stop {
    fn from(error: bucket::BucketError) -> Self {
        Self::Other(error.into())
    }
}

impl From<loft::config::ConfigError> for Stop {
    fn from(error: loft::config::ConfigError) -> Self {
        Self::Other(error.into())
    }
}

fn repair(loaded: &Loaded, request: &CheckRequest, interrupt: Interrupt) -> Result<Repair, Failure> {
    let push = PushRequest {
        roots: Roots::WholeStore,
        closure: true,
        pin: None,
        dry_run: false,
        json: request.json,
        use_ledger: false,
    };
    let push = crate::push::options(loaded, &push, interrupt)?;
    let store: Option<Arc<dyn Store>> = match store::open(&loaded.settings.store) {
        Ok(store) => Some(Arc::from(store)),
        Err(error) => {
            tell(&format!("warning: without a local store nothing can be pushed again: {}\n", chain(&error)));
            None
        }
    };
    let dir = store.as_ref().map(|store| store.location().store_dir.clone()).unwrap_or_default();
    Ok(Repair { store, push, dir, remove_most: request.remove_most })
}

fn options(loaded: &Loaded, request: &CheckRequest, interrupt: Interrupt) -> Result<Options, Failure> {
    let signing = loaded.signing_keys()?;
    config::tell_warnings(&signing.warnings);
    let own = signing.keys.iter().map(SecretKey::public);
    Ok(Options {
        public_keys: own.chain(request.public_keys.iter().cloned()).collect(),
        upstreams: upstreams(loaded),
        read_data: request.read_data,
        read_again: request.read_again,
        probe: request.probe,
        interrupt,
    })
}

/// Findings on stdout.
pub struct Findings {
    json: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The first of each kind.
    shown: BTreeMap<(Severity, Kind), Vec<Finding>>,
    failure: Option<Failure>,
}

impl Findings {
    pub fn new(json: bool) -> Self {
        Self { json, state: Mutex::default() }
    }

    /// The groups and the sum; all of it was told.
    pub fn finish(&self, checked: &Checked) -> Result<(), Failure> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(failure) = state.failure.take() {
            return Err(failure);
        }
        let text = match self.json {
            true => format!("{}\n", finished(checked)),
            false => page(&std::mem::take(&mut state.shown), checked),
        };
        print(&text)
    }
}

impl Found for Findings {
    fn found(&self, finding: &Finding) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if self.json {
            if let Err(failure) = print(&format!("{}\n", object(finding))) {
                state.failure.get_or_insert(failure);
            }
            return;
        }
        let shown = state.shown.entry((finding.kind.severity(), finding.kind)).or_default();
        if shown.len() < SHOWN {
            shown.push(finding.clone());
        }
    }
}

fn object(finding: &Finding) -> Value {
    let Finding { kind, object, path, problem } = finding;
    json!({
        "event": "finding",
        "topic": kind.topic(),
        "kind": kind.name(),
        "severity": kind.severity().name(),
        "object": object,
        "path": path,
        "problem": problem,
        "meaning": kind.meaning(),
        "advice": kind.advice(),
    })
}

fn finished(checked: &Checked) -> Value {
    let counts = &checked.counts;
    let kinds: Map<String, Value> =
        counts.findings.iter().map(|(kind, count)| (kind.name().to_owned(), (*count).into())).collect();
    json!({
        "event": "checked",
        "paths": counts.paths,
        "nars": counts.nars,
        "stored": counts.stored,
        "nars_read": counts.read,
        "bytes_read": counts.read_bytes,
        "nars_remembered": counts.remembered,
        "damage": counts.of(Severity::Damage),
        "garbage": counts.of(Severity::Garbage),
        "notes": counts.of(Severity::Note),
        "findings": kinds,
        "storage": checked.quirks.as_ref().map(storage),
    })
}

fn storage(quirks: &Quirks) -> Value {
    let (rules, error) = match &quirks.lifecycle {
        Lifecycle::Rules(rules) => (Some(rules.iter().map(rule).collect::<Vec<_>>()), None),
        Lifecycle::Unknown(why) => (None, Some(why)),
    };
    json!({
        "conditional_writes": quirks.conditional_writes,
        "lifecycle_rules": rules,
        "lifecycle_error": error,
    })
}

fn rule(rule: &LifecycleRule) -> Value {
    let LifecycleRule { id, prefix, expires, archives, aborts_uploads_after } = rule;
    json!({"id": id, "prefix": prefix, "expires": expires, "archives": archives, "aborts_uploads_after_days": aborts_uploads_after})
}

/// A line on what is no finding; nothing where there is nothing to say.
fn storage_line(quirks: &Quirks) -> String {
    let conditions = quirks.conditional_writes.map(|heeds| match heeds {
        true => "heeds conditional writes".to_owned(),
        false => "ignores conditional writes (nothing in loft rests on them)".to_owned(),
    });
    let rules = match &quirks.lifecycle {
        Lifecycle::Unknown(why) => Some(format!("did not tell its lifecycle rules: {why}")),
        Lifecycle::Rules(rules) if rules.is_empty() => None,
        Lifecycle::Rules(rules) => {
            let expiring = rules.iter().filter(|rule| rule.expires.is_some()).count();
            Some(format!("has {} lifecycle rules here, {expiring} of which delete objects", rules.len()))
        }
    };
    match [conditions, rules].into_iter().flatten().collect::<Vec<_>>().join(", ") {
        said if said.is_empty() => said,
        said => printable(&format!("The store {said}\n")),
    }
}

fn repaired(mended: &Mended) -> Value {
    let keys = |keys: &[Key]| keys.iter().map(Key::to_string).collect::<Vec<_>>();
    json!({
        "event": "repaired",
        "written": keys(&mended.written),
        "set_aside": keys(&mended.set_aside),
        "pushed": mended.pushed,
        "restored": mended.restored,
        "removed": mended.removed,
        "trash": mended.trash.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "failed": mended.failed.iter().map(|(what, why)| json!({"object": what, "why": why})).collect::<Vec<_>>(),
    })
}

fn repairs(mended: &Mended) -> String {
    let mut text = String::from("\nRepair\n");
    let mut group = |what: &str, names: Vec<String>| {
        for name in names.iter().take(SHOWN) {
            let _ = writeln!(text, "  {what}: {}", printable(name));
        }
        if names.len() > SHOWN {
            let _ = writeln!(text, "  {what}: {} more", names.len() - SHOWN);
        }
    };
    group("written anew", mended.written.iter().map(Key::to_string).collect());
    group("set aside", mended.set_aside.iter().map(Key::to_string).collect());
    group("pushed again", mended.pushed.iter().map(ToString::to_string).collect());
    group("restored from trash", mended.restored.iter().map(ToString::to_string).collect());
    group("taken out", mended.removed.iter().map(ToString::to_string).collect());
    group("failed", mended.failed.iter().map(|(what, why)| format!("{what}: {why}")).collect());
    for id in &mended.trash {
        let _ = writeln!(text, "  loft prune --undo {id} brings back what was taken out");
    }
    text.push('\n');
    text
}

fn page(shown: &BTreeMap<(Severity, Kind), Vec<Finding>>, checked: &Checked) -> String {
    let counts = &checked.counts;
    let mut text = String::new();
    for ((severity, kind), findings) in shown {
        let count = counts.findings.get(kind).copied().unwrap_or_default();
        let _ = writeln!(text, "{} {} ({count}): {}", kind.topic(), severity.name(), kind.meaning());
        let _ = writeln!(text, "  to do: {}", kind.advice());
        for Finding { object, path, problem, .. } in findings {
            let name = path.as_ref().map(|path| format!(" ({path})")).unwrap_or_default();
            let _ = writeln!(text, "  {}", printable(&format!("{object}{name}: {problem}").replace('\n', " ")));
        }
        let more = count.saturating_sub(findings.len() as u64);
        if more > 0 {
            let _ = writeln!(text, "  and {more} more; --json names all");
        }
        text.push('\n');
    }
    text.push_str(&checked.quirks.as_ref().map(storage_line).unwrap_or_default());
    text.push_str(&sum(counts));
    text
}

fn sum(counts: &Counts) -> String {
    let nars = if counts.nars == 1 { "1 NAR".to_owned() } else { format!("{} NARs", counts.nars) };
    let mut line = format!("{}, {nars} ({}) looked at", paths(counts.paths), bytes(counts.stored));
    if counts.read + counts.remembered > 0 {
        let _ = write!(line, ", the data of {} read ({})", counts.read, bytes(counts.read_bytes));
        if counts.remembered > 0 {
            let _ = write!(line, " and of {} within the last day", counts.remembered);
        }
    }
    let (damage, garbage, notes) =
        (counts.of(Severity::Damage), counts.of(Severity::Garbage), counts.of(Severity::Note));
    let findings = match damage {
        0 => "no damage".to_owned(),
        count => format!("{count} damaged"),
    };
    let _ = writeln!(line, ": {findings}, {garbage} garbage, {notes} {}", if notes == 1 { "note" } else { "notes" });
    line
}
