//! The options are a promise: their names and types, as users have them in their configuration.

use super::{Evaluated, evaluate, evaluate_text, small, tree, try_evaluate};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

const PATH: &str = "null or path";

/// The options of the older loft's module.
const OLD: &[(&str, &str)] = &[
    ("enable", "boolean"),
    ("package", "package"),
    ("debug", "boolean"),
    ("s3.bucket", "string"),
    ("s3.region", "string"),
    ("s3.endpoint", "null or string"),
    ("s3.accessKeyFile", PATH),
    ("s3.secretKeyFile", PATH),
    ("s3.extraHeaders", "attribute set of string"),
    ("s3.extraHeadersFile", "null or path or attribute set of path"),
    ("localCachePath", "string"),
    ("uploadThreads", "signed integer"),
    ("scanOnStartup", "boolean"),
    ("populateCacheOnStartup", "boolean"),
    ("compression", "one of \"zstd\", \"xz\", \"none\""),
    ("signingKeyPath", PATH),
    ("signingKeyName", "null or string"),
    ("skipSignedByKeys", "list of string"),
    ("pruning.enable", "boolean"),
    ("pruning.schedule", "string"),
    ("pruning.retentionDays", "signed integer"),
    ("pruning.maxSizeGb", "null or signed integer"),
    ("pruning.targetPercentage", "signed integer"),
    ("extraConfig", "attribute set of JSON value"),
];

