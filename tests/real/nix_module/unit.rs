//! The configuration and the units that come out, read by loft and by systemd.

use super::{Evaluated, evaluate, settings, small, tree, try_evaluate};
use crate::support::loft::Loft;
use crate::support::process::{Ended, end_of, stdout_of};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// The most exposed that a unit may be, in tenths, by systemd's own measure (10 is the worst).
const EXPOSURE: &str = "20";

/// Runs loft with this configuration, and files of these names in its directory of credentials.
fn loft_with(toml: &str, credentials: &[&str], arguments: &[&str]) -> Ended {
    let loft = Loft::new();
    std::fs::write(loft.home().join("loft.toml"), toml).expect("loft.toml");
    let directory = loft.home().join("credentials");
    std::fs::create_dir(&directory).expect("folder");
    for name in credentials {
        std::fs::write(directory.join(name), "X-From-A-File: text\n").expect("a credential");
    }
    end_of(loft.command().env("CREDENTIALS_DIRECTORY", directory).args(["-c", "loft.toml"]).args(arguments))
}

/// What loft reads in a configuration.
pub fn shown_by_loft(toml: &str, credentials: &[&str]) -> Value {
    let ended = loft_with(toml, credentials, &["config", "show", "--json"]);
    assert_eq!(ended.code, Some(0), "{toml}\n{}", ended.stderr);
    serde_json::from_str(&ended.stdout).expect("JSON")
}

