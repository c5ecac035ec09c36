//! The modules for NixOS, nix-darwin and Home Manager, evaluated by a real Nix with `tests/nix` for what they
//! need of nixpkgs; what comes out is read by the real programs: loft, systemd.

mod docs;
mod mistakes;
mod options;
mod other_systems;
mod package;
mod reference;
mod service;
mod unit;

use crate::support::nix::Nix;
use crate::support::process::{Ended, end_of};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where generated files stand where nobody starts them.
const NOWHERE: &str = "/generated";

/// What a configuration comes to.
struct Evaluated(Value);

/// This source tree.
fn tree() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// `nix-instantiate`, without a store: nothing is built.
fn instantiate(arguments: &[&str]) -> Ended {
    instantiate_by(&Nix::installed(), arguments)
}

fn instantiate_by(nix: &Nix, arguments: &[&str]) -> Ended {
    let store = tempfile::tempdir().expect("temporary folder");
    let mut command: Command = nix.command("nix-instantiate");
    command.env("NIX_REMOTE", format!("local?root={}", store.path().display()));
    end_of(command.current_dir(tree()).args(arguments))
}

fn evaluate_text(text: &str) -> Result<Value, String> {
    let ended = instantiate(&["--eval", "--strict", "--json", "--expr", text]);
    match ended.code {
        Some(0) => Ok(serde_json::from_str(&ended.stdout).expect("JSON")),
        _ => Err(ended.stderr),
    }
}

/// A configuration, as Nix text, on a system: `nixos`, `darwin`, `home`.
fn try_evaluate(system: &str, configuration: &str, folder: &str) -> Result<Evaluated, String> {
    let text = format!(
        "import ./tests/nix/evaluate.nix {{ system = \"{system}\"; folder = \"{folder}\"; configuration = {configuration}; }}"
    );
    evaluate_text(&text).map(Evaluated)
}

#[track_caller]
fn evaluate(system: &str, configuration: &str) -> Evaluated {
    try_evaluate(system, configuration, NOWHERE).unwrap_or_else(|error| panic!("{configuration}\n{error}"))
}

/// A small configuration that works, with `more` in `services.loft`.
fn small(more: &str) -> String {
    format!(
        "{{ lib, ... }}: {{ services.loft = lib.mkMerge [ \
           {{ enable = true; s3 = {{ bucket = \"cache\"; endpoint = \"http://localhost:3900\"; }}; }} {{ {more} }} ]; }}"
    )
}

impl Evaluated {
    fn at(&self, pointer: &str) -> &Value {
        self.0.pointer(pointer).unwrap_or_else(|| panic!("no {pointer} in {:#}", self.0))
    }

    fn text(&self, pointer: &str) -> &str {
        self.at(pointer).as_str().expect(pointer)
    }

    fn texts(&self, pointer: &str) -> Vec<String> {
        let list = self.at(pointer).as_array().expect(pointer);
        list.iter().map(|text| text.as_str().expect(pointer).to_owned()).collect()
    }

    fn toml(&self) -> toml::Table {
        self.text("/toml").parse().expect("TOML")
    }

    /// A setting of the service's unit.
    fn of_service(&self, setting: &str) -> &Value {
        self.at(&format!("/services/loft/serviceConfig/{setting}"))
    }

    /// A unit file as NixOS writes it, of `services`' or `userServices`' attributes.
    fn unit_file(&self, name: &str) -> String {
        let service = self.at(&format!("/services/{name}"));
        let lines = |key: &str, value: &Value| lines(key, value);
        let mut text = String::from("[Unit]\n");
        for (attribute, key) in [("description", "Description"), ("wants", "Wants"), ("after", "After")] {
            text += &lines(key, &service[attribute]);
        }
        text += "\n[Service]\n";
        for (key, value) in service["serviceConfig"].as_object().expect("settings") {
            text += &lines(key, value);
        }
        text + "\n[Install]\n" + &lines("WantedBy", &service["wantedBy"])
    }
}

/// A setting as lines of a unit file.
fn lines(key: &str, value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Array(values) => values.iter().map(|value| lines(key, value)).collect(),
        Value::String(text) => format!("{key}={text}\n"),
        other => format!("{key}={other}\n"),
    }
}

/// A unit file's settings of one section; several lines of one key add up.
fn settings(unit: &str, section: &str) -> BTreeMap<String, Vec<String>> {
    let mut settings: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut here = false;
    for line in unit.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        match line.strip_prefix('[') {
            Some(name) => here = name.trim_end_matches(']') == section,
            None => {
                if let (true, Some((key, value))) = (here, line.split_once('=')) {
                    settings.entry(key.to_owned()).or_default().push(value.to_owned());
                }
            }
        }
    }
    settings
}

/// Every Nix file of this tree that git knows or would know.
fn nix_files() -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![tree().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("folder") {
            let path = entry.expect("entry").path();
            let name = path.file_name().expect("name").to_string_lossy().into_owned();
            match (path.is_dir(), name.as_str()) {
                (true, "target" | ".git") => {}
                (true, _) => folders.push(path),
                (false, _) if name.ends_with(".nix") => files.push(path),
                (false, _) => {}
            }
        }
    }
    files
}
