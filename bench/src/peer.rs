//! Who is measured, and how each is asked for the same thing.

use crate::corpus::Corpus;
use crate::garage::{ACCESS_KEY, BUCKET, REGION, SECRET_KEY};
use crate::programs::{Programs, clean};
use crate::proxy;
use clap::ValueEnum;
use serde::Serialize;
use std::path::Path;
use std::process::Command;

/// A program with its settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
pub enum Peer {
    /// `loft push` as it comes.
    Loft,
    /// The same with `upload_threads = 64`.
    LoftThreads,
    /// `nix copy`, at loft's level of zstd.
    Nix,
    /// The same with `parallel-compression=true`.
    NixParallel,
    /// Copies bytes that loft has made before: what sending alone costs.
    Rclone,
}

impl Peer {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Loft => "loft",
            Self::LoftThreads => "loft, 64 threads",
            Self::Nix => "nix copy",
            Self::NixParallel => "nix copy, parallel",
            Self::Rclone => "rclone, ready-made bytes",
        }
    }
}

/// What a client remembers between two runs.
pub struct Home(tempfile::TempDir);

impl Home {
    pub fn new() -> Self {
        Self(tempfile::Builder::new().prefix("loft-bench-home-").tempdir().expect("a temporary folder"))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Peer {
    /// A push of `root` with its closure to the bucket behind the proxy at `address`.
    pub fn push(self, programs: &Programs, home: &Home, corpus: &Corpus, root: &str, address: &str) -> Command {
        let store = format!("local?root={}", corpus.store.display());
        let mut command = match self {
            Self::Loft | Self::LoftThreads => {
                let mut settings = format!("[loft]\nlocal_cache_path = {:?}\n", home.path().join("ledger.db"));
                if self == Self::LoftThreads {
                    settings.push_str("upload_threads = 64\n");
                }
                let file = home.path().join("loft.toml");
                std::fs::write(&file, settings).expect("loft.toml");
                let mut command = clean(&programs.loft);
                command.arg("--config").arg(file).args(["push", "--quiet", "--store", &store]);
                command.args(["--to", &format!("s3://{BUCKET}?endpoint=http://{address}&region={REGION}")]);
                command.arg("--signing-key").arg(&corpus.secret_key).arg(root);
                command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
                command
            }
            Self::Nix | Self::NixParallel => {
                let parallel = if self == Self::NixParallel { "&parallel-compression=true" } else { "" };
                let key = corpus.secret_key.display();
                let to = proxy::http_store(address);
                let to = format!("{to}?compression=zstd&compression-level=3{parallel}&secret-key={key}");
                let mut command = programs.nix("nix");
                command.args(["copy", "--store", &store, "--to", &to, root]);
                command
            }
            Self::Rclone => {
                let mut command = clean(&programs.rclone);
                command.arg("copy").arg(&corpus.ready_made).arg(format!("bench:{BUCKET}"));
                command.args(["--transfers", "32", "--checkers", "32", "--s3-no-check-bucket", "--s3-no-head"]);
                command.args(["--s3-no-head-object", "--no-check-dest", "--s3-upload-concurrency", "8"]);
                for (name, value) in [
                    ("TYPE", "s3"),
                    ("PROVIDER", "Other"),
                    ("ENDPOINT", &format!("http://{address}")),
                    ("REGION", REGION),
                    ("FORCE_PATH_STYLE", "true"),
                    ("ACCESS_KEY_ID", ACCESS_KEY),
                    ("SECRET_ACCESS_KEY", SECRET_KEY),
                ] {
                    command.env(format!("RCLONE_CONFIG_BENCH_{name}"), value);
                }
                command
            }
        };
        command.env("HOME", home.path()).env("XDG_CACHE_HOME", home.path().join("cache")).current_dir(home.path());
        command
    }
}
