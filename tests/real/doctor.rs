//! The doctor against real servers: what is well is well, and each broken set-up is named.

use crate::support::corpus::Corpus;
use crate::support::garage::Garage;
use crate::support::loft::Loft;
use crate::support::machine::Machine;
use crate::support::nix::Nix;
use crate::support::process::{Ended, end_of};
use crate::support::s3::Bucket;
use crate::support::seaweed::SeaweedFs;
use crate::support::time::{DAY, Time};
use serde_json::Value;
use std::collections::BTreeSet;
use std::process::Command;

/// A machine with a store, a key, and a `nix.conf` that reads from the bucket.
struct Ward {
    loft: Loft,
    corpus: Corpus,
}

impl Ward {
    fn new() -> Self {
        let ward = Self { loft: Loft::new(), corpus: Corpus::odd() };
        let key = ward.loft.home().join("key");
        let made = end_of(ward.loft.command().args(["key", "generate", "real-1", "--out"]).arg(&key));
        assert_eq!(made.code, Some(0), "{}", made.stderr);
        ward.loft.configure(&format!("signing_key_path = {key:?}\nstore = {:?}", ward.corpus.store.url()));
        std::fs::create_dir(ward.loft.home().join("etc")).expect("etc");
        std::fs::write(ward.loft.home().join("public"), made.stdout).expect("public key");
        ward
    }

    fn command(&self, bucket: &Bucket, url: &str, args: &[&str]) -> Command {
        let public = std::fs::read_to_string(self.loft.home().join("public")).expect("public key");
        let conf = format!("substituters = {url}\ntrusted-public-keys = {public}");
        std::fs::write(self.loft.home().join("etc/nix.conf"), conf).expect("nix.conf");
        let mut command = self.loft.command();
        command.args(args).env("LOFT_CACHE", url).envs(bucket.environment());
        command.env("NIX_CONF_DIR", self.loft.home().join("etc")).env("AWS_EC2_METADATA_DISABLED", "true");
        command
    }

    fn push(&self, bucket: &Bucket) {
        let ended = end_of(&mut self.command(bucket, &bucket.url(), &["push", &self.corpus.root]));
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    }

    fn examine(&self, bucket: &Bucket) -> Found {
        self.examine_in(bucket, None)
    }

    fn examine_in(&self, bucket: &Bucket, time: Option<&Time>) -> Found {
        let mut command = self.command(bucket, &bucket.url(), &["doctor", "--json"]);
        if let Some(time) = time {
            time.apply(&mut command);
        }
        let found = Found::read(end_of(&mut command));
        assert!(!found.text.contains(&bucket.secret_key), "the secret key was shown");
        found
    }
}

struct Found {
    findings: Vec<Value>,
    text: String,
}

impl Found {
    fn read(ended: Ended) -> Self {
        let text = format!("{}{}", ended.stdout, ended.stderr);
        let findings: Vec<Value> = ended.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let is_broken = findings.iter().any(|finding| finding["verdict"] == "broken");
        assert_eq!(ended.code, Some(if is_broken { 3 } else { 0 }), "{text}");
        assert!(findings.len() >= 30, "{text}");
        Self { findings, text }
    }

    /// These faults and no others, the words in the first one.
    #[track_caller]
    fn blames(&self, codes: &[&str], words: &[&str]) {
        let found: BTreeSet<&str> = self.findings.iter().filter_map(|finding| finding["code"].as_str()).collect();
        assert_eq!(found, codes.iter().copied().collect(), "{}", self.text);
        for word in words {
            let first = self.findings.iter().find(|finding| finding["code"] == codes[0]).expect("it was found");
            assert!(first["says"].as_str().expect("words").contains(word), "{word:?} is not in {first}");
        }
    }

    #[track_caller]
    fn is_fine(&self, checks: &[&str]) {
        for check in checks {
            let is_fine = |finding: &Value| finding["check"] == *check && finding["verdict"] == "ok";
            assert!(self.findings.iter().any(is_fine), "{check} is not fine:\n{}", self.text);
        }
    }
}

