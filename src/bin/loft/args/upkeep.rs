//! Looking after a cache: `loft status`, `loft prune`, `loft check`.

use super::SETTINGS;
use super::push::Settings;
use super::value::{portion, public_key, size, sweep_id};
use clap::Args;
use std::path::PathBuf;
use ulid::Ulid;

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
    #[arg(long, value_name = "ID", value_parser = sweep_id, conflicts_with_all = ["dry_run", "all", "remove_most", "list_trash", "retention", "max_size"])]
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
