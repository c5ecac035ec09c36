//! The local Nix store: who is valid, what it refers to, where its files are.
//!
//! Pure Rust: SQLite read-only (`database`) and the worker protocol (`daemon`) behind one trait.
//! Neither alone will do. The database is quickest and knows the order of registrations, but may be
//! unreadable; the daemon serves every user and holds temporary roots, but may be absent. So
//! `local_store` asks whichever works. Everything here blocks; async callers go through `spawn_blocking`.

mod build_log;
mod closure;
mod conversation;
mod daemon;
mod database;
mod error;
mod examination;
mod local_store;
mod location;
mod reachable;
mod registrations;
mod resolve;
mod row;
mod stamp;
mod temp_roots;
mod wire;

pub use build_log::{BuildLog, BuildLogError};
pub use closure::{Closure, closure, references_first};
pub use error::StoreError;
pub use examination::{DaemonAnswer, Examination, examine};
pub use local_store::open;
pub use location::{Location, Settings};
pub use registrations::{Cursor, Registrations};
pub use resolve::resolve;
pub use stamp::Stamp;

use crate::nix::{PathInfo, StorePath};

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
    /// One damaged registration fails the batch and is named.
    fn path_infos(&self, paths: &[StorePath]) -> Result<Vec<Option<PathInfo>>, StoreError>;
    fn all_valid_paths(&self) -> Result<Vec<StorePath>, StoreError>;
    /// Keeps `path` and its closure from being collected. Does not check validity: ask for
    /// `path_infos` *after* this.
    fn protect(&self, path: &StorePath) -> Result<Protection, StoreError>;
    /// `roots` and all that they refer to, directly or not, each once, in no order that callers may
    /// rely on. A root or reference that is not valid is an error that names it and its referrer.
    ///
    /// Most callers want [`closure()`], which puts them in order.
    fn reachable(&self, roots: &[StorePath]) -> Result<Vec<PathInfo>, StoreError> {
        closure::by_batches(self, roots)
    }
    /// Tells whether anything may have been registered, without a look. `None`: it cannot.
    fn stamp(&self) -> Option<Stamp> {
        None
    }
    /// What was registered after `cursor`, or everything where there is none. `None`: this store cannot
    /// tell, for want of its database, and the caller compares `all_valid_paths`.
    fn registered_since(&self, _cursor: Option<&Cursor>) -> Result<Option<Registrations>, StoreError> {
        Ok(None)
    }
}
