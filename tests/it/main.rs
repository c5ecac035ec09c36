//! Component tests: whole behaviour through the library, on fixtures that the tests make themselves.

mod layers;
mod support;

#[path = "../original/toml.rs"]
mod original_toml;

/// The command line's own definition, for what is made from it. Nothing here calls what it parses to.
#[path = "../../src/bin/loft/args/mod.rs"]
#[allow(dead_code, unused_imports)]
mod args;

#[path = "../reference/page.rs"]
mod page;

#[path = "../book/blocks.rs"]
mod book_blocks;

mod book;
mod bucket_contract;
mod bucket_contract_runs;
mod bucket_directory;
mod bucket_permissions;
mod bucket_quirks;
mod bucket_retry;
mod bucket_s3;
mod check;
mod check_cli;
mod check_damage;
mod cli;
mod completions;
mod config;
mod doctor;
mod doctor_cli;
mod doctor_content;
mod doctor_machine;
mod doctor_readers;
mod extras;
mod follow;
mod help;
mod init;
mod ledger;
mod links;
mod metrics;
mod original;
mod pin;
mod pin_cli;
mod prune;
mod prune_backends;
mod prune_cli;
mod prune_extras;
mod prune_protocol;
mod prune_seeds;
mod prune_vast;
mod push;
mod push_lease;
mod push_trouble;
mod reference;
mod resume;
mod run;
mod service;
mod service_faults;
mod service_prune;
mod sign;
mod status;
mod status_page;
mod store;
mod store_daemon;
mod survey;
mod use_cache;
mod watch;
