//! The units at work: under a real systemd in a container, and, for what a test can do better with the service in
//! its hands, run as systemd would run it.
//!
//! The sandbox of the latter is made of what could keep loft from working: an ordinary user without capabilities
//! and without new privileges, everything read-only but its state directory, that directory behind a link as
//! `DynamicUser=` has it, and secrets in a directory of credentials alone.

use super::{Evaluated, small, tree, try_evaluate};
use crate::support::garage::Garage;
use crate::support::machine::Machine;
use crate::support::place::Place;
use crate::support::process::{end_of, stdout_of};
use crate::support::proxy::Proxy;
use crate::support::service::{Service, Site};
use crate::support::systemd::Container;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

const HEADER: (&str, &str) = ("X-Gate", "let-me-through-5d1f");

/// Its arguments are what to start.
const SANDBOX: &str = "set -e
    mount -t tmpfs tmpfs /var/lib
    mkdir -p -m 700 /var/lib/private/loft
    chmod 755 /var/lib/private
    chown 65534:65534 /var/lib/private/loft
    ln -s private/loft /var/lib/loft
    mount -o remount,bind,ro /
    for place in /tmp /home /root; do
        if mountpoint -q $place; then mount -o remount,bind,ro $place; fi
    done
    if touch /tmp/loft-was-here 2>/dev/null; then echo 'the sandbox is open' >&2; exit 1; fi
    exec setpriv --reuid 65534 --regid 65534 --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all -- \"$@\"";

/// What the module generated, in a folder, and the secrets that its unit names.
struct Installed {
    evaluated: Evaluated,
    folder: TempDir,
    secrets: TempDir,
    credentials: TempDir,
}

fn secret(folder: &Path, name: &str, text: &str) {
    let file = folder.join(name);
    fs::write(&file, text).expect("a secret");
    fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("mode");
}

/// Pushes to the site's bucket through its proxy, with secrets in files of a folder alone; `more` names that of the
/// header.
fn configuration(site: &Site, secrets: &Path, more: &str) -> String {
    let bucket = site.place.bucket().expect("a bucket");
    let file = |name: &str| secrets.join(name).display().to_string();
    small(&format!(
        "s3.endpoint = lib.mkForce {:?}; s3.bucket = lib.mkForce {:?}; s3.region = {:?}; \
         s3.accessKeyFile = {:?}; s3.secretKeyFile = {:?}; s3.extraHeaders.{} = \"xxx\"; \
         signingKeyPath = {:?}; postBuildHook.enable = true; \
         pruning = {{ enable = true; method = \"timer\"; schedule = \"03:00\"; }}; {more}",
        site.proxy().endpoint,
        bucket.name,
        bucket.region,
        file("access"),
        file("secret"),
        HEADER.0,
        file("signing"),
    ))
}

fn write_secrets(folder: &Path, site: &Site) {
    let bucket = site.place.bucket().expect("a bucket");
    secret(folder, "access", &format!("{}\n", bucket.access_key));
    secret(folder, "secret", &format!("{}\n", bucket.secret_key));
    secret(folder, "headers", &format!("# for the gate\nLOFT_EXTRA_HEADER_X_GATE={}\n", HEADER.1));
    secret(folder, "gate", &format!("{}\n", HEADER.1));
    secret(folder, "signing", &fs::read_to_string(site.key.secret_file()).expect("a key"));
}

/// The files that the module has generated, and the program that they start.
fn write_generated(folder: &Path, evaluated: &Evaluated, site: &Site) {
    open_to_others(folder);
    fs::write(folder.join("loft.toml"), evaluated.text("/toml")).expect("loft.toml");
    let (hook, program) = (folder.join("loft-post-build-hook"), folder.join("loft/bin/loft"));
    fs::write(&hook, evaluated.text("/hook")).expect("the hook");
    fs::create_dir_all(folder.join("loft/bin")).expect("folder");
    fs::copy(site.loft.command().get_program(), &program).expect("the program");
    for file in [hook, program] {
        fs::set_permissions(file, Permissions::from_mode(0o755)).expect("mode");
    }
}

fn open_to_others(folder: &Path) {
    fs::set_permissions(folder, Permissions::from_mode(0o755)).expect("mode");
}

impl Installed {
    fn new(machine: &Machine, site: &Site) -> Self {
        let [folder, secrets, credentials] = ["loft-generated-", "loft-secrets-", "loft-credentials-"]
            .map(|prefix| tempfile::Builder::new().prefix(prefix).tempdir().expect("folder"));
        write_secrets(secrets.path(), site);
        let [(_, store), _] = machine.settings();
        let headers = secrets.path().join("headers");
        let more = format!("store = {store:?}; s3.extraHeadersFile = {headers:?};");
        let configuration = configuration(site, secrets.path(), &more);
        let evaluated = try_evaluate("nixos", &configuration, &folder.path().display().to_string()).expect("evaluates");
        assert_eq!(evaluated.texts("/failed"), Vec::<String>::new());
        let installed = Self { evaluated, folder, secrets, credentials };
        write_generated(installed.folder.path(), &installed.evaluated, site);
        installed.load_credentials();
        installed
    }

