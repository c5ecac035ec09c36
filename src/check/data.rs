//! F10: the NARs' data, read as a client would: hashes, sizes, grammar, references. Memory does not grow with a NAR.

use super::finding::Kind;
use super::scan::Scan;
use super::tables::{Listed, Tables};
use super::verified::{Verified, digest};
use super::{Check, CheckError, Ruin, nars};
use crate::bucket::{Bucket, BucketError, Key};
use crate::catalog;
use crate::nar::{UnpackError, verify_with};
use crate::nix::{NarInfo, NarUrl, PathHash, Sha256};
use crate::prune::graph::Id;
use crate::remedy::chain;
use crate::report::Event;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Read};
use std::str::FromStr;
use std::sync::Arc;
use tokio::runtime::Handle;

/// NARs that are read at once.
const PARALLEL: usize = 4;
/// Of one NAR in memory.
const PIECE: u64 = 4 << 20;
/// Narinfos that are at hand together.
const PAGE: usize = 256;

/// Which NARs to read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Portion {
    All,
    /// So many per cent, drawn at random.
    Percent(f64),
    /// The `n`th of `m` slices, the same ones each time: m runs read all.
    Slice {
        n: u32,
        m: u32,
    },
}

impl FromStr for Portion {
    type Err = String;

    /// `12.5%` or `3/30`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || format!("{text:?} is neither a percentage such as 5% nor a slice such as 3/30");
        if let Some(percent) = text.strip_suffix('%') {
            let percent: f64 = percent.trim().parse().map_err(|_| refused())?;
            return match percent {
                100.0 => Ok(Self::All),
                percent if percent > 0.0 && percent < 100.0 => Ok(Self::Percent(percent)),
                _ => Err(format!("{text:?} is not between 0% and 100%")),
            };
        }
        let (n, m) = text.split_once('/').ok_or_else(refused)?;
        match (n.parse(), m.parse()) {
            (Ok(n), Ok(m)) if n >= 1 && n <= m => Ok(Self::Slice { n, m }),
            (Ok(_), Ok(_)) => Err(format!("{text:?} is no slice: slices count from 1/M to M/M")),
            _ => Err(refused()),
        }
    }
}

/// A NAR to read, and what it must be.
pub struct Wanted {
    pub info: NarInfo,
    pub listed: Listed,
}

/// What reading it came to.
struct Verdict {
    wanted: Wanted,
    read: u64,
    fault: Option<Fault>,
    unseen: HashSet<PathHash>,
    unlisted: Vec<PathHash>,
}

enum Fault {
    Wrong(String),
    Unsupported(String),
    /// It was deleted since it was listed.
    Gone,
}

pub async fn look(check: &mut Check<'_>, tables: &Arc<Tables>) -> Result<(), CheckError> {
    let Some(portion) = check.options.read_data else { return Ok(()) };
    let draw = Draw { portion, secret: RandomState::new() };
    let mut begun: HashSet<(u32, Sha256)> = HashSet::new();
    let mut ruined: HashMap<u32, String> = HashMap::new();
    let all: Vec<Id> = tables.graph.visible().filter(|id| !tables.graph.is_damaged(*id) && tables.fits(*id)).collect();
    for page in all.chunks(PAGE) {
        let wanted = wanted(check, tables, page, &draw, &mut begun).await?;
        let wanted = check.without_known(wanted).await?;
        let bucket = check.ends.bucket.clone();
        let mut verdicts =
            stream::iter(wanted).map(|wanted| read(bucket.clone(), tables.clone(), wanted)).buffer_unordered(PARALLEL);
        let mut sound = Vec::new();
        while let Some(verdict) = verdicts.try_next().await? {
            check.checked.counts.read += 1;
            check.checked.counts.read_bytes += verdict.read;
            sound.extend(check.judge(verdict, &mut ruined).await?);
            check.ends.report.event(Event::Looked { what: "NARs read", count: check.checked.counts.read });
        }
        check.remember(sound).await?;
    }
    check.spread(tables, &all, &ruined).await
}

/// Those of a page of paths whose NARs are drawn, each NAR once for what is said of it.
async fn wanted(
    check: &Check<'_>,
    tables: &Tables,
    page: &[Id],
    draw: &Draw,
    begun: &mut HashSet<(u32, Sha256)>,
) -> Result<Vec<Wanted>, CheckError> {
    let hashes = page.iter().map(|id| tables.graph.hash(*id)).collect();
    let mut wanted = Vec::new();
    for (hash, bytes) in check.reader.recall(hashes).await? {
        let Ok(info) = catalog::parse(&check.opened.dir, &hash, &bytes) else { continue };
        let listed = tables.graph.find(&hash).and_then(|id| tables.nar_of(id));
        let Some(listed) = listed.filter(|_| draw.takes(&info.url)) else { continue };
        let new = Wanted { info, listed };
        if begun.insert((listed.nar, digest(&new))) {
            wanted.push(new);
        }
    }
    Ok(wanted)
}

