//! What readers like to find beside a path: a listing of its NAR, the log of its build, where its debug information is.
//!
//! All of it lands after the NAR and before the narinfo. Where something that was asked for cannot be written, the path
//! fails: a later push would find the path present and never look again.

mod log;

use super::Interrupt;
use super::error::PathError;
use super::lease::Lease;
use super::upload::{Memory, Noted};
use crate::bucket::{Body, Bucket, Headers, Key};
use crate::nar::{self, Observed, Wanted};
use crate::nix::{BuildId, DebugLink, NarUrl, PathInfo, StorePath};
use crate::report::{Event, Report};
use crate::store::Location;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use tokio::runtime::Handle;
use tokio::sync::{OnceCell, Semaphore};

/// Debug links at once, of one path.
const PARALLEL: usize = 16;

/// What a user can ask for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extras {
    /// `<hash>.ls`, which nix-index reads.
    pub nar_listings: bool,
    /// `log/<derivation>`, which `nix log` reads.
    pub build_logs: bool,
    /// `debuginfo/<build id>`, which dwarffs and nixseparatedebuginfod2 read.
    pub debug_info: bool,
}

impl Extras {
    /// What has to be noted down of each NAR.
    pub fn of_nar(self) -> Wanted {
        Wanted { listing: self.nar_listings, build_ids: self.debug_info }
    }

    pub fn is_nothing(self) -> bool {
        self == Self::default()
    }
}

/// Writes them, for all paths of a push.
pub struct Writer {
    pub wanted: Extras,
    pub bucket: Arc<dyn Bucket>,
    pub report: Arc<dyn Report>,
    pub interrupt: Interrupt,
    pub lease: Arc<Lease>,
    pub location: Location,
    /// One permit a request under way.
    pub requests: Arc<Semaphore>,
    /// One permit a NAR being read.
    pub encoders: Arc<Semaphore>,
    pub notes: Memory,
    pub logs: Logs,
}

/// Several paths come from one derivation, and its log is sent once.
pub struct Logs {
    sent: Mutex<HashMap<StorePath, Arc<OnceCell<()>>>>,
    /// Each holds a piece of its log in memory.
    under_way: Semaphore,
    /// It was told that this user may not read them.
    is_denial_told: AtomicBool,
}

impl Writer {
    /// For paths that have this NAR.
    pub async fn write(&self, infos: &[&PathInfo], nar: &NarUrl, observed: &Observed) -> Result<(), PathError> {
        for info in infos {
            match &observed.listing {
                Some(Ok(listing)) => {
                    let key = Key::listing(&info.path.hash_part());
                    self.put(&key, listing.clone(), Headers::LISTING).await?;
                }
                Some(Err(why)) => {
                    let message = format!("{} gets no listing: {why}", info.path);
                    self.report.event(Event::Warning { message: &message });
                }
                None => {}
            }
            if let (true, Some(deriver)) = (self.wanted.build_logs, &info.deriver) {
                self.log(deriver).await?;
            }
        }
        stream::iter(observed.build_ids.clone())
            .map(|id| self.debug_link(id, nar))
            .buffer_unordered(PARALLEL)
            .try_collect()
            .await
    }

    /// For a path whose NAR is in the bucket already: its files are read all the same, and must be what is registered.
    pub async fn write_unsent(&self, info: &PathInfo, nar: &NarUrl) -> Result<(), PathError> {
        let wanted = self.wanted.of_nar();
        if wanted.is_nothing() {
            return self.write(&[info], nar, &Observed::default()).await;
        }
        let slot = self.encoders.clone().acquire_owned().await.map_err(|_| PathError::Interrupted)?;
        let root: PathBuf = self.location.real_path(&info.path);
        let (wish, notes, runtime) = (self.interrupt.clone(), self.notes.clone(), Handle::current());
        let reading = tokio::task::spawn_blocking(move || {
            let _slot = slot;
            let (found, observed) = nar::observe(&root, wanted, UntilInterrupted(wish))?;
            Ok((found, Noted::from(observed).reserve(&notes, &runtime)))
        });
        let (found, noted) = reading.await.map_err(PathError::Task)?.map_err(|error| match error {
            nar::PackError::Sink(_) => PathError::Interrupted,
            error => PathError::Read(error),
        })?;
        if found != info.nar_hash {
            return Err(PathError::Changed { registered: info.nar_hash, found });
        }
        self.write(&[info], nar, &noted.observed).await
    }

    async fn debug_link(&self, id: BuildId, nar: &NarUrl) -> Result<(), PathError> {
        let key = Key::debug_info(&id);
        let link = DebugLink { nar: nar.clone(), id };
        self.put(&key, Bytes::from(link.print()), Headers::DEBUG_INFO).await
    }

    /// As a narinfo: without the lease, what comes late would stand over what another push or a prune has written since.
    async fn put(&self, key: &Key, bytes: Bytes, headers: Headers) -> Result<(), PathError> {
        let _request = self.requests.acquire().await.map_err(|_| PathError::Interrupted)?;
        let within = self.lease.remaining()?;
        Ok(self.bucket.put_before(key, Body::from(bytes), headers, within).await?)
    }
}

/// Takes what nobody needs, until the user wishes to stop.
struct UntilInterrupted(Interrupt);

impl io::Write for UntilInterrupted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.is_raised() { Err(io::Error::other("interrupted")) } else { Ok(bytes.len()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
