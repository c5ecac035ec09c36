//! One NAR's way into the bucket: encoded on a thread, sent as it comes.
//!
//! The network side and the encoder share a bounded channel and one memory budget, so neither the
//! size of a NAR nor a slow network makes memory grow. Nothing is finished, let alone published,
//! before NarHash and NarSize were compared with the store's registration.

mod memory;
mod parts;
mod uploaded;

pub use memory::Memory;
pub use uploaded::Uploaded;

use super::Interrupt;
use super::error::PathError;
use crate::bucket::{Body, Bucket, Headers, Key, Part, Upload};
use crate::clock::Clock;
use crate::nar::{self, Packed, Packing};
use crate::nix::{NarUrl, PathInfo};
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
    /// Uploads the NAR of the files at `root`. More than one thread compresses it where `workers` says
    /// so, and each takes an encoder's place.
    pub async fn upload(&self, info: &PathInfo, root: PathBuf, workers: u32) -> Result<Uploaded, PathError> {
        let packing = Packing { workers, ..self.packing };
        let id = Ulid::from_datetime(self.clock.wall());
        let url = NarUrl::fresh(&info.nar_hash, id, packing.compression);
        let key = Key::nar(&url);

        let slots = self.encoders.clone().acquire_many_owned(workers.max(1));
        let slots = slots.await.map_err(|_| PathError::Interrupted)?;
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
                let _slots = slots;
                let sink = Parts::new(info.nar_size.map(NonZeroU64::get), sender, memory, runtime, interrupt);
                encode(&info, root, packing, sink, report.as_ref()).map_err(|error| match error {
                    // The sink refused because of the wish, not because of an error.
                    PathError::Read(nar::PackError::Sink(_)) if wish.is_raised() => PathError::Interrupted,
                    error => error,
                })
            })
        };
        let (packed, nar_size) = self.send(&key, encoder, pieces).await?;
        Ok(Uploaded::new(url, packing.compression, &packed, nar_size))
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
                let message = crate::remedy::chain(&error);
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
