//! Files to NAR.
//!
//! Tokens and file contents go through one buffer, so that ten thousand tiny files cost a few large writes; contents
//! are read straight into it. A file's size is said before its bytes: a file that has another size in the end would
//! make a NAR that nobody can read, so it is an error.

use super::error::PackError;
use super::observe::Observe;
use super::read_ahead::Steps;
use super::token::{MAGIC, padding};
use super::tree_walk::{Entry, Kind, OPEN, Step, read_error};
use rustix::fs::{FileType, Mode};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// Larger is not faster: beyond this a buffer falls out of the processor's cache.
const BUFFER_LEN: usize = 128 * 1024;

/// Whether more pieces follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece {
    More,
    Last,
}

/// Takes the NAR piece by piece; exactly one piece, never empty, is the last.
pub(super) type Emit<'a> = &'a mut dyn FnMut(&[u8], Piece) -> Result<(), PackError>;

/// Emits the NAR of the file system object at `root`, and tells `observer` what it consists of; returns its depth (see
/// `Packed::depth`).
pub(super) fn encode(root: &Path, observer: &mut dyn Observe, emit: Emit<'_>) -> Result<usize, PackError> {
    let mut out = Output { buffer: vec![0; BUFFER_LEN].into_boxed_slice(), len: 0, emitted: 0, observer, emit };
    let mut depth = 1;
    let mut open = 0;
    Steps::walk(root, |steps| {
        out.token(MAGIC)?;
        while let Some(step) = steps.next()? {
            match step {
                Step::Enter(entry) => {
                    depth = depth.max(open + 1);
                    out.open(&entry)?;
                    match entry.kind {
                        Kind::Directory => open += 1,
                        _ => out.close(entry.name.is_some())?,
                    }
                }
                Step::Leave => {
                    open -= 1;
                    out.observer.end_of_directory();
                    out.close(open > 0)?;
                }
            }
        }
        (out.emit)(&out.buffer[..out.len], Piece::Last)
    })?;
    Ok(depth)
}

struct Output<'a> {
    buffer: Box<[u8]>,
    len: usize,
    /// Bytes of the NAR before those in the buffer.
    emitted: u64,
    observer: &'a mut dyn Observe,
    emit: Emit<'a>,
}

impl Output<'_> {
    /// All of a node but its end and, for a directory, its entries.
    fn open(&mut self, entry: &Entry) -> Result<(), PackError> {
        if let Some(name) = &entry.name {
            self.observer.enter(name);
            self.tokens([b"entry", b"(", b"name", name, b"node"])?;
        }
        match entry.kind {
            Kind::Directory => {
                self.observer.directory();
                self.tokens([b"(", b"type", b"directory"])
            }
            Kind::Symlink => {
                let target = std::fs::read_link(&entry.path).map_err(|error| read_error(&entry.path, error))?;
                self.observer.symlink(target.as_os_str().as_bytes());
                self.tokens([b"(", b"type", b"symlink", b"target", target.as_os_str().as_bytes()])
            }
            Kind::Regular => self.regular(&entry.path),
        }
    }

    /// The end of a node, and of the entry that it stands in.
    fn close(&mut self, in_entry: bool) -> Result<(), PackError> {
        self.token(b")")?;
        if in_entry { self.token(b")") } else { Ok(()) }
    }

    fn regular(&mut self, path: &Path) -> Result<(), PackError> {
        let file = rustix::fs::open(path, OPEN, Mode::empty()).map_err(|error| read_error(path, error))?;
        let stat = rustix::fs::fstat(&file).map_err(|error| read_error(path, error))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(PackError::Changed { path: path.to_owned(), change: "it became another type of file" });
        }
        self.tokens([b"(", b"type", b"regular"])?;
        // The owner's bit alone, whoever we are.
        let executable = Mode::from_raw_mode(stat.st_mode).contains(Mode::XUSR);
        if executable {
            self.tokens([b"executable", b""])?;
        }
        self.token(b"contents")?;
        let size = u64::try_from(stat.st_size).unwrap_or_default();
        self.bytes(&size.to_le_bytes())?;
        self.observer.regular(executable, size, self.emitted + self.len as u64);
        self.contents(path, &mut File::from(file), size)?;
        self.bytes(&[0; 8][..padding(size)])
    }

    fn contents(&mut self, path: &Path, file: &mut File, size: u64) -> Result<(), PackError> {
        let changed = |change| Err(PackError::Changed { path: path.to_owned(), change });
        let mut left = size;
        // One byte more is asked for than should be left, to see that the file ends there.
        let mut at_end = false;
        while left > 0 || !at_end {
            if self.len == self.buffer.len() {
                self.emit_all()?;
            }
            let spare = &mut self.buffer[self.len..];
            let wanted = usize::try_from(left).unwrap_or(usize::MAX).saturating_add(1).min(spare.len());
            let got = read(file, &mut spare[..wanted]).map_err(|error| read_error(path, error))?;
            let room_for_more = wanted as u64 > left;
            if got == 0 && left > 0 {
                return changed("it became shorter");
            }
            if got as u64 > left {
                return changed("it became longer");
            }
            left -= got as u64;
            self.len += got;
            // Of a regular file, a short read ends at its end.
            at_end = left == 0 && room_for_more;
        }
        Ok(())
    }

    fn tokens<const N: usize>(&mut self, tokens: [&[u8]; N]) -> Result<(), PackError> {
        tokens.into_iter().try_for_each(|token| self.token(token))
    }

    fn token(&mut self, token: &[u8]) -> Result<(), PackError> {
        self.bytes(&(token.len() as u64).to_le_bytes())?;
        self.bytes(token)?;
        self.bytes(&[0; 8][..padding(token.len() as u64)])
    }

    fn bytes(&mut self, mut bytes: &[u8]) -> Result<(), PackError> {
        while !bytes.is_empty() {
            if self.len == self.buffer.len() {
                self.emit_all()?;
            }
            let fits = bytes.len().min(self.buffer.len() - self.len);
            let (now, later) = bytes.split_at(fits);
            self.buffer[self.len..self.len + fits].copy_from_slice(now);
            self.len += fits;
            bytes = later;
        }
        Ok(())
    }

    fn emit_all(&mut self) -> Result<(), PackError> {
        (self.emit)(&self.buffer[..self.len], Piece::More)?;
        self.emitted += self.len as u64;
        self.len = 0;
        Ok(())
    }
}

/// Reads once, however often a signal interrupts it.
fn read(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match file.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
