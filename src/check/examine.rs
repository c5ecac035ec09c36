//! F1 and F4: one narinfo by itself.

use super::finding::{Finding, Kind};
use crate::bucket::{Key, ObjectInfo};
use crate::catalog::{self, Read, Unusable};
use crate::nix::{NarInfo, NarUrl, PathHash, PublicKey, Sha256, StoreDir, StorePath};
use crate::prune::graph::Links;
use crate::remedy::chain;

/// What it takes to judge a narinfo.
pub struct Judge {
    pub dir: StoreDir,
    pub keys: Vec<PublicKey>,
}

/// One narinfo, judged.
pub struct Examined {
    pub hash: PathHash,
    pub object: ObjectInfo,
    pub links: Links,
    /// What it says of its NAR; of a malformed one, what is left of it.
    pub claim: Option<Claim>,
    pub findings: Vec<Finding>,
    /// What built it, as far as it can be told.
    pub deriver: Deriver,
    /// The NarHash to trust when it is to be replaced; `None` in here: any.
    pub ruined: Option<Option<Sha256>>,
    pub info: Option<NarInfo>,
}

/// A narinfo's word on its derivation.
pub enum Deriver {
    Named(StorePath),
    None,
    /// It is damaged, and may have named any.
    Unknown,
}

/// A narinfo's word on its NAR.
pub struct Claim {
    pub url: NarUrl,
    pub file_size: Option<u64>,
    /// `None` where the narinfo is malformed.
    pub nar_hash: Option<Sha256>,
}

impl Judge {
    /// Nothing where the object has gone.
    pub fn examine(&self, hash: PathHash, object: ObjectInfo, read: &Read) -> Option<Examined> {
        Some(match read {
            Read::Gone => return None,
            Read::Unreadable(error) => malformed(hash, object, &[], Kind::NarInfoMalformed, chain(error)),
            Read::Bytes(bytes) => match catalog::parse(&self.dir, &hash, bytes) {
                Ok(info) => self.sound(hash, object, bytes, info),
                Err(error) => malformed(hash, object, bytes, kind_of(&error), chain(&error)),
            },
        })
    }

    fn sound(&self, hash: PathHash, object: ObjectInfo, bytes: &[u8], info: NarInfo) -> Examined {
        let mut findings = Vec::new();
        let key = Key::nar_info(&hash).to_string();
        let mut find = |kind, problem: String| {
            findings.push(Finding { kind, object: key.clone(), path: Some(info.path.clone()), problem });
        };
        if let Some(how) = unusual(&self.dir, &info, bytes) {
            find(Kind::NarInfoUnusual, how);
        }
        let mut ruined = None;
        if !self.keys.is_empty() {
            let fingerprint = info.fingerprint(&self.dir);
            let mut is_signed = info.ca.is_some();
            for signature in &info.signatures {
                let mut named = self.keys.iter().filter(|key| key.name() == signature.key()).peekable();
                if named.peek().is_none() {
                    continue;
                }
                if named.any(|key| key.verifies(&fingerprint, signature)) {
                    is_signed = true;
                } else {
                    let name = signature.key();
                    find(Kind::SignatureInvalid, format!("its signature by {name} is not one over what it says"));
                    // Which of the two is wrong nobody can tell.
                    ruined = Some(None);
                }
            }
            if !is_signed && ruined.is_none() {
                find(Kind::Unsigned, "it has no signature by any of the given keys".to_owned());
            }
        } else if info.signatures.is_empty() && info.ca.is_none() {
            find(Kind::Unsigned, "it has no signature at all".to_owned());
        }
        let claim = Claim { url: info.url.clone(), file_size: info.file_size, nar_hash: Some(info.nar_hash) };
        let references = info.references.iter().map(|reference| reference.hash_part()).collect();
        let links = Links { references, nar: None, size: 0, is_damaged: false };
        let deriver = info.deriver.clone().map_or(Deriver::None, Deriver::Named);
        Examined { hash, object, links, claim: Some(claim), findings, deriver, ruined, info: Some(info) }
    }
}

fn kind_of(error: &Unusable) -> Kind {
    match error {
        Unusable::OtherPath(_) => Kind::NarInfoOtherPath,
        Unusable::Malformed(error) if error.unsupported_compression().is_some() => Kind::NarInfoUnsupported,
        Unusable::Malformed(_) => Kind::NarInfoMalformed,
    }
}

fn malformed(hash: PathHash, object: ObjectInfo, bytes: &[u8], kind: Kind, problem: String) -> Examined {
    let left = catalog::remnants(bytes);
    let finding = Finding { kind, object: Key::nar_info(&hash).to_string(), path: None, problem };
    let ruined = (kind.severity() == super::Severity::Damage).then_some(None);
    Examined {
        hash,
        object,
        links: Links { references: left.references, nar: None, size: 0, is_damaged: true },
        claim: left.url.map(|url| Claim { url, file_size: None, nar_hash: None }),
        findings: vec![finding],
        deriver: left.deriver.map_or(Deriver::Unknown, Deriver::Named),
        ruined,
        info: None,
    }
}

/// What other writers than Nix and loft do, if so.
fn unusual(dir: &StoreDir, info: &NarInfo, bytes: &[u8]) -> Option<String> {
    if info.file_hash.is_none() || info.file_size.is_none() {
        return Some("it does not say FileHash and FileSize, which some readers insist on".to_owned());
    }
    let printed = info.print(dir);
    if printed.as_bytes() == bytes {
        return None;
    }
    let text = String::from_utf8_lossy(bytes);
    let line = printed.lines().zip(text.lines()).position(|(ours, theirs)| ours != theirs);
    let at = line.map_or_else(|| "at its end".to_owned(), |line| format!("from line {} on", line + 1));
    Some(format!("it is not written as Nix writes it, {at}"))
}
