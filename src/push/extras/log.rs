//! One build's log on its way: in one request, or piece by piece where it is long.

use super::{Logs, Writer};
use crate::bucket::{Body, BucketError, Headers, Key, Part, Upload};
use crate::nix::StorePath;
use crate::push::error::PathError;
use crate::remedy::chain;
use crate::report::Event;
use crate::store::{BuildLog, BuildLogError};
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OnceCell, Semaphore};

/// Bytes of a log that are in memory at once. S3 wants parts of at least 5 MiB.
const PIECE: usize = 8 << 20;
const AT_ONCE: usize = 2;
/// A build that printed more than this many pieces went astray; 1 GiB.
const MOST_PIECES: u32 = 128;

impl Default for Logs {
    fn default() -> Self {
        Self {
            sent: Mutex::new(HashMap::new()),
            under_way: Semaphore::new(AT_ONCE),
            is_denial_told: AtomicBool::new(false),
        }
    }
}

impl Logs {
    fn of(&self, derivation: &StorePath) -> Arc<OnceCell<()>> {
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        sent.entry(derivation.clone()).or_default().clone()
    }
}

/// Why a log does not land.
enum Unsent {
    /// Nothing that another push could change.
    Useless(String),
    /// As it will be with the others.
    Denied(String),
    Path(PathError),
}

impl Writer {
    /// Sends the log of this derivation, where this machine has one and no other path's task has sent it. A log that
    /// cannot be read is a warning: the path is as good without it.
    pub(super) async fn log(&self, derivation: &StorePath) -> Result<(), PathError> {
        self.logs.of(derivation).get_or_try_init(|| self.send_log(derivation)).await?;
        Ok(())
    }

    async fn send_log(&self, derivation: &StorePath) -> Result<(), PathError> {
        let _slot = self.logs.under_way.acquire().await.map_err(|_| PathError::Interrupted)?;
        match self.send_pieces(derivation).await {
            Ok(()) => Ok(()),
            Err(Unsent::Path(error)) => Err(error),
            Err(Unsent::Useless(why)) => {
                let message = format!("The build log of {derivation} is not uploaded: {why}");
                self.report.event(Event::Warning { message: &message });
                Ok(())
            }
            Err(Unsent::Denied(why)) => {
                if !self.logs.is_denial_told.swap(true, Ordering::Relaxed) {
                    let message = format!(
                        "Build logs that this user may not read are not uploaded: {why}; push as root or as who builds, or turn \
                         build_logs off"
                    );
                    self.report.event(Event::Warning { message: &message });
                }
                Ok(())
            }
        }
    }

    async fn send_pieces(&self, derivation: &StorePath) -> Result<(), Unsent> {
        let (location, name) = (self.location.clone(), derivation.clone());
        let Some(log) = blocking(move || BuildLog::open(&location, &name)).await? else { return Ok(()) };
        let (log, first) = next(log).await?;
        let key = Key::log(derivation);
        if first.len() < PIECE {
            return self.put(&key, Bytes::from(first), Headers::LOG).await.map_err(Unsent::Path);
        }
        let upload = self.bucket.start_upload(&key, Headers::LOG).await?;
        let sent = match self.send_parts(log, first, &upload).await {
            Ok(parts) => self.finish(&upload, &parts).await.map_err(Unsent::Path),
            Err(error) => Err(error),
        };
        if sent.is_err()
            && let Err(error) = self.bucket.abort_upload(&upload).await
        {
            self.report.event(Event::Warning { message: &chain(&error) });
        }
        sent
    }

    async fn finish(&self, upload: &Upload, parts: &[Part]) -> Result<(), PathError> {
        self.lease.remaining()?;
        Ok(self.bucket.finish_upload(upload, parts).await?)
    }

    async fn send_parts(&self, mut log: BuildLog, mut piece: Vec<u8>, upload: &Upload) -> Result<Vec<Part>, Unsent> {
        let mut parts = Vec::new();
        for number in 1.. {
            if self.interrupt.is_raised() {
                return Err(Unsent::Path(PathError::Interrupted));
            }
            let is_last = piece.len() < PIECE;
            if number > MOST_PIECES && !piece.is_empty() {
                break;
            }
            if !piece.is_empty() {
                parts.push(self.bucket.put_part(upload, number, Body::from(Bytes::from(piece))).await?);
            }
            if is_last {
                return Ok(parts);
            }
            (log, piece) = next(log).await?;
        }
        Err(Unsent::Useless(format!("{} is more than a gigabyte long", log.file.display())))
    }
}

async fn next(mut log: BuildLog) -> Result<(BuildLog, Vec<u8>), Unsent> {
    blocking(move || log.read(PIECE).map(|piece| (log, piece))).await
}

/// Decompressing takes a thread for a while.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BuildLogError> + Send + 'static,
) -> Result<T, Unsent> {
    let done = tokio::task::spawn_blocking(work).await.map_err(|error| Unsent::Path(PathError::Task(error)))?;
    done.map_err(|error| match error.is_denied() {
        true => Unsent::Denied(chain(&error)),
        false => Unsent::Useless(chain(&error)),
    })
}

impl From<BucketError> for Unsent {
    fn from(error: BucketError) -> Self {
        Self::Path(error.into())
    }
}
