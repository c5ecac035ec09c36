//! Cuts the encoder's stream into parts and hands them to the network side.

use super::memory::{Memory, Reserved};
use crate::push::Interrupt;
use bytes::Bytes;
use std::io::{self, Write};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

/// Smaller parts cost requests, larger ones memory; S3 wants at least 5 MiB.
const MIN_PART: u64 = 8 << 20;
/// S3's limit is 10 000; the reserve is for compression that expands.
const MAX_PARTS: u64 = 9_000;
/// For paths whose size the store does not know: reaches 280 GB.
const BLIND_PART: u64 = 32 << 20;

/// Part size for a NAR of `nar_size` bytes, so that even incompressible data fits S3's part limit.
pub fn part_size(nar_size: Option<u64>) -> u64 {
    match nar_size {
        Some(size) => size.div_ceil(MAX_PARTS).next_multiple_of(1 << 20).max(MIN_PART),
        None => BLIND_PART,
    }
}

/// A piece of a compressed NAR and the memory it is held in.
pub struct Piece {
    pub bytes: Bytes,
    _reserved: Reserved,
}

/// The encoder's sink. Full parts leave through the channel; what remains comes back from `finish`.
pub struct Parts {
    buffer: Vec<u8>,
    reserved: Option<Reserved>,
    part_size: usize,
    /// What the first buffer needs at the most; small paths reserve no whole part.
    expected: usize,
    out: mpsc::Sender<Piece>,
    memory: Memory,
    runtime: Handle,
    interrupt: Interrupt,
}

impl Parts {
    pub fn new(
        nar_size: Option<u64>,
        out: mpsc::Sender<Piece>,
        memory: Memory,
        runtime: Handle,
        interrupt: Interrupt,
    ) -> Self {
        let part_size = part_size(nar_size) as usize;
        // No compressor here expands by more than one part in 128 and a frame's header.
        let expected = nar_size.map_or(part_size, |size| (size + size / 128 + 1024).min(part_size as u64) as usize);
        Self { buffer: Vec::new(), reserved: None, part_size, expected, out, memory, runtime, interrupt }
    }

    /// The last piece: shorter than a part, and the only one where the whole NAR fits one part.
    pub fn finish(mut self) -> io::Result<Piece> {
        let mut reserved = match self.reserved.take() {
            Some(reserved) => reserved,
            None => self.reserve(0)?,
        };
        self.buffer.shrink_to_fit();
        reserved.shrink(self.buffer.len() as u64);
        Ok(Piece { bytes: self.buffer.into(), _reserved: reserved })
    }

    fn reserve(&self, bytes: usize) -> io::Result<Reserved> {
        let closed = || io::Error::other("the push is ending");
        self.memory.reserve_blocking(bytes as u64, &self.runtime).ok_or_else(closed)
    }

    fn ship(&mut self) -> io::Result<()> {
        let Some(reserved) = self.reserved.take() else { return Ok(()) };
        let bytes = std::mem::take(&mut self.buffer).into();
        self.expected = self.part_size;
        // Nobody listens any more once a part has failed: the error that counts is on that side.
        let ended = |_| io::Error::other("the upload of an earlier part failed");
        self.out.blocking_send(Piece { bytes, _reserved: reserved }).map_err(ended)
    }
}

impl Write for Parts {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if self.interrupt.is_raised() {
            // Not `ErrorKind::Interrupted`: `write_all` would try that again for ever.
            return Err(io::Error::other("interrupted"));
        }
        if self.buffer.len() == self.part_size {
            self.ship()?;
        }
        if self.reserved.is_none() {
            self.reserved = Some(self.reserve(self.expected)?);
            self.buffer = Vec::with_capacity(self.expected);
        }
        let take = data.len().min(self.part_size - self.buffer.len());
        self.buffer.extend_from_slice(&data[..take]);
        Ok(take)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn part_sizes_fit_the_limits_of_s3() {
        const TIB: u64 = 1 << 40;
        assert_eq!(part_size(Some(1)), MIN_PART);
        assert_eq!(part_size(Some(1 << 30)), MIN_PART);
        for size in [100 << 30, TIB, 5 * TIB] {
            let part = part_size(Some(size));
            assert!(size.div_ceil(part) < 10_000 && part <= 5 << 30, "{size}: {part}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_stream_is_cut_without_loss() {
        let (sender, mut receiver) = mpsc::channel(1);
        let runtime = Handle::current();
        let encoder = tokio::task::spawn_blocking(move || {
            let mut parts = Parts::new(Some(20 << 20), sender, Memory::new(32 << 20), runtime, Interrupt::default());
            for byte in 0..20u8 {
                parts.write_all(&vec![byte; 1 << 20]).unwrap();
            }
            parts.finish().unwrap().bytes
        });
        let mut all = Vec::new();
        while let Some(piece) = receiver.recv().await {
            assert_eq!(piece.bytes.len() as u64, MIN_PART);
            all.extend_from_slice(&piece.bytes);
        }
        all.extend_from_slice(&encoder.await.unwrap());
        assert!(
            all.len() == 20 << 20 && (0..20).all(|n| all[n << 20] == n as u8 && all[((n + 1) << 20) - 1] == n as u8)
        );
    }
}
