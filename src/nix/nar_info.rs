//! The narinfo: what a binary cache says about one store path.
//!
//! Lines of `Key: Value`. Reading is as strict as writing: whoever copies, repairs or deletes by a narinfo must not act
//! on one that other readers understand differently. Only keys that nobody knows yet are passed over.
//! Source of the format: `nar-info.cc` in Nix; 2.8, 2.26 and 2.34 write the same order.

use super::excerpt::excerpt;
use super::{
    Compression, CompressionError, ContentAddress, ContentAddressError, Fingerprint, HashError, NarUrl, NarUrlError,
    PathHash, Sha256, Signature, SignatureError, StoreDir, StorePath, StorePathError,
};
use std::collections::HashSet;
use std::fmt::{self, Write as _};
use std::num::NonZeroU64;

/// A narinfo; `parse` and `print` are inverse for all that loft writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NarInfo {
    pub path: StorePath,
    pub url: NarUrl,
    pub compression: Compression,
    /// Of the stored, compressed object; some writers leave both out.
    pub file_hash: Option<Sha256>,
    /// Bytes of the stored object.
    pub file_size: Option<u64>,
    pub nar_hash: Sha256,
    /// Bytes of the NAR before compression.
    pub nar_size: NonZeroU64,
    /// Sorted; contains `path` itself where it refers to itself.
    pub references: Vec<StorePath>,
    pub deriver: Option<StorePath>,
    /// In the narinfo's order, without repetition.
    pub signatures: Vec<Signature>,
    pub ca: Option<ContentAddress>,
}

