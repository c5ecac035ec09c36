//! NAR to files, or to nothing: the grammar, read strictly.
//!
//! One file system tree has exactly one NAR. Whatever encodes a tree in another way (entries in another order, padding
//! that is not zero, bytes after the end) is refused, since two readers might see two different trees in it.

use super::digest::Digest;
use super::token::{MAGIC, MAX_NAME_LEN, MAX_TARGET_LEN, padding};
use super::unpack::UnpackError;
use std::io::{self, Read};

/// What is not as it must be in a NAR.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NarFault {
    #[error("It does not start as a NAR does")]
    Magic,
    #[error("It ends too early")]
    Truncated,
    #[error("Bytes follow its end")]
    Trailing,
    #[error("Token {found:?} stands where {expected} belongs")]
    Token { found: String, expected: &'static str },
    #[error("A token is {len} bytes long where at most {limit} can be")]
    Length { len: u64, limit: usize },
    #[error("The padding is not zero")]
    Padding,
    #[error("{0:?} is not the name of a directory entry")]
    Name(String),
    #[error("Entry {0:?} does not come after the one before it")]
    Order(String),
    #[error("{0:?} is not the target of a symlink")]
    Target(String),
    #[error("More than {MAX_DEPTH} directories are nested")]
    Depth,
}

/// No path on a file system has more parts; it bounds what a hostile NAR can make us remember.
const MAX_DEPTH: usize = 2048;

/// Longest of the grammar's own words, and some room to show what stands there instead.
const MAX_WORD_LEN: usize = 32;

const BUFFER_LEN: usize = 128 * 1024;

/// Receives the tree. Calls come in the NAR's order: `enter` is followed by one node and `leave`.
pub(super) trait Tree {
    fn enter(&mut self, _name: &[u8]) -> Result<(), UnpackError> {
        Ok(())
    }
    fn leave(&mut self) {}
    fn directory(&mut self) -> Result<(), UnpackError> {
        Ok(())
    }
    fn symlink(&mut self, _target: &[u8]) -> Result<(), UnpackError> {
        Ok(())
    }
    /// A file begins; `contents` follow, then `end_of_file`.
    fn regular(&mut self, _executable: bool) -> Result<(), UnpackError> {
        Ok(())
    }
    fn contents(&mut self, _bytes: &[u8]) -> Result<(), UnpackError> {
        Ok(())
    }
    fn end_of_file(&mut self) -> Result<(), UnpackError> {
        Ok(())
    }
}

/// What a whole NAR comes to.
pub(super) struct Decoded {
    pub digest: Digest,
    pub depth: usize,
}

/// Reads one NAR, which must be all that `input` gives and at most `limit` bytes.
pub(super) fn decode(input: &mut dyn Read, limit: u64, tree: &mut dyn Tree) -> Result<Decoded, UnpackError> {
    let buffer = vec![0; BUFFER_LEN].into_boxed_slice();
    let mut decoder = Decoder { input, limit, digest: Digest::default(), buffer, start: 0, end: 0 };
    let depth = decoder.archive(tree)?;
    if decoder.fill(1)? > 0 {
        return Err(decoder.fault(NarFault::Trailing));
    }
    Ok(Decoded { digest: decoder.digest, depth })
}

