//! What `nix.conf` says on this machine, in all the places where Nix looks. No `nix` is started.
//!
//! Source: Nix's manual, "nix.conf", and `globals.cc`.

use crate::nix::PublicKey;
use crate::setup::{NixConf, Said, Setting};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

const DEFAULT_SUBSTITUTER: &str = "https://cache.nixos.org/";
const DEFAULT_KEY: &str = "cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=";

/// The system's file, the user's, `NIX_CONFIG`: what is read later holds.
#[derive(Debug, Default)]
pub struct Settings {
    sources: Vec<(PathBuf, NixConf)>,
    /// What cannot be read or understood.
    pub problems: Vec<String>,
}

impl Settings {
    pub fn read(environment: &BTreeMap<String, String>) -> Self {
        let get = |name: &str| environment.get(name).map(String::as_str).filter(|value| !value.is_empty());
        let mut settings = Self::default();
        settings.file(&PathBuf::from(get("NIX_CONF_DIR").unwrap_or("/etc/nix")).join("nix.conf"));
        match get("NIX_USER_CONF_FILES") {
            // The first one wins, so it comes last.
            Some(files) => files.split(':').rev().for_each(|file| settings.file(Path::new(file))),
            None => {
                let home = get("HOME").map(|home| format!("{home}/.config"));
                if let Some(folder) = get("XDG_CONFIG_HOME").map(str::to_owned).or(home) {
                    settings.file(&Path::new(&folder).join("nix/nix.conf"));
                }
            }
        }
        if let Some(text) = get("NIX_CONFIG") {
            settings.text(Path::new("NIX_CONFIG"), text);
        }
        settings
    }

    fn file(&mut self, file: &Path) {
        match std::fs::read(file) {
            Ok(bytes) => self.text(file, &String::from_utf8_lossy(&bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if let Ok(target) = std::fs::read_link(file) {
                    let problem = format!("{} is a link to {}, which is not there", file.display(), target.display());
                    self.problems.push(problem);
                }
            }
            Err(error) => self.problems.push(format!("{} cannot be read: {error}", file.display())),
        }
    }

    fn text(&mut self, file: &Path, text: &str) {
        let conf = NixConf::parse(text);
        self.problems.extend(conf.problems(file));
        self.sources.push((file.to_owned(), conf));
    }

    /// Where something stands.
    pub fn places(&self) -> Vec<String> {
        self.sources.iter().map(|(file, _)| file.display().to_string()).collect()
    }

    /// In effect, with Nix's default where nothing replaces it.
    fn list(&self, setting: Setting) -> Vec<String> {
        let mut said = Said::default();
        self.sources.iter().for_each(|(file, conf)| conf.say(setting, file, &mut said));
        let (is_replaced, values) = said.values();
        let default = match setting {
            Setting::Substituters => Some(DEFAULT_SUBSTITUTER),
            Setting::TrustedPublicKeys => Some(DEFAULT_KEY),
            _ => None,
        };
        default.filter(|_| !is_replaced).into_iter().chain(values).map(str::to_owned).collect()
    }

    pub fn substituters(&self) -> Vec<String> {
        self.list(Setting::Substituters)
    }

    /// Of several keys of one name, Nix heeds the first.
    pub fn trusted_keys(&self) -> Vec<PublicKey> {
        let mut keys: Vec<PublicKey> = Vec::new();
        for key in self.list(Setting::TrustedPublicKeys).iter().filter_map(|key| PublicKey::parse(key).ok()) {
            if !keys.iter().any(|known| known.name() == key.name()) {
                keys.push(key);
            }
        }
        keys
    }

    pub fn requires_signatures(&self) -> bool {
        self.list(Setting::RequireSigs).first().is_none_or(|value| value != "false")
    }

    pub fn netrc_file(&self) -> PathBuf {
        self.list(Setting::NetrcFile).first().map_or_else(|| PathBuf::from("/etc/nix/netrc"), PathBuf::from)
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
        let system = "# comment\nbinary-caches = https://a https://b # more\nextra-trusted-public-keys = not-one\n\
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
        let conf = Settings::read(&environment);
        assert_eq!(conf.substituters(), ["https://a", "https://b", "file:///c"]);
        assert_eq!(conf.list(Setting::TrustedPublicKeys), [DEFAULT_KEY, "not-one"]);
        assert_eq!(conf.trusted_keys().len(), 1);
        assert!(!conf.requires_signatures());
        assert_eq!(conf.netrc_file(), PathBuf::from("/n"));
        assert_eq!(conf.places().len(), 3);
        assert!(conf.problems.len() == 1 && conf.problems[0].contains("gone.conf"), "{:?}", conf.problems);
        // One that includes itself ends.
        std::fs::write(at("more.conf"), "include more.conf\n").unwrap();
        let problems = Settings::read(&environment).problems;
        assert!(problems.iter().any(|problem| problem.ends_with("leads in a circle")), "{problems:?}");
    }

    #[test]
    fn finds_a_host_in_a_netrc() {
        let netrc = "machine a.example login u password p\nmachine b.example\nlogin u\npassword p\n";
        assert!(netrc_knows(netrc, "a.example") && netrc_knows(netrc, "b.example"));
        assert!(!netrc_knows(netrc, "example") && netrc_knows("default login u password p", "any"));
    }
}
