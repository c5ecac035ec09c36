//! The `loft` program: arguments in, one call, an exit status out.
//!
//! Nothing is started before it is needed: `loft --version` makes no runtime and reads no file.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod action;
mod allocator;
mod args;
mod check;
mod completions;
mod config;
mod doctor;
mod exit;
mod failure;
mod hook;
mod init;
mod json;
mod key;
mod log;
mod man;
mod network;
mod output;
mod page;
mod pin;
mod prune;
mod push;
mod run;
mod serve;
mod sign;
mod signals;
mod status;
mod supervisor;
mod terminal;
mod use_cache;

use action::{Action, Invocation};
use clap::Parser as _;
use exit::Exit;
use failure::Failure;
use std::process::ExitCode;

fn main() -> ExitCode {
    std::panic::set_hook(Box::new(output::tell_panic));
    // The panic hook has told it; 101 would be outside of what exit.rs promises. No build fails for a hook's bug.
    let broken = || if hook::is_asked_for() { Exit::Done } else { Exit::Stopped };
    std::panic::catch_unwind(run).unwrap_or_else(|_| broken()).into()
}

fn run() -> Exit {
    let invocation = match args::Arguments::try_parse().and_then(Invocation::new) {
        Ok(invocation) => invocation,
        Err(usage) => {
            // Help and version are what was asked for. A usage error is not 2, clap's own choice: here
            // that means "finished, but some did not land".
            let exit = if usage.use_stderr() && !hook::is_asked_for() { Exit::Stopped } else { Exit::Done };
            let _ = usage.print();
            return exit;
        }
    };
    output::choose_colours(invocation.voice.color);
    match act(&invocation) {
        Ok(exit) => exit,
        Err(failure) => {
            output::tell(&failure.examined_by(doctor::command(&invocation)).render());
            Exit::Stopped
        }
    }
}

/// One arm for each verb.
fn act(invocation: &Invocation) -> Result<Exit, Failure> {
    match &invocation.action {
        Action::Init(request) => init::init(invocation, request),
        Action::Use(request) => use_cache::use_cache(invocation, request),
        Action::GenerateKey { name, out } => key::generate(name, out.as_deref()),
        Action::ShowKey { file } => key::show(file),
        Action::ShowConfig { json } => config::show(invocation, *json),
        Action::CheckConfig => config::check(invocation),
        Action::ClearLedger => config::clear_ledger(invocation),
        Action::Push(request) => push::push(invocation, request),
        Action::Run { command, pin } => run::run(invocation, command, pin.as_ref()),
        Action::FillLedger => push::fill_ledger(invocation),
        Action::Serve { dry_run } => serve::serve(invocation, *dry_run),
        Action::Status(request) => status::status(invocation, request),
        Action::Check(request) => check::check(invocation, request),
        Action::Doctor(request) => doctor::doctor(invocation, request),
        Action::Sign(request) => sign::sign(invocation, request),
        Action::Hook => Ok(hook::hook(invocation)),
        Action::Prune(request) => prune::prune(invocation, request),
        Action::UndoPrune(request) => prune::undo(invocation, request),
        Action::ListTrash { json } => prune::list_trash(invocation, *json),
        Action::Pin(request) => pin::pin(invocation, request),
        Action::Completions { shell } => completions::print(*shell),
        Action::PrintManPage { command } => man::print(command),
        Action::WriteManPages { dir } => man::write_all(dir),
        Action::ForgetFirstScan => config::forget_first_scan(invocation),
    }
}
