//! Reads the configuration for all verbs; `loft config show` and `check`; `--clear-cache`.

use crate::action::Invocation;
use crate::exit::Exit;
use crate::failure::{Failure, printable};
use crate::network::Network;
use crate::output::{print, tell};
use loft::bucket::{S3, Target};
use loft::config::{ConfigError, Loaded, Origin, Problem, Sources, load, show as rendering};
use loft::ledger::Ledger;

/// The configuration that an invocation asks for. Warnings are told here.
pub fn read(invocation: &Invocation) -> Result<Loaded, Failure> {
    let loaded = load(&sources(invocation, false))?;
    tell_warnings(&loaded.warnings);
    Ok(loaded)
}

pub fn tell_warnings(warnings: &[Problem]) {
    for warning in warnings {
        tell(&format!("warning: {}\n", printable(&warning.to_string())));
    }
}

pub fn show(invocation: &Invocation, json: bool) -> Result<Exit, Failure> {
    let loaded = read(invocation)?;
    if json {
        print(&format!("{}\n", rendering::json(&loaded.effective)))?;
    } else {
        print(&printable(&rendering::table(&loaded.effective)))?;
    }
    Ok(Exit::Done)
}

pub fn check(invocation: &Invocation) -> Result<Exit, Failure> {
    let loaded = load(&sources(invocation, true))?;
    let target = loaded.bucket()?;
    let (signing, files) = (loaded.signing_keys(), problems_of_files(&loaded, target)?);
    if !files.is_empty() {
        let mut problems = files;
        // All at once, whatever file it is.
        problems.extend(signing.err().into_iter().flat_map(|error| error.problems));
        return Err(ConfigError { problems, warnings: loaded.warnings }.into());
    }
    let signing = signing?;
    tell_warnings(&loaded.warnings);
    tell_warnings(&signing.warnings);
    let signs = match signing.keys.len() {
        0 => "pushes are not signed".to_owned(),
        1 => "one signing key".to_owned(),
        many => format!("{many} signing keys"),
    };
    tell(&format!("The configuration is fine; {signs}.\n"));
    Ok(Exit::Done)
}

/// Files of certificates and credentials that cannot be used: a push would find that out with its first request.
fn problems_of_files(loaded: &Loaded, target: &Target) -> Result<Vec<Problem>, Failure> {
    let Target::S3(settings) = target else { return Ok(Vec::new()) };
    let found = Network::start()?.run(S3::check_files(settings));
    let origin = |setting: &str| loaded.effective.iter().find(|entry| entry.key == setting).map(|entry| &entry.origin);
    let problem = |(setting, why): (&str, String)| {
        Problem::new(origin(setting).cloned().unwrap_or(Origin::Default), why)
            .help("the user that runs loft must be able to read it, and nobody else may write it")
    };
    Ok(found.into_iter().map(problem).collect())
}

pub fn clear_ledger(invocation: &Invocation) -> Result<Exit, Failure> {
    let loaded = read(invocation)?;
    let file = &loaded.settings.ledger;
    Ledger::open(file).clear()?;
    tell(&format!("The ledger {} is empty now.\n", file.display()));
    Ok(Exit::Done)
}

/// `--reset-initial-scan`.
pub fn forget_first_scan(invocation: &Invocation) -> Result<Exit, Failure> {
    let loaded = read(invocation)?;
    let file = &loaded.settings.ledger;
    Ledger::open(file).watch().forget_scans()?;
    tell(&format!(
        "The first scan is forgotten ({}); with scan_on_startup the next start scans again.\n",
        file.display()
    ));
    Ok(Exit::Done)
}

pub fn sources(invocation: &Invocation, strict: bool) -> Sources {
    let environment = environment().collect();
    Sources { file: invocation.config.clone(), environment, flags: invocation.flags.clone(), strict }
}

/// The environment enters here. Variables that are not UTF-8 are none of ours.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    let text = |variable: std::ffi::OsString| variable.into_string().ok();
    std::env::vars_os().filter_map(move |(name, value)| Some((text(name)?, text(value)?)))
}
