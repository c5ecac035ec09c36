//! Reads the configuration for all verbs; `loft config show` and `check`; `--clear-cache`.

use crate::action::Invocation;
use crate::exit::Exit;
use crate::failure::{Failure, printable};
use crate::output::{print, tell};
use loft::config::{Loaded, Problem, Sources, load, show as rendering};
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
    loaded.bucket()?;
    let signing = loaded.signing_keys()?;
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

fn sources(invocation: &Invocation, strict: bool) -> Sources {
    let environment = environment().collect();
    Sources { file: invocation.config.clone(), environment, flags: invocation.flags.clone(), strict }
}

/// The environment enters here. Variables that are not UTF-8 are none of ours.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    let text = |variable: std::ffi::OsString| variable.into_string().ok();
    std::env::vars_os().filter_map(move |(name, value)| Some((text(name)?, text(value)?)))
}
