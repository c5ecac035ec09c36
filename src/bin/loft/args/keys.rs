//! Keys and signatures: `loft key`, `loft sign`.

use super::push::Settings;
use super::value::public_key;
use clap::{Args, Subcommand};
use std::path::PathBuf;

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
