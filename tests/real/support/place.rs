//! Where loft pushes to and Nix reads from: a folder, Garage, SeaweedFS.

use super::audit::Cache;
use super::garage::Garage;
use super::s3::Bucket;
use super::seaweed::SeaweedFs;
use std::process::Command;
use tempfile::TempDir;

pub enum Place {
    Folder(TempDir),
    Garage(Garage),
    SeaweedFs(SeaweedFs),
}

impl Place {
    pub fn folder() -> Self {
        Self::Folder(tempfile::Builder::new().prefix("loft-cache-").tempdir().expect("temporary folder"))
    }

    pub fn garage() -> Self {
        Self::Garage(Garage::start())
    }

    pub fn seaweedfs() -> Self {
        Self::SeaweedFs(SeaweedFs::start())
    }

    pub fn bucket(&self) -> Option<&Bucket> {
        match self {
            Self::Folder(_) => None,
            Self::Garage(garage) => Some(&garage.bucket),
            Self::SeaweedFs(seaweed) => Some(&seaweed.bucket),
        }
    }

    /// Adds what `loft push` needs to write here.
    pub fn write(&self, command: &mut Command) {
        match (self, self.bucket()) {
            (Self::Folder(folder), _) => {
                command.args(["--to", &format!("file://{}", folder.path().display())]);
            }
            (_, Some(bucket)) => {
                command.args(["--to", &bucket.url()]).envs(bucket.environment());
            }
            (_, None) => unreachable!("servers have buckets"),
        }
    }

    /// The substituter URL that every Nix can read.
    pub fn substituter(&self) -> String {
        match self {
            Self::Folder(folder) => format!("file://{}", folder.path().display()),
            Self::Garage(garage) => garage.web.clone(),
            Self::SeaweedFs(seaweed) => seaweed.web.clone(),
        }
    }

    /// Everything in it, for the oracle.
    pub fn cache(&self) -> Cache<'_> {
        match (self, self.bucket()) {
            (Self::Folder(folder), _) => Cache::Folder(folder.path().into()),
            (_, Some(bucket)) => Cache::Bucket(bucket),
            (_, None) => unreachable!("servers have buckets"),
        }
    }
}
