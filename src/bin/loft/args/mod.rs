//! What was typed, a file for each group of verbs. `action.rs` says what it means.
//!
//! The bare flags are those of the original loft and stay word for word; the verbs are the real thing.

mod keys;
mod pin;
mod push;
mod setup;
mod shell;
mod upkeep;
mod value;

pub use keys::{Key, Sign};
pub use pin::{Pin, PinRule};
pub use push::{Push, Run, Settings, Watch};
pub use setup::{Doctor, Init, ReadingForm, Use};
pub use shell::{Completions, Man, Shell};
pub use upkeep::{Check, Prune, Status};

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Pushes Nix store paths into an S3 bucket that Nix reads as a binary cache
///
/// The bucket is the cache: there is no server to run, and any number of machines may push to it.
#[derive(Debug, Parser)]
#[command(name = "loft", version, after_help = EXAMPLES, after_long_help = EXAMPLES, max_term_width = 100)]
pub struct Arguments {
    #[command(flatten)]
    pub global: Global,
    #[command(flatten)]
    pub bare: Bare,
    #[command(subcommand)]
    pub verb: Option<Verb>,
}

// Headings of groups of options. Each argument names its own: one for a whole group would be that of what follows, too.
const EVERYWHERE: &str = "Options of every command";
const SETTINGS: &str = "Settings, instead of those of loft.toml";
const PINNED: &str = "How long a pin holds, unless for ever";
/// These stay as they were.
const OF_THE_OLDER_LOFT: &str = "Flags of the older loft, without a command";

const EXAMPLES: &str = "\
Examples:
  loft init 's3://nix-cache?endpoint=http://localhost:3900&region=garage'     # make a bucket ready
  sudo loft use --write --restart # let this machine's Nix read from it
  loft push ./result              # push a build and all it refers to, as loft.toml says
  loft push --to 's3://nix-cache?endpoint=http://localhost:3900&region=garage' ./result
  loft run -- nix-build           # run a command and push what it builds, also when it fails
  loft status                     # what is in the cache, and what is still to be pushed
  loft prune --dry-run            # what retention no longer covers, and would be removed
  loft config show                # which settings are in effect, and where each came from
  loft doctor                     # what does not work, and the way out

Exit status: 0 all landed, 1 stopped and nothing more was tried, 2 finished but some paths did
not land and each is named, 3 `loft check` found damage or `loft doctor` something broken,
130 interrupted";

#[derive(Debug, Args)]
pub struct Global {
    /// Configuration file [default: LOFT_CONFIG, else loft.toml if there is one]
    #[arg(short, long, value_name = "CONFIG", global = true, help_heading = EVERYWHERE)]
    pub config: Option<PathBuf>,
    /// Tell every step on stderr (never a secret)
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    pub debug: bool,
    /// Tell warnings, errors and the result only
    #[arg(short, long, global = true, conflicts_with = "debug", help_heading = EVERYWHERE)]
    pub quiet: bool,
    /// When to use colours; `auto` obeys NO_COLOR and the terminal
    #[arg(long, value_name = "WHEN", default_value = "auto", global = true, help_heading = EVERYWHERE)]
    pub color: Color,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Color {
    #[default]
    Auto,
    Always,
    Never,
}

/// Flags of the original loft; without any of them, bare `loft` watches the store.
#[derive(Debug, Default, PartialEq, Eq, Args)]
#[group(id = "actions", multiple = false)]
#[command(next_help_heading = OF_THE_OLDER_LOFT)]
pub struct BareAction {
    /// Empty the ledger (the local memory of what the bucket has) and exit
    #[arg(long)]
    pub clear_cache: bool,
    /// Forget that the first scan of the store was done and exit
    #[arg(long)]
    pub reset_initial_scan: bool,
    /// Check the whole store against the bucket without the ledger, push what is missing and exit
    #[arg(long)]
    pub force_scan: bool,
    /// Fill the ledger from a listing of the bucket and exit
    #[arg(long)]
    pub populate_cache: bool,
    /// Push this path with its closure and exit (repeatable); as `loft push`
    #[arg(long, value_name = "PATH")]
    pub upload_path: Vec<PathBuf>,
    /// Remove what retention no longer covers and exit; as `loft prune`
    #[arg(long)]
    pub prune: bool,
}

impl BareAction {
    /// Whether nothing but loft's local memory is touched.
    pub fn changes_only_the_ledger(&self) -> bool {
        self.clear_cache || self.populate_cache || self.reset_initial_scan
    }
}

#[derive(Debug, Args)]
pub struct Bare {
    #[command(flatten)]
    pub action: BareAction,
    /// Say what would be done and do nothing
    #[arg(long, help_heading = OF_THE_OLDER_LOFT)]
    pub dry_run: bool,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    Init(Init),
    Use(Use),
    Push(Push),
    Run(Run),
    Watch(Watch),
    /// Hand what Nix has built to the service: for Nix's post-build-hook
    ///
    /// Queues $OUT_PATHS in milliseconds and always exits 0, so that no build fails for it. Without the hook the service sees
    /// builds by itself, a few moments later.
    #[command(after_help = "\
Nix runs the hook after each build, as root, and waits for it. In nix.conf:
  post-build-hook = /etc/nix/loft-hook

where that is an executable file with:
  #!/bin/sh
  loft -c /etc/loft.toml hook || true

The service is handed the paths at once; while it does not run they wait in its queue.")]
    Hook,
    Status(Status),
    Check(Check),
    Doctor(Doctor),
    Sign(Sign),
    /// Make signing keys and show their public half
    ///
    /// Whoever pushes signs with the secret half; clients trust the public half by `trusted-public-keys` of nix.conf.
    #[command(
        subcommand,
        after_help = "\
Examples:
  loft key generate cache.example.org-1 --out signing-key
  loft key show signing-key"
    )]
    Key(Key),
    /// Show the effective configuration, or check it
    ///
    /// Where loft does something else than loft.toml seems to say, `show` tells what is in effect and who said so.
    #[command(
        subcommand,
        after_help = "\
Examples:
  loft config show
  loft -c /etc/loft.toml config check"
    )]
    Config(Config),
    Prune(Prune),
    /// Keep paths in the cache under a name, whatever their age
    ///
    /// For releases, and for what machines run: a prune spares what is pinned, and all that it refers to.
    #[command(
        subcommand,
        after_help = "\
Examples:
  loft pin add release-24 ./result
  loft pin list
  loft pin rm release-24"
    )]
    Pin(Pin),
    Completions(Completions),
    Man(Man),
}

#[derive(Debug, Subcommand)]
pub enum Config {
    /// Print every setting, its value and where it came from; secrets are left out
    #[command(after_help = "\
Examples:
  loft -c /etc/loft.toml config show
  loft config show --json | jq '.settings[] | select(.origin.kind != \"default\")'")]
    Show {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Check the configuration and the files that it names; unknown keys count as errors
    ///
    /// Before a service is started with it, or in CI for a file that is deployed. Asks the bucket nothing.
    #[command(after_help = "\
Example:
  loft -c loft.toml config check && echo fine

Exit status: 0 it can be used, 1 it cannot, and every mistake is named")]
    Check,
}
