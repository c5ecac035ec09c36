//! What was typed. `action.rs` says what it means.
//!
//! The bare flags are those of the original loft and stay word for word; the verbs are the real thing.

use clap::{Args, Parser, Subcommand, ValueEnum};
use loft::config::parse_size;
use std::ffi::OsString;
use std::path::PathBuf;
use ulid::Ulid;

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

/// Make a bucket or a directory ready for pushing, and tell how to read from it
///
/// Makes what is missing: the bucket, nix-cache-info, a signing key, loft.toml; tries what the credentials may do; and asks
/// nothing. What is there is never overwritten, so it can be run again.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  loft init 's3://nix-cache?endpoint=http://localhost:3900&region=garage'
  loft init --public http://nix-cache.localhost:3902   # let everybody read, by Garage's web port
  loft init file:///srv/cache
  loft -c /etc/loft/loft.toml init

Exit status: 0 ready, 1 stopped, 2 prepared, but these credentials cannot push, or not everybody can
read although --public says so")]
pub struct Init {
    /// Which cache: s3://BUCKET?endpoint=…&region=… or file:///DIRECTORY [default: loft.toml's, or LOFT_CACHE]
    #[arg(value_name = "URL")]
    pub url: Option<String>,
    /// The same, as the other commands take it
    #[arg(long, value_name = "URL", conflicts_with = "url")]
    pub to: Option<String>,
    /// Let everybody read the bucket, at this web address of it: http://nix-cache.localhost:3902, say. While nobody can read
    /// there, nothing is written on this machine
    #[arg(long, value_name = "URL")]
    pub public: Option<String>,
    /// Sign with the secret key in this file, which is made if it is not there [default: ~/.config/loft/NAME.secret]
    #[arg(long, value_name = "FILE")]
    pub signing_key: Option<PathBuf>,
    /// Name of a new signing key, by which clients know it [default: the public address, or BUCKET-MACHINE-1]
    #[arg(long, value_name = "NAME", value_parser = key_name)]
    pub key_name: Option<loft::nix::KeyName>,
    /// Nix store that the cache is for [default: this machine's]
    #[arg(long, value_name = "STORE")]
    pub store: Option<String>,
    /// Tell what would be made and make nothing
    #[arg(long)]
    pub dry_run: bool,
    /// One JSON object per step on stdout, and one at the end
    #[arg(long)]
    pub json: bool,
}

/// Print what a machine's Nix needs to read from the cache, or write it into nix.conf
///
/// Without URL and keys those of loft.toml are taken: public_url, else the bucket itself, and the public half of the
/// signing key.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  loft use                                 # lines for nix.conf
  sudo loft use --write --restart          # add them to /etc/nix/nix.conf, and restart the daemon
  loft use --form nixos https://cache.example.org       # for configuration.nix
  loft use --netrc /etc/nix/netrc          # for a web server that wants a name and a password
  loft use --profile nix 's3://nix-cache?endpoint=https://s3.example.org&region=garage'")]
pub struct Use {
    /// What to read from: https://HOST, s3://BUCKET?endpoint=… or file:///DIRECTORY
    #[arg(value_name = "URL")]
    pub url: Option<String>,
    /// Believe what this key has signed (repeatable) [default: the configured keys' public halves]
    #[arg(long, value_name = "NAME:BASE64", value_parser = public_key)]
    pub public_key: Vec<loft::nix::PublicKey>,
    /// Add the lines to FILE [default: /etc/nix/nix.conf for root, ~/.config/nix/nix.conf for others]
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, conflicts_with = "form")]
    pub write: Option<Option<PathBuf>>,
    /// Restart the Nix daemon, if one runs, so that it reads the file
    #[arg(long, requires = "write")]
    pub restart: bool,
    /// Where the lines are to stand
    #[arg(long, value_name = "FORM", default_value = "nix.conf")]
    pub form: ReadingForm,
    /// Take names and passwords for web servers from this file
    #[arg(long, value_name = "FILE")]
    pub netrc: Option<PathBuf>,
    /// Read s3:// with the credentials of this profile of the daemon's ~/.aws/credentials
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReadingForm {
    /// Lines of nix.conf
    #[value(name = "nix.conf")]
    NixConf,
    /// A module for NixOS, nix-darwin or Home Manager
    Nixos,
    /// nixConfig of a flake
    Flake,
    /// Options for one command
    Options,
}

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