/// Why bytes are not a narinfo. Lines count from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NarInfoError {
    #[error("Narinfo is not UTF-8 in line {line}")]
    Encoding { line: usize },
    /// Such a narinfo may have been cut off.
    #[error("Narinfo is empty or its last line has no newline")]
    Ending,
    #[error("Line {line} of the narinfo is not of the form `Key: Value`: {text:?}")]
    Line { line: usize, text: String },
    #[error("Line {line} of the narinfo has a control character: {text:?}")]
    Control { line: usize, text: String },
    #[error("Narinfo has {key} a second time in line {line}")]
    Repeated { key: &'static str, line: usize },
    #[error("Narinfo has no {key}")]
    Missing { key: &'static str },
    #[error("Narinfo has a bad {key} in line {line}")]
    Value { key: &'static str, line: usize, source: NarInfoFault },
}

/// What is wrong with the value of one key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NarInfoFault {
    #[error(transparent)]
    StorePath(#[from] StorePathError),
    #[error(transparent)]
    Url(#[from] NarUrlError),
    #[error(transparent)]
    Compression(#[from] CompressionError),
    #[error(transparent)]
    Hash(#[from] HashError),
    #[error(transparent)]
    Signature(#[from] SignatureError),
    #[error(transparent)]
    ContentAddress(#[from] ContentAddressError),
    #[error("{0:?} is not a number of bytes from 1 to 2^64-1 in plain decimal digits")]
    Size(String),
    #[error("Deriver {0:?} is not a .drv")]
    Deriver(String),
}

impl NarInfoError {
    /// The narinfo is sound as far as it was read, but its NAR has a compression that loft does not know.
    pub fn unsupported_compression(&self) -> Option<&'static str> {
        match self {
            Self::Value { source: NarInfoFault::Compression(CompressionError::Unsupported(word)), .. } => Some(word),
            _ => None,
        }
    }
}

impl NarInfo {
    /// Reads a narinfo of the store at `dir`. References are sorted and freed of repetitions, as Nix does.
    ///
    /// Time and memory are linear in the bytes but for the sort; the caller bounds the bytes.
    pub fn parse(dir: &StoreDir, bytes: &[u8]) -> Result<Self, NarInfoError> {
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let newlines = bytes.iter().take(error.valid_up_to()).filter(|byte| **byte == b'\n').count();
            NarInfoError::Encoding { line: newlines + 1 }
        })?;
        let lines = text.strip_suffix('\n').ok_or(NarInfoError::Ending)?;
        let mut fields = Fields::default();
        for (index, line) in lines.split('\n').enumerate() {
            fields.read_line(dir, index + 1, line)?;
        }
        fields.finish()
    }

    /// The narinfo's text, ready to be stored.
    pub fn print(&self, dir: &StoreDir) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = self.write(dir, &mut text);
        text
    }

    fn write(&self, dir: &StoreDir, out: &mut String) -> fmt::Result {
        writeln!(out, "StorePath: {}", dir.join(&self.path))?;
        writeln!(out, "URL: {}", self.url)?;
        writeln!(out, "Compression: {}", self.compression)?;
        if let Some(hash) = &self.file_hash {
            writeln!(out, "FileHash: {hash}")?;
        }
        if let Some(size) = self.file_size {
            writeln!(out, "FileSize: {size}")?;
        }
        writeln!(out, "NarHash: {}", self.nar_hash)?;
        writeln!(out, "NarSize: {}", self.nar_size)?;
        // The space stays where there are no references: Nix skips two characters after the key, and
        // would otherwise swallow the next line.
        out.push_str("References: ");
        for (index, reference) in self.references.iter().enumerate() {
            if index > 0 {
                out.push(' ');
            }
            out.push_str(reference.as_str());
        }
        out.push('\n');
        if let Some(deriver) = &self.deriver {
            writeln!(out, "Deriver: {deriver}")?;
        }
        for signature in &self.signatures {
            writeln!(out, "Sig: {signature}")?;
        }
        if let Some(ca) = &self.ca {
            writeln!(out, "CA: {ca}")?;
        }
        Ok(())
    }

    pub fn fingerprint(&self, dir: &StoreDir) -> Fingerprint {
        Fingerprint::new(dir, &self.path, &self.nar_hash, self.nar_size, &self.references)
    }

    /// Whether this may be what lies at `<hash>.narinfo`; otherwise clients would take one path for another.
    pub fn is_for(&self, hash: &PathHash) -> bool {
        self.path.hash_part() == *hash
    }
}

/// What was read so far.
#[derive(Default)]
struct Fields {
    path: Option<StorePath>,
    url: Option<NarUrl>,
    compression: Option<Compression>,
    file_hash: Option<Sha256>,
    file_size: Option<NonZeroU64>,
    nar_hash: Option<Sha256>,
    nar_size: Option<NonZeroU64>,
    references: Option<Vec<StorePath>>,
    /// The inner `None` is `unknown-deriver`.
    deriver: Option<Option<StorePath>>,
    signatures: Vec<Signature>,
    known_signatures: HashSet<Signature>,
    ca: Option<ContentAddress>,
}

impl Fields {
    fn read_line(&mut self, dir: &StoreDir, line: usize, text: &str) -> Result<(), NarInfoError> {
        if text.chars().any(char::is_control) {
            return Err(NarInfoError::Control { line, text: excerpt(text) });
        }
        let (key, value) = match text.split_once(": ") {
            Some((key, value)) if !key.is_empty() && !key.contains([' ', ':']) => (key, value),
            _ => return Err(NarInfoError::Line { line, text: excerpt(text) }),
        };
        match key {
            "StorePath" => set(&mut self.path, "StorePath", line, || read_full_path(dir, value)),
            "URL" => set(&mut self.url, "URL", line, || Ok(NarUrl::parse(value)?)),
            "Compression" => set(&mut self.compression, "Compression", line, || Ok(Compression::parse(value)?)),
            "FileHash" => set(&mut self.file_hash, "FileHash", line, || read_hash(value)),
            "FileSize" => set(&mut self.file_size, "FileSize", line, || read_size(value)),
            "NarHash" => set(&mut self.nar_hash, "NarHash", line, || read_hash(value)),
            "NarSize" => set(&mut self.nar_size, "NarSize", line, || read_size(value)),
            "References" => set(&mut self.references, "References", line, || read_references(value)),
            "Deriver" => set(&mut self.deriver, "Deriver", line, || read_deriver(value)),
            "CA" => set(&mut self.ca, "CA", line, || Ok(ContentAddress::parse(value)?)),
            "Sig" => {
                let mut signature = None;
                set(&mut signature, "Sig", line, || Ok(Signature::parse(value)?))?;
                self.signatures.extend(signature.filter(|new| self.known_signatures.insert(new.clone())));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn finish(self) -> Result<NarInfo, NarInfoError> {
        let missing = |key| NarInfoError::Missing { key };
        Ok(NarInfo {
            path: self.path.ok_or(missing("StorePath"))?,
            url: self.url.ok_or(missing("URL"))?,
            // What the oldest writers meant by leaving it out, and what Nix still reads.
            compression: self.compression.unwrap_or(Compression::Bzip2),
            file_hash: self.file_hash,
            file_size: self.file_size.map(NonZeroU64::get),
            nar_hash: self.nar_hash.ok_or(missing("NarHash"))?,
            nar_size: self.nar_size.ok_or(missing("NarSize"))?,
            references: self.references.ok_or(missing("References"))?,
            deriver: self.deriver.flatten(),
            signatures: self.signatures,
            ca: self.ca,
        })
    }
}

/// Fills `slot` once.
fn set<T>(
    slot: &mut Option<T>,
    key: &'static str,
    line: usize,
    read: impl FnOnce() -> Result<T, NarInfoFault>,
) -> Result<(), NarInfoError> {
    if slot.is_some() {
        return Err(NarInfoError::Repeated { key, line });
    }
    *slot = Some(read().map_err(|source| NarInfoError::Value { key, line, source })?);
    Ok(())
}

/// Longer than any base name can be: what exceeds it is cut, so that the error that follows stays short.
const MAX_BASE_NAME: usize = 300;

fn read_base_name(text: &str) -> Result<StorePath, NarInfoFault> {
    Ok(StorePath::parse(&text[..text.floor_char_boundary(MAX_BASE_NAME)])?)
}

fn read_full_path(dir: &StoreDir, value: &str) -> Result<StorePath, NarInfoFault> {
    let limit = dir.as_str().len() + 1 + MAX_BASE_NAME;
    Ok(dir.parse_path(&value[..value.floor_char_boundary(limit)])?)
}

/// Cut before it is read, so that an error does not repeat a megabyte.
fn read_hash(value: &str) -> Result<Sha256, NarInfoFault> {
    Ok(Sha256::parse(&value[..value.floor_char_boundary(MAX_BASE_NAME)])?)
}

fn read_size(value: &str) -> Result<NonZeroU64, NarInfoFault> {
    // `parse` would take `+1` and `01`, which `print` does not give back.
    let plain = !value.starts_with(['+', '0']);
    value.parse().ok().filter(|_| plain).ok_or_else(|| NarInfoFault::Size(excerpt(value)))
}

fn read_references(value: &str) -> Result<Vec<StorePath>, NarInfoFault> {
    if value.is_empty() {
        return Ok(Vec::new());
    }
    let mut references = value.split(' ').map(read_base_name).collect::<Result<Vec<_>, _>>()?;
    references.sort_unstable();
    references.dedup();
    Ok(references)
}

fn read_deriver(value: &str) -> Result<Option<StorePath>, NarInfoFault> {
    // Old writers' word for none.
    if value == "unknown-deriver" {
        return Ok(None);
    }
    let deriver = read_base_name(value)?;
    if !deriver.is_derivation() {
        return Err(NarInfoFault::Deriver(deriver.to_string()));
    }
    Ok(Some(deriver))
}

#[cfg(test)]
mod tests;
