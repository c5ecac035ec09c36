//! `nix.conf` as Nix reads it: the system's file, the user's, `NIX_CONFIG`, and what they include. No `nix` is started.
//!
//! Source: Nix's manual, "nix.conf", and `config.cc`.

use crate::nix::PublicKey;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

const DEFAULT_SUBSTITUTER: &str = "https://cache.nixos.org/";
const DEFAULT_KEY: &str = "cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=";

/// Files that include each other in a circle.
const DEEPEST: usize = 10;

/// Other names that Nix has for a setting.
const ALIASES: [(&str, &str); 4] = [
    ("binary-caches", "substituters"),
    ("trusted-binary-caches", "trusted-substituters"),
    ("binary-cache-public-keys", "trusted-public-keys"),
    ("extra-binary-caches", "extra-substituters"),
];

/// What all of them say together.
#[derive(Debug, Default)]
pub struct NixConf {
    values: BTreeMap<String, Vec<String>>,
    pub files: Vec<PathBuf>,
    /// Files that cannot be read or are included and not there.
    pub problems: Vec<String>,
}

impl NixConf {
    pub fn read(environment: &BTreeMap<String, String>) -> Self {
        let get = |name: &str| environment.get(name).map(String::as_str).filter(|value| !value.is_empty());
        let mut conf = Self::default();
        let system = PathBuf::from(get("NIX_CONF_DIR").unwrap_or("/etc/nix")).join("nix.conf");
        conf.file(&system, true, 0);
        match get("NIX_USER_CONF_FILES") {
            Some(files) => {
                // The first one wins, so it comes last.
                files.split(':').rev().for_each(|file| conf.file(Path::new(file), true, 0));
            }
            None => {
                let home = get("HOME").map(|home| format!("{home}/.config"));
                if let Some(folder) = get("XDG_CONFIG_HOME").map(str::to_owned).or(home) {
                    conf.file(&Path::new(&folder).join("nix/nix.conf"), true, 0);
                }
            }
        }
        if let Some(text) = get("NIX_CONFIG") {
            conf.text(text, Path::new("NIX_CONFIG"), 0);
        }
        conf
    }

    fn file(&mut self, file: &Path, may_be_absent: bool, depth: usize) {
        match std::fs::read_to_string(file) {
            Ok(text) => {
                self.files.push(file.to_owned());
                self.text(&text, file, depth);
            }
            Err(error) if may_be_absent && error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => self.problems.push(format!("{} cannot be read: {error}", file.display())),
        }
    }

    fn text(&mut self, text: &str, file: &Path, depth: usize) {
        for line in text.lines() {
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_whitespace();
            let (Some(first), second) = (words.next(), words.next()) else { continue };
            match (first, second) {
                ("include" | "!include", Some(path)) if depth < DEEPEST => {
                    let path = file.parent().unwrap_or(Path::new("/")).join(path);
                    self.file(&path, first == "!include", depth + 1);
                }
                ("include" | "!include", _) => {
                    self.problems.push(format!("{}: an include that leads nowhere", file.display()));
                }
                (name, Some("=")) => {
                    let values = words.map(str::to_owned).collect();
                    self.set(name, values);
                }
                _ => self.problems.push(format!("{}: {line:?} is no setting", file.display())),
            }
        }
    }

    fn set(&mut self, name: &str, values: Vec<String>) {
        let name = ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, name)| name);
        match name.strip_prefix("extra-") {
            Some(name) => {
                let default = default(name);
                self.values.entry(name.to_owned()).or_insert(default).extend(values);
            }
            None => {
                self.values.insert(name.to_owned(), values);
            }
        }
    }

    fn list(&self, name: &str) -> Vec<String> {
        self.values.get(name).cloned().unwrap_or_else(|| default(name))
    }

    pub fn substituters(&self) -> Vec<String> {
        self.list("substituters")
    }

    /// Of several keys of one name, Nix heeds the first.
    pub fn trusted_keys(&self) -> Vec<PublicKey> {
        let mut keys: Vec<PublicKey> = Vec::new();
        for key in self.list("trusted-public-keys").iter().filter_map(|key| PublicKey::parse(key).ok()) {
            if !keys.iter().any(|known| known.name() == key.name()) {
                keys.push(key);
            }
        }
        keys
    }

    pub fn requires_signatures(&self) -> bool {
        self.list("require-sigs").first().is_none_or(|value| value != "false")
    }

    pub fn netrc_file(&self) -> PathBuf {
        self.list("netrc-file").first().map_or_else(|| PathBuf::from("/etc/nix/netrc"), PathBuf::from)
    }
}

fn default(name: &str) -> Vec<String> {
    match name {
        "substituters" => vec![DEFAULT_SUBSTITUTER.to_owned()],
        "trusted-public-keys" => vec![DEFAULT_KEY.to_owned()],
        _ => Vec::new(),
    }
}

/// Whether a netrc has something for this host.
pub fn netrc_knows(netrc: &str, host: &str) -> bool {
    let words: Vec<&str> = netrc.split_whitespace().collect();
    words.windows(2).any(|pair| matches!(pair, ["machine", named] if *named == host)) || words.contains(&"default")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_files_win_extras_add_up_and_includes_are_followed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(at("user/nix")).unwrap();
        let system = "# comment\nbinary-caches = https://a https://b # more\nextra-trusted-public-keys = KEY not-one\n\
                      !include none.conf\ninclude more.conf\nrequire-sigs = true\n";
        std::fs::write(at("nix.conf"), system).unwrap();
        std::fs::write(at("more.conf"), "extra-substituters = file:///c\n").unwrap();
        std::fs::write(at("user/nix/nix.conf"), "require-sigs = false\ninclude gone.conf\n").unwrap();
        let text = |path: PathBuf| path.display().to_string();
        let environment = BTreeMap::from([
            ("NIX_CONF_DIR".to_owned(), text(folder.path().to_owned())),
            ("XDG_CONFIG_HOME".to_owned(), text(at("user"))),
            ("NIX_CONFIG".to_owned(), "netrc-file = /n\n".to_owned()),
        ]);
        let conf = NixConf::read(&environment);
        assert_eq!(conf.substituters(), ["https://a", "https://b", "file:///c"]);
        assert_eq!(conf.trusted_public_keys(), [DEFAULT_KEY, "k:1"]);
        assert!(!conf.requires_signatures());
        assert_eq!(conf.netrc_file(), PathBuf::from("/n"));
        assert_eq!(conf.files.len(), 3);
        assert!(conf.problems.len() == 1 && conf.problems[0].contains("gone.conf"), "{:?}", conf.problems);
        // One that includes itself ends.
        std::fs::write(at("more.conf"), "include more.conf\n").unwrap();
        assert!(!NixConf::read(&environment).problems.is_empty());
    }

    #[test]
    fn finds_a_host_in_a_netrc() {
        let netrc = "machine a.example login u password p\nmachine b.example\nlogin u\npassword p\n";
        assert!(netrc_knows(netrc, "a.example") && netrc_knows(netrc, "b.example"));
        assert!(!netrc_knows(netrc, "example") && netrc_knows("default login u password p", "any"));
    }
}
