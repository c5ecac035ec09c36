//! What pushes: `loft push`, `loft run`, `loft watch`.

use super::SETTINGS;
use super::pin::PinRule;
use super::value::pin_name;
use clap::Args;
use std::ffi::OsString;
use std::path::PathBuf;

/// Settings that may be typed with every verb that pushes.
#[derive(Debug, Args)]
pub struct Settings {
    /// Where to: s3://BUCKET?endpoint=…&region=… or file:///DIRECTORY [env: LOFT_CACHE]
    #[arg(long, value_name = "URL", help_heading = SETTINGS)]
    pub to: Option<String>,
    /// Compression level (`compression_level`): zstd 1 to 22, else 3; xz 0 to 9, else 6
    #[arg(long, value_name = "N", allow_negative_numbers = true, help_heading = SETTINGS)]
    pub level: Option<i64>,
    /// Paths worked on at once (`upload_threads`)
    #[arg(short, long, value_name = "N", allow_negative_numbers = true, help_heading = SETTINGS)]
    pub jobs: Option<i64>,
    /// Sign with the secret key in this file (repeatable), instead of the configured keys
    #[arg(long, value_name = "FILE", help_heading = SETTINGS)]
    pub signing_key: Vec<PathBuf>,
    /// Nix store to read: auto, daemon, local, unix://SOCKET, local?root=DIR or a chroot store's directory
    #[arg(long, value_name = "STORE", help_heading = SETTINGS)]
    pub store: Option<String>,
}

/// Push store paths with everything they refer to
///
/// For what is built already, by hand or as a step in CI; `loft run` pushes while a command builds, and `loft watch` whatever
/// a machine builds. A path may be a store path, something inside one, or a symlink such as ./result. What the cache has,
/// and what `skip_signed_by_keys` leaves to other caches, is not sent.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  loft push ./result
  loft push --to file:///srv/cache --signing-key signing-key ./result
  loft push --pin nightly --keep-last 7 ./result   # prunes spare the last seven of this name
  nix-store --query --requisites ./result | loft push -
  loft push --dry-run --json ./result              # what would be sent, one JSON object a line

Exit status: 0 all landed, 1 stopped and nothing more was tried, 2 finished but some paths did
not land and each is named, 130 interrupted")]
pub struct Push {
    /// Store paths or symlinks to them; `-` reads one per line from stdin
    #[arg(value_name = "PATH", required_unless_present = "all")]
    pub paths: Vec<PathBuf>,
    /// Push every valid path of the store
    #[arg(long, conflicts_with = "paths")]
    pub all: bool,
    /// Push the paths alone; what they refer to must be in the cache already, or they do not land
    #[arg(long)]
    pub no_closure: bool,
    /// Keep the paths in the cache under this name, whatever their age
    #[arg(long, value_name = "NAME", value_parser = pin_name)]
    pub pin: Option<String>,
    #[command(flatten)]
    pub keep: PinRule,
    /// Print the plan and send nothing
    #[arg(long)]
    pub dry_run: bool,
    /// One JSON object per event on stdout
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub settings: Settings,
}

/// Push what becomes valid in the store, from now on and since the last time
///
/// For a machine that builds, as a service that runs for ever: packages and the NixOS module bring one. Bare `loft` does the same.
/// With `scan_on_startup` in loft.toml, what the store has already is pushed first, once; with `prune_enabled` it prunes, too.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  loft -c /etc/loft.toml watch
  loft watch --to 's3://nix-cache?endpoint=http://localhost:3900&region=garage'

SIGTERM settles what is in flight and leaves the rest queued; SIGHUP rereads loft.toml and keys.")]
pub struct Watch {
    /// Say what would be pushed and send nothing
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub settings: Settings,
}

/// Run a command and push everything that becomes valid in the store meanwhile, also when it fails
///
/// For jobs in CI, and machines without the service. Builds are pushed while the command still runs, and the rest after it.
/// The command has the terminal and the pipes; loft tells warnings alone until it has ended. Signals are passed on to it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  loft run -- nix-build
  loft -c ci/loft.toml run -- sh -c 'nix-build -A tests && nix-build -A docs'

In GitHub Actions, with LOFT_CACHE, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in `env:`
  - run: loft run --signing-key \"$RUNNER_TEMP/key\" -- nix build

Exit status: the command's own where that is not 0 (128 + n when signal n ended it, 127 not
found, 126 not started); else 0 all landed, 1 pushing stopped, 2 some paths did not land, 130
pushing interrupted. A mistake in the configuration is 1, and then the command does not run.")]
pub struct Run {
    /// Where the command succeeds, keep all that it built in the cache under this name
    #[arg(long, value_name = "NAME", value_parser = pin_name)]
    pub pin: Option<String>,
    #[command(flatten)]
    pub keep: PinRule,
    #[command(flatten)]
    pub settings: Settings,
    /// The command and its arguments, after `--`
    #[arg(value_name = "CMD", last = true, required = true)]
    pub command: Vec<OsString>,
}
