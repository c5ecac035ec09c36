//! What stays: pins.

use super::PINNED;
use super::value::pin_name;
use clap::{Args, Subcommand};
use std::path::PathBuf;

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