    /// What systemd does for `LoadCredential=`: copies that the service's user alone can read.
    fn load_credentials(&self) {
        for credential in self.evaluated.texts("/services/loft/serviceConfig/LoadCredential") {
            let (name, file) = credential.split_once(':').expect("NAME:FILE");
            fs::copy(file, self.credentials.path().join(name)).expect("a secret");
        }
        let own = "chown -R 65534:65534 \"$1\" && chmod 400 \"$1\"/* && chmod 500 \"$1\"";
        stdout_of(Command::new("sh").args(["-c", own, "own"]).arg(self.credentials.path()));
    }

    /// The words of a unit's ExecStart.
    fn exec_start(&self, unit: &str) -> Vec<String> {
        let line = self.evaluated.text(&format!("/services/{unit}/serviceConfig/ExecStart"));
        line.split(' ').map(str::to_owned).collect()
    }

    fn start(&self, site: &Site) -> Service {
        let words = self.exec_start("loft");
        let (program, arguments) = words.split_first().expect("a program");
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let start = site.start(&arguments).of_program(Path::new(program));
        start
            .with(|command| {
                for variable in ["LOFT_CACHE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
                    command.env_remove(variable);
                }
                command.env("HOME", "/").env("CREDENTIALS_DIRECTORY", self.credentials.path());
            })
            .under(&["unshare", "--mount", "--propagation", "private", "sh", "-c", SANDBOX, "sandbox"])
            .ready()
    }
}

fn site_behind_a_gate(store: &str) -> Site {
    let garage = Garage::start();
    let proxy = Proxy::start(&garage.bucket.endpoint, Some(HEADER));
    let mut site = Site::new(store, Place::Garage(garage));
    site.proxy = Some(proxy);
    site
}

/// A program among the mounts of the service.
fn beside(service: &Service) -> Command {
    let mut command = Command::new("nsenter");
    command.args(["--mount", "--target", &service.pid().to_string(), "--"]).env_clear();
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
}

fn status_of(service: &Service, field: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{}/status", service.pid())).expect("proc");
    let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("a field");
    line.split_whitespace().next().expect("a value").to_owned()
}

#[test]
#[ignore = "needs Garage: ./test --full"]
fn unit_pushes_to_garage_from_its_sandbox() {
    let machine = Machine::with_daemon();
    for folder in [machine.store.root(), &machine.at("")] {
        open_to_others(folder);
    }
    let site = site_behind_a_gate(&machine.store.url());
    let installed = Installed::new(&machine, &site);
    let before = machine.build("before", 0..2);
    let mut service = installed.start(&site);

    // An ordinary user that can do nothing more.
    assert_eq!(status_of(&service, "Uid:"), "65534");
    assert_eq!(status_of(&service, "CapEff:"), "0000000000000000");
    assert_eq!(status_of(&service, "NoNewPrivs:"), "1");
    let unreadable = "cat \"$1\"/* >/dev/null 2>&1";
    let mut look = Command::new("setpriv");
    look.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "sh", "-c", unreadable, "look"]);
    assert_ne!(end_of(look.arg(installed.secrets.path())).code, Some(0), "the user can read the secrets themselves");

    // What is built is pushed with the key, the credentials and the header of the files, and Nix can fetch it.
    let mut paths = machine.build("running", 0..5);
    site.await_all(&paths, &mut service, Duration::from_secs(60));
    assert!(service.log().contains("database"), "{}", service.log());
    assert!(!site.proxy().seen().is_empty() && site.proxy().seen().iter().all(|request| request.passed));

    // What only the hook tells of: Nix runs it as root, and it finds the service behind the link.
    let mut hook = beside(&service);
    let hooked =
        end_of(hook.arg(installed.evaluated.text("/settings/post-build-hook")).env("OUT_PATHS", before.join(" ")));
    assert_eq!((hooked.code, hooked.stdout.as_str(), hooked.stderr.as_str()), (Some(0), "", ""));
    paths.extend(before);
    site.await_all(&paths, &mut service, Duration::from_secs(60));

    // The timer's unit, as the same user beside the service: all of it is young and stays.
    let mut prune = beside(&service);
    prune.env("CREDENTIALS_DIRECTORY", installed.credentials.path());
    prune.args(["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--no-new-privs"]);
    let pruned = end_of(prune.args(installed.exec_start("loft-prune")));
    assert_eq!(pruned.code, Some(0), "{}", pruned.stderr);
    assert!(pruned.stderr.contains("No path had to go"), "{}", pruned.stderr);

    let log = service.log();
    assert!(!log.contains("warning") && !log.contains("<4>"), "{log}");
    let process = |file: &str| fs::read(format!("/proc/{}/{file}", service.pid())).expect("proc");
    let told = [log.into_bytes(), process("cmdline"), process("environ")].concat();
    let told = String::from_utf8_lossy(&told);
    let bucket = site.place.bucket().expect("a bucket");
    for secret in [HEADER.1, &bucket.secret_key, &bucket.access_key] {
        assert!(!told.contains(secret), "{secret} is told");
    }
    service.stop();
    site.expect_fetchable(&paths);
}