/// Tell what is in the cache, and what is still to be pushed
///
/// To see whether the service keeps up, and what fills the bucket. Changes nothing: neither the bucket nor the ledger, and makes
/// no ledger where there is none.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  loft status
  loft status --local --json | jq .local.queue
  loft status --prometheus /var/lib/node_exporter/loft.prom   # by a timer, for node_exporter

Exit status: 0 told, whatever is queued; 1 the bucket or the ledger could not be read")]
pub struct Status {
    /// Which cache: s3://BUCKET?endpoint=…&region=… or file:///DIRECTORY [env: LOFT_CACHE]
    #[arg(long, value_name = "URL")]
    pub to: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Read every narinfo, also of a large cache: exact sizes, and names for all of the largest
    #[arg(long)]
    pub full: bool,
    /// Send no request to the bucket
    #[arg(long, conflicts_with_all = ["full", "to"])]
    pub local: bool,
    /// Print the queue and totals as metrics for Prometheus, or write them into FILE; without a request to the bucket
    #[arg(long, value_name = "FILE", num_args = 0..=1, conflicts_with_all = ["json", "full", "to"])]
    pub prometheus: Option<Option<PathBuf>>,
}

#[derive(Debug, Subcommand)]
pub enum Key {
    /// Make a key pair: the secret half goes to a file of mode 0600, the public half to stdout
    #[command(after_help = "\
Example:
  loft key generate cache.example.org-1 --out /etc/loft/signing-key

Put the line it prints into trusted-public-keys of the clients' nix.conf, and the file's path into
signing_key_path of loft.toml.")]
    Generate {
        /// The key's name, by which clients know it; customarily HOST-NUMBER
        name: String,
        /// File for the secret key; never overwritten [default: NAME.secret]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Print the public key that belongs to a secret key file
    #[command(after_help = "\
Example:
  loft key show /etc/loft/signing-key   # prints NAME:BASE64, for trusted-public-keys")]
    Show {
        /// The secret key's file
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
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

/// Remove what retention no longer covers, while other machines may push and prune
///
/// A path stays while it was pushed within the retention (`prune_retention_days`), is pinned, is needed
/// by a path that stays, or is younger than a day. Above `prune_max_size_gb`, what was pushed longest ago goes too.
/// What goes can be brought back for seven days. Needs no Nix store.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  loft prune --dry-run           # what would go, and why
  loft prune --retention 90 --max-size 500GiB
  loft prune --list-trash        # what can be undone, and until when
  loft prune --undo 01JQXK3V9T6M8Y2Z4B7C5D1E0F

Exit status: 0 done, 1 refused or stopped, 2 finished but something could not be removed or is left
for the next prune, 130 interrupted")]
pub struct Prune {
    /// Print the plan and remove nothing
    #[arg(long)]
    pub dry_run: bool,
    /// One JSON object per event on stdout
    #[arg(long)]
    pub json: bool,
    /// Name every path that goes, however many
    #[arg(long)]
    pub all: bool,
    /// Remove even more than half of all paths at once
    #[arg(long)]
    pub remove_most: bool,
    /// Put back what the prune with this ID has removed
    #[arg(long, value_name = "ID", conflicts_with_all = ["dry_run", "all", "remove_most", "list_trash", "retention", "max_size"])]
    pub undo: Option<Ulid>,
    /// Tell what can be undone, and until when
    #[arg(long, conflicts_with_all = ["dry_run", "all", "remove_most", "retention", "max_size"])]
    pub list_trash: bool,
    /// Which cache: s3://BUCKET?endpoint=…&region=… or file:///DIRECTORY [env: LOFT_CACHE]
    #[arg(long, value_name = "URL", help_heading = SETTINGS)]
    pub to: Option<String>,
    /// Keep what was pushed within so many days (`prune_retention_days`)
    #[arg(long, value_name = "DAYS", allow_negative_numbers = true, help_heading = SETTINGS)]
    pub retention: Option<i64>,
    /// Keep no more than this, such as 500GiB or 2TB (`prune_max_size_gb`)
    #[arg(long, value_name = "SIZE", value_parser = size, help_heading = SETTINGS)]
    pub max_size: Option<u64>,
}

fn size(text: &str) -> Result<u64, String> {
    let size = parse_size(text).filter(|size| *size > 0);
    size.ok_or_else(|| "use a number and a unit: 500GiB, 2TiB, 800GB".to_owned())
}

/// How long a pin holds; by default until it is removed.
#[derive(Debug, Default, Args)]
pub struct PinRule {
    /// Let the pin hold for so many days
    #[arg(long, value_name = "N", conflicts_with = "keep_last", value_parser = clap::value_parser!(u32).range(1..=36_500), help_heading = PINNED)]
    pub keep_days: Option<u32>,
    /// Let it hold while it is among the newest N of its name
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), help_heading = PINNED)]
    pub keep_last: Option<u32>,
}

