//! Completions in the shells that read them, and man pages in the programs that set them.

use crate::support::process::{end_of, stdout_of};
use std::path::PathBuf;
use std::process::Command;

fn loft(args: &[&str]) -> String {
    stdout_of(Command::new(env!("CARGO_BIN_EXE_loft")).args(args).env_clear())
}

/// A shell's completions in a file.
fn script(shell: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("temporary folder");
    let file = dir.path().join("_loft");
    std::fs::write(&file, loft(&["completions", shell])).expect("script");
    (dir, file)
}

#[test]
#[ignore = "needs fish: ./test --full"]
fn long_fish_completes() {
    let (dir, file) = script("fish");
    stdout_of(Command::new("fish").arg("--no-execute").arg(&file));
    let offered = |line: &str| {
        let mut fish = Command::new("fish");
        fish.args(["--no-config", "-c", "source $argv[1]; complete -C $argv[2]"]).arg(&file).arg(line);
        let all = stdout_of(fish.env("HOME", dir.path()));
        all.lines().map(|line| line.split('\t').next().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(offered("loft pu"), ["push"]);
    assert_eq!(offered("loft pin r"), ["rm"]);
    assert_eq!(offered("loft push --no-cl"), ["--no-closure"]);
    assert_eq!(offered("loft push --color al"), ["always"]);
}

#[test]
#[ignore = "needs zsh: ./test --full"]
fn long_zsh_loads_the_completions() {
    let (dir, file) = script("zsh");
    stdout_of(Command::new("zsh").arg("-n").arg(&file));
    // As a shell does it: found in fpath by its first line, and loaded from there.
    let load = "fpath=($1 $fpath); autoload -Uz compinit && compinit -u -D && \
                print -r -- $_comps[loft] && autoload +X _loft && (( $+functions[_loft] )) && print loaded";
    let mut zsh = Command::new("zsh");
    zsh.args(["-f", "-c", load, "-"]).arg(dir.path()).env("HOME", dir.path());
    assert_eq!(stdout_of(&mut zsh), "_loft\nloaded\n");
}

#[test]
#[ignore = "needs man and mandoc: ./test --full"]
fn long_man_pages_are_set_without_a_warning() {
    let dir = tempfile::tempdir().expect("temporary folder");
    loft(&["man", "--dir", dir.path().to_str().expect("UTF-8")]);
    let mut pages = 0;
    for page in std::fs::read_dir(dir.path()).expect("pages") {
        let page = page.expect("page").path();
        let mut man = Command::new("man");
        let set = end_of(man.args(["--warnings", "-E", "UTF-8", "-l"]).arg(&page).env("LC_ALL", "C.UTF-8"));
        assert_eq!((set.code, set.stderr.as_str()), (Some(0), ""), "{}", page.display());
        assert!(set.stdout.contains("NAME") && set.stdout.contains("SYNOPSIS"), "{}", set.stdout);
        let lint = end_of(Command::new("mandoc").args(["-T", "lint", "-W", "warning"]).arg(&page));
        // A page without a date is the same whenever it is made.
        let found: Vec<_> = lint.stdout.lines().filter(|line| !line.contains("missing date")).collect();
        assert_eq!(found, Vec::<&str>::new());
        pages += 1;
    }
    assert!(pages > 15, "{pages} pages");
}
