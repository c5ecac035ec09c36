//! The listing of a NAR (`<hash>.ls`), version 1: what nix-index reads instead of the NAR.
//!
//! `{"root":NODE,"version":1}`, where a node is `{"entries":{NAME:NODE,…},"type":"directory"}`,
//! `{"executable":true,"narOffset":N,"size":N,"type":"regular"}` (`executable` only where it is so), or
//! `{"target":TEXT,"type":"symlink"}`. Sizes and offsets are bytes; the offset is that of the contents in the NAR. Source:
//! `nar-accessor.cc` in Nix. Keys are in the order in which Nix since 2.26 writes them, and the NAR's order is that of the
//! entries: so the text is written as the NAR is, and no tree is held.

use super::observe::Observe;
use bytes::Bytes;

/// Some 300 000 files.
const MAX_LEN: usize = 32 << 20;

/// Why a NAR has no listing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoListing {
    /// Escaped. Nix makes none of such a NAR either.
    #[error("\"{0}\" is not UTF-8, which its listing would have to be")]
    Name(String),
    #[error("its listing would have more than {} MiB", MAX_LEN >> 20)]
    TooLarge,
}

/// See the module's head.
pub(super) struct Listing {
    text: Vec<u8>,
    /// Whether an entry of the innermost directory came before.
    is_later: bool,
    failure: Option<NoListing>,
}

impl Default for Listing {
    fn default() -> Self {
        Self { text: b"{\"root\":".to_vec(), is_later: false, failure: None }
    }
}

impl Listing {
    pub fn finish(mut self) -> Result<Bytes, NoListing> {
        self.put(b",\"version\":1}");
        match self.failure {
            None => {
                // Grown by doubling, it may be half empty.
                self.text.shrink_to_fit();
                Ok(self.text.into())
            }
            Some(failure) => Err(failure),
        }
    }

    fn put(&mut self, text: &[u8]) {
        if self.failure.is_none() && self.text.len() + text.len() > MAX_LEN {
            self.fail(NoListing::TooLarge);
        }
        if self.failure.is_none() {
            self.text.extend_from_slice(text);
        }
    }

    fn string(&mut self, bytes: &[u8]) {
        match std::str::from_utf8(bytes) {
            Ok(text) => self.put(serde_json::Value::from(text).to_string().as_bytes()),
            Err(_) => self.fail(NoListing::Name(bytes.escape_ascii().to_string())),
        }
    }

    fn fail(&mut self, failure: NoListing) {
        self.failure = self.failure.take().or(Some(failure));
        self.text = Vec::new();
    }
}

impl Observe for Listing {
    fn enter(&mut self, name: &[u8]) {
        if self.is_later {
            self.put(b",");
        }
        self.string(name);
        self.put(b":");
    }
    fn directory(&mut self) {
        self.is_later = false;
        self.put(b"{\"entries\":{");
    }
    fn end_of_directory(&mut self) {
        self.put(b"},\"type\":\"directory\"}");
        self.is_later = true;
    }
    fn symlink(&mut self, target: &[u8]) {
        self.put(b"{\"target\":");
        self.string(target);
        self.put(b",\"type\":\"symlink\"}");
        self.is_later = true;
    }
    fn regular(&mut self, executable: bool, size: u64, offset: u64) {
        let executable = if executable { "\"executable\":true," } else { "" };
        self.put(format!("{{{executable}\"narOffset\":{offset},\"size\":{size},\"type\":\"regular\"}}").as_bytes());
        self.is_later = true;
    }
}
