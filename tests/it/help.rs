//! `--help` teaches: what a command does, when to use it, an example, and a word on every option.

use crate::reference::commands;
use clap::{Arg, Command};

/// What the help of a command and those below it lacks.
fn lacks(command: &Command) -> Vec<String> {
    let name = command.get_bin_name().unwrap_or(command.get_name());
    let text = |text: Option<&clap::builder::StyledStr>| text.map(ToString::to_string).unwrap_or_default();
    let (about, after) = (text(command.get_about()), text(command.get_after_help()));
    let mut lacks = Vec::new();
    if about.is_empty() || about.len() > 110 || about.ends_with('.') {
        lacks.push(format!("{name}: a line that says what it does: {about:?}"));
    }
    // The hook's example is two files.
    if !after.contains("Example") && !after.contains("#!/bin/sh") {
        lacks.push(format!("{name}: an example"));
    }
    let is_wide = |line: &&str| line.chars().count() > 100;
    lacks.extend(after.lines().filter(is_wide).map(|line| format!("{name}: a line of at most 100 characters: {line}")));
    for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
        let help = text(arg.get_help());
        if help.is_empty() || help.ends_with('.') {
            lacks.push(format!("{name}: a word on {}, without a full stop: {help:?}", arg.get_id()));
        }
    }
    lacks.extend(command.get_subcommands().filter(|command| !command.is_hide_set()).flat_map(self::lacks));
    lacks
}

fn built(mut tree: Command) -> Command {
    tree.build();
    tree
}

#[test]
fn every_command_teaches() {
    assert_eq!(lacks(&built(commands::tree())), Vec::<String>::new());
}

#[test]
fn a_command_that_does_not_is_noticed() {
    let bare = || Command::new("bare").about("Do it").after_help("Example:\n  loft bare");
    let of = |command: Command| lacks(&built(commands::tree().subcommand(command))).len();
    assert_eq!(of(bare()), 0);
    assert_eq!(of(bare().about("")), 1);
    assert_eq!(of(bare().about("Does it.")), 1);
    assert_eq!(of(bare().after_help("")), 1);
    assert_eq!(of(bare().after_help(format!("Example:\n  loft {}", "x".repeat(100)))), 1);
    assert_eq!(of(bare().arg(Arg::new("more").long("more"))), 1);
    assert_eq!(of(bare().subcommand(Command::new("below"))), 2);
}

#[test]
fn help_names_every_exit_status() {
    let source = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/bin/loft/exit.rs")).unwrap();
    let arms =
        source.lines().filter_map(|line| line.trim().strip_prefix("Self::")?.split_once(" => ")?.1.strip_suffix(','));
    let numbers: Vec<&str> = arms.filter(|number| number.parse::<u8>().is_ok()).collect();
    assert_eq!(numbers, ["0", "1", "2", "3", "130"]);
    let tree = commands::tree();
    let help = tree.get_after_help().map(ToString::to_string).unwrap_or_default();
    let told = help.split("Exit status: ").nth(1).expect("exit statuses").replace('\n', " ");
    for number in numbers {
        assert!(told.split(", ").any(|part| part.starts_with(&format!("{number} "))), "{number}: {told}");
    }
}
