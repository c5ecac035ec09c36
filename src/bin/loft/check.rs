//! `loft check`: what is found, grouped for people or as it comes for programs.

use crate::action::{CheckRequest, Invocation};
use crate::config;
use crate::exit::Exit;
use crate::failure::{Failure, printable};
use crate::network::Network;
use crate::output::print;
use crate::push::upstreams;
use crate::quantity::{bytes, paths};
use crate::terminal::Terminal;
use loft::bucket;
use loft::check::{self, CheckError, Checked, Counts, Ends, Finding, Found, Kind, Options, Severity};
use loft::clock::SystemClock;
use loft::config::Loaded;
use loft::ledger::Ledger;
use loft::nix::SecretKey;
use loft::push::Interrupt;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

/// So many of a kind are shown; `--json` has all.
const SHOWN: usize = 20;

pub fn check(invocation: &Invocation, request: &CheckRequest) -> Result<Exit, Failure> {
    if request.repair {
        return Err(Failure::new("--repair is not in this version of loft yet"));
    }
    let loaded = config::read(invocation)?;
    loaded.bucket()?;
    let interrupt = Interrupt::default();
    let options = options(&loaded, request, interrupt.clone())?;
    let network = Network::start()?;
    let report = Arc::new(Terminal::new(invocation.voice, false));
    let findings = Arc::new(Findings::new(request.json));
    let ledger = Arc::new(Ledger::open(&loaded.settings.ledger));
    let environment = config::environment().collect();
    network.catch_signals(interrupt);
    let result = network.run(async {
        let clock = Arc::new(SystemClock);
        let bucket =
            bucket::open(loaded.bucket()?, &environment, clock.clone(), report.clone(), Arc::default()).await?;
        let ends = Ends { bucket, ledger, clock, report, found: findings.clone() };
        Ok::<_, Failure>(check::check(&ends, &options).await)
    });
    network.stop();
    match result? {
        Ok(checked) => {
            findings.finish(&checked)?;
            Ok(if checked.is_clean() { Exit::Done } else { Exit::Damaged })
        }
        Err(CheckError::Interrupted) => Ok(Exit::Interrupted),
        Err(error) => Err(error.into()),
    }
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
            true => format!("{}\n", finished(&checked.counts)),
            false => page(&std::mem::take(&mut state.shown), &checked.counts),
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

fn finished(counts: &Counts) -> Value {
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
    })
}

fn page(shown: &BTreeMap<(Severity, Kind), Vec<Finding>>, counts: &Counts) -> String {
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
