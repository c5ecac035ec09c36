//! Completions and man pages say all that the command line takes. What that is, `--help` tells.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

fn loft(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_loft")).args(args).env_clear().stdin(Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    assert!(output.status.success(), "{args:?}: {}", text(output.stderr));
    text(output.stdout)
}

/// A command and what its `--help` names.
struct Told {
    /// Without `loft` itself.
    names: Vec<String>,
    options: BTreeSet<String>,
    commands: Vec<String>,
}

/// All commands, loft itself first.
fn all_commands() -> Vec<Told> {
    let mut all = Vec::new();
    let mut waiting = vec![Vec::<String>::new()];
    while let Some(names) = waiting.pop() {
        let args: Vec<_> = names.iter().map(String::as_str).chain(["--help"]).collect();
        let told = read_help(names.clone(), &loft(&args));
        waiting.extend(told.commands.iter().map(|command| [names.clone(), vec![command.clone()]].concat()));
        all.push(told);
    }
    all
}

/// In help, commands stand below `Commands:`, and the lines of options begin with a dash.
fn read_help(names: Vec<String>, help: &str) -> Told {
    let (mut options, mut commands, mut below_commands) = (BTreeSet::new(), Vec::new(), false);
    for line in help.lines().take_while(|line| !line.starts_with("Example")) {
        if !line.starts_with(' ') {
            below_commands = line == "Commands:";
        }
        let indent = line.len() - line.trim_start().len();
        let words = line.split_whitespace().map(|word| word.trim_end_matches(','));
        if below_commands && indent == 2 {
            commands.extend(words.take(1).filter(|word| *word != "help").map(str::to_owned));
        } else if (2..=6).contains(&indent) && line.trim_start().starts_with('-') {
            let plain = |word: &str| word.split(['=', '[']).next().unwrap_or_default().to_owned();
            options.extend(words.take_while(|word| word.starts_with('-')).map(plain));
        }
    }
    Told { names, options, commands }
}

#[test]
fn help_is_read_right() {
    let all = all_commands();
    let of = |names: &[&str]| all.iter().find(|told| told.names == names).unwrap();
    for command in ["push", "watch", "prune", "pin", "completions", "man"] {
        assert!(of(&[]).commands.iter().any(|found| found == command), "{command}: {:?}", of(&[]).commands);
    }
    for option in ["-c", "--config", "--upload-path", "--dry-run", "-V"] {
        assert!(of(&[]).options.contains(option), "{option}: {:?}", of(&[]).options);
    }
    assert!(of(&["push"]).options.is_superset(&["--to", "-j", "--jobs", "--pin"].map(str::to_owned).into()));
    assert!(of(&["check"]).options.contains("--read-data"), "{:?}", of(&["check"]).options);
    assert_eq!(of(&["pin"]).commands, ["add", "rm", "list"]);
    assert!(of(&["pin", "rm"]).options.contains("--all-but-last"));
}

/// Every option and command of `told` that `has` does not know.
fn missing(told: &Told, has: impl Fn(&str) -> bool) -> Vec<String> {
    let words = told.options.iter().chain(&told.commands);
    words.filter(|word| !has(word)).map(|word| format!("loft {} … {word}", told.names.join(" "))).collect()
}

#[test]
fn man_pages_name_every_command_and_option() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("man/man1");
    assert_eq!(loft(&["man", "--dir", dir.to_str().unwrap()]), "");
    let mut expected = BTreeSet::new();
    for told in all_commands() {
        let name = [vec!["loft".to_owned()], told.names.clone()].concat().join("-");
        let page = fs::read_to_string(dir.join(format!("{name}.1"))).unwrap_or_else(|error| panic!("{name}: {error}"));
        let plain = page.replace("\\-", "-").replace("\\fB", "").replace("\\fR", "").replace("\\fI", "");
        let lines: Vec<_> = plain.lines().collect();
        let has = |word: &str| {
            // An option begins an entry, or stands second there: `-c, --config <CONFIG>`.
            let entries = lines.iter().filter(|line| line.starts_with('-'));
            let mut words = entries.flat_map(|line| line.split([' ', ',', '=', '[']));
            let command = format!("{name}-{word}(1)");
            words.any(|found| found == word) || lines.contains(&command.as_str())
        };
        assert_eq!(missing(&told, has), Vec::<String>::new());
        assert_eq!(missing(&Told { options: ["--no-such".to_owned()].into(), ..told }, has).len(), 1);
        assert!(plain.contains("\n.SH NAME\n") && plain.contains("\n.SH SYNOPSIS\n"), "{plain}");
        expected.insert(format!("{name}.1"));
    }
    let written = fs::read_dir(&dir).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    assert_eq!(written.collect::<BTreeSet<_>>(), expected);
    let page = |name: &str| fs::read_to_string(dir.join(name)).unwrap();
    assert_eq!(loft(&["man"]), page("loft.1"));
    assert_eq!(loft(&["man", "pin", "add"]), page("loft-pin-add.1"));
}

