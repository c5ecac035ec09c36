//! Where programs are, and what they find around them.

use clap::Args;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where programs are.
#[derive(Debug, Clone, Args)]
pub struct Programs {
    #[arg(long = "loft")]
    pub loft: PathBuf,
    /// The folder of a recent Nix.
    #[arg(long = "nix")]
    pub nix: PathBuf,
    #[arg(long = "garage")]
    pub garage: PathBuf,
    #[arg(long = "rclone", default_value = "rclone")]
    pub rclone: PathBuf,
}

impl Programs {
    /// The same wherever they are started.
    pub fn absolute(&self) -> Self {
        let absolute = |path: &PathBuf| std::path::absolute(path).expect("a path");
        let rclone = if self.rclone.components().count() > 1 { absolute(&self.rclone) } else { self.rclone.clone() };
        Self { loft: absolute(&self.loft), nix: absolute(&self.nix), garage: absolute(&self.garage), rclone }
    }

    pub fn nix(&self, program: &str) -> Command {
        let mut command = clean(&self.nix.join(program));
        command.env("NIX_CONFIG", "experimental-features = nix-command\nsubstituters =\nbuild-users-group =\n");
        command.env("NIX_USER_CONF_FILES", "");
        command
    }
}

/// Nothing of this machine's settings for stores and proxies.
pub fn clean(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["AWS_", "NIX_", "LOFT_", "RCLONE_"].iter().any(|prefix| text.starts_with(prefix))
            || text.ends_with("_proxy")
        {
            command.env_remove(&name);
        }
    }
    command
}