impl PinRule {
    pub const fn is_given(&self) -> bool {
        self.keep_days.is_some() || self.keep_last.is_some()
    }
}

#[derive(Debug, Subcommand)]
pub enum Pin {
    /// Pin paths that are in the cache
    #[command(after_help = "\
Examples:
  loft pin add release-24 ./result
  loft pin add nightly ./result --keep-last 7
  loft push --pin nightly --keep-last 7 ./result   # pushes as well")]
    Add {
        /// Letters, digits, `-`, `_` and `.`; the same name may be pinned again
        #[arg(value_parser = pin_name)]
        name: String,
        /// Store paths, or symlinks such as ./result
        #[arg(value_name = "PATH", required = true)]
        paths: Vec<PathBuf>,
        #[command(flatten)]
        keep: PinRule,
        /// Which cache: s3://BUCKET?endpoint=…&region=… or file:///DIRECTORY [env: LOFT_CACHE]
        #[arg(long, value_name = "URL")]
        to: Option<String>,
    },
    /// Remove the pins of a name; what they kept goes by its age then
    #[command(after_help = "\
Examples:
  loft pin rm release-24
  loft pin rm nightly --all-but-last 7")]
    Rm {
        /// The name
        #[arg(value_parser = pin_name)]
        name: String,
        /// Leave the newest N
        #[arg(long, value_name = "N", default_value_t = 0)]
        all_but_last: usize,
        /// Which cache: s3://BUCKET?endpoint=…&region=… or file:///DIRECTORY [env: LOFT_CACHE]
        #[arg(long, value_name = "URL")]
        to: Option<String>,
    },
    /// List all pins, each with its rule
    #[command(after_help = "\
Examples:
  loft pin list
  loft pin list --json | jq -r .name")]
    List {
        /// One JSON object a line
        #[arg(long)]
        json: bool,
        /// Which cache: s3://BUCKET?endpoint=…&region=… or file:///DIRECTORY [env: LOFT_CACHE]
        #[arg(long, value_name = "URL")]
        to: Option<String>,
    },
}

/// Check that the cache holds what it promises; with --repair, mend it
///
/// Now and then from a timer, and whenever something seems wrong. Reads all narinfos (each version once, the ledger keeps copies) and lists all NARs; the NARs themselves with
/// --read-data. Without --repair nothing is changed but a probe object. docs/checking.md tells what is looked at.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  loft check
  loft check --read-data=3/30    # a thirtieth each night: all data is read in a month
  loft check --repair
  loft check --json | jq 'select(.severity == \"damage\")'

