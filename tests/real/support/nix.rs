//! A real Nix: reader, writer and judge.

use super::local_store::LocalStore;
use super::process::{Ended, end_of, stdout_of};
use super::user_cache;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// The programs of one Nix, cut off from the machine's configuration, store and caches.
pub struct Nix {
    /// The folder of its programs; nothing: on the PATH.
    programs: Option<PathBuf>,
    /// Its home: what it remembers about caches is gone with this value.
    home: TempDir,
}

/// A key pair made by Nix.
pub struct KeyPair {
    folder: TempDir,
    /// What `trusted-public-keys` takes.
    pub public: String,
}

impl KeyPair {
    pub fn secret_file(&self) -> PathBuf {
        self.folder.path().join("secret")
    }
}

impl Nix {
    /// The machine's own (Debian 12: 2.8).
    pub fn installed() -> Self {
        Self::new(None, "apt-get install nix-bin")
    }

    /// A recent one (Debian forky: 2.34), put in place by `tests/tools/nix-2.34`.
    pub fn recent() -> Self {
        let folder =
            std::env::var_os("LOFT_TEST_NIX_2_34").map_or_else(|| user_cache().join("nix-forky-1/bin"), PathBuf::from);
        let nix = Self::new(Some(folder), "run tests/tools/nix-2.34");
        let version = nix.version();
        assert!(version >= (2, 34), "a Nix older than 2.34: {version:?}");
        nix
    }

    fn new(programs: Option<PathBuf>, remedy: &str) -> Self {
        let home = tempfile::Builder::new().prefix("loft-nix-").tempdir().expect("temporary folder");
        let nix = Self { programs, home };
        let started = nix.command("nix").arg("--version").output().is_ok_and(|output| output.status.success());
        assert!(started, "No Nix {:?}: {remedy}", nix.programs);
        nix
    }

    /// For example `(2, 34)`.
    pub fn version(&self) -> (u32, u32) {
        let text = stdout_of(self.command("nix").arg("--version"));
        let number = text.trim().rsplit(' ').next().unwrap_or_default();
        let mut parts = number.split('.').map(|part| part.parse().unwrap_or(0));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
    }

    /// One of its programs, with nothing of the machine's configuration.
    pub fn command(&self, program: &str) -> Command {
        let mut command = match &self.programs {
            Some(folder) => Command::new(folder.join(program)),
            None => Command::new(program),
        };
        for (name, _) in std::env::vars_os() {
            let name_text = name.to_string_lossy();
            if name_text.starts_with("NIX_") || name_text.starts_with("AWS_") || name_text.ends_with("_proxy") {
                command.env_remove(&name);
            }
        }
        command
            .env("HOME", self.home.path())
            .env("XDG_CACHE_HOME", self.home.path().join("cache"))
            .env("NIX_CONF_DIR", self.home.path())
            .env("NIX_USER_CONF_FILES", "")
            .env(
                "NIX_CONFIG",
                "experimental-features = nix-command\nsubstituters =\nbuild-users-group =\nrequire-sigs = true\n",
            );
        command
    }

    /// As `command`, for those that open the default store beside the ones that they are given: theirs is a
    /// folder of this value, not the machine's store.
    fn apart(&self, program: &str) -> Command {
        let mut command = self.command(program);
        command.env("NIX_REMOTE", format!("local?root={}", self.home.path().join("store").display()));
        command
    }

    pub fn generate_key(&self, name: &str) -> KeyPair {
        let folder = tempfile::tempdir().expect("temporary folder");
        let secret = folder.path().join("secret");
        let public = folder.path().join("public");
        stdout_of(self.apart("nix-store").args(["--generate-binary-cache-key", name]).arg(&secret).arg(&public));
        let public = std::fs::read_to_string(public).expect("public key").trim().to_owned();
        KeyPair { folder, public }
    }

    /// `nix-store --add`: the full path of a file or folder in the store.
    pub fn add(&self, store: &LocalStore, file: &Path) -> String {
        stdout_of(self.apart("nix-store").args(["--store", &store.url(), "--add"]).arg(file)).trim().to_owned()
    }

    /// `nix copy --to`: Nix itself as the writer.
    pub fn copy_to(&self, from: &LocalStore, to: &str, paths: &[&str]) {
        stdout_of(&mut self.copy_command(from, to, paths));
    }

    pub fn copy_command(&self, from: &LocalStore, to: &str, paths: &[&str]) -> Command {
        let mut command = self.apart("nix");
        command.args(["copy", "--store", &from.url(), "--to", to]).args(paths);
        command
    }

    /// Copies closures between stores without asking for signatures.
    pub fn clone_paths(&self, from: &LocalStore, into: &LocalStore, paths: &[&str]) {
        let copy = ["copy", "--no-check-sigs", "--from", &from.url(), "--to", &into.url()];
        stdout_of(self.apart("nix").args(copy).args(paths));
    }

    /// `nix copy --from`, trusting one key alone.
    pub fn try_fetch(&self, from: &str, into: &LocalStore, paths: &[&str], trusted_key: &str) -> Ended {
        let copy = ["copy", "--from", from, "--to", &into.url(), "--option", "trusted-public-keys", trusted_key];
        // Nix remembers the narinfos that it saw at a URL; a test may have emptied the cache there since.
        let memory = tempfile::tempdir().expect("temporary folder");
        end_of(self.apart("nix").env("XDG_CACHE_HOME", memory.path()).args(copy).args(paths))
    }

    /// Fetches into an empty store with signatures required, and has Nix check every byte of what arrived.
    #[track_caller]
    pub fn fetch(&self, from: &str, paths: &[&str], trusted_key: &str) -> LocalStore {
        let store = LocalStore::empty();
        let ended = self.try_fetch(from, &store, paths, trusted_key);
        assert_eq!(ended.code, Some(0), "Nix {:?} cannot fetch from {from}:\n{}", self.version(), ended.stderr);
        self.verify(&store);
        store
    }

    /// `nix-store --verify --check-contents`, which must find nothing.
    #[track_caller]
    pub fn verify(&self, store: &LocalStore) {
        let ended = self.try_verify(store);
        assert_eq!(ended.code, Some(0), "nix-store --verify found:\n{}", ended.stderr);
    }

    pub fn try_verify(&self, store: &LocalStore) -> Ended {
        let verify = ["--verify", "--check-contents", "--store", &store.url()];
        end_of(self.apart("nix-store").args(verify))
    }

    /// Signs paths of a store, as an upstream cache would have.
    pub fn sign(&self, store: &LocalStore, key: &KeyPair, paths: &[&str]) {
        // 2.8 still takes `sign-paths` as an alias of `store sign`.
        let sign = ["store", "sign", "--store", &store.url(), "--key-file"];
        stdout_of(self.apart("nix").args(sign).arg(key.secret_file()).args(paths));
    }

    /// Builds one attribute of a Nix file into a chroot store. Builders see the machine's programs, and
    /// `inputs` as `/inputs`.
    pub fn build(&self, store: &LocalStore, file: &Path, attribute: &str, inputs: &Path) -> String {
        let sandbox = format!("/bin /lib /lib64? /usr /inputs={}", inputs.display());
        let mut build = self.apart("nix-build");
        build.arg(file).args(["--attr", attribute, "--no-out-link", "--store", &store.url()]);
        build.args(["--option", "sandbox", "true", "--option", "extra-sandbox-paths", &sandbox]);
        build.args(["--option", "filter-syscalls", "false", "--option", "max-jobs", "2"]);
        stdout_of(&mut build).trim().to_owned()
    }
}
