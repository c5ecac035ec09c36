//! A machine that builds: a real Nix, with or without its daemon, on a store of its own.

use super::local_store::LocalStore;
use super::nix::Nix;
use super::process::{Ended, end_of, stdout_of};
use std::fs::File;
use std::ops::Range;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub struct Machine {
    pub nix: Nix,
    pub store: LocalStore,
    daemon: Option<Daemon>,
    /// Its `nix.conf` and expressions.
    folder: TempDir,
}

/// A Nix daemon, until dropped.
struct Daemon {
    child: Child,
    socket: PathBuf,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Machine {
    /// With the installed Nix, and no daemon.
    pub fn single_user() -> Self {
        Self::of(Nix::installed())
    }

    pub fn of(nix: Nix) -> Self {
        let folder = tempfile::Builder::new().prefix("loft-machine-").tempdir().expect("temporary folder");
        let machine = Self { nix, store: LocalStore::empty(), daemon: None, folder };
        machine.configure("");
        // The first program that opens a store makes it.
        machine.run("nix-store", &["--init"]);
        machine
    }

    pub fn with_daemon() -> Self {
        let mut machine = Self::single_user();
        machine.start_daemon();
        machine
    }

    /// Writes `nix.conf`; what it says about hooks is read by whatever builds: a daemon, when it starts.
    pub fn configure(&self, more: &str) {
        let text = format!(
            "experimental-features = nix-command\nsubstituters =\nbuild-users-group =\nrequire-sigs = true\n\
             sandbox = true\nsandbox-paths = /bin /lib /lib64? /usr\nfilter-syscalls = false\nmax-jobs = 2\n{more}\n"
        );
        // A recent one starts itself as a hook by a name under which an unpacked package cannot be found; an old one
        // cannot do without.
        let hook = if self.nix.version() >= (2, 18) { "build-hook =\n" } else { "" };
        std::fs::write(self.at("nix.conf"), text + hook).expect("nix.conf");
    }

    pub fn start_daemon(&mut self) {
        let socket = self.at("socket");
        let log = File::create(self.at("daemon.log")).expect("log");
        // The kernel ends it with the test.
        let mut command = Command::new("setpriv");
        let like = self.command("nix-daemon");
        command.args(["--pdeathsig", "KILL", "--"]).arg(like.get_program());
        command.env_clear().envs(like.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("NIX_REMOTE", self.store.url()).env("NIX_DAEMON_SOCKET_PATH", &socket);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("nix-daemon");
        self.daemon = Some(Daemon { child, socket: socket.clone() });
        let start = Instant::now();
        // It is there a moment before anybody listens.
        while UnixStream::connect(&socket).is_err() {
            assert!(start.elapsed() < Duration::from_secs(30), "no daemon at {}", socket.display());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn at(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    /// Where the daemon listens.
    pub fn socket(&self) -> PathBuf {
        self.at("socket")
    }

    /// How a service is told of this store where a daemon runs.
    pub fn settings(&self) -> [(&'static str, String); 2] {
        let (root, socket) = (self.store.root().display(), self.socket());
        let socket = socket.display();
        [
            ("daemon and database", format!("unix://{socket}?root={root}")),
            ("daemon alone", format!("unix://{socket}?real={root}/nix/store")),
        ]
    }

    /// A program of this Nix, through the daemon where one runs.
    pub fn command(&self, program: &str) -> Command {
        let mut command = self.nix.command(program);
        command.env_remove("NIX_CONFIG").env("NIX_CONF_DIR", self.folder.path());
        match &self.daemon {
            // A recent one reads derivations by itself.
            Some(daemon) => {
                let root = self.store.root().display();
                command.env("NIX_REMOTE", format!("unix://{}?root={root}", daemon.socket.display()))
            }
            None => command.env("NIX_REMOTE", self.store.url()),
        };
        command
    }

    pub fn run(&self, program: &str, arguments: &[&str]) -> Vec<String> {
        stdout_of(self.command(program).args(arguments)).lines().map(str::to_owned).collect()
    }

    pub fn try_run(&self, program: &str, arguments: &[&str]) -> Ended {
        end_of(self.command(program).args(arguments))
    }

    /// Builds small derivations with these numbers, some of which refer to the one before. Their outputs.
    pub fn build(&self, name: &str, numbers: Range<usize>) -> Vec<String> {
        let count = numbers.len();
        let built = self.try_build(name, numbers, "");
        assert_eq!(built.code, Some(0), "{}", built.stderr);
        let paths: Vec<String> = built.stdout.lines().map(str::to_owned).collect();
        assert_eq!(paths.len(), count);
        paths
    }

    /// As `build`, with the end of it; `script` runs first in every builder.
    pub fn try_build(&self, name: &str, numbers: Range<usize>, script: &str) -> Ended {
        let Range { start, end } = numbers;
        let file = self.at(&format!("{name}-{start}-{end}.nix"));
        let script = script.replace("${", "''${");
        let text = format!(
            r#"let
                 make = n: derivation {{
                   name = "{name}-${{toString n}}"; system = builtins.currentSystem; builder = "/bin/sh";
                   args = [ "-euc" ''{script}
                     echo {name} ${{toString n}} ${{if n > {start} && n / 5 * 5 == n then make (n - 1) else ""}} >>$out'' ];
                 }};
               in builtins.genList (n: make (n + {start})) ({end} - {start})"#
        );
        std::fs::write(&file, text).expect("expression");
        self.try_run("nix-build", &["--no-out-link", file.to_str().expect("text")])
    }

    /// Where the database's folder is.
    pub fn database(&self) -> PathBuf {
        self.store.on_disk("/nix/var/nix/db")
    }

    /// `nix-store --add` of a new file with these contents.
    pub fn add(&self, name: &str, contents: &str) -> String {
        let file = self.at(name);
        std::fs::write(&file, contents).expect("file to add");
        self.add_file(&file)
    }

    pub fn add_file(&self, file: &Path) -> String {
        self.run("nix-store", &["--add", file.to_str().expect("text")]).remove(0)
    }
}