struct Draw {
    portion: Portion,
    secret: RandomState,
}

impl Draw {
    fn takes(&self, url: &NarUrl) -> bool {
        match self.portion {
            Portion::All => true,
            Portion::Percent(percent) => {
                (self.secret.hash_one(url) % 1_000_000) as f64 <= percent.clamp(0.0, 100.0) * 10_000.0
            }
            Portion::Slice { n, m } => {
                let digest = Sha256::of(url.as_str().as_bytes());
                let start: [u8; 4] = [0, 1, 2, 3].map(|at| digest.as_bytes()[at]);
                u32::from_le_bytes(start) % m.max(1) == n.saturating_sub(1)
            }
        }
    }
}

/// Reads one NAR on a thread that may block. An error means that the bucket could not be asked.
async fn read(bucket: Arc<dyn Bucket>, tables: Arc<Tables>, wanted: Wanted) -> Result<Verdict, CheckError> {
    let handle = Handle::current();
    let task = tokio::task::spawn_blocking(move || {
        let listed = wanted.info.references.iter().map(|reference| reference.hash_part()).collect();
        let mut scan = Scan::new(tables, wanted.info.path.hash_part(), listed);
        let mut pieces = Pieces {
            handle,
            bucket: bucket.as_ref(),
            key: Key::nar(&wanted.info.url),
            size: wanted.listed.size.unwrap_or(0),
            read: 0,
            piece: Bytes::new(),
            trouble: None,
        };
        let limit = wanted.info.nar_size.get();
        let result = verify_with(&mut pieces, wanted.info.compression, limit, &mut |bytes| scan.add(bytes));
        let (read, trouble) = (pieces.read, pieces.trouble.take());
        let fault = match (trouble, result) {
            (Some(Trouble::Gone), _) => Some(Fault::Gone),
            (Some(Trouble::Bucket(error)), _) => return Err(error.into()),
            (None, Err(UnpackError::Unsupported(compression))) => {
                Some(Fault::Unsupported(format!("its compression, {compression}, is not read")))
            }
            (None, Err(error)) => Some(Fault::Wrong(chain(&error))),
            (None, Ok(packed)) => differs(&wanted.info, &packed).map(Fault::Wrong),
        };
        let unlisted = scan.unlisted.iter().copied().collect();
        Ok(Verdict { wanted, read, fault, unseen: scan.unseen, unlisted })
    });
    task.await.map_err(CheckError::Task)?
}

/// Reads the NAR that `info` points at, `size` bytes as stored. What is wrong with it, if so.
pub(crate) async fn fault_of(bucket: Arc<dyn Bucket>, info: &NarInfo, size: u64) -> Result<Option<String>, CheckError> {
    let listed = Listed { nar: 0, size: Some(size), version: 0 };
    let wanted = Wanted { info: info.clone(), listed };
    let verdict = read(bucket, Arc::default(), wanted).await?;
    Ok(verdict.fault.map(|fault| match fault {
        Fault::Wrong(why) | Fault::Unsupported(why) => why,
        Fault::Gone => "its NAR is gone".to_owned(),
    }))
}

fn differs(info: &NarInfo, found: &crate::nar::Packed) -> Option<String> {
    let said = info.file_hash.filter(|said| *said != found.file_hash);
    if found.nar_hash != info.nar_hash {
        return Some(format!("it unpacks to {}, not {}", found.nar_hash, info.nar_hash));
    }
    if found.nar_size != info.nar_size.get() {
        return Some(format!("it unpacks to {} bytes, not {}", found.nar_size, info.nar_size));
    }
    said.map(|said| format!("the stored file hashes to {}, not {said}", found.file_hash))
}

