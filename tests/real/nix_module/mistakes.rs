//! What a user gets wrong is told before anything is built, by name and with what would be right.

use super::{evaluate, small};

/// What is written, and parts of the one message that it brings.
const ASSERTED: &[(&str, &[&str])] = &[
    ("s3.bucket = lib.mkForce \"\";", &["s3.bucket is not set"]),
    ("s3.endpoint = lib.mkForce \"\";", &["s3.endpoint is \"\"", "http://HOST:PORT"]),
    ("s3.endpoint = lib.mkForce \"garage:3900\";", &["s3.endpoint is \"garage:3900\"", "http://HOST:PORT"]),
    ("s3.endpoint = lib.mkForce \"http://garage:3900/bucket\";", &["without a path"]),
    ("s3.endpoint = lib.mkForce \"http://user:pw@garage\";", &["s3.endpoint"]),
    ("s3.accessKeyFile = \"/run/a\";", &["accessKeyFile and s3.secretKeyFile go together"]),
    ("s3.secretKeyFile = \"/run/a\";", &["accessKeyFile and s3.secretKeyFile go together"]),
    ("localCachePath = \"/root/cache.db\";", &["localCachePath is \"/root/cache.db\"", "below /var/lib/loft"]),
    ("localCachePath = \"/var/lib/loft-other/cache.db\";", &["below /var/lib/loft"]),
    ("localCachePath = \"/var/lib/loft/../nix/cache.db\";", &["below /var/lib/loft"]),
    ("localCachePath = \"/var/lib/loft/..\";", &["below /var/lib/loft"]),
    ("localCachePath = \"/var/lib/loft/a/..\";", &["below /var/lib/loft"]),
    ("localCachePath = \"/var/lib/loft/\";", &["localCachePath is \"/var/lib/loft/\"", "a file below /var/lib/loft"]),
    ("localCachePath = \"/var/lib/loft/folder/\";", &["a file below /var/lib/loft"]),
    ("localCachePath = \".direnv/cache.db\";", &["below /var/lib/loft"]),
    ("signingKeyName = \"cache-1\";", &["signingKeyName is \"cache-1\"", "no key to sign with"]),
    ("pruning.schedule = \"24\";", &["pruning.schedule is \"24\"", "\"24h\"", "\"03:00\""]),
    ("pruning.schedule = \"25:00\";", &["pruning.schedule is \"25:00\""]),
    ("pruning.schedule = \"12:5\";", &["pruning.schedule is \"12:5\""]),
    ("pruning.schedule = \"daily\";", &["pruning.schedule is \"daily\""]),
    ("pruning.schedule = \"30s\";", &["pruning.schedule is \"30s\"", "from a minute to a year"]),
    ("pruning.schedule = \"0h\";", &["pruning.schedule is \"0h\""]),
    ("pruning.schedule = \"0m\";", &["pruning.schedule is \"0m\""]),
    ("pruning.schedule = \"53w\";", &["pruning.schedule is \"53w\""]),
    ("pruning.schedule = \"99999w\";", &["pruning.schedule is \"99999w\""]),
    ("pruning.schedule = \"99999999999999999999s\";", &["pruning.schedule is \"9999"]),
    ("pruning.schedule = \"\";", &["pruning.schedule is \"\""]),
    ("pruning.retentionDays = 0;", &["pruning.retentionDays is 0", "from 1 to 36500"]),
    ("pruning.retentionDays = -3;", &["pruning.retentionDays is -3"]),
    ("pruning.targetPercentage = 0;", &["pruning.targetPercentage is 0", "from 1 to 100"]),
    ("pruning.targetPercentage = 101;", &["pruning.targetPercentage is 101"]),
    ("pruning.maxSizeGb = 0;", &["pruning.maxSizeGb is 0", "no limit"]),
    ("uploadThreads = 0;", &["uploadThreads is 0", "from 1 to 512"]),
    ("uploadThreads = 513;", &["uploadThreads is 513"]),
    ("compressionLevel = 23;", &["compressionLevel is 23", "1 to 22"]),
    ("compressionLevel = 0;", &["compressionLevel is 0"]),
    ("compression = \"xz\"; compressionLevel = 10;", &["compressionLevel is 10", "0 to 9"]),
    ("compression = \"none\"; compressionLevel = 3;", &["none has no levels"]),
    ("metricsAddress = \"9100\";", &["metricsAddress is \"9100\"", "127.0.0.1:9100"]),
    ("skipSignedByKeys = [ \"https://cache.nixos.org\" ];", &["names of keys", "upstreams"]),
    ("upstreams = [ \"cache.nixos.org-1\" ];", &["takes URLs", "skipSignedByKeys"]),
    ("s3.extraHeaders.\"a b\" = \"c\";", &["a name that is none of HTTP's: a b"]),
    ("s3.extraHeaders.X-A = \"b\\nc\";", &["s3.extraHeaders.\"X-A\" has more than one line"]),
    ("s3.extraHeaders = { X-A = \"b\"; X-B = \"c\\r\"; };", &["s3.extraHeaders.\"X-B\""]),
    // Secrets that everybody could read.
    (
        "s3 = { accessKeyFile = \"/nix/store/x\"; secretKeyFile = \"/run/b\"; };",
        &["s3.accessKeyFile (/nix/store/x)", "everybody can read"],
    ),
    ("s3 = { accessKeyFile = \"/run/a\"; secretKeyFile = \"/nix/store/x\"; };", &["s3.secretKeyFile (/nix/store/x)"]),
    ("s3.extraHeadersFile = ./headers;", &["s3.extraHeadersFile", "would be copied", "as text"]),
    ("s3.extraHeadersFile.X-A = ./headers;", &["s3.extraHeadersFile.\"X-A\"", "would be copied", "as text"]),
    (
        "s3.extraHeadersFile = { X-A = \"/run/a\"; X-B = \"/nix/store/x\"; };",
        &["s3.extraHeadersFile.\"X-B\" (/nix/store/x)"],
    ),
    ("s3.extraHeadersFile.\"a/b\" = \"/run/c\";", &["s3.extraHeadersFile has a name that is none of HTTP's: a/b"]),
    ("signingKeyPath = \"/nix/store/x\";", &["signingKeyPath (/nix/store/x)"]),
    ("signingKeyPaths = [ \"/run/k\" \"/nix/store/x\" ];", &["signingKeyPaths (/nix/store/x)"]),
    ("environmentFile = \"/nix/store/x\";", &["environmentFile (/nix/store/x)"]),
];

