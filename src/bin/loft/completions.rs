//! `loft completions`: made from the command line's own definition, so they cannot fall behind it.

use crate::args::{Arguments, Shell};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output;
use clap::CommandFactory as _;
use clap_complete::{generate, shells};

pub fn print(shell: Shell) -> Result<Exit, Failure> {
    let (mut command, mut script) = (Arguments::command(), Vec::new());
    match shell {
        Shell::Bash => generate(shells::Bash, &mut command, "loft", &mut script),
        Shell::Zsh => generate(shells::Zsh, &mut command, "loft", &mut script),
        Shell::Fish => generate(shells::Fish, &mut command, "loft", &mut script),
    }
    output::print(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}