Exit status: 0 no damage (with --repair: none is left), 1 could not look, 2 not all could be
repaired, 3 damage, 130 interrupted")]
pub struct Check {
    /// Also read NARs and compare them with what is said of them: all, PERCENT% at random, or the N-th of M slices
    #[arg(long, value_name = "PERCENT%|N/M", num_args = 0..=1, require_equals = true, default_missing_value = "100%",
          value_parser = portion)]
    pub read_data: Option<loft::check::Portion>,
    /// Also read again what was found sound within the last day
    #[arg(long, requires = "read_data")]
    pub read_again: bool,
    /// Push damaged paths again, restore them from trash, or set them aside with all that refers to them
    #[arg(long)]
    pub repair: bool,
    /// Let a repair set aside more than half of all paths
    #[arg(long, requires = "repair")]
    pub remove_most: bool,
    /// Judge signatures by this key as well as by the configured ones (repeatable)
    #[arg(long, value_name = "NAME:BASE64", value_parser = public_key)]
    pub public_key: Vec<loft::nix::PublicKey>,
    /// Write nothing at all, not even a probe object
    #[arg(long, conflicts_with = "repair")]
    pub no_probe: bool,
    /// One JSON object per finding on stdout, and one at the end
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub settings: Settings,
}

/// Test everything that loft rests on here, and tell the way out of what is broken
///
/// Configuration, credentials, the way to the bucket, each permission, clocks, the store, the ledger, disks, nix.conf. Writes
/// scratch objects below loft/v1/probe/ alone, and removes them. docs/doctor.md tells about each code.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  loft doctor
  loft -c /etc/loft/loft.toml doctor       # as the service has it, run by root
  loft doctor --json | jq 'select(.verdict == \"broken\")'

Exit status: 0 nothing is broken, 1 could not look, 3 something is broken")]
pub struct Doctor {
    /// Ask nobody over the network
    #[arg(long)]
    pub offline: bool,
    /// Write nothing at all; permissions cannot be tried then
    #[arg(long)]
    pub no_probe: bool,
    /// One JSON object per finding on stdout
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub settings: Settings,
}

/// Sign what is in the cache already with the configured keys
///
/// After a new key was made, or where paths were pushed without one. Nothing is signed on the cache's word alone: a path must carry a valid signature by a trusted key, or its data is read
/// and hashed with --read-data.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  loft sign --dry-run
  loft sign --signing-key new.secret --trusted-public-key \"$(loft key show old.secret)\"

Exit status: 0 all are signed, 1 stopped, 2 some are not, 130 interrupted")]
pub struct Sign {
    /// Believe signatures by this key (repeatable) [default: the configured keys' public halves]
    #[arg(long, value_name = "NAME:BASE64", value_parser = public_key)]
    pub trusted_public_key: Vec<loft::nix::PublicKey>,
    /// Read and hash the data of paths that no trusted key has signed, and sign those too
    #[arg(long)]
    pub read_data: bool,
    /// Tell what would be signed and write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// One JSON object per path on stdout, and one at the end
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub settings: Settings,
}

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

fn portion(text: &str) -> Result<loft::check::Portion, String> {
    text.parse()
}

fn key_name(text: &str) -> Result<loft::nix::KeyName, String> {
    loft::nix::KeyName::parse(text).map_err(|error| error.to_string())
}

fn public_key(text: &str) -> Result<loft::nix::PublicKey, String> {
    loft::nix::PublicKey::parse(text).map_err(|error| error.to_string())
}

/// A pin's name becomes part of an object's key, so it is kept plain.
fn pin_name(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.is_empty() || text.len() > 100 || text.starts_with('.') || !text.chars().all(plain) {
        return Err("use 1 to 100 letters, digits, `-`, `_` and `.`, not starting with `.`".to_owned());
    }
    Ok(text.to_owned())
}
