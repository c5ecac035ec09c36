//! A client of the Nix daemon: path infos, valid paths, temporary roots.
//!
//! Only operations that every daemon from Nix 2.3 to today has and grants to untrusted users. The
//! daemon forks for each connection and keeps temporary roots as long as the connection lives, so one
//! connection is kept and used for everything.

use super::StoreError;
use super::conversation::{Conversation, SMALL_ANSWER, Trouble};
use super::wire::{WireReader, put_number, put_string};
use crate::nix::{ContentAddress, PathInfo, Sha256, Signature, StoreDir, StorePath};
use std::collections::BTreeSet;
use std::io::{self, Read, Write as _};
use std::num::NonZeroU64;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const ADD_TEMP_ROOT: u64 = 11;
const QUERY_ALL_VALID_PATHS: u64 = 23;
const QUERY_PATH_INFO: u64 = 26;

/// Requests sent ahead of answers. Measured: 64 halves the time of one by one, more gains nothing.
const WINDOW: usize = 64;
/// A path with a million references fits; a hundred bytes each are usual.
const INFO_ANSWER: u64 = 256 << 20;
/// Some forty million paths.
const ALL_PATHS_ANSWER: u64 = 4 << 30;
/// A temporary root waits while a collection marks, which takes minutes in a store of millions.
const PATIENCE: Duration = Duration::from_secs(600);

/// The daemon behind one socket. Connects when first needed, and again when the connection broke.
pub struct Daemon {
    socket: PathBuf,
    dir: StoreDir,
    patience: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    conversation: Option<Conversation>,
    /// What every new connection must hold.
    roots: BTreeSet<StorePath>,
    /// It left a temporary root unanswered: the thousands after that must not each wait for as long.
    silent: bool,
    /// As the last greeting told.
    version: Option<String>,
}

impl Daemon {
    pub fn new(socket: PathBuf, dir: StoreDir, patience: Option<Duration>) -> Self {
        Self { socket, dir, patience: patience.unwrap_or(PATIENCE), state: Mutex::default() }
    }

    /// Its Nix version, if it has been talked to.
    pub fn version(&self) -> Option<String> {
        self.state().version.clone()
    }

    /// Makes sure that there is a connection.
    pub fn greet(&self) -> Result<(), StoreError> {
        self.converse("greeting", |_| Ok(()))
    }

    /// Whether it trusts this user; it need not, and old ones do not tell.
    pub fn is_trusted(&self) -> Result<Option<bool>, StoreError> {
        self.converse("greeting", |conversation| Ok(conversation.is_trusted()))
    }

    /// In the order asked; `None` for a path that is not valid.
    pub fn path_infos(&self, paths: &[StorePath]) -> Result<Vec<Option<PathInfo>>, StoreError> {
        if paths.is_empty() {
            return Ok(Vec::new());
        }
        self.converse("asking for path infos", |conversation| self.pipeline(conversation, paths))
    }

    pub fn all_valid_paths(&self) -> Result<Vec<StorePath>, StoreError> {
        self.converse("asking for all valid paths", |conversation| {
            let input = conversation.ask(&request(QUERY_ALL_VALID_PATHS, None), ALL_PATHS_ANSWER)?;
            let paths = input.list(|input| input.string().map(|text| self.dir.parse_path(&text)))?;
            paths.into_iter().collect::<Result<_, _>>().map_err(|error| Trouble::Nonsense(error.to_string()))
        })
    }

    /// Keeps `path` from being collected while this value lives. The daemon does not check that it is valid.
    pub fn add_temp_root(&self, path: &StorePath) -> Result<(), StoreError> {
        const DOING: &str = "adding a temporary root";
        if self.state().silent {
            return Err(self.error(DOING, Trouble::Lost(io::ErrorKind::TimedOut.into())));
        }
        let held = self.converse(DOING, |conversation| self.hold(conversation, path));
        let mut state = self.state();
        match &held {
            Ok(()) => drop(state.roots.insert(path.clone())),
            Err(StoreError::DaemonLost { source, .. }) => state.silent = is_timeout(source),
            Err(_) => {}
        }
        held
    }

    fn hold(&self, conversation: &mut Conversation, path: &StorePath) -> Result<(), Trouble> {
        let input = conversation.ask(&request(ADD_TEMP_ROOT, Some(&self.dir.join(path))), SMALL_ANSWER)?;
        input.number()?;
        Ok(())
    }

    /// Runs `talk` on the connection; once more on a new one if the old one had broken in the meantime.
    fn converse<T>(
        &self,
        doing: &'static str,
        talk: impl Fn(&mut Conversation) -> Result<T, Trouble>,
    ) -> Result<T, StoreError> {
        let mut state = self.state();
        if let Some(mut conversation) = state.conversation.take() {
            let result = talk(&mut conversation);
            match result {
                Err(Trouble::Lost(error)) if !is_timeout(&error) => {}
                Err(trouble) if !trouble.leaves_connection_usable() => return Err(self.error(doing, trouble)),
                result => {
                    state.conversation = Some(conversation);
                    return result.map_err(|trouble| self.error(doing, trouble));
                }
            }
        }
        let mut conversation = self.connect(&state.roots)?;
        state.version = Some(conversation.daemon_version());
        let result = talk(&mut conversation);
        if result.as_ref().err().is_none_or(Trouble::leaves_connection_usable) {
            state.conversation = Some(conversation);
        }
        result.map_err(|trouble| self.error(doing, trouble))
    }