#[test]
fn what_stands_below_the_help_stays_readable() {
    let page = loft(&["man", "push"]);
    let examples = page.split("\n.SH EXAMPLES\n").nth(1).expect("examples");
    assert!(examples.starts_with(".nf\n  loft push ./result\n"), "{examples}");
    let page = loft(&["man", "prune"]);
    assert!(page.contains("\n.SH \"EXIT STATUS\"\n0 done, 1 refused"), "{page}");
    assert!(loft(&["man", "hook"]).contains("\n.SH NOTES\n"));
}

#[test]
fn page_of_no_command_is_an_error() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loft"));
    let output = command.args(["man", "pin", "nail"]).env_clear().stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("no command loft pin nail") && said.contains("loft pin --help"), "{said}");
}

/// What bash offers after `words`, the last of which is being typed.
fn offered(script: &Path, words: &[String]) -> BTreeSet<String> {
    let typed = r#"
        set -eu
        source "$1"; shift
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        [[ $(complete -p loft) == *"-F _loft "* ]]
        _loft loft "${COMP_WORDS[-1]}" "${COMP_WORDS[-2]}"
        printf '%s\n' "${COMPREPLY[@]}""#;
    let mut bash = Command::new("bash");
    let output = bash.args(["--norc", "-c", typed, "-"]).arg(script).arg("loft").args(words).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    assert!(output.status.success(), "{words:?}: {}", text(output.stderr));
    text(output.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_every_command_and_option() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("loft");
    fs::write(&script, loft(&["completions", "bash"])).unwrap();
    assert_eq!(offered(&script, &["pu".into()]), ["push".to_owned()].into());
    assert_eq!(offered(&script, &["--color".into(), "al".into()]), ["always".to_owned()].into());
    for told in all_commands() {
        let all = offered(&script, &[told.names.clone(), vec![String::new()]].concat());
        let dashed = offered(&script, &[told.names.clone(), vec!["--".into()]].concat());
        let has = |word: &str| if word.starts_with("--") { dashed.contains(word) } else { all.contains(word) };
        assert_eq!(missing(&told, has), Vec::<String>::new());
        assert!(!all.contains("--no-such"));
    }
}

/// These shells are not everywhere; the real tests run them. Here at least their scripts name everything.
#[test]
fn zsh_and_fish_are_told_of_every_command_and_option() {
    let scripts = [loft(&["completions", "zsh"]), loft(&["completions", "fish"])];
    assert!(scripts[0].starts_with("#compdef loft"));
    for told in all_commands() {
        let in_zsh = |word: &str| match word.starts_with('-') {
            true => {
                [format!("'{word}"), format!("){word}"), format!("*{word}")].iter().any(|it| scripts[0].contains(it))
            }
            false => scripts[0].contains(&format!("({word})\n")),
        };
        assert_eq!(missing(&told, in_zsh), Vec::<String>::new());
        let in_fish = |word: &str| match (word.strip_prefix("--"), word.strip_prefix('-')) {
            (Some(long), _) => scripts[1].contains(&format!(" -l {long} ")),
            (None, Some(short)) => scripts[1].contains(&format!(" -s {short} ")),
            (None, None) => scripts[1].contains(&format!(" -a \"{word}\" ")),
        };
        assert_eq!(missing(&told, in_fish), Vec::<String>::new());
    }
}
