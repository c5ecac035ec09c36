//! What `loft use` writes and prints, as a real Nix understands it.

use crate::support::nix::Nix;
use crate::support::process::{end_of, stdout_of};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;

const URL: &str = "https://cache.example.org";
const S3: &str = "s3://nix-cache?endpoint=http://h:3900&region=garage";
const KEY: &str = "cache.example.org-1:V/+kMGMW5Qhb65Bk+mPgDA/RUKt03Cm1AjgaAT3U9vs=";

fn loft(arguments: &[&str]) -> Command {
    let program = std::env::var_os("LOFT_TEST_PROGRAM").unwrap_or_else(|| env!("CARGO_BIN_EXE_loft").into());
    let mut command = Command::new(program);
    command.args(["use", "--public-key", KEY]).args(arguments);
    command
}

/// A setting as this Nix has it with the `nix.conf` in `folder`.
fn setting(nix: &Nix, folder: &Path, name: &str, more: &[String]) -> Vec<String> {
    let verb: &[&str] = if nix.version() >= (2, 18) { &["config", "show"] } else { &["show-config"] };
    let mut command = nix.command("nix");
    command.env("NIX_CONF_DIR", folder).env("NIX_CONFIG", "extra-experimental-features = nix-command");
    command.args(verb).arg("--json").args(more);
    let said: Value = serde_json::from_str(&stdout_of(&mut command)).expect("JSON");
    let values = said[name]["value"].as_array().unwrap_or_else(|| panic!("{name}: {}", said[name]));
    values.iter().map(|value| value.as_str().expect("text").to_owned()).collect()
}

/// Whatever stood in the file: Nix asks the cache and believes the key, and loses nothing.
fn is_understood(nix: &Nix) {
    for (before, kept) in [
        ("", "https://cache.nixos.org"),
        ("substituters = https://a.example.org", "https://a.example.org"),
        ("extra-substituters = https://a.example.org # ours\ncores = 2\r\n", "https://a.example.org"),
        ("extra-substituters = https://a.example.org\nsubstituters = https://b.example.org\n", "https://b.example.org"),
        ("extra-binary-caches = https://a.example.org\r\n!include more.conf\r\n", "https://c.example.org"),
        ("trusted-public-keys = \n!include nix.custom.conf\n", "https://cache.nixos.org"),
    ] {
        let folder = tempfile::tempdir().expect("temporary folder");
        let file = folder.path().join("nix.conf");
        fs::write(&file, before).expect("nix.conf");
        fs::write(folder.path().join("more.conf"), "extra-substituters = https://c.example.org\n").expect("more.conf");
        stdout_of(loft(&[URL]).arg(format!("--write={}", file.display())));
        let substituters = setting(nix, folder.path(), "substituters", &[]);
        let has = |url: &str| substituters.iter().filter(|known| known.trim_end_matches('/') == url).count();
        assert_eq!((has(URL), has(kept)), (1, 1), "{before:?} became {substituters:?}");
        let keys = setting(nix, folder.path(), "trusted-public-keys", &[]);
        assert!(keys.contains(&KEY.to_owned()), "{before:?}: {keys:?}");
    }
}

#[test]
#[ignore = "needs Nix: ./test"]
fn written_files_are_understood() {
    is_understood(&Nix::installed());
}

#[test]
#[ignore = "needs a recent Nix: ./test --full"]
fn written_files_are_understood_by_recent_nix() {
    is_understood(&Nix::recent());
}

#[test]
#[ignore = "needs Nix: ./test"]
fn printed_forms_are_understood() {
    let nix = Nix::installed();
    for url in [URL, S3] {
        let print = |form: &str| stdout_of(loft(&["--netrc", "/etc/nix/netrc", "--form", form, url]).env("HOME", "/"));
        let evaluate = |text: &str| -> Value {
            let expression = format!("{{ {text} }}");
            let said =
                stdout_of(nix.command("nix-instantiate").args(["--eval", "--strict", "--json", "--expr", &expression]));
            serde_json::from_str(&said).expect("JSON")
        };
        let (module, flake) = (evaluate(&print("nixos")), evaluate(&print("flake")));
        let (settings, config) = (&module["nix"]["settings"], &flake["nixConfig"]);
        assert_eq!(settings["substituters"], config["extra-substituters"]);
        assert_eq!(settings["trusted-public-keys"], config["extra-trusted-public-keys"]);
        assert_eq!(
            (&settings["netrc-file"], &config["netrc-file"]),
            (&"/etc/nix/netrc".into(), &"/etc/nix/netrc".into())
        );
        assert_eq!(settings["trusted-public-keys"], serde_json::json!([KEY]));
        let substituter = settings["substituters"][0].as_str().expect("a URL").to_owned();

        // Through a shell, which has its own ideas of `&`.
        let options = stdout_of(Command::new("sh").args(["-c", &format!("printf '%s\\n' {}", print("options"))]));
        let options: Vec<String> = options.lines().map(str::to_owned).collect();
        let folder = tempfile::tempdir().expect("temporary folder");
        for (name, value) in [("substituters", substituter.as_str()), ("trusted-public-keys", KEY)] {
            let said = setting(&nix, folder.path(), name, &options);
            assert!(said.len() > 1 && said.iter().any(|known| known == value), "{name}: {said:?}");
        }
    }
}

/// A whole flake, and not only its text: `nixConfig` is where Nix looks for it.
#[test]
#[ignore = "needs a recent Nix: ./test --full"]
fn recent_nix_takes_the_flake_form_from_a_flake() {
    let nix = Nix::recent();
    let folder = tempfile::tempdir().expect("temporary folder");
    let form = stdout_of(loft(&["--form", "flake", URL]).env("HOME", "/"));
    fs::write(folder.path().join("flake.nix"), format!("{{\n{form}outputs = _: {{ x = 1; }};\n}}\n"))
        .expect("flake.nix");
    let mut command = nix.command("nix");
    command.args(["--extra-experimental-features", "nix-command flakes", "eval", "--no-accept-flake-config", "-v"]);
    command
        .arg(format!("path:{}#x", folder.path().display()))
        .env("NIX_REMOTE", format!("local?root={}", folder.path().display()));
    let ended = end_of(&mut command);
    assert_eq!((ended.code, ended.stdout.trim()), (Some(0), "1"), "{}", ended.stderr);
    for name in ["extra-substituters", "extra-trusted-public-keys"] {
        assert!(
            ended.stderr.contains(&format!("ignoring untrusted flake configuration setting '{name}'")),
            "{}",
            ended.stderr
        );
    }
}