    fn connect(&self, roots: &BTreeSet<StorePath>) -> Result<Conversation, StoreError> {
        // Where nothing listens, "connecting" says more than "no answer".
        if let Err(source) = std::fs::metadata(&self.socket) {
            return Err(StoreError::DaemonConnect { socket: self.socket.clone(), source });
        }
        let mut conversation = Conversation::open(&self.socket, self.patience).map_err(|trouble| match trouble {
            Trouble::Lost(source) if is_refusal(&source) => {
                StoreError::DaemonConnect { socket: self.socket.clone(), source }
            }
            trouble => self.error("greeting", trouble),
        })?;
        for root in roots {
            self.hold(&mut conversation, root).map_err(|trouble| self.error("renewing temporary roots", trouble))?;
        }
        Ok(conversation)
    }

    /// One thread writes requests, this one reads answers: with both sides' buffers full, a single
    /// thread that writes would wait for a daemon that waits for it to read.
    fn pipeline(&self, conversation: &mut Conversation, paths: &[StorePath]) -> Result<Vec<Option<PathInfo>>, Trouble> {
        let output = conversation.output().map_err(Trouble::Lost)?;
        let (ahead, answered) = sync_channel::<()>(WINDOW);
        std::thread::scope(|scope| {
            let writer = scope.spawn(move || self.send_requests(output, paths, ahead));
            let infos = self.read_answers(conversation, paths, answered);
            if infos.as_ref().is_err_and(|trouble| !trouble.leaves_connection_usable()) {
                // Wakes the writer up if it waits for the daemon.
                conversation.hang_up();
            }
            // A writer that failed has been seen by the reader, as an answer that did not come. Its own
            // error is the better one where both sides merely lost the connection.
            match (infos, writer.join()) {
                (Err(Trouble::Lost(_)), Ok(Err(error))) if !is_timeout(&error) => Err(Trouble::Lost(error)),
                (infos, _) => infos,
            }
        })
    }

    fn send_requests(&self, mut output: UnixStream, paths: &[StorePath], ahead: SyncSender<()>) -> io::Result<()> {
        let mut pending = Vec::new();
        for path in paths {
            if ahead.try_send(()).is_err() {
                output.write_all(&pending)?;
                pending.clear();
                if ahead.send(()).is_err() {
                    // The reader has given up.
                    return Ok(());
                }
            }
            pending.extend(request(QUERY_PATH_INFO, Some(&self.dir.join(path))));
        }
        output.write_all(&pending)
    }

    /// An error that leaves the connection usable is kept until all answers are in, so that it stays so.
    fn read_answers(
        &self,
        conversation: &mut Conversation,
        paths: &[StorePath],
        answered: Receiver<()>,
    ) -> Result<Vec<Option<PathInfo>>, Trouble> {
        let mut infos = Vec::with_capacity(paths.len());
        let mut first_error = None;
        for path in paths {
            let info = conversation.answer(INFO_ANSWER).and_then(|input| read_info(input, &self.dir, path));
            // Fails only if the writer has stopped, which the next answer will show.
            let _ = answered.recv();
            match info {
                Ok(info) => infos.push(info),
                Err(trouble) if trouble.leaves_connection_usable() => drop(first_error.get_or_insert(trouble)),
                Err(trouble) => return Err(trouble),
            }
        }
        first_error.map_or(Ok(infos), Err)
    }

    fn error(&self, doing: &'static str, trouble: Trouble) -> StoreError {
        let socket = self.socket.clone();
        match trouble {
            Trouble::Lost(source) => StoreError::DaemonLost { socket, doing, source },
            Trouble::Malformed(what) | Trouble::Nonsense(what) => StoreError::DaemonProtocol { socket, doing, what },
            Trouble::Refused(message) => StoreError::DaemonRefused { socket, doing, message },
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn request(operation: u64, path: Option<&str>) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_number(&mut bytes, operation);
    if let Some(path) = path {
        put_string(&mut bytes, path);
    }
    bytes
}

/// The whole answer is read before any of it is judged.
fn read_info<R: Read>(
    input: &mut WireReader<R>,
    dir: &StoreDir,
    path: &StorePath,
) -> Result<Option<PathInfo>, Trouble> {
    if !input.flag()? {
        return Ok(None);
    }
    let deriver = input.string()?;
    let nar_hash = input.string()?;
    let references = input.list(WireReader::string)?;
    let _registration_time = input.number()?;
    let nar_size = input.number()?;
    let ultimate = input.number()? != 0;
    let signatures = input.list(WireReader::string)?;
    let ca = input.string()?;

    let nonsense = |error: &dyn std::fmt::Display| Trouble::Nonsense(format!("about {path}: {error}"));
    let store_path = |text: &String| dir.parse_path(text).map_err(|error| nonsense(&error));
    let mut references = references.iter().map(store_path).collect::<Result<Vec<_>, _>>()?;
    references.sort_unstable();
    references.dedup();
    Ok(Some(PathInfo {
        path: path.clone(),
        nar_hash: Sha256::parse_digits(&nar_hash).map_err(|error| nonsense(&error))?,
        nar_size: NonZeroU64::new(nar_size),
        references,
        deriver: Some(&deriver).filter(|text| !text.is_empty()).map(store_path).transpose()?,
        ultimate,
        signatures: signatures
            .iter()
            .map(|text| Signature::parse(text).map_err(|error| nonsense(&error)))
            .collect::<Result<_, _>>()?,
        ca: Some(&ca)
            .filter(|text| !text.is_empty())
            .map(|text| ContentAddress::parse(text).map_err(|error| nonsense(&error)))
            .transpose()?,
    }))
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn is_refusal(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound)
}
