//! One NAR's way into the bucket: encoded on a thread, sent as it comes.
//!
//! The network side and the encoder share a bounded channel and one memory budget, so neither the
//! size of a NAR nor a slow network makes memory grow. Nothing is finished, let alone published,
//! before NarHash and NarSize were compared with the store's registration.

mod memory;
mod parts;

pub use memory::Memory;

use super::Interrupt;
use super::error::PathError;
use crate::bucket::{Body, Bucket, Headers, Key, Part, Upload};
use crate::clock::Clock;
use crate::nar::{self, Packed, Packing};
use crate::nix::{Compression, NarInfo, NarUrl, PathInfo, Sha256};
use crate::report::{Event, Report};
use futures_util::stream::{FuturesUnordered, StreamExt};
use parts::{Parts, Piece};
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use ulid::Ulid;

/// Full parts between encoder and network: one to be taken while the next is filled.
const QUEUED_PARTS: usize = 1;

/// A NAR that is in the bucket and hashes to what the store registered. Only this module makes one.
#[derive(Debug)]
pub struct Uploaded {
    url: NarUrl,
    compression: Compression,
    file_hash: Sha256,
    file_size: u64,
    nar_hash: Sha256,
    nar_size: NonZeroU64,
    sent: u64,
}

impl Uploaded {
    /// The same NAR for another path with the same NarHash; nothing more was sent for it.
    pub fn share(&self) -> Self {
        Self { url: self.url.clone(), sent: 0, ..*self }
    }

    /// A NAR that a visible narinfo points at, for a path with the same NarHash. The caller's lease
    /// names that narinfo, so no prune removes the NAR before the new narinfo holds it.
    pub(super) fn reused(visible: &NarInfo, info: &PathInfo) -> Option<Self> {
        let same = visible.nar_hash == info.nar_hash && info.nar_size.is_none_or(|size| size == visible.nar_size);
        if !same {
            return None;
        }
        Some(Self {
            url: visible.url.clone(),
            compression: visible.compression,
            file_hash: visible.file_hash?,
            file_size: visible.file_size?,
            nar_hash: visible.nar_hash,
            nar_size: visible.nar_size,
            sent: 0,
        })
    }

    pub fn url(&self) -> &NarUrl {
        &self.url
    }

    pub fn compression(&self) -> Compression {
        self.compression
    }

    pub fn file_hash(&self) -> Sha256 {
        self.file_hash
    }

    pub fn file_size(&self) -> u64 {
        self.file_size
    }

    pub fn nar_hash(&self) -> Sha256 {
        self.nar_hash
    }

    pub fn nar_size(&self) -> NonZeroU64 {
        self.nar_size
    }

    /// Bytes that went to the bucket for this path.
    pub fn sent(&self) -> u64 {
        self.sent
    }
}

/// What all uploads of a push share.
pub struct Uploader {
    pub bucket: Arc<dyn Bucket>,
    pub clock: Arc<dyn Clock>,
    pub report: Arc<dyn Report>,
    pub interrupt: Interrupt,
    pub packing: Packing,
    pub memory: Memory,
    /// One permit an encoder: compressing is what keeps the cores busy.
    pub encoders: Arc<Semaphore>,
    /// One permit a request under way.
    pub requests: Arc<Semaphore>,
}

impl Uploader {
    /// Uploads the NAR of the files at `root`; `workers` are extra compression threads.
    pub async fn upload(&self, info: &PathInfo, root: PathBuf, workers: u32) -> Result<Uploaded, PathError> {
        let packing = Packing { workers, ..self.packing };
        let id = Ulid::from_datetime(self.clock.wall());
        let url = NarUrl::fresh(&info.nar_hash, id, packing.compression);
        let key = Key::nar(&url);

        let slot = self.encoders.clone().acquire_owned().await.map_err(|_| PathError::Interrupted)?;
        if self.interrupt.is_raised() {
            return Err(PathError::Interrupted);
        }
        self.report.event(Event::Started { path: &info.path, nar_size: info.nar_size.map_or(0, NonZeroU64::get) });
        let (sender, pieces) = mpsc::channel(QUEUED_PARTS);
        let encoder = {
            let (info, memory, interrupt) = (info.clone(), self.memory.clone(), self.interrupt.clone());
            let wish = interrupt.clone();
            let (runtime, report) = (Handle::current(), self.report.clone());
            tokio::task::spawn_blocking(move || {
                let _slot = slot;
                let sink = Parts::new(info.nar_size.map(NonZeroU64::get), sender, memory, runtime, interrupt);
                encode(&info, root, packing, sink, report.as_ref()).map_err(|error| match error {
                    // The sink refused because of the wish, not because of an error.
                    PathError::Read(nar::PackError::Sink(_)) if wish.is_raised() => PathError::Interrupted,
                    error => error,
                })
            })
        };
        let (packed, nar_size) = self.send(&key, encoder, pieces).await?;
        Ok(Uploaded {
            url,
            compression: packing.compression,
            file_hash: packed.file_hash,
            file_size: packed.file_size,
            nar_hash: packed.nar_hash,
            nar_size,
            sent: packed.file_size,
        })
    }

