//! `nix-cache-info`: what Nix reads first, and what tells it whose store the paths belong to.

use crate::nix::StoreDir;

/// The content of `nix-cache-info`: lines `Name: value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheInfo {
    /// `None`: not said; readers assume their own.
    pub store_dir: Option<StoreDir>,
    /// Whether clients may ask for many narinfos at once.
    pub want_mass_query: bool,
    /// Lower is asked first; `cache.nixos.org` has 40. `None`: Nix assumes 50.
    pub priority: Option<u32>,
}

/// Why bytes are no `nix-cache-info`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CacheInfoError {
    #[error("Line {line} is {text:?}, not a name, a colon and a value")]
    Line { line: usize, text: String },
    #[error("{name} is {value:?}")]
    Value { name: &'static str, value: String },
    #[error("It is not text in UTF-8")]
    NotText,
}

impl CacheInfo {
    /// What loft writes for a new bucket.
    pub fn new(store_dir: StoreDir, priority: u32) -> Self {
        Self { store_dir: Some(store_dir), want_mass_query: true, priority: Some(priority) }
    }

    /// Unknown names are skipped, as Nix does.
    pub fn parse(bytes: &[u8]) -> Result<Self, CacheInfoError> {
        let text = std::str::from_utf8(bytes).map_err(|_| CacheInfoError::NotText)?;
        let mut info = Self { store_dir: None, want_mass_query: false, priority: None };
        for (line, text) in text.lines().enumerate().filter(|(_, text)| !text.trim().is_empty()) {
            let malformed = || CacheInfoError::Line { line: line + 1, text: text.chars().take(80).collect() };
            let (name, value) = text.split_once(':').ok_or_else(malformed)?;
            let value = value.trim();
            let wrong = |name| CacheInfoError::Value { name, value: value.chars().take(80).collect() };
            match name.trim() {
                "StoreDir" => info.store_dir = Some(StoreDir::parse(value).map_err(|_| wrong("StoreDir"))?),
                "WantMassQuery" => info.want_mass_query = value == "1",
                "Priority" => info.priority = Some(value.parse().map_err(|_| wrong("Priority"))?),
                _ => {}
            }
        }
        Ok(info)
    }

    pub fn print(&self) -> String {
        let mut text = String::new();
        if let Some(dir) = &self.store_dir {
            text.push_str(&format!("StoreDir: {}\n", dir.as_str()));
        }
        text.push_str(&format!("WantMassQuery: {}\n", u8::from(self.want_mass_query)));
        if let Some(priority) = self.priority {
            text.push_str(&format!("Priority: {priority}\n"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_and_nix_write() {
        let nix = CacheInfo::parse(b"StoreDir: /nix/store\n").unwrap();
        assert_eq!(nix.store_dir, StoreDir::parse("/nix/store").ok());
        let info = CacheInfo::new(StoreDir::parse("/data/store").unwrap(), 30);
        assert_eq!(info.print(), "StoreDir: /data/store\nWantMassQuery: 1\nPriority: 30\n");
        assert_eq!(CacheInfo::parse(info.print().as_bytes()), Ok(info));
        let odd = CacheInfo::parse(b"StoreDir:/nix/store/\r\nNew: x\n\nPriority: 7").unwrap();
        assert_eq!((odd.priority, odd.store_dir), (Some(7), StoreDir::parse("/nix/store").ok()));
        assert_eq!(CacheInfo::parse(b"").unwrap().store_dir, None);
    }

    #[test]
    fn refuses_what_it_cannot_understand() {
        for bytes in [&b"<html>"[..], b"\xff", b"StoreDir: nix", b"Priority: -1", b"Priority: many"] {
            assert!(CacheInfo::parse(bytes).is_err(), "{}", String::from_utf8_lossy(bytes));
        }
    }
}
