//! Who runs the original loft changes nothing: its `loft.toml`, its flags, its extra headers.

use crate::original_toml::example_with;
use crate::support::corpus::Corpus;
use crate::support::loft::Loft;
use crate::support::nix::Nix;
use crate::support::place::Place;
use crate::support::process::{Ended, end_of};
use crate::support::proxy::Proxy;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

const HEADER: (&str, &str) = ("CF-Access-Client-Id", "an-identity-7f3a");

/// The documented example, word for word but for the values that name places, with keys added to `[s3]`.
fn write_configuration(
    loft: &Loft,
    s3: &crate::support::s3::Bucket,
    endpoint: &str,
    headers: &str,
    key: &str,
) -> PathBuf {
    let access = [
        format!("bucket = {:?}", s3.name),
        format!("region = {:?}", s3.region),
        format!("endpoint = {endpoint:?}"),
        format!("access_key = {:?}", s3.access_key),
        format!("secret_key = {:?}", s3.secret_key),
    ];
    let own = [format!("signing_key_path = {key:?}"), "scan_on_startup = true".to_owned()];
    let text = example_with(access.iter().map(String::as_str), own.iter().map(String::as_str));
    // The example's own header, or those that the test is about.
    let text = text.replacen("\"CF-Access-Client-Id\" = \"xxx\"\n", headers, 1);
    let path = loft.home().join("old.toml");
    std::fs::write(&path, text).unwrap();
    path
}

struct Machine {
    corpus: Corpus,
    nix: Nix,
    place: Place,
    loft: Loft,
    key: crate::support::nix::KeyPair,
}

impl Machine {
    fn new() -> Self {
        let nix = Nix::installed();
        let key = nix.generate_key("nix-cache");
        Self { corpus: Corpus::odd(), nix, place: Place::garage(), loft: Loft::new(), key }
    }

    fn configuration(&self, endpoint: &str, headers: &str) -> PathBuf {
        let bucket = self.place.bucket().unwrap();
        write_configuration(&self.loft, bucket, endpoint, headers, self.key.secret_file().to_str().unwrap())
    }

    fn run(&self, more: impl FnOnce(&mut Command)) -> Ended {
        let mut command = self.loft.command();
        command.env("NIX_REMOTE", self.corpus.store.url());
        more(&mut command);
        end_of(&mut command)
    }

    fn upload(&self, configuration: &PathBuf, more: impl FnOnce(&mut Command)) -> Ended {
        self.run(|command| {
            command.arg("--config").arg(configuration).args(["--upload-path", &self.corpus.root]);
            more(command);
        })
    }

    fn all_arrived(&self) {
        assert_eq!(self.place.cache().violations(&BTreeSet::new()), Vec::<String>::new());
        self.nix.fetch(&self.place.substituter(), &[&self.corpus.root], &self.key.public);
    }
}

#[test]
#[ignore = "needs Garage: ./test --full"]
fn documented_configuration_and_flags_work_with_garage() {
    let machine = Machine::new();
    let configuration = machine.configuration(&machine.place.bucket().unwrap().endpoint, "");
    let dry = machine.upload(&configuration, |command| {
        command.arg("--dry-run");
    });
    assert_eq!(dry.code, Some(0), "{}", dry.stderr);
    assert_eq!(machine.place.cache().narinfos().len(), 0, "--dry-run wrote");

    let ended = machine.upload(&configuration, |_| ());
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    machine.all_arrived();
    assert!(machine.loft.home().join(".direnv/cache.db").exists(), "the ledger is not at local_cache_path");
    assert!(!ended.stderr.to_lowercase().contains("unknown"), "warnings about documented keys:\n{}", ended.stderr);

    for flags in [&["--populate-cache"][..], &["--clear-cache"], &["--force-scan"]] {
        let ended = machine.run(|command| {
            command.arg("--config").arg(&configuration).args(flags);
        });
        assert_eq!(ended.code, Some(0), "{flags:?}: {}", ended.stderr);
    }
    // The whole store was scanned: now everything valid is there, but for derivations that nothing refers to.
    let visible = machine.place.cache().narinfos();
    for path in machine.corpus.store.registrations().into_keys().filter(|path| !path.ends_with(".drv")) {
        assert!(visible.contains_key(&path), "{path} was not pushed by --force-scan");
    }
    assert_eq!(machine.place.cache().violations(&BTreeSet::new()), Vec::<String>::new());
}

#[test]
#[ignore = "needs Garage: ./test --full"]
fn extra_headers_pass_a_demanding_proxy_before_garage() {
    let machine = Machine::new();
    let proxy = Proxy::start(&machine.place.bucket().unwrap().endpoint, Some(HEADER));
    let (name, value) = HEADER;

    let without = machine.configuration(&proxy.endpoint, "");
    let refused = machine.upload(&without, |_| ());
    assert_eq!(refused.code, Some(1), "the proxy let it pass: {}", refused.stderr);
    assert!(refused.stderr.contains("403"), "{}", refused.stderr);
    assert!(proxy.seen().iter().all(|request| !request.passed));

    let in_file = format!("\"{name}\" = \"{value}\"\n");
    let wrong = format!("\"{name}\" = \"wrong\"\n");
    let variable = "LOFT_EXTRA_HEADER_CF_ACCESS_CLIENT_ID";
    // In the file; in the environment; and the environment over a wrong one in the file.
    for (headers, in_environment) in [(in_file.as_str(), false), ("", true), (&wrong, true)] {
        proxy.forget();
        for key in machine.place.cache().keys() {
            machine.place.bucket().unwrap().delete(&key);
        }
        let configuration = machine.configuration(&proxy.endpoint, headers);
        let ended = machine.upload(&configuration, |command| {
            command.arg("--debug").env("RUST_LOG", "trace");
            if in_environment {
                command.env(variable, value);
            }
        });
        assert_eq!(ended.code, Some(0), "{headers:?}, {in_environment}: {}", ended.stderr);
        assert!(!format!("{}{}", ended.stdout, ended.stderr).contains(value), "the header's value was logged");
        machine.all_arrived();
        let seen = proxy.seen();
        assert!(!seen.is_empty());
        for request in seen {
            assert!(request.passed, "{request:?} lacked the header");
            assert!(request.signed_headers.contains(&"host".to_owned()), "{request:?} is not signed");
            assert!(!request.signed_headers.iter().any(|signed| signed.eq_ignore_ascii_case(name)), "{request:?}");
        }
    }
}
