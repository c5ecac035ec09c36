//! The layers of ARCHITECTURE.md hold: a module uses only its own group of `lib.rs` and earlier ones.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Group number of each module, read from the comments `// N name` in `lib.rs`.
fn groups(lib: &str) -> BTreeMap<String, u32> {
    let mut group = 0;
    let mut groups = BTreeMap::new();
    for line in lib.lines() {
        if let Some(number) = line.strip_prefix("// ").and_then(|rest| rest.split(' ').next()?.parse().ok()) {
            group = number;
        }
        if let Some(module) = line.strip_prefix("pub mod ").and_then(|rest| rest.strip_suffix(';')) {
            groups.insert(module.to_owned(), group);
        }
    }
    groups
}

/// Code of a file: without comments and without its unit tests, which may use anything.
fn code(file: &Path) -> String {
    if file.components().any(|part| matches!(part.as_os_str().to_str(), Some("tests" | "tests.rs"))) {
        return String::new();
    }
    let text = fs::read_to_string(file).unwrap();
    let code = text.split("#[cfg(test)]").next().unwrap();
    code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn module_of(file: &Path) -> String {
    let first = file.strip_prefix(src()).unwrap().components().next().unwrap();
    first.as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned()
}

#[test]
fn modules_use_only_lower_layers() {
    let groups = groups(&fs::read_to_string(src().join("lib.rs")).unwrap());
    assert!(groups.len() >= 12, "lib.rs was not understood: {groups:?}");
    let mut wrong = Vec::new();
    let mut uses = 0;
    for file in sources(&src()) {
        let module = module_of(&file);
        let Some(own) = groups.get(&module) else { continue };
        for used in code(&file).split("crate::").skip(1) {
            let name: String = used.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            match groups.get(&name) {
                Some(group) if group > own => wrong.push(format!("{}: {module} uses {name}", file.display())),
                Some(_) => uses += 1,
                None => {}
            }
        }
    }
    assert!(uses > 50, "only {uses} uses were seen; has the way of importing changed?");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_the_binary_talks() {
    let talk = ["println!", "eprintln!", "print!(", "dbg!", "std::process::exit", "std::env::var", "clap::"];
    for file in sources(&src()).into_iter().filter(|file| !file.starts_with(src().join("bin"))) {
        let code = code(&file);
        for word in talk {
            assert!(!code.contains(word), "{} has {word}", file.display());
        }
    }
}

#[test]
fn one_place_spells_what_is_written_down_once() {
    // Nix's SQL: opening, a row, a closure, and what is new.
    let sql = ["store/database.rs", "store/reachable.rs", "store/registrations.rs", "store/row.rs"];
    let rules: [(&str, &[&str]); 4] = [
        ("\"loft/v1", &["bucket/key.rs"]),
        (".narinfo\"", &["bucket/key.rs"]),
        ("ValidPaths", &sql),
        ("Headers::NAR_INFO", &["push/publish.rs"]),
    ];
    for (word, places) in rules {
        let having: BTreeSet<PathBuf> = sources(&src()).into_iter().filter(|file| code(file).contains(word)).collect();
        let allowed: BTreeSet<PathBuf> = places.iter().map(|place| src().join(place)).collect();
        assert!(!having.is_empty() && having.is_subset(&allowed), "{word}: {having:?}");
    }
}
