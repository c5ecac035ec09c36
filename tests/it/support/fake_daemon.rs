//! A Nix daemon that does what a test tells it: answers truthfully, lies, stutters, falls silent, hangs up.
//!
//! It speaks the worker protocol through a writer of its own, on a Unix socket in a temporary directory.
//!
//! ```ignore
//! let daemon = FakeDaemon::start(Script::truthful(infos));
//! let store = loft::store::open(&daemon.settings())?;
//! ```

use loft::nix::{PathInfo, StoreDir, StorePath};
use loft::store::Settings;
use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// What a client asked for; full paths as it sent them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    AddTempRoot(String),
    QueryAllValidPaths,
    QueryPathInfo(String),
}

/// What comes back.
#[derive(Debug, Clone)]
pub enum Answer {
    /// Raw bytes after the end mark of the messages.
    Bytes(Vec<u8>),
    /// An error message in the form that the negotiated version has.
    Error(String),
    /// Raw bytes instead of messages and answer.
    Instead(Vec<u8>),
    /// Nothing, for ever.
    Silence,
}

type Answers = Box<dyn Fn(&Request) -> Answer + Send + Sync>;

pub struct Script {
    /// Minor version of protocol 1 that the daemon announces.
    pub minor: u64,
    /// Log lines, activities and results before every answer.
    pub noise: bool,
    /// Sent to every client at once, instead of anything else.
    pub raw: Option<Vec<u8>>,
    /// Connection number `.0` (from 0; nothing: all) ends when `.1` bytes have been sent on it.
    pub cut: Option<(Option<usize>, usize)>,
    pub answers: Answers,
}

impl Script {
    /// All of `infos`, below `/nix/store`, and every temporary root.
    pub fn truthful(infos: impl IntoIterator<Item = PathInfo>) -> Self {
        let dir = StoreDir::default();
        let infos: BTreeMap<String, PathInfo> = infos.into_iter().map(|info| (dir.join(&info.path), info)).collect();
        Self::answering(move |request| {
            Answer::Bytes(match request {
                Request::AddTempRoot(_) => number(1),
                Request::QueryAllValidPaths => list(infos.keys()),
                Request::QueryPathInfo(path) => infos.get(path).map_or(number(0), |info| path_info(&dir, info)),
            })
        })
    }

    pub fn answering(answers: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        Self { minor: 35, noise: false, raw: None, cut: None, answers: Box::new(answers) }
    }

    pub fn raw(bytes: Vec<u8>) -> Self {
        Self { raw: Some(bytes), ..Self::answering(|_| Answer::Silence) }
    }
}

pub struct FakeDaemon {
    socket: PathBuf,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    _folder: Option<tempfile::TempDir>,
}

struct Shared {
    script: Script,
    stopped: AtomicBool,
    log: Mutex<Log>,
}

#[derive(Default)]
struct Log {
    connections: Vec<UnixStream>,
    requests: Vec<(usize, Request)>,
    /// Bytes sent, by connection.
    sent: Vec<usize>,
}

impl FakeDaemon {
    pub fn start(script: Script) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut daemon = Self::start_at(&folder.path().join("socket"), script);
        daemon._folder = Some(folder);
        daemon
    }

    /// For a fixture store: `store.state_dir().join("daemon-socket/socket")`.
    pub fn start_at(socket: &Path, script: Script) -> Self {
        std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
        let listener = UnixListener::bind(socket).unwrap();
        let shared = Arc::new(Shared { script, stopped: AtomicBool::new(false), log: Mutex::default() });
        let serving = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let mut threads = Vec::new();
            for (connection, stream) in listener.incoming().enumerate() {
                let stream = stream.unwrap();
                if serving.stopped.load(Ordering::SeqCst) {
                    break;
                }
                let mut log = serving.log();
                log.connections.push(stream.try_clone().unwrap());
                log.sent.push(0);
                drop(log);
                let serving = Arc::clone(&serving);
                // An error is the client's hanging up.
                threads.push(std::thread::spawn(move || drop(serving.serve(connection, stream))));
            }
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        });
        Self { socket: socket.to_owned(), shared, thread: Some(thread), _folder: None }
    }

    /// `unix://…`, with a time-out of a second.
    pub fn settings(&self) -> Settings {
        Settings {
            store: Some(format!("unix://{}", self.socket.display())),
            daemon_timeout: Some(Duration::from_secs(1)),
            ..Settings::default()
        }
    }

    /// Requests so far, each with the number of its connection.
    pub fn requests(&self) -> Vec<(usize, Request)> {
        self.shared.log().requests.clone()
    }

    pub fn connections(&self) -> usize {
        self.shared.log().connections.len()
    }

    /// Bytes sent on one connection so far.
    pub fn sent(&self, connection: usize) -> usize {
        self.shared.log().sent[connection]
    }

    /// Ends all connections, as a restarting daemon does.
    pub fn hang_up(&self) {
        self.shared.log().connections.iter().for_each(|stream| drop(stream.shutdown(std::net::Shutdown::Both)));
    }
}

impl Drop for FakeDaemon {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        self.hang_up();
        drop(UnixStream::connect(&self.socket));
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the fake daemon panicked");
        }
        drop(std::fs::remove_file(&self.socket));
    }
}

