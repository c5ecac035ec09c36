//! `loft sign`: keys in, a line for each path that is told, an exit status out.

use crate::action::{Invocation, SignRequest};
use crate::config;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::network::Network;
use crate::output::{print, tell};
use crate::push::who;
use crate::terminal::Terminal;
use loft::bucket;
use loft::clock::SystemClock;
use loft::ledger::Ledger;
use loft::nix::{SecretKey, StorePath};
use loft::push::Interrupt;
use loft::quantity::paths;
use loft::sign::{self, Ends, Fate, Options, SignError, Summary};
use serde_json::json;
use std::sync::Arc;

pub fn sign(invocation: &Invocation, request: &SignRequest) -> Result<Exit, Failure> {
    let loaded = config::read(invocation)?;
    loaded.bucket()?;
    let signing = loaded.signing_keys()?;
    config::tell_warnings(&signing.warnings);
    if signing.keys.is_empty() {
        return Err(Failure::new("No signing key is configured, so there is nothing to sign with").hint(
            "name one with --signing-key FILE or signing_key_path in loft.toml; `loft key generate NAME` makes one",
        ));
    }
    let trusted = match request.trusted.is_empty() {
        true => signing.keys.iter().map(SecretKey::public).collect(),
        false => request.trusted.clone(),
    };
    let interrupt = Interrupt::default();
    let options = Options {
        keys: signing.keys.into(),
        trusted,
        read_data: request.read_data,
        dry_run: request.dry_run,
        who: who(),
        interrupt: interrupt.clone(),
    };
    let network = Network::start()?;
    let report = Arc::new(Terminal::new(invocation.voice, request.dry_run));
    let ledger = Arc::new(Ledger::open(&loaded.settings.ledger));
    let environment = config::environment().collect();
    network.catch_signals(interrupt);
    let json = request.json;
    let result = network.run(async {
        let clock = Arc::new(SystemClock);
        let bucket =
            bucket::open(loaded.bucket()?, &environment, clock.clone(), report.clone(), Arc::default()).await?;
        let told = Arc::new(move |path: &StorePath, fate: &Fate| line(json, path, fate));
        let ends = Ends { bucket, ledger, clock, report: report.clone(), told };
        let result = sign::sign(&ends, &options).await;
        report.settle();
        Ok::<_, Failure>(result)
    });
    network.stop();
    match result? {
        Ok(summary) => {
            match json {
                true => print(&format!("{}\n", finished(&summary)))?,
                false => tell(&sum(&summary)),
            }
            Ok(if summary.failed + summary.untrusted > 0 { Exit::Unfinished } else { Exit::Done })
        }
        Err(SignError::Interrupted) => Ok(Exit::Interrupted),
        Err(error) => Err(error.into()),
    }
}

/// A reader that has gone is told at the end, by the sum.
fn line(json: bool, path: &StorePath, fate: &Fate) {
    let (word, why) = match fate {
        Fate::Signed => ("signed", None),
        Fate::WouldSign => ("would_sign", None),
        Fate::Untrusted => ("untrusted", None),
        Fate::Failed(why) => ("failed", Some(why)),
    };
    if json {
        let _ = print(&format!("{}\n", json!({"event": word, "path": path, "why": why})));
        return;
    }
    match fate {
        Fate::Signed => {}
        Fate::WouldSign => tell(&format!("would sign {path}\n")),
        Fate::Untrusted => tell(&format!("not signed: {path}: no trusted key has signed it\n")),
        Fate::Failed(why) => tell(&crate::failure::printable(&format!("failed: {path}: {why}\n"))),
    }
}

fn finished(summary: &Summary) -> serde_json::Value {
    json!({
        "event": "finished",
        "paths": summary.paths,
        "had": summary.had,
        "signed": summary.signed,
        "would_sign": summary.would_sign,
        "untrusted": summary.untrusted,
        "failed": summary.failed,
    })
}

fn sum(summary: &Summary) -> String {
    let Summary { paths: all, had, signed, would_sign, untrusted, failed } = summary;
    let mut line = format!("{}: {signed} signed, {had} had all signatures", paths(*all));
    for (count, what) in [
        (would_sign, "would be signed"),
        (untrusted, "without a trusted signature (--read-data reads and hashes them)"),
        (failed, "failed"),
    ] {
        if *count > 0 {
            line.push_str(&format!(", {count} {what}"));
        }
    }
    line + "\n"
}
