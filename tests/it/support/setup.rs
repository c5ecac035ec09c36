//! A `loft.toml` in a folder of its own, with variables and flags beside it.

use loft::config::{ConfigError, Flags, Loaded, Sources, load};
use std::path::Path;

pub struct Setup {
    folder: tempfile::TempDir,
    pub sources: Sources,
}

impl Setup {
    pub fn new(toml: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("loft.toml");
        std::fs::write(&file, toml).unwrap();
        Self { folder, sources: Sources { file: Some(file), ..Sources::default() } }
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.sources.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    pub fn flags(mut self, flags: Flags) -> Self {
        self.sources.flags = flags;
        self
    }

    pub fn load(&self) -> Result<Loaded, ConfigError> {
        load(&self.sources)
    }

    /// Of a setting, what `config show` says: value and origin without the folder.
    pub fn shown(&self, key: &str) -> (serde_json::Value, String) {
        let loaded = self.load().unwrap();
        let entry = loaded.effective.iter().find(|entry| entry.key == key).expect(key);
        let origin = entry.origin.to_string();
        (entry.value.clone(), origin.replace(&format!("{}/", self.folder.path().display()), ""))
    }
}
