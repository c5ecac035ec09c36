//! One connection to a Nix daemon: greeting, requests, and the messages that precede each answer.
//!
//! It announces protocol 1.35 and never more. The daemon speaks the lower of both sides' versions, so that
//! covers Nix 2.3 to today, Lix (which stays at 1.35) and Determinate Nix, and needs neither the
//! exchange of features that 1.38 brought nor the fields that features add.
//! Source: `worker-protocol.hh`, `remote-store.cc` and `daemon.cc` of those versions; tried on 2.8, 2.26, 2.34.

use super::wire::{WireError, WireReader, put_number};
use std::io::{self, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

const CLIENT_MAGIC: u64 = 0x6e69_7863;
const DAEMON_MAGIC: u64 = 0x6478_696f;
const MAJOR: u64 = 1;
const MINOR: u64 = 35;
/// Path infos have had their present fields since 1.17; Nix's own daemons refuse clients below 1.18.
const LEAST_MINOR: u64 = 18;

const STDERR_LAST: u64 = 0x616c_7473;
const STDERR_NEXT: u64 = 0x6f6c_6d67;
const STDERR_ERROR: u64 = 0x6378_7470;
const STDERR_START_ACTIVITY: u64 = 0x5354_5254;
const STDERR_STOP_ACTIVITY: u64 = 0x5354_4f50;
const STDERR_RESULT: u64 = 0x5253_4c54;

/// Longest a greeting may take: a busy machine starting the daemon through its socket needs seconds.
const GREETING_TIMEOUT: Duration = Duration::from_secs(30);
/// Messages and small answers; an error with its trace has been seen near 100 KB.
pub const SMALL_ANSWER: u64 = 64 << 20;

/// What a request ended with, other than an answer.
#[derive(Debug)]
pub enum Trouble {
    /// The connection broke or stayed silent.
    Lost(io::Error),
    /// The daemon sent what it should not have; where the stream stands is unknown.
    Malformed(String),
    /// The daemon said no. The connection is usable.
    Refused(String),
    /// A complete answer, of which one value makes no sense. The connection is usable.
    Nonsense(String),
}

impl Trouble {
    pub fn leaves_connection_usable(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Nonsense(_))
    }
}

impl From<WireError> for Trouble {
    fn from(error: WireError) -> Self {
        match error {
            WireError::Io(error) => Self::Lost(error),
            WireError::Malformed(what) => Self::Malformed(what),
        }
    }
}

/// A connection after its greeting.
pub struct Conversation {
    output: UnixStream,
    input: WireReader<BufReader<UnixStream>>,
    minor: u64,
    nix_version: Option<String>,
    /// Whether the daemon trusts this user, where it tells.
    is_trusted: Option<bool>,
}

impl Conversation {
    /// Connects and greets. `patience` is how long any later answer may take.
    pub fn open(socket: &Path, patience: Duration) -> Result<Self, Trouble> {
        let output = UnixStream::connect(socket).map_err(Trouble::Lost)?;
        let input = output.try_clone().map_err(Trouble::Lost)?;
        let input = WireReader::new(BufReader::with_capacity(64 << 10, input));
        let mut conversation = Self { output, input, minor: 0, nix_version: None, is_trusted: None };
        conversation.set_patience(patience.min(GREETING_TIMEOUT))?;
        conversation.greet().map_err(|trouble| match trouble {
            Trouble::Lost(error) if error.kind() == io::ErrorKind::UnexpectedEof => Trouble::Lost(io::Error::new(
                error.kind(),
                "it closed the connection (perhaps `allowed-users` in nix.conf leaves this user out)",
            )),
            trouble => trouble,
        })?;
        conversation.set_patience(patience)?;
        Ok(conversation)
    }

    /// `2.26.3` or, of daemons that do not tell, `protocol 1.21`.
    pub fn daemon_version(&self) -> String {
        self.nix_version.clone().unwrap_or_else(|| format!("protocol {MAJOR}.{}", self.minor))
    }

    pub fn is_trusted(&self) -> Option<bool> {
        self.is_trusted
    }

    /// Sends one request and reads up to its answer, of which `answer` bytes may come.
    pub fn ask(&mut self, request: &[u8], answer: u64) -> Result<&mut WireReader<BufReader<UnixStream>>, Trouble> {
        self.output.write_all(request).map_err(Trouble::Lost)?;
        self.answer(answer)
    }

    /// Reads up to the answer of a request that was sent through `output`.
    pub fn answer(&mut self, answer: u64) -> Result<&mut WireReader<BufReader<UnixStream>>, Trouble> {
        self.input.allow(SMALL_ANSWER);
        self.messages()?;
        self.input.allow(answer);
        Ok(&mut self.input)
    }

    /// For requests sent from another thread while this one reads answers.
    pub fn output(&self) -> io::Result<UnixStream> {
        self.output.try_clone()
    }

    /// Makes reads and writes fail at once, on all threads.
    pub fn hang_up(&self) {
        // It may have gone already, which is what is wanted.
        let _ = self.output.shutdown(std::net::Shutdown::Both);
    }

