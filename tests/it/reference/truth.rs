//! What the tables of keys and variables say is what the readers of the configuration do.

use crate::reference::commands;
use crate::support::setup::Setup;
use loft::config::keys::{Fallback, KEYS, Key, OBSOLETE};
use loft::config::variables::VARIABLES;
use loft::config::{Effective, Flags, Origin, load};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// All settings by their names.
#[track_caller]
fn settings(setup: &Setup) -> BTreeMap<String, Effective> {
    let loaded = setup.load().unwrap_or_else(|error| panic!("{error}"));
    loaded.effective.into_iter().map(|entry| (entry.key.clone(), entry)).collect()
}

fn full_name(key: &Key) -> String {
    format!("{}.{}", key.section, key.name)
}

/// The tables that hold one setting for each header.
fn is_table(key: &Key) -> bool {
    key.takes.starts_with("a table")
}

#[test]
fn every_setting_is_a_key_and_every_key_a_setting() {
    let read: BTreeSet<String> = settings(&Setup::new("")).into_keys().collect();
    assert_eq!(read, KEYS.iter().map(full_name).collect());
    let keys = KEYS.iter().filter(|key| key.meaning.is_empty() || key.takes.is_empty());
    assert_eq!(keys.map(|key| key.name).collect::<Vec<_>>(), Vec::<&str>::new(), "without a word on what they are");
    assert!(
        OBSOLETE.iter().all(|(section, name, _)| !KEYS.iter().any(|key| (key.section, key.name) == (*section, *name)))
    );
}

#[test]
fn defaults_are_those_in_effect() {
    let all = settings(&Setup::new(""));
    for key in KEYS {
        let is = &all[&full_name(key)].value;
        let says = match key.fallback {
            Fallback::Value(text) => text,
            // A path that depends on the machine.
            Fallback::Unset(_) if key.name == "local_cache_path" => continue,
            Fallback::Unset(then) => {
                assert!(is.is_null() && !then.is_empty(), "{}: {is} {then}", key.name);
                continue;
            }
        };
        assert_eq!(is.as_str().map_or_else(|| is.to_string(), str::to_owned), says, "{}", key.name);
    }
}

/// A date fits no key; the error says what would.
#[test]
fn what_a_key_takes_is_what_its_error_says() {
    for key in KEYS {
        let case = Setup::new(&format!("[{}]\n{} = 1979-05-27\n", key.section, key.name));
        let told = load(&case.sources).unwrap_err().to_string();
        assert!(told.contains(&format!("but must be {}", key.takes)), "{}: {told}", key.name);
    }
}

/// A value that each key takes, as text.
fn sample(key: &Key) -> &'static str {
    match key.name {
        "endpoint" => "http://localhost:3900",
        "addressing_style" => "virtual",
        "compression" => "xz",
        "compression_level" => "4",
        "nar_listings" | "debug_info" => "true",
        "store" => "daemon",
        "local_cache_path" => "/c",
        _ => "some",
    }
}

#[test]
fn variables_set_what_the_table_says() {
    for key in KEYS {
        for variable in key.variables {
            let (name, setting) = match *variable {
                "LOFT_EXTRA_HEADER_NAME" => (*variable, "s3.extra_headers.name".to_owned()),
                name => (name, full_name(key)),
            };
            let listed = VARIABLES.iter().any(|(listed, _)| match listed.strip_suffix('*') {
                Some(beginning) => name.starts_with(beginning),
                None => *listed == name,
            });
            assert!(listed, "{name} is not among the variables");
            let toml = match key.name {
                // Halves of a pair; the other one is in the file.
                "access_key" => "[s3]\nbucket = \"b\"\nsecret_key = \"s\"\n",
                "secret_key" => "[s3]\nbucket = \"b\"\naccess_key = \"a\"\n",
                _ => "",
            };
            let value = if name == "LOFT_CACHE" { "s3://some" } else { sample(key) };
            let case = Setup::new(toml).variable(name, value);
            match key.name {
                // These are no settings that are shown; the pair is complete, or it would be an error.
                "access_key" | "secret_key" => {
                    load(&Setup::new(toml).sources).unwrap_err();
                    settings(&case);
                }
                // Where the ledger is then depends on what this machine has in /var/lib.
                "local_cache_path" => {
                    let is = &settings(&case)[&setting].value;
                    assert!(
                        [Path::new("/var/lib/loft/cache.db"), Path::new("/c/loft/cache.db")]
                            .iter()
                            .any(|it| is == it.to_str().unwrap()),
                        "{is}"
                    );
                }
                "store" => {
                    let loaded = load(&case.sources).unwrap();
                    assert_eq!(loaded.settings.store.environment.get(name).map(String::as_str), Some(value));
                }
                _ => assert_eq!(settings(&case)[&setting].origin, Origin::Environment(name.to_owned()), "{name}"),
            }
        }
    }
}