const WARNED: &[(&str, &[&str])] = &[
    ("s3.extraHeaders.CF-Access-Client-Secret = \"hunter2\";", &["CF-Access-Client-Secret", "extraHeadersFile"]),
    ("s3.extraHeaders.X-Api-Key = \"k\";", &["\"X-Api-Key\" looks like a secret"]),
    // A harmless name, and a value that nobody types.
    ("s3.extraHeaders.X-Gate = \"4f9c2b7a81d3e6f05c9a4f9c2b7a81d3\";", &["X-Gate"]),
    ("extraConfig.s3.secret_key = \"s\";", &["extraConfig.s3 has secret_key", "secretKeyFile"]),
    ("extraConfig.s3 = { access_key = \"a\"; extra_headers.X = \"y\"; };", &["access_key, extra_headers"]),
    ("extraConfig.s3 = { access_key = null; secret_key = \"s\"; };", &["extraConfig.s3 has secret_key,"]),
    ("s3.profile = \"work\";", &["AWS_SHARED_CREDENTIALS_FILE"]),
];

/// What is right, and near to something that is not.
const FINE: &[&str] = &[
    "",
    "s3.endpoint = lib.mkForce null;",
    "s3.endpoint = lib.mkForce \"https://s3.example.org/\";",
    "s3.accessKeyFile = \"/run/a\"; environmentFile = \"/run/e\";",
    "s3.profile = \"work\"; environmentFile = \"/run/e\";",
    "s3.extraHeaders = { CF-Access-Client-Secret = \"xxx\"; X-Site = \"home\"; };",
    "pruning.schedule = \"3:05\";",
    "pruning.schedule = \"23:59\";",
    "pruning.schedule = \"90m\";",
    "pruning.schedule = \"1h30m\";",
    "pruning.schedule = \"7d\";",
    "pruning.schedule = \"1m\";",
    "pruning.schedule = \"60s\";",
    "pruning.schedule = \"08h 09min\";",
    "pruning.schedule = \"52w\";",
    "pruning.schedule = \"366d\";",
    "signingKeyPath = \"/nix/storefront/k\";",
    "extraConfig.s3.secret_key = null;",
    "localCachePath = \"/var/lib/loft/..ledger\";",
    "pruning = { retentionDays = 1; targetPercentage = 100; maxSizeGb = 1; };",
    "compression = \"xz\"; compressionLevel = 0;",
    "compressionLevel = 22;",
    "metricsAddress = \"[::1]:9100\";",
    "localCachePath = \"/var/lib/loft/other/ledger.db\";",
];

