//! Ready pieces for CI: the action of GitHub and Forgejo, and the examples of others.

use crate::support::process::{end_of, stdout_of};
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

fn checkout(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn loft() -> OsString {
    std::env::var_os("LOFT_TEST_PROGRAM").unwrap_or_else(|| env!("CARGO_BIN_EXE_loft").into())
}

/// The files of a folder of the checkout.
fn files(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(checkout(folder)).unwrap_or_else(|error| panic!("{folder}: {error}"));
    let mut files: Vec<_> = entries.map(|entry| entry.expect("a file").path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{folder}");
    files
}

/// It is JavaScript, and so are its tests: a runner's environment around the real loft and a real store.
#[test]
#[ignore = "needs Nix and node: ./test --full"]
fn long_the_action_passes_its_own_tests() {
    let version = Command::new("node").arg("--version").output();
    assert!(version.is_ok(), "there is no node on the PATH: install nodejs, 18 or newer");
    let mut node = Command::new("node");
    node.args(["--test", "--test-reporter=tap"]).arg(checkout("action/action.test.js"));
    let ended = end_of(node.env("LOFT_TEST_PROGRAM", loft()));
    assert_eq!(ended.code, Some(0), "{}\n{}", ended.stdout, ended.stderr);
    // Not that it has found none.
    let passed = ended.stdout.lines().find_map(|line| line.strip_prefix("# pass ")).expect("a count");
    assert!(passed.parse::<u32>().expect("a number") >= 10, "{}", ended.stdout);
}

/// A program in loft's place. It gives the real one all words of its own, and asks for help at their end: then they are
/// read, but nothing is done.
const READS_ONLY: &str = r#"#!/usr/bin/env bash
words=()
for word; do
  [ "$word" != -- ] || break
  words+=("$word")
done
echo "$*" >>"$TOLD/all"
said=$("$LOFT" "${words[@]}" --help 2>&1) || printf 'loft %s\n%s\n' "$*" "$said" >>"$TOLD/refused"
"#;

/// The lines that call loft, of a shell in YAML, a unit, a crontab or a block of Markdown.
fn commands(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let markdown = file.extension().is_some_and(|it| it == "md");
    let mut block = false;
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.starts_with("```") {
            block = !block;
        }
        if markdown && !block {
            continue;
        }
        let before = ["- run: ", "- ", "ExecStart=/usr/local/bin/", " root "];
        let after = before.iter().filter_map(|it| line.split_once(it)).map(|(_, after)| after);
        let command = after.chain([line]).find(|it| it.starts_with("loft "));
        // The machine's name, in a unit.
        found.extend(command.map(|it| it.replace("%H", "host")));
    }
    found
}

#[test]
#[ignore = "starts programs: ./test"]
fn loft_understands_every_command_of_the_examples() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let stand_in = folder.path().join("loft");
    fs::write(&stand_in, READS_ONLY).expect("a program");
    fs::set_permissions(&stand_in, Permissions::from_mode(0o755)).expect("permissions");
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").expect("PATH"));
    let run = |command: &str| {
        let mut shell = Command::new("bash");
        shell.args(["-c", command]).current_dir(folder.path()).env("PATH", &path);
        stdout_of(shell.env("LOFT", loft()).env("TOLD", folder.path()));
    };
    let told = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap_or_default();

    run("loft push --no-such-option ./result");
    assert!(told("refused").contains("--no-such-option"), "this test would find nothing");
    fs::remove_file(folder.path().join("refused")).expect("the file");

    let mut count = 1;
    for example in ["examples/ci", "examples/cron", "examples/systemd"].into_iter().flat_map(files) {
        for command in commands(&example) {
            run(&command);
            count += 1;
        }
    }
    assert!(count > 6, "{count} commands in the examples");
    let documented = commands(&checkout("docs/ci.md"));
    assert!(documented.len() > 4, "{documented:?}");
    for command in &documented {
        run(command);
    }
    assert_eq!(told("refused"), "");
    assert_eq!(told("all").lines().count(), count + documented.len(), "{}", told("all"));
}

#[test]
#[ignore = "needs systemd: ./test"]
fn systemd_understands_the_units_of_the_examples() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no", "--recursive-errors=no"]);
    for unit in files("examples/systemd") {
        // It wants to see the program, and a timer its service.
        let text = fs::read_to_string(&unit).expect("a unit").replace("/usr/local/bin/loft", "/bin/true");
        let copy = folder.path().join(unit.file_name().expect("a name"));
        fs::write(&copy, text).expect("a unit");
        verify.arg(copy);
    }
    let ended = end_of(&mut verify);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
}
