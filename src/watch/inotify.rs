//! File events of the store, as far as they can mean that something became valid.

use crate::store::Location;
use futures_util::stream::StreamExt as _;
use inotify::{Event, EventMask, EventStream, Inotify, WatchMask};
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Some hundred events; what the kernel keeps beyond that comes with the next read.
const BUFFER: usize = 8192;

/// Events of one store.
pub struct Events {
    stream: EventStream<[u8; BUFFER]>,
    folders: Vec<(PathBuf, WatchMask)>,
}

impl Events {
    /// Starts to listen. Folders that are not there are tried again by [`Events::renew`].
    pub fn of(location: &Location) -> io::Result<Self> {
        let changed = WatchMask::MODIFY | WatchMask::CREATE | WatchMask::MOVED_TO | WatchMask::ONLYDIR;
        let folders = vec![
            (location.state_dir.join("db"), changed),
            // Without a readable database the end of a lock is the only sign of a registration.
            (location.real_store_dir.clone(), WatchMask::DELETE | WatchMask::ONLYDIR),
        ];
        let events = Self { stream: Inotify::init()?.into_event_stream([0; BUFFER])?, folders };
        events.renew()?;
        Ok(events)
    }

    /// Listens again where a folder was replaced or was not there; harmless where nothing changed.
    ///
    /// An error where nothing at all can be listened to.
    pub fn renew(&self) -> io::Result<()> {
        let mut watches = self.stream.watches();
        let mut result = Ok(());
        let mut listening = 0;
        for (folder, mask) in &self.folders {
            match watches.add(folder, *mask) {
                Ok(_) => listening += 1,
                Err(error) => result = Err(error),
            }
        }
        if listening > 0 { Ok(()) } else { result }
    }

    /// Returns once something happened that matters. Dropping the future loses no event.
    pub async fn happened(&mut self) -> io::Result<()> {
        loop {
            match self.stream.next().await {
                Some(Ok(event)) if of_interest(&event) => return Ok(()),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error),
                None => return Err(io::Error::other("the stream of file events ended")),
            }
        }
    }
}

/// More events than the kernel keeps, or a folder that went away, may hide anything.
fn of_interest(event: &Event<OsString>) -> bool {
    if event.mask.intersects(EventMask::Q_OVERFLOW | EventMask::IGNORED | EventMask::UNMOUNT) {
        return true;
    }
    let Some(name) = event.name.as_deref().map(OsStrExt::as_bytes) else { return false };
    // Readers, this one too, may make the shared memory file.
    let database = name.starts_with(b"db.sqlite") && !name.ends_with(b"-shm");
    database || (event.mask.contains(EventMask::DELETE) && name.ends_with(b".lock"))
}
