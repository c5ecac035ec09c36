//! The Debian package installs on a Debian that has nothing else, works there, and leaves nothing behind.

use crate::support::audit::Cache;
use crate::support::folder::Folder;
use crate::support::process::{end_of, stdout_of};
use crate::support::tools::{made_by, script};
use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A minimal Debian with the package in it, not installed yet.
fn debian() -> Folder {
    let folder = Folder::empty();
    let base = made_by(&mut script("tests/tools/debian-base"));
    stdout_of(Command::new("tar").arg("-C").arg(folder.at("/")).args(["--numeric-owner", "-xf"]).arg(base));
    let program = std::env::var_os("LOFT_TEST_PROGRAM").unwrap_or_else(|| env!("CARGO_BIN_EXE_loft").into());
    // Packed quickly rather than small.
    let mut make = script("packaging/deb");
    make.arg("--program").arg(program).args(["--", "--fast", "--output"]).arg(folder.at("/tmp/loft.deb"));
    made_by(&mut make);
    folder
}

/// Every file but what the test itself puts into /tmp and /nix.
fn files(folder: &Folder) -> BTreeSet<String> {
    let mut find = Command::new("find");
    find.arg(folder.at("/")).args(["-mindepth", "1", "-printf", "%y %P\\n"]);
    let all = stdout_of(&mut find);
    let within = |line: &str| ["tmp/", "nix/"].iter().any(|it| line[2..].starts_with(it));
    all.lines().filter(|line| !within(line)).map(str::to_owned).collect()
}

#[test]
#[ignore = "needs root, debootstrap and cargo-deb: ./test --full"]
fn long_debian_package_installs_pushes_and_goes() {
    let debian = debian();
    let root = debian.add_store();
    // As on a machine where systemd has run a service of its own user before.
    std::fs::create_dir_all(debian.at("/var/lib/private")).expect("folder");
    let before = files(&debian);
    assert!(before.len() > 1000, "{} files", before.len());

    stdout_of(debian.command("dpkg").args(["-i", "/tmp/loft.deb"]));
    let listed = stdout_of(debian.command("dpkg").args(["-L", "loft"]));
    for file in [
        "/etc/loft/loft.toml",
        "/usr/bin/loft",
        "/usr/lib/systemd/system/loft.service",
        "/usr/share/bash-completion/completions/loft",
        "/usr/share/fish/vendor_completions.d/loft.fish",
        "/usr/share/zsh/vendor-completions/_loft",
        "/usr/share/man/man1/loft.1.gz",
        "/usr/share/man/man1/loft-pin-add.1.gz",
        "/usr/share/doc/loft/copyright",
        "/usr/share/doc/loft/CHANGELOG.md",
    ] {
        assert!(listed.lines().any(|line| line == file), "no {file} among\n{listed}");
        // A minimal Debian may be told to leave documentation out; this one was not.
        assert!(debian.at(file).is_file(), "{file} is listed, but not there");
    }
    assert_eq!(stdout_of(debian.command("dpkg").args(["--verify", "loft"])), "");
    // A service without a bucket could only fail.
    assert!(!debian.at("/etc/systemd/system/multi-user.target.wants/loft.service").exists());
    let complete = "source /usr/share/bash-completion/completions/loft && complete -p loft";
    assert!(stdout_of(debian.command("bash").args(["-c", complete])).contains("-F _loft"));

    says_what_to_fill_in(&debian);
    pushes(&debian, &root);
    let state = keeps_what_was_edited(&debian);

    stdout_of(debian.command("dpkg").args(["-r", "loft"]));
    assert!(!debian.at("/usr/bin/loft").exists());
    assert!(debian.at("/etc/loft/loft.toml").exists() && state.exists(), "removal is not a purge");
    stdout_of(debian.command("dpkg").args(["-P", "loft"]));
    let left: Vec<_> = files(&debian).symmetric_difference(&before).cloned().collect();
    assert_eq!(left, Vec::<String>::new());
}

fn says_what_to_fill_in(debian: &Folder) {
    let check = || end_of(debian.command("loft").args(["-c", "/etc/loft/loft.toml", "config", "check"]));
    let ended = check();
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("No bucket is named") && !ended.stderr.contains("warning"), "{}", ended.stderr);
    // Every line that is commented out is one that loft takes.
    let file = debian.at("/etc/loft/loft.toml");
    let shipped = std::fs::read_to_string(&file).expect("configuration");
    let all = shipped.lines().map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line));
    std::fs::write(&file, all.collect::<Vec<_>>().join("\n") + "\n").expect("configuration");
    let ended = check();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("The configuration is fine"), "{}", ended.stderr);
}

fn pushes(debian: &Folder, root: &str) {
    let home = |command: &mut Command| stdout_of(command.env("HOME", "/tmp"));
    let public = home(debian.command("loft").args(["key", "generate", "package-1", "--out", "/tmp/key"]));
    assert!(public.starts_with("package-1:"), "{public}");
    home(debian.command("loft").args(["push", "--to", "file:///tmp/cache", "--signing-key", "/tmp/key", root]));
    let cache = Cache::Folder(debian.at("/tmp/cache"));
    assert_eq!(cache.violations(&BTreeSet::new()), Vec::<String>::new());
    let narinfos = cache.narinfos();
    assert_eq!(narinfos.len(), 3);
    assert!(narinfos[root].signature_by("package-1").is_some());
}

/// The configuration was edited and the service has run (as systemd leaves it); then the package comes again.
fn keeps_what_was_edited(debian: &Folder) -> PathBuf {
    let edited = std::fs::read_to_string(debian.at("/etc/loft/loft.toml")).expect("configuration");
    let state = debian.at("/var/lib/private/loft");
    std::fs::create_dir_all(&state).expect("state");
    std::fs::write(state.join("cache.db"), "").expect("ledger");
    symlink(Path::new("private/loft"), debian.at("/var/lib/loft")).expect("link");
    stdout_of(debian.command("dpkg").args(["-i", "/tmp/loft.deb"]));
    assert_eq!(std::fs::read_to_string(debian.at("/etc/loft/loft.toml")).expect("configuration"), edited);
    state
}