/// A value for every option beside those of the older loft, and what `loft.toml` says then.
const NEW: &[(&str, &str, &str)] = &[
    ("s3.prefix", r#""nix""#, "s3.prefix"),
    ("s3.addressingStyle", r#""virtual""#, "s3.addressing_style"),
    ("s3.caFile", r#""/etc/ca.pem""#, "s3.ca_file"),
    ("s3.profile", r#""work""#, "s3.profile"),
    ("s3.storageClass", r#""STANDARD_IA""#, "s3.storage_class"),
    ("compressionLevel", "9", "loft.compression_level"),
    ("signingKeyPaths", r#"["/run/k1"]"#, "loft.signing_key_paths"),
    ("upstreams", r#"["https://cache.nixos.org"]"#, "loft.upstreams"),
    ("exclude", r#"["*-source"]"#, "loft.exclude"),
    ("store", r#""daemon""#, "loft.store"),
    ("priority", "30", "loft.priority"),
    ("memoryLimit", r#""256MiB""#, "loft.memory_limit"),
    ("narListings", "true", "loft.nar_listings"),
    ("buildLogs", "true", "loft.build_logs"),
    ("debugInfo", "true", "loft.debug_info"),
    ("statusPage", "true", "loft.status_page"),
    ("publicUrl", r#""https://cache.example.org""#, "loft.public_url"),
    ("metricsAddress", r#""127.0.0.1:9100""#, "loft.metrics_address"),
];

/// Options of NixOS alone; they are no settings of `loft.toml`.
const OF_NIXOS: &[&str] = &["environmentFile", "postBuildHook.enable", "pruning.method"];

/// Settings without an option: secrets in plain text, and another way to say `s3`.
const WITHOUT_OPTION: &[&str] = &["s3.access_key", "s3.secret_key", "loft.cache"];

fn missing(evaluated: &Evaluated) -> Vec<String> {
    let is = |name: &str| evaluated.at("/options").get(name).and_then(Value::as_str).map(str::to_owned);
    let lacks = |(name, kind): &&(&str, &str)| is(name).as_deref() != Some(*kind);
    OLD.iter().filter(lacks).map(|(name, kind)| format!("{name} ({kind}), but is {:?}", is(name))).collect()
}

#[test]
#[ignore = "needs Nix: ./test"]
fn every_option_of_the_older_module_has_its_name_and_type() {
    for system in ["nixos", "darwin", "home"] {
        assert_eq!(missing(&evaluate(system, &small(""))), Vec::<String>::new(), "{system}");
    }
}

/// The check above sees a lost or changed option: each one is taken away, then renamed, then made a number.
#[test]
#[ignore = "needs Nix: ./test"]
fn losing_any_of_them_is_noticed() {
    let whole = evaluate("nixos", &small(""));
    for (name, _) in OLD {
        let mut without = Evaluated(whole.0.clone());
        let options = without.0["options"].as_object_mut().expect("options");
        let kind = options.remove(*name).expect("an option");
        assert_eq!(missing(&without).len(), 1, "{name} taken away");
        without.0["options"][format!("{name}s")] = kind;
        assert_eq!(missing(&without).len(), 1, "{name} renamed");
        without.0["options"][*name] = "floating point number".into();
        assert_eq!(missing(&without).len(), 1, "{name} of another type");
    }
    // And in the source itself, for one of each kind.
    let source = std::fs::read_to_string(tree().join("nix/options.nix")).expect("options.nix");
    for (old, new) in [
        ("uploadThreads = mkOption", "threads = mkOption"),
        ("extraHeadersFile = mkOption", "headersFile = mkOption"),
        ("maxSizeGb = optional types.int", "maxSizeGb = optional types.str"),
        ("scanOnStartup = switch", "scanAtStartup = switch"),
    ] {
        assert!(source.contains(old), "{old}");
        let folder = tempfile::tempdir().expect("temporary folder");
        let changed = source
            .replacen(old, new, 1)
            .replace("./package.nix", &tree().join("nix/package.nix").display().to_string());
        let file = folder.path().join("options.nix");
        std::fs::write(&file, changed).expect("options.nix");
        let listing = evaluate_text(&format!(
            "let lib = import ./tests/nix/lib.nix; pkgs = import ./tests/nix/pkgs.nix {{ inherit lib; folder = \"/f\"; }}; \
                 tree = (import {} {{ inherit lib pkgs; }}).options.services.loft; \
                 names = path: set: builtins.concatLists (lib.mapAttrsToList (name: option: \
                   if (option._type or \"\") == \"option\" \
                   then [ {{ name = path + name; value = option.type.description; }} ] \
                   else names (path + name + \".\") option) set); \
             in builtins.listToAttrs (names \"\" tree)",
            file.display()
        ));
        let options = listing.expect("options");
        assert_eq!(missing(&Evaluated(serde_json::json!({ "options": options }))).len(), 1, "{new}");
    }
}

/// Where in a table a dotted name leads.
fn find<'t>(table: &'t toml::Table, name: &str) -> Option<&'t toml::Value> {
    let (section, key) = name.split_once('.')?;
    table.get(section)?.get(key)
}

#[test]
#[ignore = "needs Nix: ./test"]
fn every_new_option_reaches_the_configuration() {
    let evaluated = evaluate("nixos", &small(""));
    let known: BTreeSet<&str> =
        evaluated.at("/options").as_object().expect("options").keys().map(String::as_str).collect();
    let listed =
        OLD.iter().map(|(name, _)| *name).chain(NEW.iter().map(|(name, ..)| *name)).chain(OF_NIXOS.iter().copied());
    assert_eq!(known, listed.collect(), "an option is missing in one of the lists here");
    let all: String = NEW.iter().map(|(name, value, _)| format!("{name} = {value}; ")).collect();
    let toml = evaluate("nixos", &small(&all)).toml();
    for (name, value, setting) in NEW {
        let expected: toml::Table = format!("value = {value}").parse().expect("TOML");
        assert_eq!(find(&toml, setting), Some(&expected["value"]), "{name}");
    }
}

/// Whoever adds a setting to loft is reminded of the module.
#[test]
#[ignore = "needs Nix: ./test"]
fn every_setting_has_an_option() {
    let all: String = NEW.iter().map(|(name, value, _)| format!("{name} = {value}; ")).collect();
    let all = format!("{all} s3.extraHeaders.X-A = \"a\"; s3.extraHeadersFile = \"/run/h\";");
    let configured = try_evaluate("nixos", "./tests/nix/example.nix", "/f").expect("the example").toml();
    let more = evaluate("nixos", &small(&all)).toml();
    let shown = super::unit::shown_by_loft("[s3]\nbucket = \"b\"\n", &[]);
    let settings: Vec<String> = shown["settings"]
        .as_array()
        .expect("settings")
        .iter()
        .map(|entry| entry["key"].as_str().expect("a key").to_owned())
        .collect();
    assert!(settings.len() > 30, "{settings:?}");
    let without: BTreeMap<&str, ()> = settings
        .iter()
        .map(String::as_str)
        .filter(|setting| find(&configured, setting).is_none() && find(&more, setting).is_none())
        .map(|setting| (setting, ()))
        .collect();
    assert_eq!(without.into_keys().collect::<BTreeSet<_>>(), WITHOUT_OPTION.iter().copied().collect());
}

/// Who sets nothing gets what loft does by itself, with and without a module.
#[test]
#[ignore = "needs Nix: ./test"]
fn defaults_are_those_of_loft() {
    let toml = evaluate("nixos", &small("")).toml();
    let shown = super::unit::shown_by_loft("", &[]);
    let defaults = shown["settings"].as_array().expect("settings").iter();
    let defaults: BTreeMap<&str, &Value> =
        defaults.map(|entry| (entry["key"].as_str().expect("a key"), &entry["value"])).collect();
    let mut seen = 0;
    for (section, keys) in &toml {
        for (key, value) in keys.as_table().expect("a section") {
            let name = format!("{section}.{key}");
            if ["s3.bucket", "s3.endpoint", "loft.local_cache_path"].contains(&name.as_str()) {
                continue;
            }
            let value = serde_json::to_value(value).expect("JSON");
            assert_eq!(Some(&&value), defaults.get(name.as_str()), "{name}");
            seen += 1;
        }
    }
    assert!(seen > 10, "{toml:?}");
    assert_eq!(toml["loft"]["local_cache_path"].as_str(), Some("/var/lib/loft/cache.db"));
}

#[test]
#[ignore = "needs Nix: ./test"]
fn values_of_another_type_are_refused_by_name() {
    for (wrong, option) in [
        ("uploadThreads = \"12\";", "uploadThreads"),
        ("s3.bucket = null;", "s3.bucket"),
        ("s3.accessKeyFile = \"relative\";", "s3.accessKeyFile"),
        ("s3.extraHeaders.X = 3;", "s3.extraHeaders.X"),
        ("s3.extraHeadersFile = 3;", "s3.extraHeadersFile"),
        ("s3.extraHeadersFile.X = \"relative\";", "s3.extraHeadersFile.X"),
        ("compression = \"gzip\";", "compression"),
        ("pruning.maxSizeGb = \"1000\";", "pruning.maxSizeGb"),
        ("skipSignedByKeys = \"cache.nixos.org-1\";", "skipSignedByKeys"),
        ("pruning = { enable = true; method = \"cron\"; };", "pruning.method"),
        ("signingKeyPath = 7;", "signingKeyPath"),
        ("uploadThread = 12;", "uploadThread"),
    ] {
        let Err(told) = try_evaluate("nixos", &small(wrong), "/f") else { panic!("{wrong} was taken") };
        assert!(told.contains(&format!("services.loft.{option}'")), "{wrong}: {told}");
    }
}