#[test]
#[ignore = "needs Nix: ./test"]
fn a_real_nix_store_and_its_daemon_are_told_apart() {
    store_and_daemon(Machine::with_daemon());
}

#[test]
#[ignore = "needs a recent Nix: ./test --full"]
fn the_daemon_of_a_recent_nix_tells_whom_it_trusts() {
    let mut machine = Machine::of(Nix::recent());
    machine.start_daemon();
    store_and_daemon(machine);
}

fn store_and_daemon(machine: Machine) {
    let loft = Loft::new();
    let cache = format!("file://{}", loft.home().join("cache").display());
    let look = |store: &str| {
        let mut command = loft.command();
        command.args(["doctor", "--json", "--to", &cache, "--store", store]).env("NIX_CONF_DIR", "/nonexistent");
        Found::read(end_of(&mut command))
    };
    for (what, store) in machine.settings() {
        let found = look(&store);
        found.blames(&["no-signing-key"], &[]);
        found.is_fine(&["store", "daemon"]);
        let daemon = found.findings.iter().find(|finding| finding["check"] == "daemon").expect("told");
        // Daemons tell since Nix 2.9.
        let tells = daemon["says"].as_str().expect("words").contains("trusts this user");
        assert_eq!(tells, machine.nix.version() >= (2, 9), "{what}: {daemon}");
    }
    // Whoever named a daemon means it.
    let gone = machine.settings()[1].1.replacen("socket?", "gone?", 1);
    look(&gone).blames(&["store-unreachable", "no-signing-key"], &["gone"]);
}

const CONTENT: [&str; 8] = [
    "permissions",
    "consistency",
    "conditional-writes",
    "lifecycle",
    "cache-info",
    "bucket-record",
    "signatures",
    "trust",
];

#[test]
#[ignore = "needs Garage: ./test --full"]
fn all_is_well_with_garage() {
    let (garage, ward) = (Garage::start(), Ward::new());
    ward.examine(&garage.bucket).blames(&[], &[]);
    assert_eq!(garage.bucket.keys(), Vec::<String>::new());
    ward.push(&garage.bucket);
    let keys = garage.bucket.keys();
    let found = ward.examine(&garage.bucket);
    found.blames(&[], &[]);
    found.is_fine(&CONTENT);
    found.is_fine(&["endpoint", "credentials", "region", "bucket", "clock", "checksums", "store", "substituter"]);
    assert_eq!((garage.bucket.keys(), garage.bucket.open_uploads()), (keys, 0));

    // Its web endpoint hands the same cache out.
    let mut command = ward.command(&garage.bucket, &garage.bucket.url(), &["doctor", "--json"]);
    let public = std::fs::read_to_string(ward.loft.home().join("public")).expect("public key");
    let conf = format!("substituters = {}\ntrusted-public-keys = {public}", garage.web);
    std::fs::write(ward.loft.home().join("etc/nix.conf"), conf).expect("nix.conf");
    // Not every machine resolves names below localhost.
    command.env("http_proxy", format!("http://127.0.0.1:{}", garage.web_port)).env("no_proxy", "127.0.0.1");
    let found = Found::read(end_of(&mut command));
    found.blames(&[], &[]);
    found.is_fine(&["substituter", "trust"]);
}

#[test]
#[ignore = "needs SeaweedFS: ./test --full"]
fn all_is_well_with_seaweedfs() {
    let (server, ward) = (SeaweedFs::start(), Ward::new());
    ward.push(&server.bucket);
    let keys = server.bucket.keys();
    let found = ward.examine(&server.bucket);
    // It signs over the payload's hash without comparing it with the payload.
    found.blames(&["digests-unchecked"], &["plain http"]);
    found.is_fine(&CONTENT);
    assert_eq!((server.bucket.keys(), server.bucket.open_uploads()), (keys, 0));
}

