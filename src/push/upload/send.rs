//! The network side of one NAR: one PUT, or a multipart upload with parts in parallel.
//!
//! An upload that is cut short stays open in the bucket, for a later push to go on with (`resume`). It is aborted
//! only where nobody could: where the files are not what the store registered, or where nobody would look for it.
//!
//! Several machines may so come to share an upload. Their bytes are equal, so it does no harm when parts are sent
//! twice; whoever is second to finish finds the upload gone and the object there.

use super::parts::Piece;
use super::resume::{Begun, holds};
use super::{Encoded, Noted, Uploader};
use crate::bucket::{Body, Cause, Headers, Key, Part, Upload};
use crate::nar::Packed;
use crate::nix::NarUrl;
use crate::push::error::PathError;
use crate::remedy::chain;
use crate::report::Event;
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::collections::HashMap;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

type Encoder = JoinHandle<Result<Encoded, PathError>>;

/// One attempt to send a NAR.
pub struct Sending<'a> {
    pub to: &'a Uploader,
    /// A URL that was never used before.
    pub fresh: NarUrl,
    pub begun: Option<Begun>,
    /// Whether a later push would look for what this one leaves behind.
    pub resumable: bool,
    /// Counts the bytes that went over the network.
    pub sent: &'a AtomicU64,
}

/// A whole NAR that is in the bucket.
pub struct Landed {
    pub url: NarUrl,
    pub packed: Packed,
    pub nar_size: NonZeroU64,
    pub noted: Noted,
}

/// Where parts go.
struct Target {
    upload: Upload,
    url: NarUrl,
    /// What was there before, by number; nothing where this attempt began the upload itself.
    there: Option<HashMap<u32, Part>>,
    /// Somebody finished or aborted it meanwhile.
    gone: AtomicBool,
}

impl Sending<'_> {
    /// Takes the pieces until the encoder ends.
    pub async fn run(self, encoder: Encoder, mut pieces: mpsc::Receiver<Piece>) -> Result<Landed, PathError> {
        let Some(first) = pieces.recv().await else {
            // The whole NAR fits one part: one request, whose payload hash is the FileHash.
            let Encoded { packed, nar_size, noted, rest } = encoder.await.map_err(PathError::Task)??;
            let body = Body { bytes: rest.bytes.clone(), sha256: Some(packed.file_hash) };
            let _request = self.to.request().await?;
            self.to.bucket.put(&Key::nar(&self.fresh), body, Headers::NAR).await?;
            self.sent.fetch_add(packed.file_size, Ordering::Relaxed);
            return Ok(Landed { url: self.fresh, packed, nar_size, noted });
        };
        let target = self.target().await?;
        match self.parts(&target, first, encoder, pieces).await {
            Ok((packed, nar_size, noted)) => Ok(Landed { url: target.url, packed, nar_size, noted }),
            Err(error) => {
                // What others have sent too is not ours to throw away; prune collects it.
                if target.there.is_none() && (error.is_about_files() || !self.resumable) {
                    self.abort(&target.upload).await;
                }
                Err(error)
            }
        }
    }

    /// The upload that was begun, if it is still open; a new one otherwise.
    async fn target(&self) -> Result<Target, PathError> {
        let _request = self.to.request().await?;
        if let Some(begun) = &self.begun
            && let Ok(Some(parts)) = self.to.bucket.list_parts(&begun.upload).await
        {
            let there = parts.into_iter().map(|part| (part.number, part)).collect();
            let (upload, url) = (begun.upload.clone(), begun.url.clone());
            return Ok(Target { upload, url, there: Some(there), gone: AtomicBool::new(false) });
        }
        let upload = self.to.bucket.start_upload(&Key::nar(&self.fresh), Headers::NAR).await?;
        Ok(Target { upload, url: self.fresh.clone(), there: None, gone: AtomicBool::new(false) })
    }

    async fn parts(
        &self,
        target: &Target,
        first: Piece,
        encoder: Encoder,
        mut pieces: mpsc::Receiver<Piece>,
    ) -> Result<(Packed, NonZeroU64, Noted), PathError> {
        let mut number = 1;
        let mut parts = Vec::new();
        let mut under_way = FuturesUnordered::new();
        under_way.push(self.part(target, number, first));
        let mut encoding = true;
        while encoding {
            tokio::select! {
                piece = pieces.recv() => match piece {
                    Some(piece) => {
                        number += 1;
                        under_way.push(self.part(target, number, piece));
                    }
                    None => encoding = false,
                },
                Some(part) = under_way.next() => parts.push(part?),
            }
        }
        let Encoded { packed, nar_size, noted, rest } = match encoder.await.map_err(PathError::Task)? {
            Ok(encoded) => encoded,
            Err(error) => {
                // What is on its way of an interrupted NAR need not be sent again.
                while self.resumable && !error.is_about_files() && under_way.next().await.is_some() {}
                return Err(error);
            }
        };
        if !rest.bytes.is_empty() {
            under_way.push(self.part(target, number + 1, rest));
        }
        while let Some(part) = under_way.next().await {
            parts.push(part?);
        }
        parts.sort_by_key(|part: &Part| part.number);
        let _request = self.to.request().await?;
        self.to.bucket.finish_upload(&target.upload, &parts).await?;
        Ok((packed, nar_size, noted))
    }

    /// Sends one part, unless it is there; its memory is free again when the answer is.
    async fn part(&self, target: &Target, number: u32, piece: Piece) -> Result<Part, PathError> {
        if let Some(part) = target.there.as_ref().and_then(|there| there.get(&number)) {
            let (there, bytes) = (part.clone(), piece.bytes.clone());
            let holds = tokio::task::spawn_blocking(move || holds(&there, &bytes));
            if holds.await.map_err(PathError::Task)? {
                return Ok(part.clone());
            }
        }
        let size = piece.bytes.len() as u64;
        // Finishing tells whether the object is there, by its size; no server takes a part without an ETag.
        let unsent = Part { number, etag: String::new(), size };
        let _request = self.to.request().await?;
        if target.gone.load(Ordering::Relaxed) {
            return Ok(unsent);
        }
        match self.to.bucket.put_part(&target.upload, number, Body::from(piece.bytes.clone())).await {
            Ok(part) => {
                self.sent.fetch_add(size, Ordering::Relaxed);
                Ok(part)
            }
            Err(error) if matches!(error.cause, Cause::NoUpload) => {
                target.gone.store(true, Ordering::Relaxed);
                Ok(unsent)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The first error is the one to tell; what cannot be aborted is collected by prune.
    async fn abort(&self, upload: &Upload) {
        if let Err(error) = self.to.bucket.abort_upload(upload).await {
            self.to.report.event(Event::Warning { message: &chain(&error) });
        }
    }
}