#[test]
fn parameters_of_the_url_set_what_the_table_says() {
    let mut seen = 0;
    for key in KEYS {
        let Some(parameter) = key.parameter else { continue };
        let url = format!("s3://b/some/prefix?{parameter}={}", sample(key));
        let all = settings(&Setup::new("").flags(Flags { to: Some(url), ..Flags::default() }));
        assert_eq!(all[&full_name(key)].origin, Origin::Flag("--to"), "{parameter}");
        assert_eq!(all["s3.prefix"].value, "some/prefix");
        seen += 1;
    }
    assert!(seen > 8, "{seen}");
}

#[test]
fn credentials_of_systemd_stand_for_the_keys_that_the_table_says() {
    let mut seen = 0;
    for key in KEYS {
        let Some(credential) = key.credential else { continue };
        let credential = credential.replace("ANY", "2").replace("NAME", "x-some");
        let case = Setup::new("[s3]\nbucket = \"b\"\naccess_key = \"a\"\nsecret_key = \"s\"\n");
        std::fs::write(case.folder().join(&credential), "X-Some: some\n").unwrap();
        let folder = case.folder().to_str().unwrap().to_owned();
        let all = settings(&case.variable("CREDENTIALS_DIRECTORY", &folder));
        let setting = if is_table(key) { full_name(key) + ".x-some" } else { full_name(key) };
        assert_eq!(all[&setting].origin, Origin::Environment("CREDENTIALS_DIRECTORY".into()), "{credential}");
        seen += 1;
    }
    assert!(seen > 5, "{seen}");
}

#[test]
fn flags_set_what_the_table_says() {
    let settings_of = |flags| settings(&Setup::new("").flags(flags));
    let none = Flags::default;
    let set = [
        ("--to", settings_of(Flags { to: Some("s3://b".into()), ..none() })),
        ("--level", settings_of(Flags { level: Some(4), ..none() })),
        ("--jobs", settings_of(Flags { jobs: Some(4), ..none() })),
        ("--signing-key", settings_of(Flags { signing_keys: vec![PathBuf::from("/k")], ..none() })),
        ("--store", settings_of(Flags { store: Some("daemon".into()), ..none() })),
        ("--retention", settings_of(Flags { retention_days: Some(4), ..none() })),
    ];
    for key in KEYS {
        let Some(flag) = key.flag else { continue };
        let long = flag.strip_prefix("--").unwrap();
        let verbs: Vec<_> = commands::tree().get_subcommands().cloned().collect();
        assert!(verbs.iter().any(|verb| verb.get_arguments().any(|arg| arg.get_long() == Some(long))), "{flag}");
        // This one never becomes a setting: whoever prunes compares it with the configured one.
        if flag == "--max-size" {
            continue;
        }
        let (_, settings) = set.iter().find(|(known, _)| *known == flag).unwrap_or_else(|| panic!("{flag} is new"));
        assert!(matches!(settings[&full_name(key)].origin, Origin::Flag(set) if set == flag), "{flag}");
    }
}

/// Whatever looks like a variable in the source is in the table, or is none.
#[test]
fn no_variable_of_the_source_is_left_out() {
    const NONE: &[&str] =
        &["CARGO_MANIFEST_DIR", "CARGO_PKG_VERSION", "DEEP_ARCHIVE", "LOFT_EXTRA_HEADER_", "LOFT_EXTRA_HEADER_NAME"];
    let mut found = BTreeSet::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let source = std::fs::read_to_string(&path).unwrap();
            if path.ends_with("config/variables.rs") || path.ends_with("tests.rs") {
                continue;
            }
            found.extend(source.split('"').filter(|text| looks_like_a_variable(text)).map(str::to_owned));
        }
    }
    assert!(found.contains("LOFT_CONFIG") && found.contains("NIX_STATE_DIR"), "{found:?}");
    let is_told = |name: &str| NONE.contains(&name) || VARIABLES.iter().any(|(known, _)| *known == name);
    found.retain(|name| !is_told(name));
    assert_eq!(found, BTreeSet::new(), "add them to src/config/variables.rs");
}

/// In capitals, with a dash below.
fn looks_like_a_variable(text: &str) -> bool {
    text.contains('_')
        && text.starts_with(|c: char| c.is_ascii_uppercase())
        && text.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}

#[test]
fn variables_of_nix_reach_the_store() {
    let mut seen = 0;
    // Those of its settings are `loft use`'s.
    let about_stores = |name: &str| name.starts_with("NIX_") && !name.contains("_CONF");
    for (name, _) in VARIABLES.iter().filter(|(name, _)| about_stores(name)) {
        let loaded = load(&Setup::new("").variable(name, "/some").sources).unwrap();
        assert_eq!(loaded.settings.store.environment.get(*name).map(String::as_str), Some("/some"), "{name}");
        seen += 1;
    }
    assert!(seen >= 5, "{seen}");
}
