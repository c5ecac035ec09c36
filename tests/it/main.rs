//! Component tests: whole behaviour through the library, on fixtures that the tests make themselves.

mod layers;
mod support;

mod bucket_contract;
mod bucket_contract_runs;
mod bucket_directory;
mod bucket_retry;
mod bucket_s3;
mod cli;
mod config;
mod ledger;
mod original;
mod push;
mod service;
mod store;
mod store_daemon;
mod watch;