struct Decoder<'a> {
    input: &'a mut dyn Read,
    limit: u64,
    /// Of all that was read, including what is still in the buffer.
    digest: Digest,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Decoder<'_> {
    fn archive(&mut self, tree: &mut dyn Tree) -> Result<usize, UnpackError> {
        self.magic()?;
        // The name last seen in each directory that is open.
        let mut open: Vec<Vec<u8>> = Vec::new();
        let mut depth = 1;
        loop {
            if self.node(tree)? {
                open.push(Vec::new());
            } else if !open.is_empty() {
                tree.leave();
                self.expect(b")")?;
            }
            loop {
                let Some(last) = open.last_mut() else { return Ok(depth) };
                if self.is_entry()? {
                    self.entry_name(last)?;
                    tree.enter(last)?;
                    break;
                }
                open.pop();
                if !open.is_empty() {
                    tree.leave();
                    self.expect(b")")?;
                }
            }
            if open.len() > MAX_DEPTH {
                return Err(self.fault(NarFault::Depth));
            }
            depth = depth.max(open.len() + 1);
        }
    }

    fn magic(&mut self) -> Result<(), UnpackError> {
        match self.token(MAX_WORD_LEN) {
            Ok(MAGIC) => Ok(()),
            Ok(_) => Err(self.fault(NarFault::Magic)),
            // What is no NAR at all mostly starts with an absurd length.
            Err(UnpackError::Malformed { offset, fault: NarFault::Length { .. } | NarFault::Padding }) => {
                Err(UnpackError::Malformed { offset, fault: NarFault::Magic })
            }
            Err(error) => Err(error),
        }
    }

    /// Reads a node and its end, or of a directory only the beginning; says which.
    fn node(&mut self, tree: &mut dyn Tree) -> Result<bool, UnpackError> {
        self.expect(b"(")?;
        self.expect(b"type")?;
        match self.token(MAX_WORD_LEN)? {
            b"regular" => self.regular(tree)?,
            b"symlink" => {
                self.expect(b"target")?;
                let target = self.token(MAX_TARGET_LEN)?;
                if target.is_empty() || target.contains(&0) {
                    let target = shown(target);
                    return Err(self.fault(NarFault::Target(target)));
                }
                tree.symlink(target)?;
            }
            b"directory" => {
                tree.directory()?;
                return Ok(true);
            }
            other => {
                let found = shown(other);
                return Err(self.unexpected(found, "a node's type"));
            }
        }
        self.expect(b")")?;
        Ok(false)
    }

    fn regular(&mut self, tree: &mut dyn Tree) -> Result<(), UnpackError> {
        let executable = match self.token(MAX_WORD_LEN)? {
            b"contents" => false,
            b"executable" => {
                self.token(0)?;
                self.expect(b"contents")?;
                true
            }
            other => {
                let found = shown(other);
                return Err(self.unexpected(found, "`contents` or `executable`"));
            }
        };
        tree.regular(executable)?;
        let size = self.length()?;
        let mut left = size;
        while left > 0 {
            if self.start == self.end && self.fill(1)? == 0 {
                return Err(self.fault(NarFault::Truncated));
            }
            let at_hand = self.end - self.start;
            let now = usize::try_from(left).unwrap_or(usize::MAX).min(at_hand);
            tree.contents(&self.buffer[self.start..self.start + now])?;
            self.start += now;
            left -= now as u64;
        }
        self.padding(size)?;
        tree.end_of_file()
    }

    /// Whether an entry follows, or else the directory's end.
    fn is_entry(&mut self) -> Result<bool, UnpackError> {
        match self.token(MAX_WORD_LEN)? {
            b"entry" => Ok(true),
            b")" => Ok(false),
            other => {
                let found = shown(other);
                Err(self.unexpected(found, "`entry` or `)`"))
            }
        }
    }

    /// Reads an entry's name over the one before it.
    fn entry_name(&mut self, last: &mut Vec<u8>) -> Result<(), UnpackError> {
        self.expect(b"(")?;
        self.expect(b"name")?;
        let name = self.token(MAX_NAME_LEN)?;
        if matches!(name, b"" | b"." | b"..") || name.iter().any(|byte| matches!(byte, 0 | b'/')) {
            let name = shown(name);
            return Err(self.fault(NarFault::Name(name)));
        }
        // The first name comes after the empty one.
        if name <= last.as_slice() {
            let name = shown(name);
            return Err(self.fault(NarFault::Order(name)));
        }
        last.clear();
        last.extend_from_slice(name);
        self.expect(b"node")
    }

    fn expect(&mut self, word: &'static [u8]) -> Result<(), UnpackError> {
        let found = self.token(MAX_WORD_LEN)?;
        if found == word {
            return Ok(());
        }
        let found = shown(found);
        Err(self.unexpected(found, std::str::from_utf8(word).unwrap_or_default()))
    }

    fn token(&mut self, limit: usize) -> Result<&[u8], UnpackError> {
        let len = self.length()?;
        let fits = usize::try_from(len).ok().filter(|len| *len <= limit);
        let Some(taken) = fits else { return Err(self.fault(NarFault::Length { len, limit })) };
        let all = taken + padding(len);
        self.need(all)?;
        let at = self.start;
        if self.buffer[at + taken..at + all].iter().any(|byte| *byte != 0) {
            return Err(self.fault(NarFault::Padding));
        }
        self.start += all;
        Ok(&self.buffer[at..at + taken])
    }

    fn length(&mut self) -> Result<u64, UnpackError> {
        self.need(8)?;
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.buffer[self.start..self.start + 8]);
        self.start += 8;
        Ok(u64::from_le_bytes(bytes))
    }

    fn padding(&mut self, len: u64) -> Result<(), UnpackError> {
        let len = padding(len);
        self.need(len)?;
        if self.buffer[self.start..self.start + len].iter().any(|byte| *byte != 0) {
            return Err(self.fault(NarFault::Padding));
        }
        self.start += len;
        Ok(())
    }

    fn need(&mut self, len: usize) -> Result<(), UnpackError> {
        if self.fill(len)? < len { Err(self.fault(NarFault::Truncated)) } else { Ok(()) }
    }

    /// Gets at least `len` bytes, which must fit the buffer, to lie from `start` on; returns how many there are, fewer
    /// only at the end of the input.
    fn fill(&mut self, len: usize) -> Result<usize, UnpackError> {
        if self.end - self.start < len {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        while self.end - self.start < len {
            match self.input.read(&mut self.buffer[self.end..]) {
                Ok(0) => break,
                Ok(got) => {
                    let end = (self.end + got).min(self.buffer.len());
                    self.digest.update(&self.buffer[self.end..end]);
                    self.end = end;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(UnpackError::Decompress(error)),
            }
            // What overshoots the limit is at most this buffer, so a decompression bomb is stopped here.
            if self.digest.size() > self.limit {
                return Err(UnpackError::TooLarge { limit: self.limit });
            }
        }
        Ok(self.end - self.start)
    }

    fn unexpected(&self, found: String, expected: &'static str) -> UnpackError {
        self.fault(NarFault::Token { found, expected })
    }

    fn fault(&self, fault: NarFault) -> UnpackError {
        UnpackError::Malformed { offset: self.digest.size() - (self.end - self.start) as u64, fault }
    }
}

/// Tokens are bounded, so all of one can be shown.
fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}
