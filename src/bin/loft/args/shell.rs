//! What a shell and its user want: completions, manual pages.

use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// Print a shell's completions for loft
///
/// Packages install them already.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  loft completions bash > ~/.local/share/bash-completion/completions/loft
  loft completions zsh > ~/.zfunc/_loft      # with ~/.zfunc in fpath, before compinit
  loft completions fish > ~/.config/fish/completions/loft.fish")]
pub struct Completions {
    /// Whose completions
    pub shell: Shell,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// Print a man page, or write all of them into a directory
///
/// Packages install them already: `man loft`, `man loft-push`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  loft man | man -l -
  loft man pin add | man -l -
  loft man --dir ~/.local/share/man/man1")]
pub struct Man {
    /// The command to tell about, such as `push` or `pin add` [default: loft itself]
    #[arg(value_name = "COMMAND")]
    pub command: Vec<String>,
    /// Write loft.1 and a page for every command into this directory
    #[arg(long, value_name = "DIR", conflicts_with = "command")]
    pub dir: Option<PathBuf>,
}
