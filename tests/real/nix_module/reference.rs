//! docs/reference/module.md says what the modules declare.

use super::evaluate_text;
use crate::page::{Page, difference, settle};
use serde_json::Value;
use std::collections::BTreeSet;

fn declared() -> Value {
    evaluate_text("import ./tests/nix/reference.nix").unwrap_or_else(|error| panic!("{error}"))
}

fn page(declared: &Value) -> String {
    let mut page = Page::new("Every option of the modules", "nix/options.nix and the module of each system");
    page.paragraph(
        "They are below `services.loft`, and set keys of `loft.toml` ([those](configuration.md)). \
         [NixOS, nix-darwin, Home Manager](../nixos.md) tells how to use them.",
    );
    let systems = declared["options"].as_object().expect("systems");
    let options = |system: &str| systems[system].as_array().expect("options").iter();
    let mut seen = BTreeSet::new();
    // In the order of names; first what NixOS has.
    for option in ["NixOS", "nix-darwin", "Home Manager"].into_iter().flat_map(options) {
        let text = |field: &str| option[field].as_str();
        let name = text("name").expect("a name");
        if !seen.insert(name) {
            continue;
        }
        let is_in = |system: &&String| options(system).any(|other| other["name"] == option["name"]);
        let having: Vec<&str> = systems.keys().filter(is_in).map(String::as_str).collect();
        page.heading(2, name);
        page.paragraph(text("description").expect("a description"));
        let shown = |what: &str, value: Option<&str>| value.map(|value| format!("{what}: `{value}`"));
        let sets = declared["keys"][name].as_str().map(|key| {
            let (section, key) = key.split_once('.').expect("a section");
            format!("Sets [`{key}`](configuration.md#{key}) of `[{section}]`")
        });
        let default = match text("default") {
            // A text of its own, where the value could not be read.
            Some(text) if text.contains(' ') && !text.starts_with(['{', '[', '"']) => Some(format!("Default: {text}")),
            default => shown("Default", default),
        };
        let only = (having.len() < systems.len()).then(|| format!("Only in {}", having.join(", ")));
        let kind = format!("Type: {}", text("type").expect("a type"));
        page.list([Some(kind), default, shown("Example", text("example")), sets, only].into_iter().flatten());
    }
    page.finish()
}

#[test]
#[ignore = "needs Nix: ./test"]
fn options_are_those_of_the_modules() {
    settle("module.md", &page(&declared()));
}

#[test]
#[ignore = "needs Nix: ./test"]
fn modules_that_changed_are_noticed() {
    let declared = declared();
    let committed = page(&declared);
    let mut more = declared.clone();
    let option = serde_json::json!({ "name": "more", "type": "boolean", "description": "More of it." });
    more["options"]["nix-darwin"].as_array_mut().expect("options").push(option);
    assert!(difference(&committed, &page(&more)).is_some());
    let mut other = declared.clone();
    other["options"]["NixOS"][0]["default"] = "7".into();
    assert!(difference(&committed, &page(&other)).is_some());
    let mut other = declared;
    other["keys"]["uploadThreads"] = "loft.more".into();
    assert!(difference(&committed, &page(&other)).is_some());
}

/// What the page calls a key is one of the configuration's, and most options have one.
#[test]
#[ignore = "needs Nix: ./test"]
fn keys_that_options_set_exist() {
    let declared = declared();
    let keys = declared["keys"].as_object().expect("keys");
    for (option, key) in keys {
        let known = loft::config::keys::KEYS.iter().any(|known| format!("{}.{}", known.section, known.name) == *key);
        assert!(known, "{option} sets {key}");
        assert!(page(&declared).contains(&format!("\n## {option}\n")), "{option}");
    }
    assert!(keys.len() > 30, "{keys:?}");
}
