//! `loft run` around a real Nix, as in a CI container: no systemd, no daemon, an environment that is nearly empty.

use crate::support::audit::Cache;
use crate::support::local_store::LocalStore;
use crate::support::loft::Loft;
use crate::support::nix::{KeyPair, Nix};
use crate::support::process::{Ended, end_of, stdout_of};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

/// Builds one derivation; `step` of the script below.
const DERIVATIONS: &str = r#"
  { name }:
  let
    make = name: script: derivation {
      inherit name; system = builtins.currentSystem; builder = "/bin/sh"; args = [ "-c" script ];
    };
    source = builtins.toFile "source-of-${name}" "the source of ${name}";
    below = make "below-${name}" "read line < ${source}; echo $line > $out";
  in {
    fine = make name "echo ${below} > $out";
    failing = make name "test -e ${below}; exit 1";
  }
"#;

/// What the scripts have at hand. `landed` waits for a path to be in the cache, and tells when it is not.
const FUNCTIONS: &str = r#"
  build() { nix-build steps.nix --no-out-link --argstr name "$1" --attr "$2"; }
  landed() {
    hash=${1#/nix/store/}; hash=${hash%%-*}; tries=0
    until [ -e "cache/$hash.narinfo" ]; do
      tries=$((tries + 1)); [ $tries -lt 200 ] || exit 44
      sleep 0.1
    done
  }
"#;

struct Job {
    nix: Nix,
    store: LocalStore,
    loft: Loft,
    key: KeyPair,
}

impl Job {
    fn new(nix: Nix) -> Self {
        let (store, loft, key) = (LocalStore::empty(), Loft::new(), nix.generate_key("ci-1"));
        std::fs::write(loft.home().join("steps.nix"), DERIVATIONS).unwrap();
        // What any image with Nix in it has had done.
        stdout_of(nix.command("nix-store").arg("--init").env("NIX_REMOTE", store.url()));
        Self { nix, store, loft, key }
    }

    fn cache(&self) -> PathBuf {
        self.loft.home().join("cache")
    }

    /// What Nix needs to leave the machine alone; loft finds the store by it just as Nix does.
    fn environment(&self, command: &mut Command) {
        let nix = self.nix.command("nix-build");
        command.envs(nix.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let programs = std::path::Path::new(nix.get_program()).parent().map(PathBuf::from).unwrap_or_default();
        let path = std::env::var("PATH").unwrap();
        command.env("PATH", format!("{}:{path}", programs.display()));
        let config = "substituters =\nbuild-users-group =\nbuild-hook =\nfilter-syscalls = false\nsandbox = true\n\
                      sandbox-paths = /bin /lib /lib64? /usr\nextra-experimental-features = nix-command\n";
        // An unpacked recent Nix cannot find its own hook, an old one cannot do without.
        let config = if self.nix.version() < (2, 18) { config.replace("build-hook =\n", "") } else { config.into() };
        command.env("NIX_CONFIG", config).env("NIX_REMOTE", self.store.url());
    }

    /// `loft run -- sh -c SCRIPT`; for root as the first process of a container. (In a container of another user
    /// Nix would take itself for root.)
    fn run(&self, script: &str) -> Ended {
        let mut command = self.loft.command();
        if rustix::process::geteuid().is_root() {
            let loft = std::mem::replace(&mut command, Command::new("unshare"));
            command.args(["--pid", "--mount", "--ipc", "--fork", "--mount-proc", "--kill-child"]);
            command.arg(loft.get_program()).env_clear().current_dir(self.loft.home());
        }
        self.environment(&mut command);
        let to = format!("file://{}", self.cache().display());
        command.args(["run", "--to", &to, "--signing-key"]).arg(self.key.secret_file());
        command.args(["--", "sh", "-c", &format!("{FUNCTIONS}\n{script}")]);
        end_of(&mut command)
    }

    /// Everything that is valid and worth it can be fetched, and nothing else is there.
    #[track_caller]
    fn all_can_be_fetched(&self, count: usize) {
        let registered = self.store.registrations();
        let valid: Vec<&str> = registered.keys().map(String::as_str).filter(|path| !path.ends_with(".drv")).collect();
        assert_eq!(valid.len(), count, "{valid:#?}");
        let cache = Cache::Folder(self.cache());
        assert_eq!(cache.violations(&BTreeSet::new()), Vec::<String>::new());
        assert_eq!(cache.narinfos().into_keys().collect::<Vec<_>>(), valid);
        self.nix.fetch(&format!("file://{}", self.cache().display()), &valid, &self.key.public);
    }
}

/// Each step is in the cache before the next begins, and all of it before the command ends.
fn lands_while_the_command_runs(nix: Nix) {
    let job = Job::new(nix);
    let ended = job.run(
        r#"set -e
           for n in 1 2 3; do
             path=$(build step-$n fine); sleep 0.1; landed "$path"; echo "$path"
           done
           build last fine"#,
    );
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(ended.stdout.lines().count(), 4, "{}", ended.stdout);
    // A source, what is built from it, and what refers to that.
    assert!(ended.stderr.contains("Pushed 12 paths ") && ended.stderr.contains(" 0 failed"), "{}", ended.stderr);
    job.all_can_be_fetched(12);
    // The next job finds it all there.
    let again = job.run("build step-1 fine && build last fine");
    assert_eq!(again.code, Some(0), "{}", again.stderr);
    assert!(again.stderr.contains("nothing became valid"), "{}", again.stderr);
}

#[test]
#[ignore = "needs Nix: ./test"]
fn what_is_built_lands_while_the_command_runs() {
    lands_while_the_command_runs(Nix::installed());
}

#[test]
#[ignore = "needs a recent Nix: ./test --full"]
fn what_a_recent_nix_builds_lands_while_the_command_runs() {
    lands_while_the_command_runs(Nix::recent());
}

#[test]
#[ignore = "needs Nix: ./test"]
fn a_build_that_fails_keeps_its_status_and_what_it_rests_on_lands() {
    let job = Job::new(Nix::installed());
    let ended = job.run("build first fine && build second failing; status=$?; echo $status; exit $status");
    let own: i32 = ended.stdout.lines().last().unwrap().parse().unwrap();
    assert!(own != 0 && ended.code == Some(own), "{:?}, and nix-build itself {own}: {}", ended.code, ended.stderr);
    // All of the first; of the second the source and what was built from it.
    job.all_can_be_fetched(5);
}

#[test]
#[ignore = "needs Nix: ./test"]
fn a_command_that_is_killed_is_137_and_what_it_built_lands() {
    let job = Job::new(Nix::installed());
    let ended = job.run("build first fine && kill -KILL $$");
    assert_eq!(ended.code, Some(137), "{}", ended.stderr);
    job.all_can_be_fetched(3);
}

#[test]
#[ignore = "needs Nix: ./test"]
fn a_push_that_fails_is_told_by_its_status_unless_the_build_failed() {
    let job = Job::new(Nix::installed());
    std::fs::write(job.cache(), "a file, not a folder").unwrap();
    let fine = job.run("build first fine");
    assert_eq!(fine.code, Some(1), "{}", fine.stderr);
    assert!(fine.stderr.contains("error: ") && fine.stderr.contains("did not land"), "{}", fine.stderr);
    let failing = job.run("build second failing");
    assert!(!matches!(failing.code, Some(0 | 2)), "{:?}: {}", failing.code, failing.stderr);
    assert!(failing.stderr.contains("did not land"), "{}", failing.stderr);
}
