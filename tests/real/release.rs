//! The scripts that make a release, without what they need of elsewhere.

use crate::support::process::{Ended, end_of, stdout_of};
use crate::support::tools::script;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

fn folder() -> TempDir {
    tempfile::tempdir().expect("temporary folder")
}

fn checkout(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).expect(name)
}

#[test]
#[ignore = "starts programs: ./test"]
fn notes_refuse_a_release_that_is_not_prepared() {
    let tree = folder();
    let write = |name: &str, text: &str| fs::write(tree.path().join(name), text).expect(name);
    fs::create_dir(tree.path().join("packaging")).expect("folder");
    write("packaging/notes", &checkout("packaging/notes"));
    let notes = |tag: &str| -> Ended { end_of(Command::new("bash").arg(tree.path().join("packaging/notes")).arg(tag)) };
    let refused = |expected: &str| {
        let ended = notes("v1.2.0");
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{expected}");
        assert!(ended.stderr.contains(expected), "{}", ended.stderr);
    };
    let manifest = |version: &str| format!("[package]\nname = \"loft\"\nversion = \"{version}\"\n");
    let lock = |version: &str| {
        let of = |name: &str, version: &str| format!("[[package]]\nname = \"{name}\"\nversion = \"{version}\"\n\n");
        of("libc", "1.2.0") + &of("loft", version) + &of("loft-else", "0.1.0")
    };
    write(
        "CHANGELOG.md",
        "# Changelog\n\n## Unreleased\n\n## 1.2.0 - 2030-01-01\n\n- what is new\n\n## 1.1.0\n\n- old\n",
    );
    write("Cargo.toml", &manifest("1.1.0"));
    write("Cargo.lock", &lock("1.1.0"));
    refused("Cargo.toml 1.1.0");
    write("Cargo.toml", &manifest("1.2.0"));
    refused("Cargo.lock 1.1.0");
    write("Cargo.lock", &lock("1.2.0"));
    let ended = notes("v1.2.0");
    assert_eq!((ended.code, ended.stdout.trim()), (Some(0), "- what is new"), "{}", ended.stderr);
    write("CHANGELOG.md", "## Unreleased\n\n- what is new\n");
    refused("no section \"## 1.2.0\"");
}

/// The checksums name every file as GitHub will call it.
#[test]
#[ignore = "starts programs: ./test"]
fn gathering_wants_all_files_and_names_them_as_they_are_downloaded() {
    for (version, of_debian) in [("1.2.0", "1.2.0"), ("1.2.0-rc.1", "1.2.0~rc.1")] {
        let files = folder();
        let systems = ["x86_64-linux", "aarch64-linux", "x86_64-macos", "aarch64-macos"];
        let archives = systems.map(|system| format!("loft-{version}-{system}.tar.gz"));
        let packages = ["amd64", "arm64"].map(|machine| format!("loft_{of_debian}_{machine}.deb"));
        for name in archives.iter().chain(&packages) {
            fs::write(files.path().join(name), name).expect("a file");
        }
        let gather = || end_of(script("packaging/gather").arg(format!("v{version}")).arg(files.path()));
        let ended = gather();
        assert_eq!(ended.code, Some(1), "{version}");
        assert!(ended.stderr.contains(&format!("loft-{version}.cdx.json is missing")), "{}", ended.stderr);
        fs::write(files.path().join(format!("loft-{version}.cdx.json")), "{}").expect("a file");
        for time in ["first", "again"] {
            let ended = gather();
            assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{version}, {time}");
        }
        let sums = fs::read_to_string(files.path().join("SHA256SUMS")).expect("checksums");
        assert_eq!(sums.lines().count(), 7, "{sums}");
        assert!(sums.contains(&format!("  loft_{version}_arm64.deb\n")) && !sums.contains('~'), "{sums}");
        stdout_of(Command::new("sha256sum").current_dir(files.path()).args(["--check", "--strict", "SHA256SUMS"]));
    }
}

/// As on macOS, whose `install` knows no `-D`.
#[test]
#[ignore = "starts programs: ./test"]
fn archive_needs_no_install_of_gnu() {
    let work = folder();
    let install = work.path().join("install");
    let bsd = "#!/bin/sh\ncase \" $* \" in *' -D '*) echo 'illegal option -- D' >&2; exit 64 ;; esac\nPATH=/usr/bin:/bin exec install \"$@\"\n";
    fs::write(&install, bsd).expect("install");
    fs::set_permissions(&install, Permissions::from_mode(0o755)).expect("mode");
    let path = std::env::var("PATH").expect("PATH");
    let mut archive = script("packaging/archive");
    archive.env("PATH", format!("{}:{path}", work.path().display()));
    archive.arg(env!("CARGO_BIN_EXE_loft")).arg("some-system").arg(work.path().join("dist"));
    let made = stdout_of(&mut archive);
    let listed = stdout_of(Command::new("tar").args(["-tzf", made.trim()]));
    for file in ["bin/loft", "share/man/man1/loft.1", "share/zsh/site-functions/_loft", "share/doc/loft/loft.service"] {
        assert!(listed.lines().any(|line| line.ends_with(&format!("-some-system/{file}"))), "no {file}: {listed}");
    }
}

/// The job that may write and sign starts nothing that it has not got from this tree or from GitHub.
#[test]
#[ignore = "starts programs: ./test"]
fn what_may_publish_builds_nothing() {
    let workflow = checkout(".github/workflows/release.yml");
    let (others, publish) = workflow.split_once("\n  publish:\n").expect("a job that publishes");
    assert!(!others.contains(": write"), "another job may write");
    for builds in ["cargo", "packaging/sbom", "packaging/deb", "packaging/static", "rustup"] {
        assert!(!publish.contains(builds), "{builds}");
    }
    assert!(publish.contains("--prerelease"));
}
