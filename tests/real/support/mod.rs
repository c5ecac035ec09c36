//! The real programs around loft, and an oracle that shares no code with it.

pub mod audit;
pub mod corpus;
#[path = "../../it/support/fixture_store.rs"]
#[allow(dead_code)] // Tests of the library ask more of it.
pub mod fixture_store;
pub mod folder;
pub mod garage;
pub mod local_store;
pub mod loft;
pub mod machine;
pub mod moments;
pub mod nix;
pub mod place;
pub mod process;
pub mod proxy;
pub mod pruning;
pub mod s3;
pub mod seaweed;
pub mod server;
pub mod service;
pub mod small_disk;
pub mod systemd;
pub mod time;
pub mod tools;

use std::path::PathBuf;

/// Where programs and corpora that are dear to make are kept from one run to the next.
pub fn user_cache() -> PathBuf {
    let base = std::env::var_os("XDG_CACHE_HOME").filter(|value| !value.is_empty()).map(PathBuf::from);
    base.unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache")).join("loft")
}
