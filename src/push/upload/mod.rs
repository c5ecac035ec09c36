//! One NAR's way into the bucket: encoded on a thread, sent as it comes.
//!
//! The network side and the encoder share a bounded channel and one memory budget, so neither the
//! size of a NAR nor a slow network makes memory grow. Nothing is finished, let alone published,
//! before NarHash and NarSize were compared with the store's registration.

mod memory;
mod noted;
mod parts;
mod resume;
mod send;
mod uploaded;

pub use memory::Memory;
pub use noted::Noted;
pub use resume::OpenUploads;
pub use uploaded::Uploaded;

use super::Interrupt;
use super::error::PathError;
use crate::bucket::Bucket;
use crate::clock::Clock;
use crate::nar::{self, Packed, Packing, Wanted};
use crate::nix::{NarUrl, PathInfo};
use crate::report::{Event, Report};
use parts::{Parts, Piece, part_size};
use resume::Begun;
use send::{Landed, Sending};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};

/// Full parts between encoder and network: one to be taken while the next is filled.
const QUEUED_PARTS: usize = 1;

/// A NAR from which on more than one thread may compress it, and an upload of it that was cut short is gone on with.
pub const LARGE_NAR: u64 = 32 << 20;

/// What all uploads of a push share.
pub struct Uploader {
    pub bucket: Arc<dyn Bucket>,
    pub clock: Arc<dyn Clock>,
    pub report: Arc<dyn Report>,
    pub interrupt: Interrupt,
    pub packing: Packing,
    /// What to note down of each NAR.
    pub wanted: Wanted,
    pub memory: Memory,
    /// For what was noted down and waits for the network.
    pub notes: Memory,
    /// One permit an encoder: compressing is what keeps the cores busy.
    pub encoders: Arc<Semaphore>,
    /// The most threads that may compress one NAR.
    pub most_workers: u32,
    /// What earlier pushes left behind.
    pub open: OpenUploads,
    /// One permit a request under way.
    pub requests: Arc<Semaphore>,
}

impl Uploader {
    /// Uploads the NAR of the files at `root`. More than one thread compresses it where `workers` says
    /// so, and each takes an encoder's place.
    ///
    /// A large NAR goes on with an upload that an earlier push began, if there is one.
    pub async fn upload(&self, info: &PathInfo, root: PathBuf, workers: u32) -> Result<(Uploaded, Noted), PathError> {
        let packing = Packing { workers, ..self.packing };
        let begun = match is_large(info) {
            true => self.open.find(info, &resume::acceptable(packing, self.most_workers)).await,
            false => None,
        };
        let sent = AtomicU64::new(0);
        match self.attempt(info, &root, packing, begun, &sent).await {
            // Another machine shared the upload and ended it, or its bytes are not ours: alone, then.
            Err(PathError::Bucket(error)) if error.is_about_upload() => {
                self.attempt(info, &root, packing, None, &sent).await
            }
            result => result,
        }
    }

    async fn attempt(
        &self,
        info: &PathInfo,
        root: &Path,
        packing: Packing,
        begun: Option<Begun>,
        sent: &AtomicU64,
    ) -> Result<(Uploaded, Noted), PathError> {
        // Only the same way of packing makes the same bytes.
        let packing = begun.as_ref().map_or(packing, |begun| begun.packing);
        let nar_size = info.nar_size.map(NonZeroU64::get);
        let slots = self.encoders.clone().acquire_many_owned(packing.workers.max(1));
        let slots = slots.await.map_err(|_| PathError::Interrupted)?;
        if self.interrupt.is_raised() {
            return Err(PathError::Interrupted);
        }
        self.report.event(Event::Started { path: &info.path, nar_size: nar_size.unwrap_or(0) });
        let (sender, pieces) = mpsc::channel(QUEUED_PARTS);
        let encoder = {
            let (info, memory, interrupt) = (info.clone(), self.memory.clone(), self.interrupt.clone());
            let (root, wish) = (root.to_owned(), interrupt.clone());
            let (runtime, report) = (Handle::current(), self.report.clone());
            let (wanted, notes) = (self.wanted, self.notes.clone());
            tokio::task::spawn_blocking(move || {
                let _slots = slots;
                let sink = Parts::new(nar_size, sender, memory, runtime.clone(), interrupt);
                let encoded =
                    encode(&info, root, packing, sink, report.as_ref(), wanted).map_err(|error| match error {
                        // The sink refused because of the wish, not because of an error.
                        PathError::Read(nar::PackError::Sink(_)) if wish.is_raised() => PathError::Interrupted,
                        error => error,
                    })?;
                Ok(Encoded { noted: encoded.noted.reserve(&notes, &runtime), ..encoded })
            })
        };
        let id = resume::tagged_id(self.clock.wall(), &packing, part_size(nar_size));
        let fresh = NarUrl::fresh(&info.nar_hash, id, packing.compression);
        let sending = Sending { to: self, fresh, begun, resumable: is_large(info), sent };
        let Landed { url, packed, nar_size, noted } = sending.run(encoder, pieces).await?;
        let sent = sent.load(Ordering::Relaxed);
        Ok((Uploaded::new(url, packing.compression, &packed, nar_size, sent), noted))
    }

    async fn request(&self) -> Result<tokio::sync::SemaphorePermit<'_>, PathError> {
        self.requests.acquire().await.map_err(|_| PathError::Interrupted)
    }
}

/// Whether it is worth a look at what earlier pushes have sent. A NAR of unknown size is not.
fn is_large(info: &PathInfo) -> bool {
    info.nar_size.is_some_and(|size| size.get() >= LARGE_NAR)
}

/// A NAR at the end of its stream: hashed, compared, and what has not been sent of it yet.
struct Encoded {
    packed: Packed,
    nar_size: NonZeroU64,
    noted: Noted,
    rest: Piece,
}

fn encode(
    info: &PathInfo,
    root: PathBuf,
    packing: Packing,
    sink: Parts,
    report: &dyn Report,
    wanted: Wanted,
) -> Result<Encoded, PathError> {
    let progress = |nar_bytes| report.event(Event::Progress { path: &info.path, nar_bytes });
    let (packed, observed, sink) =
        nar::pack_observed(&root, packing, sink, &progress, wanted).map_err(PathError::Read)?;
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
    Ok(Encoded { packed, nar_size, noted: observed.into(), rest })
}
