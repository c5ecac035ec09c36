//! nix-darwin and Home Manager: a launchd daemon with a user of its own, a service of the user's systemd.

use super::{evaluate, lines, small};
use crate::support::process::end_of;
use serde_json::json;
use std::process::Command;

#[test]
#[ignore = "needs Nix: ./test"]
fn launchd_starts_loft_as_a_user_of_its_own() {
    let secrets =
        "s3.accessKeyFile = \"/run/a\"; s3.secretKeyFile = \"/run/s\"; signingKeyPath = \"/run/k\"; debug = true;";
    let evaluated = evaluate("darwin", &small(secrets));
    assert_eq!(evaluated.texts("/failed"), Vec::<String>::new());
    let daemon = evaluated.at("/daemons/loft/serviceConfig");
    // nix-darwin makes of it a shell that waits for the store's volume first.
    let command = evaluated.text("/daemons/loft/command");
    assert_eq!(command, "/generated/loft/bin/loft --config /generated/loft.toml --debug watch");
    assert!(daemon.get("ProgramArguments").is_none(), "{daemon}");
    assert_eq!((&daemon["UserName"], &daemon["RunAtLoad"]), (&json!("_loft"), &json!(true)));
    assert_eq!(daemon["KeepAlive"], json!({ "SuccessfulExit": false }));
    assert_eq!(daemon["Umask"], 0o77);
    assert_eq!(evaluated.at("/users/users/_loft/uid"), evaluated.at("/users/users/_loft/gid"));
    assert_eq!(evaluated.texts("/users/knownUsers"), ["_loft"]);
    assert_eq!(evaluated.toml()["s3"]["access_key_file"].as_str(), Some("/run/a"));
    assert_eq!(evaluated.toml()["loft"]["signing_key_path"].as_str(), Some("/run/k"));
    for system in ["darwin", "home"] {
        let toml = evaluate(system, &small("s3.extraHeadersFile.X-B = \"/run/b\";")).toml();
        assert_eq!(toml["s3"]["extra_header_files"]["X-B"].as_str(), Some("/run/b"), "{system}");
    }
    for system in ["darwin", "nixos"] {
        let wrong = evaluate(system, &small("localCachePath = \"/tmp/cache.db\";"));
        assert!(wrong.texts("/failed")[0].contains("must be a file below /var/lib/loft"), "{system}");
    }
}

#[test]
#[ignore = "needs Nix: ./test"]
fn home_manager_runs_loft_as_the_user() {
    let secrets =
        "s3.accessKeyFile = \"/home/user/a\"; s3.secretKeyFile = \"/home/user/s\"; environmentFile = \"/home/user/e\";";
    let evaluated = evaluate("home", &small(secrets));
    assert_eq!(evaluated.texts("/failed"), Vec::<String>::new());
    let service = evaluated.at("/userServices/loft/Service");
    assert_eq!(service["ExecStart"], "/generated/loft/bin/loft --config /generated/loft.toml watch");
    assert_eq!((&service["Type"], &service["EnvironmentFile"]), (&json!("notify"), &json!(["/home/user/e"])));
    assert_eq!(evaluated.at("/userServices/loft/Install/WantedBy"), &json!(["default.target"]));
    // What only root's systemd can do makes the unit fail in a user's.
    for key in ["User", "DynamicUser", "ProtectSystem", "PrivateUsers", "CapabilityBoundingSet"] {
        assert!(service[key].is_null(), "{key}");
    }
    assert_eq!(service["NoNewPrivileges"], true);
    let ledger = |more: &str| {
        let toml = evaluate("home", &small(more)).toml();
        toml["loft"]["local_cache_path"].as_str().expect("a path").to_owned()
    };
    assert_eq!(ledger(""), "/home/user/.cache/loft/cache.db");
    assert_eq!(ledger("localCachePath = \"/home/user/ledger.db\";"), "/home/user/ledger.db");
    let wrong = evaluate("home", &small("pruning.schedule = \"often\";"));
    assert!(wrong.texts("/failed")[0].contains("pruning.schedule"));

    let folder = tempfile::tempdir().expect("temporary folder");
    let mut text = String::new();
    for section in ["Unit", "Service", "Install"] {
        text += &format!("[{section}]\n");
        let of_section = evaluated.at(&format!("/userServices/loft/{section}")).as_object().expect("a section");
        text.extend(of_section.iter().map(|(key, value)| lines(key, value)));
    }
    let file = folder.path().join("loft.service");
    std::fs::write(&file, text.replace("/generated/loft/bin/loft", "/bin/true")).expect("a unit");
    let mut verify = Command::new("systemd-analyze");
    let ended = end_of(verify.args(["verify", "--man=no", "--recursive-errors=no"]).arg(&file));
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
}
