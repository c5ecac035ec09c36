//! The first minutes, and when they went wrong: `loft init`, `loft use`, `loft doctor`.

use super::push::Settings;
use super::value::{cache_url, key_name, public_key};
use clap::{Args, ValueEnum};
use std::path::PathBuf;

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
    #[arg(value_name = "URL", value_parser = cache_url)]
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
    /// The same, as the other commands take it
    #[arg(long, value_name = "URL", conflicts_with = "url")]
    pub to: Option<String>,
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