    fn set_patience(&mut self, patience: Duration) -> Result<(), Trouble> {
        // Zero means "for ever" to the kernel and is refused by std.
        let patience = Some(patience.max(Duration::from_millis(1)));
        self.output.set_read_timeout(patience).map_err(Trouble::Lost)?;
        self.output.set_write_timeout(patience).map_err(Trouble::Lost)
    }

    fn greet(&mut self) -> Result<(), Trouble> {
        let mut hello = Vec::new();
        put_number(&mut hello, CLIENT_MAGIC);
        put_number(&mut hello, MAJOR << 8 | MINOR);
        self.output.write_all(&hello).map_err(Trouble::Lost)?;
        self.input.allow(SMALL_ANSWER);
        if self.input.number()? != DAEMON_MAGIC {
            return Err(Trouble::Malformed("what listens there is not a Nix daemon".to_owned()));
        }
        let version = self.input.number()?;
        let (major, minor) = (version >> 8, version & 0xff);
        if major != MAJOR || minor < LEAST_MINOR {
            let what = format!("it speaks protocol {major}.{minor}, and loft {MAJOR}.{LEAST_MINOR} to {MAJOR}.{MINOR}");
            return Err(Trouble::Malformed(what));
        }
        self.minor = minor.min(MINOR);
        let mut rest = Vec::new();
        put_number(&mut rest, 0); // no CPU affinity
        put_number(&mut rest, 0); // no reserved space
        self.output.write_all(&rest).map_err(Trouble::Lost)?;
        if self.minor >= 33 {
            self.nix_version = Some(self.input.string()?.chars().filter(|c| !c.is_control()).take(80).collect());
        }
        if self.minor >= 35 {
            self.is_trusted = match self.input.number()? {
                1 => Some(true),
                2 => Some(false),
                _ => None,
            };
        }
        self.messages()
    }

    /// Reads the log messages that stand before every answer, up to the end mark or an error.
    fn messages(&mut self) -> Result<(), Trouble> {
        let input = &mut self.input;
        loop {
            match input.number()? {
                STDERR_LAST => return Ok(()),
                STDERR_NEXT => drop(input.bytes()?),
                STDERR_START_ACTIVITY => {
                    let (_id, _level, _kind) = (input.number()?, input.number()?, input.number()?);
                    input.bytes()?;
                    skip_fields(input)?;
                    let _parent = input.number()?;
                }
                STDERR_STOP_ACTIVITY => drop(input.number()?),
                STDERR_RESULT => {
                    let (_id, _kind) = (input.number()?, input.number()?);
                    skip_fields(input)?;
                }
                STDERR_ERROR => return Err(Trouble::Refused(read_error(input, self.minor)?)),
                other => return Err(Trouble::Malformed(format!("unknown message {other:#x}"))),
            }
        }
    }
}

fn skip_fields<R: io::Read>(input: &mut WireReader<R>) -> Result<(), WireError> {
    let count = input.number()?;
    // Each takes from the budget, so a huge count ends there.
    for _ in 0..count {
        match input.number()? {
            0 => drop(input.number()?),
            1 => drop(input.bytes()?),
            other => return Err(WireError::Malformed(format!("field of unknown type {other}"))),
        }
    }
    Ok(())
}

fn read_error<R: io::Read>(input: &mut WireReader<R>, minor: u64) -> Result<String, WireError> {
    if minor < 26 {
        let message = input.bytes()?;
        let _exit_status = input.number()?;
        return Ok(plain(&message));
    }
    input.bytes()?; // always "Error"
    let _level = input.number()?;
    input.bytes()?; // name, unused by Nix
    let message = input.bytes()?;
    no_position(input)?;
    let traces = input.number()?;
    for _ in 0..traces {
        no_position(input)?;
        input.bytes()?;
    }
    Ok(plain(&message))
}

/// Nix never sends a position, and has never said how it would look.
fn no_position<R: io::Read>(input: &mut WireReader<R>) -> Result<(), WireError> {
    match input.number()? {
        0 => Ok(()),
        other => Err(WireError::Malformed(format!("error position of unknown form {other}"))),
    }
}

/// Without terminal colours and other control characters, on one line.
fn plain(message: &[u8]) -> String {
    let message = String::from_utf8_lossy(message);
    let mut text = String::with_capacity(message.len());
    let mut characters = message.chars();
    while let Some(character) = characters.next() {
        match character {
            // `ESC [ … letter`
            '\x1b' => {
                if characters.next() == Some('[') {
                    characters.by_ref().find(|c| ('@'..='~').contains(c));
                }
            }
            c if c.is_control() => text.push(' '),
            c => text.push(c),
        }
    }
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    text.strip_prefix("error: ").map(str::to_owned).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_lose_their_colours() {
        assert_eq!(
            plain(b"\x1b[31;1merror:\x1b[0m path '\x1b[35;1m/nix/store/x\x1b[0m' is\n  not valid\x07"),
            "path '/nix/store/x' is not valid"
        );
        assert_eq!(plain(b"\x1b"), "");
        assert_eq!(plain(b"\x1b[31"), "");
        assert_eq!(plain(b"a\x1b(b"), "ab");
        assert_eq!(plain(b"\xff"), "\u{fffd}");
    }
}
