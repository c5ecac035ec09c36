//! Every block of code in the book is of a kind that something reads, and is read here where that takes no other
//! program; tests/real/book.rs has the others.

mod shell;

use crate::args::Arguments;
use crate::book_blocks::{Block, Class, all, blocks, indented, of, pages};
use crate::reference::commands;
use clap::Parser as _;
use clap::error::ErrorKind;
use loft::config::{Sources, load};
use saphyr_parser::Parser as Yaml;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

#[test]
fn every_block_is_of_a_class() {
    let blocks = all();
    let unclear: Vec<_> = blocks.iter().filter_map(|block| block.class().err()).collect();
    assert!(unclear.is_empty(), "{}", unclear.join("\n"));
    for (page, text) in pages() {
        assert_eq!(indented(&text), Vec::<usize>::new(), "{}: code without a fence and a language", page.display());
    }
    let classes: BTreeSet<String> = blocks.iter().map(|block| format!("{:?}", block.class())).collect();
    assert!(blocks.len() > 40 && classes.len() > 7, "{} blocks of {classes:?}", blocks.len());
}

fn one(markdown: &str) -> Block {
    let mut all = blocks(Path::new("page.md"), markdown);
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

#[test]
fn blocks_of_no_class_are_found() {
    for unclear in [
        "```\nloft push ./result\n```",
        "```python\nprint()\n```",
        "<!-- not run: -->\n```sh\nloft push ./result\n```",
        "<!-- not run: it is no shell -->\n```toml\n[loft]\n```",
        "<!-- not loft.toml: but a shell -->\n```sh\nls\n```",
    ] {
        one(unclear).class().unwrap_err();
    }
    for (clear, class) in [
        ("```sh\nloft push ./result\n```", Class::Run),
        ("<!-- not run: no time -->\n```sh\nloft push ./result\n```", Class::Commands),
        ("```toml\n[loft]\n```", Class::Configuration),
        ("<!-- not loft.toml: another's -->\n```toml\na = 1\n```", Class::Toml),
        ("<!-- anything else -->\n```text\nshown\n```", Class::Shown),
        ("```ini\n[Service]\nExecStart=/bin/true\n```", Class::Unit),
        ("```ini\nsubstituters = a\n```", Class::NixConf),
    ] {
        assert_eq!(one(clear).class(), Ok(class), "{clear}");
    }
    assert_eq!(indented("text\n\n    ls\n\n- item\n\n    more of it\n\ntext\n    goes on\n\n    ls\n"), [3, 12]);
    let nested = one("- a list\n  ```sh\n  if true; then\n    ls\n  fi\n  ```\n");
    assert_eq!((nested.line, nested.text.as_str()), (2, "if true; then\n  ls\nfi\n"));
}

/// What loft has against a configuration.
fn against(toml: &str) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("loft.toml");
    // Files that it names are others' machines'.
    let mut text = toml.to_owned();
    for secret in ["cf-id", "cf-secret"] {
        let path = folder.path().join(secret);
        std::fs::write(&path, "some\n").unwrap();
        text = text.replace(&format!("/run/secrets/{secret}"), path.to_str().unwrap());
    }
    std::fs::write(&file, text).unwrap();
    match load(&Sources { file: Some(file), strict: true, ..Sources::default() }) {
        Err(error) => Some(error.to_string()),
        Ok(loaded) => loaded.warnings.first().map(ToString::to_string),
    }
}

#[test]
fn loft_takes_every_configuration() {
    let blocks = of(Class::Configuration);
    assert!(blocks.len() > 5, "{blocks:?}");
    for block in blocks {
        assert_eq!(against(&block.text), None, "{}", block.place());
    }
    for wrong in ["[lotf]\n", "[loft]\nupload_thread = 3\n", "[loft]\nupload_threads = \"3\"\n", "[loft\n"] {
        assert!(against(wrong).is_some(), "{wrong}");
    }
}

#[test]
fn toml_json_and_yaml_are_that() {
    for block in of(Class::Toml) {
        block.text.parse::<toml::Table>().unwrap_or_else(|error| panic!("{}: {error}", block.place()));
    }
    let documents = of(Class::Json);
    assert!(documents.len() > 3, "{documents:?}");
    let mut policies = 0;
    for block in documents {
        let value = serde_json::from_str(&block.text).unwrap_or_else(|error| panic!("{}: {error}", block.place()));
        policies += usize::from(is_policy(&value).unwrap_or_else(|why| panic!("{}: {why}", block.place())));
    }
    assert!(policies > 2, "{policies} policies");
    let documents = of(Class::Yaml);
    assert!(documents.len() > 2, "{documents:?}");
    for block in documents {
        is_yaml(&block.text).unwrap_or_else(|error| panic!("{}: {error}", block.place()));
    }
}

/// The files for CI that are no blocks.
#[test]
fn yaml_of_the_examples_is_that() {
    let tree = Path::new(env!("CARGO_MANIFEST_DIR"));
    let examples = std::fs::read_dir(tree.join("examples/ci")).unwrap().map(|entry| entry.unwrap().path());
    let files: Vec<_> = examples.chain([tree.join("action.yml")]).collect();
    assert!(files.len() > 2, "{files:?}");
    for file in files {
        is_yaml(&std::fs::read_to_string(&file).unwrap()).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }
    is_yaml("a: [1, 2\nb: 3").unwrap_err();
    is_yaml("a:\n\t- 1").unwrap_err();
}