#[test]
#[ignore = "needs Nix: ./test"]
fn each_assertion_fires_for_its_mistake_alone() {
    for (written, parts) in ASSERTED {
        let evaluated = evaluate("nixos", &small(written));
        let failed = evaluated.texts("/failed");
        let [message] = failed.as_slice() else { panic!("{written}: {failed:#?}") };
        assert!(message.starts_with("services.loft."), "{message}");
        assert!(parts.iter().all(|part| message.contains(part)), "{written}: {message}");
    }
}

#[test]
#[ignore = "needs Nix: ./test"]
fn each_warning_fires_for_its_mistake_alone() {
    for (written, parts) in WARNED {
        let evaluated = evaluate("nixos", &small(written));
        assert_eq!(evaluated.texts("/failed"), Vec::<String>::new(), "{written}");
        let warnings = evaluated.texts("/warnings");
        let [message] = warnings.as_slice() else { panic!("{written}: {warnings:#?}") };
        assert!(parts.iter().all(|part| message.contains(part)), "{written}: {message}");
        assert!(!message.contains("hunter2") && !message.contains("4f9c2b7a"), "a value is told: {message}");
    }
}

#[test]
#[ignore = "needs Nix: ./test"]
fn what_is_right_brings_neither() {
    for written in FINE {
        let evaluated = evaluate("nixos", &small(written));
        assert_eq!(evaluated.texts("/failed"), Vec::<String>::new(), "{written}");
        assert_eq!(evaluated.texts("/warnings"), Vec::<String>::new(), "{written}");
    }
}

/// Nothing is looked at before loft is enabled.
#[test]
#[ignore = "needs Nix: ./test"]
fn a_module_that_is_not_enabled_does_nothing() {
    for system in ["nixos", "darwin", "home"] {
        let evaluated = evaluate(system, "{ services.loft.pruning.retentionDays = 0; }");
        assert_eq!(evaluated.texts("/failed"), Vec::<String>::new());
        for part in ["services", "timers", "settings", "daemons", "userServices"] {
            assert_eq!(evaluated.at(&format!("/{part}")), &serde_json::json!({}), "{system}: {part}");
        }
        assert!(evaluated.at("/toml").is_null());
    }
}

/// What the module lets pass, loft takes; what loft refuses of these, the module has refused.
#[test]
#[ignore = "needs Nix: ./test"]
fn loft_takes_what_the_module_lets_pass() {
    for written in FINE {
        let toml = evaluate("nixos", &small(written));
        let shown = super::unit::shown_by_loft(toml.text("/toml"), &["loft.access-key", "loft.secret-key"]);
        assert!(shown["settings"].is_array(), "{written}: {shown}");
    }
}

/// `null` takes away what another option, or its default, says.
#[test]
#[ignore = "needs Nix: ./test"]
fn nulls_of_the_extra_configuration_are_left_out() {
    let toml =
        evaluate("nixos", &small("extraConfig = { s3.region = null; loft.a = { b = null; c = 1; }; x = null; };"))
            .toml();
    assert!(toml["s3"].get("region").is_none() && toml["s3"].get("bucket").is_some());
    assert_eq!(toml["loft"]["a"].as_table().expect("a table").len(), 1);
    assert!(toml.get("x").is_none());
}
