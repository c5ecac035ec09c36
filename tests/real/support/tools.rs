//! The project's own scripts.

use super::process::stdout_of;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A script of the checkout, to run from there.
pub fn script(name: &str) -> Command {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(checkout.join(name));
    command.current_dir(checkout);
    // What cargo tells a test of itself: a cargo below it would take that for a change, and build all anew.
    let told = |name: &str| name == "CARGO" || ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|it| name.starts_with(it));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(told)) {
        command.env_remove(name);
    }
    command
}

/// What a script makes or finds: the last line that it prints.
#[track_caller]
pub fn made_by(command: &mut Command) -> PathBuf {
    let printed = stdout_of(command);
    printed.lines().last().expect("a path").into()
}