fn is_yaml(text: &str) -> Result<(), String> {
    let mut events = 0;
    for event in Yaml::new_from_str(text) {
        event.map_err(|error| error.to_string())?;
        events += 1;
    }
    if events > 4 { Ok(()) } else { Err("it says nothing".to_owned()) }
}

/// Whether it is a policy of AWS's kind, and a whole one.
fn is_policy(value: &Value) -> Result<bool, String> {
    if value.get("Version").is_none() {
        return Ok(false);
    }
    if value["Version"] != "2012-10-17" {
        return Err(format!("version {}", value["Version"]));
    }
    let statements = value["Statement"].as_array().filter(|list| !list.is_empty()).ok_or("no statements")?;
    for statement in statements {
        let fields: BTreeSet<&str> =
            statement.as_object().ok_or("a statement that is none")?.keys().map(String::as_str).collect();
        let known = ["Sid", "Effect", "Principal", "Action", "Resource", "Condition"];
        if let Some(unknown) = fields.iter().find(|field| !known.contains(field)) {
            return Err(format!("field {unknown}"));
        }
        if !["Allow", "Deny"].contains(&statement["Effect"].as_str().unwrap_or_default()) {
            return Err(format!("effect {}", statement["Effect"]));
        }
        if !fields.contains("Resource") && !fields.contains("Principal") {
            return Err("neither a resource nor a principal".to_owned());
        }
        let actions = match &statement["Action"] {
            Value::Array(actions) => actions.clone(),
            action => vec![action.clone()],
        };
        for action in actions {
            let service = action.as_str().and_then(|action| action.split_once(':')).map(|(service, _)| service);
            if !matches!(service, Some("s3" | "sts")) {
                return Err(format!("action {action}"));
            }
        }
    }
    Ok(true)
}

#[test]
fn policies_that_are_none_are_found() {
    let policy = |text: &str| is_policy(&serde_json::from_str(text).unwrap());
    assert_eq!(policy(r#"{"identities": []}"#), Ok(false));
    let whole =
        r#"{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}]}"#;
    assert_eq!(policy(whole), Ok(true));
    for (old, new) in [("2012", "2013"), ("Allow", "Alow"), ("Action", "Actoin"), ("s3:", ""), ("Resource", "Sid")] {
        policy(&whole.replace(old, new)).unwrap_err();
    }
}

/// What the command line has against words, as a whole command or as the beginning of one.
fn refused(words: &[String], whole: bool) -> Option<String> {
    // What substitutions print.
    let printed = |word: &String| match (word.find("$("), word.rfind(')')) {
        (Some(from), Some(to)) if word.contains("loft key show") => {
            word.replace(&word[from..=to], "cache.example.org-1:V/+kMGMW5Qhb65Bk+mPgDA/RUKt03Cm1AjgaAT3U9vs=")
        }
        (Some(from), Some(to)) => word.replace(&word[from..=to], "1"),
        _ => word.clone(),
    };
    let words = words.iter().map(printed);
    let error = Arguments::try_parse_from(words).err()?;
    let unknown = [ErrorKind::UnknownArgument, ErrorKind::InvalidSubcommand, ErrorKind::ArgumentConflict];
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => None,
        kind if whole || unknown.contains(&kind) => Some(error.to_string()),
        _ => None,
    }
}

#[test]
fn loft_understands_every_command_of_the_blocks() {
    let mut count = 0;
    for block in [of(Class::Run), of(Class::Commands), of(Class::Yaml)].concat() {
        for words in shell::calls(&block.text) {
            count += 1;
            if let Some(error) = refused(&words, true) {
                panic!("{}: {}\n{error}", block.place(), words.join(" "));
            }
        }
    }
    assert!(count > 60, "{count} commands were found");
    for wrong in ["loft push --no-such ./result", "loft psuh ./result", "loft push", "loft prune --retention soon"] {
        let words = shell::calls(wrong).remove(0);
        assert!(refused(&words, true).is_some(), "{wrong}");
    }
}

/// Within sentences commands may be cut short, but not name what is not there.
#[test]
fn sentences_name_only_commands_and_options_that_exist() {
    let mut options: BTreeMap<String, &str> = BTreeMap::new();
    // Of other programs.
    for (option, program) in
        [("--option", "nix"), ("--refresh", "nix"), ("--upstream-cache-key-name", "attic"), ("--read", "garage")]
    {
        options.insert(option.to_owned(), program);
    }
    let mut waiting = vec![commands::tree()];
    while let Some(mut command) = waiting.pop() {
        command.build();
        options.extend(command.get_arguments().filter_map(|arg| Some((format!("--{}", arg.get_long()?), "loft"))));
        waiting.extend(command.get_subcommands().cloned());
    }
    let mut count = 0;
    let mut wrong = Vec::new();
    for (page, text) in pages() {
        for (line, code) in inline(&text) {
            let place = format!("{}:{line}: {code}", page.display());
            if code.starts_with("loft ") && !code.contains("COMMAND") && !code.contains('…') {
                count += 1;
                wrong.extend(
                    shell::calls(&code)
                        .iter()
                        .filter_map(|words| refused(words, false))
                        .map(|it| format!("{place}\n{it}")),
                );
            } else if code.starts_with("--") && code != "--" {
                count += 1;
                let name = code.split([' ', '=', '[']).next().unwrap_or_default();
                if !options.contains_key(name) {
                    wrong.push(place);
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 100, "{count} were found");
}

/// Code within lines, outside of blocks.
fn inline(markdown: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut in_block = false;
    for (index, line) in markdown.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if !in_block {
            found.extend(line.split('`').skip(1).step_by(2).map(|code| (index + 1, code.to_owned())));
        }
    }
    found
}
