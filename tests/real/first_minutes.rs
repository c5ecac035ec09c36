//! docs/first-minutes.md, word for word: its files, its commands, in an empty home, until Nix substitutes.

use crate::support::garage;
use crate::support::local_store::LocalStore;
use crate::support::machine::Machine;
use crate::support::nix::Nix;
use crate::support::process::{Ended, end_of};
use crate::support::server::free_ports;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The page's one block below a heading (or `nth` of them).
fn block(heading: &str, language: &str, nth: usize) -> String {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/first-minutes.md")).unwrap();
    let (_, section) = page.split_once(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("no {heading}"));
    let section = section.split("\n## ").next().unwrap();
    let found =
        section.split(&format!("```{language}\n")).nth(nth + 1).unwrap_or_else(|| panic!("{heading}: no {language}"));
    found.split("```").next().unwrap().to_owned()
}

/// Somebody who has just installed the programs.
struct Newcomer {
    machine: Machine,
    /// Of the machine that reads, which has built nothing.
    reader: LocalStore,
    folder: tempfile::TempDir,
}

const BUILD: &str = r#"derivation {
  name = "first"; system = builtins.currentSystem; builder = "/bin/sh";
  args = [ "-c" "echo it works >$out" ];
}"#;

impl Newcomer {
    fn new() -> Self {
        let machine = Machine::of(Nix::recent());
        let folder = tempfile::Builder::new().prefix("loft-newcomer-").tempdir().unwrap();
        let newcomer = Self { machine, reader: LocalStore::empty(), folder };
        for folder in ["bin", "home", "work"] {
            fs::create_dir(newcomer.at(folder)).unwrap();
        }
        fs::write(newcomer.at("work/default.nix"), BUILD).unwrap();
        let loft = std::env::var_os("LOFT_TEST_PROGRAM").unwrap_or_else(|| env!("CARGO_BIN_EXE_loft").into());
        newcomer.program("loft", &format!("exec {} \"$@\"", Path::new(&loft).display()));
        // The test's user may do all that is asked for here.
        newcomer.program("sudo", "exec \"$@\"");
        newcomer
    }

    fn at(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    fn program(&self, name: &str, script: &str) {
        let file = self.at("bin").join(name);
        fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o755)).unwrap();
    }

    /// A shell in the working folder, with an environment that says where Nix's files are and nothing else.
    fn shell(&self, script: &str) -> Ended {
        let like = self.machine.command("nix-build");
        let nix = Path::new(like.get_program()).parent().unwrap().display().to_string();
        let path = std::env::var("PATH").unwrap();
        let mut shell = Command::new("setpriv");
        shell.args(["--pdeathsig", "KILL", "--", "sh", "-euc", script]).env_clear();
        shell.envs(like.get_envs().filter_map(|(name, value)| Some((name, value?))));
        // The user's own nix.conf counts here, as it does for users.
        shell.env_remove("NIX_USER_CONF_FILES").env_remove("XDG_CACHE_HOME");
        shell.env("HOME", self.at("home")).env("PATH", format!("{}:{nix}:{path}", self.at("bin").display()));
        let ended = end_of(shell.current_dir(self.at("work")));
        println!("{}\n{}", ended.stdout, ended.stderr);
        assert_eq!(ended.code, Some(0), "{}\n{}", ended.stdout, ended.stderr);
        ended
    }

    /// The commands as typed, each shown before its output; then the same expression on a machine that has nothing.
    fn follow(&self, before: &str, commands: &str, last: &str) -> Ended {
        let shown: String = commands
            .lines()
            .filter(|line| !line.trim().is_empty())
            .map(|line| format!("printf '%s\\n' {} >&2\n{line}\n", quoted(&format!("$ {line}"))))
            .collect();
        self.shell(&format!(
            "nix-build >/dev/null 2>&1\n{before}\n{shown}\nexport NIX_REMOTE='{}'\nrm result\n{last}\n",
            self.reader.url()
        ))
    }

    #[track_caller]
    fn has_substituted(&self, ended: &Ended, from: &str) {
        let said =
            ended.stderr.contains("copying path '/nix/store/") && ended.stderr.contains(&format!("from '{from}'"));
        assert!(said, "Nix did not fetch from {from}:\n{}", ended.stderr);
        let result = ended.stdout.lines().last().unwrap();
        assert_eq!(fs::read_to_string(self.reader.on_disk(result)).unwrap(), "it works\n");
        let signed = &self.reader.registrations()[result].signatures;
        assert!(!signed.is_empty(), "{result} was taken without a signature");
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[test]
#[ignore = "needs Garage and a recent Nix: ./test --full"]
fn five_commands_of_the_page_lead_from_garage_to_recent_nix() {
    let newcomer = Newcomer::new();
    // Ends with the shell that started it.
    newcomer.program("garage", &format!("exec setpriv --pdeathsig KILL -- {} \"$@\"", garage::find().display()));
    let [api, rpc, web] = free_ports();
    // The page's ports may be taken here.
    let ours = |text: &str| {
        let text = text.replace(":3900", &format!(":{api}")).replace(":3901", &format!(":{rpc}"));
        text.replace(":3902", &format!(":{web}"))
    };
    let trial = "A Garage to try things out";
    fs::write(newcomer.at("work/garage.toml"), ours(&block(trial, "toml", 0))).unwrap();
    let started = format!(
        "{}\n{}\nexport RUST_LOG=garage=warn; tries=0\nuntil garage status >/dev/null 2>&1; do tries=$((tries + 1)); [ $tries -lt 100 ]; sleep 0.1; done\n",
        block(trial, "sh", 0),
        block(trial, "sh", 1).replace('&', ">log 2>&1 &"),
    );
    let commands = block("Five commands", "sh", 0);
    assert!(commands.lines().count() <= 5, "{commands}");
    let ended = newcomer.follow(&started, &ours(&commands), &block("Five commands", "sh", 1));
    newcomer.has_substituted(&ended, &format!("http://nix-cache.localhost:{web}"));
}

#[test]
#[ignore = "needs a recent Nix: ./test --full"]
fn a_directory_as_the_page_has_it_serves_recent_nix() {
    let newcomer = Newcomer::new();
    let cache = newcomer.at("cache");
    let commands = block("Without a server", "sh", 0).replace("/srv/cache", cache.to_str().unwrap());
    let ended = newcomer.follow("", &commands, "nix-build");
    newcomer.has_substituted(&ended, &format!("file://{}", cache.display()));
}