fn example() -> Evaluated {
    try_evaluate("nixos", "./tests/nix/example.nix", super::NOWHERE).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
#[ignore = "needs Nix: ./test"]
fn the_documented_example_evaluates_to_the_expected_configuration() {
    let evaluated = example();
    assert_eq!(evaluated.texts("/failed"), Vec::<String>::new());
    assert_eq!(evaluated.texts("/warnings"), Vec::<String>::new());
    let expected: toml::Table = r#"
        [s3]
        bucket = "nix-cache"
        region = "us-east-1"
        endpoint = "http://172.16.1.50:31292"
        addressing_style = "auto"
        access_key_file = "/run/secrets/loft-access-key"
        secret_key_file = "/run/secrets/loft-secret-key"
        [s3.extra_headers]
        CF-Access-Client-Id = "xxx"
        CF-Access-Client-Secret = "xxx"
        [s3.extra_header_files]
        CF-Access-Client-Id = "/run/secrets/cf-access-client-id"
        CF-Access-Client-Secret = "/run/secrets/cf-access-client-secret"
        [loft]
        upload_threads = 12
        scan_on_startup = true
        populate_cache_on_startup = false
        nar_listings = false
        build_logs = false
        debug_info = false
        status_page = false
        local_cache_path = "/var/lib/loft/cache.db"
        compression = "zstd"
        signing_key_path = "/run/secrets/nix-signing-key"
        signing_key_name = "nix-cache"
        skip_signed_by_keys = ["cache.nixos.org-1", "nix-community.cachix.org-1"]
        upstreams = []
        exclude = []
        prune_enabled = true
        prune_retention_days = 30
        prune_max_size_gb = 1000
        prune_target_percentage = 80
        prune_schedule = "00:00"
        some_new_feature_flag = true
    "#
    .parse()
    .expect("TOML");
    assert_eq!(evaluated.toml(), expected);
}

#[test]
#[ignore = "needs Nix: ./test"]
fn the_documented_example_evaluates_to_the_expected_unit() {
    let evaluated = example();
    let service = evaluated.at("/services/loft/serviceConfig");
    let expected = json!({
        "ExecStart": "/generated/loft/bin/loft --config /generated/loft.toml --debug watch",
        "Type": "notify",
        "User": "loft",
        "DynamicUser": true,
        "StateDirectory": "loft",
        "LoadCredential": [
            "loft.access-key:/run/secrets/loft-access-key",
            "loft.secret-key:/run/secrets/loft-secret-key",
            "loft.extra-header.CF-Access-Client-Id:/run/secrets/cf-access-client-id",
            "loft.extra-header.CF-Access-Client-Secret:/run/secrets/cf-access-client-secret",
            "loft.signing-key:/run/secrets/nix-signing-key",
        ],
        "EnvironmentFile": [],
        "Restart": "on-failure",
        "WatchdogSec": 120,
    });
    for (key, value) in expected.as_object().expect("settings") {
        assert_eq!(&service[key], value, "{key}");
    }
    // Secrets come by files that systemd loads: there is nothing of them in the environment, and one unit alone.
    let of_service = evaluated.at("/services/loft").as_object().expect("a service");
    assert_eq!(of_service.keys().collect::<Vec<_>>(), ["after", "description", "serviceConfig", "wantedBy", "wants"]);
    assert_eq!(evaluated.at("/services").as_object().expect("services").len(), 1);
    assert_eq!(evaluated.at("/timers"), &json!({}));
    assert_eq!(evaluated.at("/settings"), &json!({}));
}

/// An unknown key is a warning, as `extraConfig` needs it; headers are merged; credentials stand for the files.
#[test]
#[ignore = "needs Nix: ./test"]
fn loft_reads_the_example_and_warns_of_the_unknown_flag_alone() {
    let evaluated = example();
    let credentials = [
        "loft.access-key",
        "loft.secret-key",
        "loft.extra-header.CF-Access-Client-Id",
        "loft.extra-header.CF-Access-Client-Secret",
        "loft.signing-key",
    ];
    let ended = loft_with(evaluated.text("/toml"), &credentials, &["config", "show", "--json"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(ended.stderr.matches("warning: ").count(), 1, "{}", ended.stderr);
    assert!(ended.stderr.contains("Unknown key `some_new_feature_flag`"), "{}", ended.stderr);
    let shown: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    let entries = shown["settings"].as_array().expect("settings");
    let shown: BTreeMap<&str, &Value> =
        entries.iter().map(|entry| (entry["key"].as_str().expect("a key"), &entry["value"])).collect();
    // Each header has the value of its file, not the one of the table.
    let files = entries.iter().filter(|entry| entry["key"].as_str().expect("a key").starts_with("s3.extra_headers."));
    assert!(
        files.clone().all(|entry| entry["origin"]["file"].as_str().expect("a file").contains("/loft.extra-header."))
    );
    let mut headers = shown.keys().filter_map(|key| key.strip_prefix("s3.extra_headers.")).collect::<Vec<_>>();
    headers.sort_unstable();
    assert_eq!(headers, ["cf-access-client-id", "cf-access-client-secret"]);
    assert_eq!(shown["loft.prune_schedule"], "00:00");
    assert!(shown["loft.signing_key_path"].as_str().expect("a path").ends_with("credentials/loft.signing-key"));
    // A check says that it is a mistake, and nothing else is.
    let check = loft_with(evaluated.text("/toml"), &credentials, &["config", "check"]);
    assert_eq!(check.code, Some(1));
    assert!(check.stderr.contains("some_new_feature_flag"), "{}", check.stderr);
}

#[test]
#[ignore = "needs Nix: ./test"]
fn headers_come_from_one_file_of_lines_or_from_one_file_each() {
    let lines = evaluate("nixos", &small("s3.extraHeadersFile = \"/run/headers\";"));
    assert_eq!(lines.texts("/services/loft/serviceConfig/LoadCredential"), ["loft.extra-headers:/run/headers"]);
    assert_eq!(lines.toml()["s3"]["extra_headers_file"].as_str(), Some("/run/headers"));
    assert!(lines.toml()["s3"].get("extra_header_files").is_none());
    let shown = shown_by_loft(lines.text("/toml"), &["loft.extra-headers"]);
    assert!(shown.to_string().contains("s3.extra_headers.x-from-a-file"), "{shown}");

    let set = "s3.extraHeaders.X-B = \"xxx\"; \
               s3.extraHeadersFile = { X-B = \"/run/b\"; \"X-50%\" = \"/run/50\"; };";
    let evaluated = evaluate("nixos", &small(set));
    assert_eq!((evaluated.texts("/failed"), evaluated.texts("/warnings")), (vec![], vec![]));
    let credentials = evaluated.texts("/services/loft/serviceConfig/LoadCredential");
    assert_eq!(credentials, ["loft.extra-header.X-50%%:/run/50", "loft.extra-header.X-B:/run/b"]);
    let toml = evaluated.toml();
    assert!(toml["s3"].get("extra_headers_file").is_none());
    let files = toml["s3"]["extra_header_files"].as_table().expect("a table");
    assert_eq!((files.len(), files["X-B"].as_str()), (2, Some("/run/b")));
    let shown = shown_by_loft(evaluated.text("/toml"), &["loft.extra-header.X-B", "loft.extra-header.X-50%"]);
    let settings = shown["settings"].as_array().expect("settings");
    let of = |key: &str| settings.iter().find(|entry| entry["key"] == key).unwrap_or_else(|| panic!("no {key}"));
    let file = of("s3.extra_headers.x-b")["origin"]["file"].as_str().expect("a file");
    assert!(file.ends_with("credentials/loft.extra-header.X-B"), "{file}");
    assert_eq!(of("s3.extra_headers.x-50%")["value"], "(set)");
}

#[test]
#[ignore = "needs Nix: ./test"]
fn extra_configuration_wins_and_secrets_get_their_credentials() {
    let evaluated = evaluate(
        "nixos",
        &small(
            "extraConfig = { loft.upload_threads = 3; s3.region = \"garage\"; other.x = [ 1 2 ]; }; \
             signingKeyPath = \"/run/50%/k\"; signingKeyPaths = [ \"/run/k0\" \"/run/k1\" ]; \
             environmentFile = \"/run/env\"; s3.caFile = \"/etc/ca.pem\";",
        ),
    );
    let toml = evaluated.toml();
    assert_eq!(toml["loft"]["upload_threads"].as_integer(), Some(3));
    assert_eq!(toml["s3"]["region"].as_str(), Some("garage"));
    assert_eq!(toml["s3"]["bucket"].as_str(), Some("cache"), "the rest stays");
    assert_eq!(toml["other"]["x"].as_array().expect("a list").len(), 2);
    let credentials = evaluated.texts("/services/loft/serviceConfig/LoadCredential");
    // `%` begins a specifier of systemd's.
    assert_eq!(
        credentials,
        ["loft.signing-key:/run/50%%/k", "loft.signing-key.0:/run/k0", "loft.signing-key.1:/run/k1"]
    );
    assert_eq!(evaluated.of_service("EnvironmentFile"), &json!(["/run/env"]));
    assert!(!evaluated.of_service("ExecStart").as_str().expect("text").contains("--debug"));
}

#[test]
#[ignore = "needs Nix: ./test"]
fn pruning_is_the_services_or_a_timers() {
    let by_service = evaluate("nixos", &small("pruning = { enable = true; schedule = \"7d\"; };"));
    assert_eq!(by_service.toml()["loft"]["prune_enabled"].as_bool(), Some(true));
    assert_eq!(by_service.at("/timers"), &json!({}));
    let timer = |schedule: &str| {
        let pruning = format!(
            "pruning = {{ enable = true; method = \"timer\"; schedule = \"{schedule}\"; retentionDays = 9; }};"
        );
        let evaluated = evaluate("nixos", &small(&pruning));
        let toml = evaluated.toml();
        assert_eq!(toml["loft"]["prune_enabled"].as_bool(), Some(false), "the service leaves it to the timer");
        assert_eq!(toml["loft"]["prune_retention_days"].as_integer(), Some(9));
        let unit = evaluated.at("/services/loft-prune/serviceConfig");
        assert_eq!(unit["ExecStart"], "/generated/loft/bin/loft --config /generated/loft.toml prune");
        assert_eq!(unit["Type"], "oneshot");
        // The same user and ledger, and no more rights.
        for key in
            ["User", "DynamicUser", "StateDirectory", "LoadCredential", "CapabilityBoundingSet", "SystemCallFilter"]
        {
            assert_eq!(&unit[key], evaluated.of_service(key), "{key}");
        }
        assert_eq!(evaluated.texts("/timers/loft-prune/wantedBy"), ["timers.target"]);
        evaluated.at("/timers/loft-prune/timerConfig").clone()
    };
    assert_eq!(timer("3:05")["OnCalendar"], "*-*-* 3:05:00");
    assert_eq!(timer("1h30m")["OnUnitActiveSec"], "1h30m");
    // systemd reads both as loft does.
    let calendar = stdout_of(Command::new("systemd-analyze").args(["calendar", "*-*-* 3:05:00"]));
    assert!(calendar.contains("Normalized form: *-*-* 03:05:00"), "{calendar}");
    for (span, microseconds) in
        [("1h30m", "5400000000"), ("90m", "5400000000"), ("7d", "604800000000"), ("1w", "604800000000")]
    {
        let told = stdout_of(Command::new("systemd-analyze").args(["timespan", span]));
        assert!(told.contains(microseconds), "{told}");
    }
    // Off is off, whatever the method.
    let off = evaluate("nixos", &small("pruning.method = \"timer\";"));
    assert_eq!((off.at("/timers"), off.at("/services").as_object().expect("services").len()), (&json!({}), 1));
}

#[test]
#[ignore = "needs Nix: ./test"]
fn hook_goes_into_the_configuration_of_nix() {
    for system in ["nixos", "darwin"] {
        let evaluated = evaluate(system, &small("postBuildHook.enable = true; debug = true;"));
        assert_eq!(evaluated.text("/settings/post-build-hook"), "/generated/loft-post-build-hook");
        assert_eq!(
            evaluated.text("/hook"),
            "#!/bin/sh\n/generated/loft/bin/loft --config /generated/loft.toml --debug hook || true\n"
        );
    }
}

/// The unit that systemd gets, as a file.
fn write_unit(folder: &Path, evaluated: &Evaluated, name: &str) -> String {
    let file = folder.join(format!("{name}.service"));
    std::fs::write(&file, evaluated.unit_file(name)).expect("a unit");
    file.display().to_string()
}

/// systemd's own judgement of a unit file: at most `EXPOSURE`.
fn expect_hardened(unit: &str) {
    let security = ["security", "--offline=true", "--no-pager", &format!("--threshold={EXPOSURE}"), unit];
    let ended = end_of(Command::new("systemd-analyze").args(security));
    let told = ended.stdout.lines().last().unwrap_or_default();
    println!("{told}");
    assert_eq!(ended.code, Some(0), "{}\n{}", ended.stdout, ended.stderr);
    assert!(told.contains("exposure level"), "{told}");
}

#[test]
#[ignore = "needs Nix: ./test"]
fn systemd_finds_the_units_well_hardened() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let evaluated = evaluate("nixos", &small("pruning = { enable = true; method = \"timer\"; };"));
    for name in ["loft", "loft-prune"] {
        expect_hardened(&write_unit(folder.path(), &evaluated, name));
    }
    expect_hardened(&tree().join("packaging/loft.service").display().to_string());
    // The measure sees what is missing.
    let lax = folder.path().join("lax.service");
    std::fs::write(&lax, "[Service]\nExecStart=/bin/true\nDynamicUser=true\nNoNewPrivileges=true\n").expect("a unit");
    let security = ["security", "--offline=true", &format!("--threshold={EXPOSURE}")];
    assert_ne!(end_of(Command::new("systemd-analyze").args(security).arg(&lax)).code, Some(0));
}

#[test]
#[ignore = "needs Nix: ./test"]
fn systemd_understands_every_line_of_the_units() {
    let folder = tempfile::tempdir().expect("temporary folder");
    // It wants to see the program.
    std::fs::create_dir_all(folder.path().join("loft/bin")).expect("folder");
    std::os::unix::fs::symlink("/bin/true", folder.path().join("loft/bin/loft")).expect("a program");
    let configuration = small(
        "pruning = { enable = true; method = \"timer\"; }; environmentFile = \"/run/e\"; signingKeyPath = \"/run/k\";",
    );
    let evaluated = try_evaluate("nixos", &configuration, &folder.path().display().to_string()).expect("evaluates");
    let verify = |unit: &str| {
        let ended = end_of(Command::new("systemd-analyze").args(["verify", "--man=no", "--recursive-errors=no", unit]));
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{unit}");
    };
    for name in ["loft", "loft-prune"] {
        verify(&write_unit(folder.path(), &evaluated, name));
    }
    let plain = std::fs::read_to_string(tree().join("packaging/loft.service")).expect("packaging/loft.service");
    std::fs::create_dir(folder.path().join("plain")).expect("folder");
    let file = folder.path().join("plain/loft.service");
    std::fs::write(&file, plain.replace("/usr/bin/loft", "/bin/true")).expect("a unit");
    verify(&file.display().to_string());
}

/// The unit for other systems is kept by hand: it forbids what the module's forbids, and starts the same.
#[test]
#[ignore = "needs Nix: ./test"]
fn plain_unit_agrees_with_the_modules() {
    let evaluated = evaluate("nixos", &small(""));
    let mut module = settings(&evaluated.unit_file("loft"), "Service");
    let text = std::fs::read_to_string(tree().join("packaging/loft.service")).expect("packaging/loft.service");
    let mut plain = settings(&text, "Service");
    let exec = plain.remove("ExecStart").expect("ExecStart");
    assert_eq!(exec, ["/usr/bin/loft --config /etc/loft/loft.toml watch"]);
    assert!(module.remove("ExecStart").expect("ExecStart")[0].ends_with(" watch"));
    let secrets = ["loft.access-key", "loft.secret-key", "loft.signing-key", "loft.extra-headers"];
    assert_eq!(plain.remove("LoadCredential").expect("credentials"), secrets);
    plain.remove("EnvironmentFile");
    // There the file may change under the service.
    plain.remove("ExecReload");
    // Lists are lines in the one and words in the other.
    let words = |settings: BTreeMap<String, Vec<String>>| -> BTreeMap<String, String> {
        settings.into_iter().map(|(key, values)| (key, values.join(" "))).collect()
    };
    assert_eq!(words(module), words(plain));
}