impl Check<'_> {
    /// The NAR again where it is sound, to be remembered.
    async fn judge(
        &mut self,
        verdict: Verdict,
        ruined: &mut HashMap<u32, String>,
    ) -> Result<Option<Wanted>, CheckError> {
        let Verdict { wanted, fault, unseen, unlisted, .. } = verdict;
        let info = &wanted.info;
        let (key, path) = (Key::nar_info(&info.path.hash_part()), Some(info.path.clone()));
        match fault {
            Some(Fault::Gone) => {
                nars::confirm_paths(self, vec![info.path.hash_part()]).await?;
                return Ok(None);
            }
            Some(Fault::Wrong(why)) => {
                self.ruin(&info.path.hash_part(), why.clone()).await?;
                ruined.insert(wanted.listed.nar, why);
                return Ok(None);
            }
            Some(Fault::Unsupported(why)) => {
                self.find(Kind::DataUnsupported, &key, path, why);
                return Ok(None);
            }
            None => {}
        }
        if !unlisted.is_empty() {
            let names: Vec<&str> = unlisted.iter().map(PathHash::as_str).collect();
            self.find(Kind::ReferenceUnlisted, &key, path.clone(), format!("its data names {}", names.join(", ")));
        }
        if !unseen.is_empty() {
            let named = info.references.iter().filter(|reference| unseen.contains(&reference.hash_part()));
            let mut names: Vec<&str> = named.map(|reference| reference.as_str()).collect();
            let more = names.len().saturating_sub(3);
            names.truncate(3);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            self.find(
                Kind::ReferenceNotInData,
                &key,
                path,
                format!("its data does not name {}{more}", names.join(", ")),
            );
        }
        Ok(Some(wanted))
    }

    /// The narinfo as it is now promises what its NAR is not.
    async fn ruin(&mut self, hash: &PathHash, why: String) -> Result<(), CheckError> {
        let bucket = self.ends.bucket.clone();
        let now = nars::narinfo(bucket.as_ref(), &self.opened.dir, hash).await?;
        let Some((etag, info)) = now else { return Ok(()) };
        let ruin = Ruin { etag, nar_hash: Some(info.nar_hash) };
        self.checked.damages.paths.entry(*hash).or_insert(ruin);
        self.find(Kind::NarData, &Key::nar_info(hash), Some(info.path), format!("its NAR {}: {why}", info.url));
        Ok(())
    }

    /// What is wrong with a NAR is wrong with every path that shares it.
    async fn spread(&mut self, tables: &Tables, all: &[Id], ruined: &HashMap<u32, String>) -> Result<(), CheckError> {
        if ruined.is_empty() {
            return Ok(());
        }
        for id in all {
            let hash = tables.graph.hash(*id);
            let why = tables.nar_of(*id).and_then(|listed| ruined.get(&listed.nar));
            if let Some(why) = why.filter(|_| !self.checked.damages.paths.contains_key(&hash)) {
                self.ruin(&hash, why.clone()).await?;
            }
        }
        Ok(())
    }

    async fn without_known(&mut self, wanted: Vec<Wanted>) -> Result<Vec<Wanted>, CheckError> {
        if self.options.read_again || wanted.is_empty() {
            return Ok(wanted);
        }
        let (verified, now) = (self.verified(), self.ends.clock.wall());
        let known = tokio::task::spawn_blocking(move || (verified.are_known(&wanted, now), wanted));
        let (known, wanted) = known.await.map_err(CheckError::Task)?;
        self.checked.counts.remembered += known.iter().filter(|known| **known).count() as u64;
        Ok(wanted.into_iter().zip(known).filter(|(_, known)| !known).map(|(wanted, _)| wanted).collect())
    }

    async fn remember(&self, sound: Vec<Wanted>) -> Result<(), CheckError> {
        let (verified, now) = (self.verified(), self.ends.clock.wall());
        tokio::task::spawn_blocking(move || verified.remember(&sound, now)).await.map_err(CheckError::Task)
    }

    fn verified(&self) -> Verified {
        Verified { ledger: self.ends.ledger.clone(), identity: self.opened.identity.clone() }
    }
}

/// An object as a reader, piece by piece.
struct Pieces<'b> {
    handle: Handle,
    bucket: &'b dyn Bucket,
    key: Key,
    size: u64,
    read: u64,
    piece: Bytes,
    trouble: Option<Trouble>,
}

enum Trouble {
    Gone,
    Bucket(BucketError),
}

impl Read for &mut Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.piece.is_empty() && self.read < self.size {
            let length = PIECE.min(self.size - self.read);
            let got = self.handle.block_on(self.bucket.get_range(&self.key, self.read, length));
            self.piece = match got {
                Ok(Some(piece)) => piece,
                Ok(None) => {
                    self.trouble = Some(Trouble::Gone);
                    return Err(io::ErrorKind::NotFound.into());
                }
                Err(error) => {
                    self.trouble = Some(Trouble::Bucket(error));
                    return Err(io::Error::other("the bucket could not be asked"));
                }
            };
            self.read += self.piece.len() as u64;
        }
        let now = self.piece.len().min(buffer.len());
        buffer[..now].copy_from_slice(&self.piece.split_to(now));
        Ok(now)
    }
}
