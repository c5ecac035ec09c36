//! The compressors that NARs are written with.
//!
//! They are driven through their plain in-memory interfaces rather than as writers around the sink: so a sink's error
//! cannot be taken for a compressor's, nothing is written by a destructor, and the sink gets large pieces.

use super::error::PackError;
use super::packing::{Packing, XZ_LEVEL, ZSTD_LEVEL};
use crate::nix::Compression;
use liblzma::stream::{Action, Check, Status, Stream};
use std::io;
use zstd::stream::raw::{CParameter, Encoder, InBuffer, Operation as _, OutBuffer};

/// Bytes that are gathered for the sink: one zstd block.
const OUT_LEN: usize = 128 * 1024;

/// A stream being compressed.
pub(super) struct Compressor {
    codec: Codec,
    /// Its capacity is the limit; never grows.
    out: Vec<u8>,
}

enum Codec {
    Zstd(Encoder<'static>),
    Xz(Stream),
    None,
}

/// Takes compressed bytes.
pub(super) type Sink<'a> = &'a mut dyn FnMut(&[u8]) -> Result<(), PackError>;

impl Compressor {
    /// `size` is the exact number of bytes to come, where that is certain: zstd then takes no more memory than so few
    /// bytes need, and says the size in its frame.
    pub fn new(packing: Packing, size: Option<u64>) -> Result<Self, PackError> {
        let codec = match packing.compression {
            Compression::Zstd => zstd_encoder(packing, size).map(Codec::Zstd).map_err(PackError::Compress)?,
            // On one thread whatever `workers` says: each more would take over 100 MiB.
            Compression::Xz => {
                let preset = packing.level.unwrap_or(XZ_LEVEL).unsigned_abs();
                Codec::Xz(Stream::new_easy_encoder(preset, Check::Crc64).map_err(failed)?)
            }
            Compression::None => Codec::None,
            Compression::Bzip2 => return Err(PackError::Unsupported(Compression::Bzip2)),
        };
        let out = match codec {
            Codec::None => Vec::new(),
            _ => Vec::with_capacity(OUT_LEN),
        };
        Ok(Self { codec, out })
    }

    pub fn write(&mut self, mut bytes: &[u8], sink: Sink<'_>) -> Result<(), PackError> {
        while !bytes.is_empty() {
            let taken = match &mut self.codec {
                Codec::Zstd(encoder) => {
                    let mut input = InBuffer::around(bytes);
                    let filled = self.out.len();
                    encoder
                        .run(&mut input, &mut OutBuffer::around_pos(&mut self.out, filled))
                        .map_err(PackError::Compress)?;
                    input.pos()
                }
                Codec::Xz(stream) => {
                    let before = stream.total_in();
                    stream.process_vec(bytes, &mut self.out, Action::Run).map_err(failed)?;
                    usize::try_from(stream.total_in() - before).unwrap_or(bytes.len())
                }
                Codec::None => return sink(bytes),
            };
            bytes = bytes.get(taken..).unwrap_or_default();
            self.drain_if_full(sink)?;
        }
        Ok(())
    }

    /// Ends the stream and hands over what is left.
    pub fn finish(mut self, sink: Sink<'_>) -> Result<(), PackError> {
        loop {
            let ended = match &mut self.codec {
                Codec::Zstd(encoder) => {
                    let filled = self.out.len();
                    let left = encoder.finish(&mut OutBuffer::around_pos(&mut self.out, filled), false);
                    left.map_err(PackError::Compress)? == 0
                }
                Codec::Xz(stream) => {
                    stream.process_vec(&[], &mut self.out, Action::Finish).map_err(failed)? == Status::StreamEnd
                }
                Codec::None => true,
            };
            if ended {
                break;
            }
            self.drain_if_full(sink)?;
        }
        if self.out.is_empty() { Ok(()) } else { sink(&self.out) }
    }

    fn drain_if_full(&mut self, sink: Sink<'_>) -> Result<(), PackError> {
        if self.out.len() == self.out.capacity() {
            sink(&self.out)?;
            self.out.clear();
        }
        Ok(())
    }
}

fn zstd_encoder(packing: Packing, size: Option<u64>) -> io::Result<Encoder<'static>> {
    let mut encoder = Encoder::new(packing.level.unwrap_or(ZSTD_LEVEL))?;
    // No checksum, as in what Nix writes: FileHash and NarHash already tell every change.
    encoder.set_parameter(CParameter::ChecksumFlag(false))?;
    encoder.set_pledged_src_size(size)?;
    // A size is only known for what fits a buffer: too little to share.
    if packing.workers > 0 && size.is_none() {
        encoder.set_parameter(CParameter::NbWorkers(packing.workers))?;
    }
    Ok(encoder)
}

fn failed(error: liblzma::stream::Error) -> PackError {
    PackError::Compress(error.into())
}