impl Shared {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, connection: usize, mut stream: UnixStream) -> io::Result<()> {
        if let Some(raw) = &self.script.raw {
            self.send(connection, &mut stream, raw)?;
            return wait_for_end(&mut stream);
        }
        assert_eq!(read_number(&mut stream)?, 0x6e697863, "the client's magic");
        let announced = read_number(&mut stream)?;
        assert_eq!(announced, 1 << 8 | 35, "loft announces 1.35 and never more");
        self.send(connection, &mut stream, &[number(0x6478696f), number(1 << 8 | self.script.minor)].concat())?;
        read_number(&mut stream)?;
        read_number(&mut stream)?;
        let minor = self.script.minor.min(35);
        let mut greeting = Vec::new();
        if minor >= 33 {
            greeting.extend(string("2.99.1"));
        }
        if minor >= 35 {
            greeting.extend(number(2));
        }
        greeting.extend(self.messages());
        self.send(connection, &mut stream, &greeting)?;
        loop {
            let request = match read_number(&mut stream)? {
                11 => Request::AddTempRoot(read_string(&mut stream)?),
                23 => Request::QueryAllValidPaths,
                26 => Request::QueryPathInfo(read_string(&mut stream)?),
                other => panic!("operation {other} is not one that every daemon has"),
            };
            self.log().requests.push((connection, request.clone()));
            let bytes = match (self.script.answers)(&request) {
                Answer::Bytes(answer) => [self.messages(), answer].concat(),
                Answer::Error(message) => error(minor, &message),
                Answer::Instead(bytes) => bytes,
                Answer::Silence => return wait_for_end(&mut stream),
            };
            self.send(connection, &mut stream, &bytes)?;
        }
    }

    fn send(&self, connection: usize, stream: &mut UnixStream, bytes: &[u8]) -> io::Result<()> {
        let mut log = self.log();
        let sent = log.sent[connection];
        let limit = match self.script.cut {
            Some((which, limit)) if which.is_none_or(|which| which == connection) => limit - sent.min(limit),
            _ => usize::MAX,
        };
        let (now, cut) = (bytes.len().min(limit), bytes.len() > limit);
        log.sent[connection] += now;
        drop(log);
        stream.write_all(&bytes[..now])?;
        if cut {
            stream.shutdown(std::net::Shutdown::Both)?;
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(())
    }

    /// What stands before every answer.
    fn messages(&self) -> Vec<u8> {
        const LAST: u64 = 0x616c7473;
        if !self.script.noise {
            return number(LAST);
        }
        let field = [number(2), number(0), number(7), number(1), string("text")].concat();
        [
            number(0x6f6c6d67),
            string("copying…\n"),
            number(0x53545254),
            [number(1), number(4), number(0), string("building"), field.clone(), number(0)].concat(),
            number(0x52534c54),
            [number(1), number(105), field].concat(),
            number(0x53544f50),
            number(1),
            number(LAST),
        ]
        .concat()
    }
}

fn wait_for_end(stream: &mut UnixStream) -> io::Result<()> {
    io::copy(stream, &mut io::sink()).map(drop)
}

/// `STDERR_ERROR`, before and after 1.26.
pub fn error(minor: u64, message: &str) -> Vec<u8> {
    let body = if minor < 26 {
        [string(message), number(1)].concat()
    } else {
        let trace = [number(0), string("while looking")].concat();
        [string("Error"), number(0), string("Error"), string(message), number(0), number(1), trace].concat()
    };
    [number(0x63787470), body].concat()
}

pub fn number(value: u64) -> Vec<u8> {
    value.to_le_bytes().to_vec()
}

pub fn string(text: impl AsRef<[u8]>) -> Vec<u8> {
    let text = text.as_ref();
    let mut bytes = number(text.len() as u64);
    bytes.extend(text);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes
}

pub fn list<T: AsRef<[u8]>>(items: impl ExactSizeIterator<Item = T>) -> Vec<u8> {
    let mut bytes = number(items.len() as u64);
    items.for_each(|item| bytes.extend(string(item)));
    bytes
}

/// The answer to `QueryPathInfo` for a valid path.
pub fn path_info(dir: &StoreDir, info: &PathInfo) -> Vec<u8> {
    let full = |path: &StorePath| dir.join(path);
    [
        number(1),
        string(info.deriver.as_ref().map(full).unwrap_or_default()),
        string(info.nar_hash.to_hex()),
        list(info.references.iter().map(full)),
        number(1_700_000_000),
        number(info.nar_size.map_or(0, std::num::NonZeroU64::get)),
        number(u64::from(info.ultimate)),
        list(info.signatures.iter().map(ToString::to_string)),
        string(info.ca.as_ref().map(ToString::to_string).unwrap_or_default()),
    ]
    .concat()
}

fn read_number(stream: &mut UnixStream) -> io::Result<u64> {
    let mut bytes = [0; 8];
    stream.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

fn read_string(stream: &mut UnixStream) -> io::Result<String> {
    let len = read_number(stream)? as usize;
    let mut bytes = vec![0; len.next_multiple_of(8)];
    stream.read_exact(&mut bytes)?;
    bytes.truncate(len);
    Ok(String::from_utf8(bytes).unwrap())
}
