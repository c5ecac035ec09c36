//! Black-box tests: the `loft` program against a real Nix, a real Garage and a real SeaweedFS.
//!
//! One file for each promise. Every test here is `#[ignore]`d for a plain `cargo test`, since it needs programs
//! that cargo cannot provide; `./test --full` puts those in place and runs all of them. `./test` runs those that
//! need Nix alone: all whose names have none of `garage`, `seaweedfs`, `corpus`, `recent_nix` and `long_`.
//! Once asked for, a test never skips: what is missing fails it, with the way to get it.

#[path = "../original/toml.rs"]
mod original_toml;

#[path = "../reference/page.rs"]
mod page;

#[path = "../book/blocks.rs"]
mod book_blocks;

mod action;
mod book;
mod bucket;
mod check;
mod crash;
mod doctor;
mod extras;
mod first_minutes;
mod harness;
mod hook;
mod idle;
mod memory;
mod nix_module;
mod old_style;
mod package;
mod prune_basics;
mod prune_beside_nix;
mod prune_crash;
mod prune_stopped;
mod prune_storm;
mod release;
mod resume;
mod round_trip;
mod run;
mod second_push;
mod shells;
mod signatures;
mod static_program;
mod status;
mod status_page;
mod store;
mod support;
mod trouble;
mod upstream;
mod use_cache;
mod watch;
mod watch_bursts;
mod watch_trouble;
