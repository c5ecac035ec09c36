//! The static program needs nothing but itself and a store.

use crate::support::audit::Cache;
use crate::support::folder::Folder;
use crate::support::process::{end_of, stdout_of};
use crate::support::tools::{made_by, script};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

#[test]
#[ignore = "builds a release; needs root: ./test --full"]
fn long_static_program_runs_in_an_empty_folder() {
    // A release has built its own, with musl.
    let program = std::env::var_os("LOFT_TEST_STATIC_PROGRAM").map(PathBuf::from);
    let program = program.unwrap_or_else(|| made_by(script("packaging/static").arg("--glibc")));
    let linked = end_of(Command::new("ldd").arg(&program));
    let linked = linked.stdout + &linked.stderr;
    assert!(linked.contains("statically linked") || linked.contains("not a dynamic executable"), "{linked}");

    let folder = Folder::empty();
    folder.put(&program, "/loft");
    let root = folder.add_store();
    stdout_of(folder.command("/loft").args(["key", "generate", "static-1", "--out", "/key"]));
    let push = |to: &str| {
        let mut command = folder.command("/loft");
        command.args(["push", "--signing-key", "/key", "--to", to, &root]);
        command.envs([("AWS_ACCESS_KEY_ID", "GK1"), ("AWS_SECRET_ACCESS_KEY", "secret")]);
        end_of(&mut command)
    };
    let ended = push("file:///cache");
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let cache = Cache::Folder(folder.at("/cache"));
    assert_eq!(cache.violations(&BTreeSet::new()), Vec::<String>::new());
    assert_eq!(cache.narinfos().len(), 3);
    assert!(stdout_of(folder.command("/loft").arg("man")).contains("SYNOPSIS"));

    // Without certificates and resolv.conf no server can be reached; it says so, and what would help.
    let ended = push("s3://nix-cache?endpoint=https://127.0.0.1:1&region=x");
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("ca-certificates") && ended.stderr.contains("ca_file"), "{}", ended.stderr);
    let ended = push("s3://nix-cache?endpoint=http://cache.invalid&region=x");
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("failed to lookup address"), "{}", ended.stderr);
}
