//! The local Nix store: who is valid, what it refers to, where its files are.
//!
//! Pure Rust: SQLite read-only (`database`) and the worker protocol (`daemon`) behind one trait.
//! Everything here blocks; async callers go through `spawn_blocking`.

use crate::nix::{PathInfo, StoreDir, StorePath};
use crate::remedy::Remedy;
use std::path::{Path, PathBuf};

/// Where a store is. Logical (what the database, narinfos and signatures say) and physical
/// (where the bytes are) differ in chroot stores, so they never share a variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    pub store_dir: StoreDir,
    pub real_store_dir: PathBuf,
    pub state_dir: PathBuf,
    pub daemon_socket: PathBuf,
}

impl Location {
    /// The files of `path` on this machine.
    pub fn real_path(&self, path: &StorePath) -> PathBuf {
        self.real_store_dir.join(path.as_str())
    }
}

/// What `Store::protect` achieved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Protection {
    /// The store's garbage collector keeps the path, and all it refers to, while the store value lives.
    Held,
    /// Nothing holds it; NarHash will tell if it changed. The text says why.
    Unheld(String),
}

/// Read access to one Nix store.
pub trait Store: Send + Sync {
    fn location(&self) -> &Location;
    /// One line for users: back end and place, for example `/nix/store (database, daemon 2.26)`.
    fn describe(&self) -> String;
    /// In the order asked; `None` for a path that is not valid. Batched: thousands are fine.
    fn path_infos(&self, paths: &[StorePath]) -> Result<Vec<Option<PathInfo>>, StoreError>;
    fn all_valid_paths(&self) -> Result<Vec<StorePath>, StoreError>;
    /// Keeps `path` and its closure from being collected. Does not check validity: ask for
    /// `path_infos` *after* this.
    fn protect(&self, path: &StorePath) -> Result<Protection, StoreError>;
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("todo")]
    Todo,
}

impl StoreError {
    pub fn remedy(&self) -> Remedy {
        todo!()
    }
}

/// What the caller knows of where the store is; empty fields follow Nix's own rules.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// As in `store = …` of the configuration or `--store`: `auto`, `daemon`, `local`, `unix://…`,
    /// `local?root=…`, or an absolute path of a chroot store.
    pub store: Option<String>,
    /// Variables that Nix obeys (`NIX_REMOTE`, `NIX_STORE_DIR`, `NIX_STATE_DIR`,
    /// `NIX_DAEMON_SOCKET_PATH`, `HOME`, `XDG_DATA_HOME`), handed in by the binary.
    pub environment: std::collections::BTreeMap<String, String>,
}

/// Opens the store that `settings` point at.
pub fn open(_settings: &Settings) -> Result<Box<dyn Store>, StoreError> {
    todo!()
}

/// What a user typed (a store path, a path inside one, a symlink such as `./result`) as a store path.
pub fn resolve(_location: &Location, _typed: &Path) -> Result<StorePath, StoreError> {
    todo!()
}

/// A set of paths closed over references, references before referrers.
#[derive(Debug, Clone, Default)]
pub struct Closure {
    /// Topological: each path's references (but itself) stand before it.
    pub infos: Vec<PathInfo>,
}

/// Closure of `roots`. A root or reference that is not valid is an error that names it and its referrer.
pub fn closure(_store: &dyn Store, _roots: &[StorePath]) -> Result<Closure, StoreError> {
    todo!()
}