#[test]
#[ignore = "needs Garage: ./test --full"]
fn broken_ways_to_garage_are_named() {
    let (garage, ward) = (Garage::start(), Ward::new());
    let right = || garage.bucket.clone();
    let secret_key = right().secret_key.replace('6', "7");
    ward.examine(&Bucket { secret_key, ..right() }).blames(&["credentials-wrong-secret"], &["403"]);
    let access_key = right().access_key.replace("6c", "7d");
    ward.examine(&Bucket { access_key, ..right() }).blames(&["credentials-unknown"], &["403"]);
    ward.examine(&Bucket { name: "elsewhere".into(), ..right() }).blames(&["bucket-missing"], &["elsewhere"]);
    ward.examine(&Bucket { region: "eu-9".into(), ..right() }).blames(&["region-wrong"], &["eu-9", "garage"]);
    let web = format!("http://127.0.0.1:{}", garage.web_port);
    ward.examine(&Bucket { endpoint: web, ..right() }).blames(&["endpoint-not-s3"], &["404"]);
    let nodes = format!("http://127.0.0.1:{}", garage.rpc_port);
    ward.examine(&Bucket { endpoint: nodes, ..right() }).blames(&["endpoint-not-s3"], &["does not answer in HTTP"]);
    let https = right().endpoint.replace("http://", "https://");
    ward.examine(&Bucket { endpoint: https, ..right() }).blames(&["endpoint-speaks-http"], &["plain http"]);
    garage.halt();
    ward.examine(&right()).blames(&["endpoint-refused"], &["refused"]);
}

#[test]
#[ignore = "needs Garage: ./test --full"]
fn what_a_key_may_not_do_in_garage_is_named() {
    let (garage, ward) = (Garage::start(), Ward::new());
    ward.push(&garage.bucket);
    let keys = garage.bucket.keys();
    let key = garage.bucket.access_key.clone();
    let change = |verb: &str, what: &[&str]| {
        let arguments = [&["bucket", verb], what, &[garage.bucket.name.as_str(), "--key", &key]].concat();
        garage.admin(&arguments);
    };
    change("deny", &["--write"]);
    ward.examine(&garage.bucket).blames(&["may-not-write"], &["put objects", "403"]);
    change("allow", &["--write"]);
    change("deny", &["--read"]);
    ward.examine(&garage.bucket).blames(&["may-not-read"], &["get objects", "list objects", "403"]);
    change("deny", &["--write", "--owner"]);
    let found = ward.examine(&garage.bucket);
    found.blames(&["may-not-read", "may-not-write"], &["403"]);
    change("allow", &["--read", "--write", "--owner"]);
    ward.examine(&garage.bucket).blames(&[], &[]);
    assert_eq!(garage.bucket.keys(), keys);
}

#[test]
#[ignore = "needs Garage: ./test --full"]
fn a_rule_of_garage_that_deletes_is_named() {
    let (garage, ward) = (Garage::start(), Ward::new());
    ward.push(&garage.bucket);
    let rules = "<LifecycleConfiguration><Rule><ID>old</ID><Status>Enabled</Status><Filter><Prefix>nar/</Prefix></Filter>\
                 <Expiration><Days>90</Days></Expiration></Rule></LifecycleConfiguration>";
    garage.bucket.set("lifecycle", rules);
    ward.examine(&garage.bucket).blames(&["lifecycle-expires"], &["90 days"]);
}

#[test]
#[ignore = "needs Garage: ./test --full"]
fn a_clock_that_is_off_from_garages_is_named() {
    let (garage, ward, time) = (Garage::start(), Ward::new(), Time::new());
    ward.push(&garage.bucket);
    time.set(400);
    ward.examine_in(&garage.bucket, Some(&time)).blames(&["clock-off"], &["ahead"]);
    time.set(3600);
    ward.examine_in(&garage.bucket, Some(&time)).blames(&["clock-wrong"], &["ahead"]);
    // So far off that Garage refuses the requests.
    let days = i64::try_from(2 * DAY.as_secs()).expect("some days");
    time.set(-days);
    ward.examine_in(&garage.bucket, Some(&time)).blames(&["clock-wrong"], &["behind"]);
}
