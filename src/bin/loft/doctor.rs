//! `loft doctor`: a line for each assumption, and the way out of what does not hold.

use crate::action::{DoctorRequest, Invocation};
use crate::config;
use crate::exit::Exit;
use crate::failure::{Failure, printable};
use crate::network::Network;
use crate::output::{print, shell_word};
use loft::clock::SystemClock;
use loft::doctor::{Finding, Outcome, Patient, Severity, ThisMachine, examine};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

/// Longer than any server in order takes, and short enough to sit and wait for.
const PATIENCE: Duration = Duration::from_secs(5);

pub fn doctor(invocation: &Invocation, request: &DoctorRequest) -> Result<Exit, Failure> {
    let patient = Patient {
        sources: config::sources(invocation, false),
        clock: Arc::new(SystemClock),
        machine: Arc::new(ThisMachine),
        patience: PATIENCE,
        offline: request.offline,
        probe: request.probe,
    };
    let network = Network::start()?;
    let findings = network.run(examine(&patient));
    network.stop();
    print(&match request.json {
        true => findings.iter().map(|finding| format!("{}\n", object(finding))).collect(),
        false => page(&findings),
    })?;
    Ok(if findings.iter().any(Finding::is_broken) { Exit::Damaged } else { Exit::Done })
}

/// What to type to have it look where this invocation went.
pub fn command(invocation: &Invocation) -> String {
    let mut command = "loft".to_owned();
    if let Some(file) = &invocation.config {
        let _ = write!(command, " -c {}", shell_word(&file.display().to_string()));
    }
    command.push_str(" doctor");
    if let Some(url) = &invocation.flags.to {
        let _ = write!(command, " --to {}", shell_word(url));
    }
    command
}

fn object(finding: &Finding) -> Value {
    let because = match finding.outcome {
        Outcome::Unlooked(because) => because.map(|check| check.name()),
        _ => None,
    };
    json!({
        "event": "finding",
        "check": finding.check.name(),
        "verdict": finding.verdict(),
        "code": finding.code().map(|code| code.name()),
        "says": finding.says,
        "way_out": finding.way_out,
        "because_of": because,
    })
}

fn page(findings: &[Finding]) -> String {
    let mut text = String::new();
    let mut unlooked: Vec<(&str, Vec<String>)> = Vec::new();
    for Finding { check, outcome, says, way_out } in findings {
        let (verdict, code) = match outcome {
            Outcome::Fine => ("ok", String::new()),
            Outcome::Fault(code) => {
                let verdict = if code.severity() == Severity::Broken { "BROKEN" } else { "warning" };
                (verdict, format!(" [{}]", code.name()))
            }
            Outcome::Unlooked(_) => {
                match unlooked.iter_mut().find(|(why, _)| why == says) {
                    Some((_, checks)) => checks.push(check.to_string()),
                    None => unlooked.push((says, vec![check.to_string()])),
                }
                continue;
            }
        };
        let _ = writeln!(text, "{verdict:<8} {check:<20} {}{code}", line(says));
        if let Some(way_out) = way_out {
            let _ = writeln!(text, "{:29} to do: {}", "", line(way_out));
        }
    }
    // One reason is often that of many.
    for (why, checks) in unlooked {
        let _ = writeln!(text, "-        {}: {}", checks.join(", "), line(why));
    }
    text.push_str(&sum(findings));
    text
}

fn line(text: &str) -> String {
    printable(&text.replace('\n', " "))
}

fn sum(findings: &[Finding]) -> String {
    let of = |severity| findings.iter().filter(|it| it.code().is_some_and(|code| code.severity() == severity)).count();
    let fine = findings.iter().filter(|finding| finding.outcome == Outcome::Fine).count();
    let unlooked = findings.len() - fine - of(Severity::Broken) - of(Severity::Warning);
    let warnings = match of(Severity::Warning) {
        1 => "1 warning".to_owned(),
        many => format!("{many} warnings"),
    };
    let verdict = match of(Severity::Broken) {
        0 => "Nothing is broken".to_owned(),
        many => format!("{many} broken"),
    };
    format!("{verdict}: {fine} ok, {warnings}, {unlooked} not looked at.\n")
}