/// All of both units: users, credentials, filters of system calls, readiness, the watchdog, the hook, the timer's unit.
#[test]
#[ignore = "needs Garage: ./test --full"]
fn units_push_to_garage_under_a_real_systemd() {
    const GENERATED: &str = "/opt/loft-generated";
    const SECRETS: &str = "/etc/loft-secrets";
    let site = site_behind_a_gate("daemon");
    let container = Container::new();
    // The header in a file of its own; the other test has it among lines.
    let header = format!("s3.extraHeadersFile.{} = \"{SECRETS}/gate\";", HEADER.0);
    let configuration = configuration(&site, Path::new(SECRETS), &header);
    let evaluated = try_evaluate("nixos", &configuration, GENERATED).expect("evaluates");
    fs::create_dir_all(container.at(GENERATED)).expect("folder");
    write_generated(&container.at(GENERATED), &evaluated, &site);
    fs::create_dir_all(container.at(SECRETS)).expect("folder");
    write_secrets(&container.at(SECRETS), &site);
    let unit = |name: &str| container.at(&format!("/etc/systemd/system/{name}.service"));
    for name in ["loft", "loft-prune"] {
        fs::write(unit(name), evaluated.unit_file(name)).expect("a unit");
    }

    // The other unit has the configuration of an administrator, without the gate and its header.
    let bucket = site.place.bucket().expect("a bucket");
    let plain = fs::read_to_string(tree().join("packaging/loft.service")).expect("packaging/loft.service");
    let plain = plain.replace("/usr/bin/loft", &format!("{GENERATED}/loft/bin/loft"));
    fs::write(unit("loft-plain"), plain).expect("a unit");
    let toml =
        format!("[s3]\nbucket = {:?}\nregion = {:?}\nendpoint = {:?}\n", bucket.name, bucket.region, bucket.endpoint);
    fs::write(container.at("/etc/loft/loft.toml"), toml).expect("loft.toml");
    for (credential, file) in [("access-key", "access"), ("secret-key", "secret"), ("signing-key", "signing")] {
        let to = container.at(&format!("/etc/credstore/loft.{credential}"));
        fs::copy(container.at(SECRETS).join(file), to).expect("a secret");
    }
    let script = container.at("/opt/under-systemd.sh");
    fs::write(script, include_str!("under-systemd.sh")).expect("the script");
    let (web, port) =
        site.place.substituter().rsplit_once(':').map(|(web, port)| (web.to_owned(), port.to_owned())).expect("a port");
    let host = web.trim_start_matches("http://").to_owned();
    container.run(&format!("/bin/sh /opt/under-systemd.sh {GENERATED} http://127.0.0.1:{port} {host}"));

    let results = container.left("results");
    let explain = || format!("{results}\n{}\n{}", container.left("journal"), container.left("log"));
    let all = |name: &str| -> Vec<String> {
        results.lines().filter_map(|line| line.strip_prefix(&format!("{name}="))).map(str::to_owned).collect()
    };
    let one = |name: &str| all(name).first().unwrap_or_else(|| panic!("no {name}: {}", explain())).clone();
    for step in [
        "start",
        "security",
        "hook",
        "prune",
        "restart",
        "stop",
        "hook-alone",
        "start-again",
        "status",
        "stop-again",
        "plain-start",
        "plain-reload",
        "plain-stop",
    ] {
        assert_eq!(one(step), "0", "{step}: {}", explain());
    }
    assert_ne!(one("Uid"), "0");
    assert_eq!(
        (one("CapEff").as_str(), one("NoNewPrivs").as_str(), one("Seccomp").as_str()),
        ("0000000000000000", "1", "2")
    );
    assert_eq!((one("notified").as_str(), one("watchdog").as_str()), ("watching; nothing is queued", "2min"));
    assert_eq!(one("owners"), "1", "the hook of root leaves files of root behind");
    assert_eq!(container.left("warnings"), "", "{}", explain());
    assert_eq!(all("missing"), Vec::<String>::new(), "{}", explain());
    let told = container.left("told") + &container.left("journal");
    for secret in [HEADER.1, &bucket.secret_key, &bucket.access_key] {
        assert!(!told.contains(secret), "{secret} is told");
    }
    assert!(!site.proxy().seen().is_empty() && site.proxy().seen().iter().all(|request| request.passed));
    let paths = all("path");
    assert_eq!(paths.len(), 5, "{}", explain());
    site.expect_fetchable(&paths);
}
