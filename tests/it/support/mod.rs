//! Fakes and fixtures that component tests share.
//!
//! A test file uses the part it needs, so some of it is idle in any one binary.
#![allow(dead_code)]

pub mod checking;
pub mod closures;
pub mod fake_daemon;
pub mod fixture_store;
pub mod local_cache;
pub mod memory;
pub mod oracle;
pub mod patient;
pub mod protocol;
pub mod pruning;
pub mod s3_server;
pub mod service;
pub mod setup;
pub mod time;
pub mod tls;
pub mod vast;
pub mod wire_faults;
pub mod world;
