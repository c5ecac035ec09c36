//! loft pushes Nix store paths into S3-compatible storage that Nix reads as a binary cache.
//!
//! The order of the groups below is the order of the layers; a module uses only the groups
//! before its own (`tests/it/layers.rs` holds that). ARCHITECTURE.md tells the story.

// A panic loses a push half-way; what cannot fail is written so that it cannot. And only the binary talks.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)]

// 1 words
pub mod clock;
pub mod nix;
pub mod quantity;
pub mod record;
pub mod remedy;
pub mod report;

// 2 ends
pub mod bucket;
pub mod ledger;
pub mod nar;
pub mod store;

// 3 work
pub mod catalog;
pub mod check;
pub mod pin;
pub mod plan;
pub mod prune;
pub mod push;
pub mod sign;
pub mod survey;
pub mod watch;

// 4 drivers
pub mod config;
pub mod doctor;
pub mod follow;
pub mod metrics;
pub mod page;
pub mod service;
pub mod setup;