    async fn send(
        &self,
        key: &Key,
        encoder: tokio::task::JoinHandle<Result<Encoded, PathError>>,
        mut pieces: mpsc::Receiver<Piece>,
    ) -> Result<(Packed, NonZeroU64), PathError> {
        let Some(first) = pieces.recv().await else {
            // The whole NAR fits one part: one request, whose payload hash is the FileHash.
            let encoded = encoder.await.map_err(PathError::Task)??;
            let body = Body { bytes: encoded.rest.bytes.clone(), sha256: Some(encoded.packed.file_hash) };
            let _request = self.request().await?;
            self.bucket.put(key, body, Headers::NAR).await?;
            return Ok((encoded.packed, encoded.nar_size));
        };
        let upload = {
            let _request = self.request().await?;
            self.bucket.start_upload(key, Headers::NAR).await?
        };
        let sent = self.send_parts(&upload, first, encoder, pieces).await;
        if sent.is_err() {
            // The first error is the one to tell; what cannot be aborted is collected by prune.
            if let Err(error) = self.bucket.abort_upload(&upload).await {
                let message = super::error::chain(&error);
                self.report.event(Event::Warning { message: &message });
            }
        }
        sent
    }

    async fn send_parts(
        &self,
        upload: &Upload,
        first: Piece,
        encoder: tokio::task::JoinHandle<Result<Encoded, PathError>>,
        mut pieces: mpsc::Receiver<Piece>,
    ) -> Result<(Packed, NonZeroU64), PathError> {
        let mut number = 1;
        let mut parts = Vec::new();
        let mut under_way = FuturesUnordered::new();
        under_way.push(self.send_part(upload, number, first));
        let mut encoding = true;
        while encoding {
            tokio::select! {
                piece = pieces.recv() => match piece {
                    Some(piece) => {
                        number += 1;
                        under_way.push(self.send_part(upload, number, piece));
                    }
                    None => encoding = false,
                },
                Some(part) = under_way.next() => parts.push(part?),
            }
        }
        let encoded = encoder.await.map_err(PathError::Task)??;
        if !encoded.rest.bytes.is_empty() {
            under_way.push(self.send_part(upload, number + 1, encoded.rest));
        }
        while let Some(part) = under_way.next().await {
            parts.push(part?);
        }
        parts.sort_by_key(|part: &Part| part.number);
        let _request = self.request().await?;
        self.bucket.finish_upload(upload, &parts).await?;
        Ok((encoded.packed, encoded.nar_size))
    }

    /// Sends one part; its memory is free again when the answer is there.
    async fn send_part(&self, upload: &Upload, number: u32, piece: Piece) -> Result<Part, PathError> {
        let _request = self.request().await?;
        Ok(self.bucket.put_part(upload, number, Body::from(piece.bytes.clone())).await?)
    }

    async fn request(&self) -> Result<tokio::sync::SemaphorePermit<'_>, PathError> {
        self.requests.acquire().await.map_err(|_| PathError::Interrupted)
    }
}

/// A NAR at the end of its stream: hashed, compared, and what has not been sent of it yet.
struct Encoded {
    packed: Packed,
    nar_size: NonZeroU64,
    rest: Piece,
}

fn encode(
    info: &PathInfo,
    root: PathBuf,
    packing: Packing,
    sink: Parts,
    report: &dyn Report,
) -> Result<Encoded, PathError> {
    let progress = |nar_bytes| report.event(Event::Progress { path: &info.path, nar_bytes });
    let (packed, sink) = nar::pack_with_progress(&root, packing, sink, &progress).map_err(PathError::Read)?;
    if packed.nar_hash != info.nar_hash {
        return Err(PathError::Changed { registered: info.nar_hash, found: packed.nar_hash });
    }
    if packed.depth > nar::MAX_DEPTH_OF_NIX {
        let message = format!(
            "{} has files {} levels deep; recent versions of Nix refuse more than {}",
            info.path,
            packed.depth,
            nar::MAX_DEPTH_OF_NIX
        );
        report.event(Event::Warning { message: &message });
    }
    let nar_size = NonZeroU64::new(packed.nar_size).ok_or(PathError::EmptyNar)?;
    if let Some(registered) = info.nar_size.filter(|registered| *registered != nar_size) {
        return Err(PathError::Size { registered: registered.get(), found: nar_size.get() });
    }
    let rest = sink.finish().map_err(|error| PathError::Read(nar::PackError::Sink(error)))?;
    Ok(Encoded { packed, nar_size, rest })
}
