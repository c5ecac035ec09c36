//! The decompressors that stored NARs are read with.

use crate::nix::Compression;
use liblzma::stream::{Action, CONCATENATED, Status, Stream};
use std::io::{self, BufRead, Read};

/// zstd refuses larger windows by default, too: 128 MiB, as `--long` makes.
const ZSTD_WINDOW_LOG: u32 = 27;
/// xz -9 needs 65 MiB to read; a header can ask for 4 GiB.
const XZ_MEMORY: u64 = 128 * 1024 * 1024;

/// Reads `stored` decompressed, to its very end: a stream that is cut off, or followed by anything else, is an error.
///
/// Fails with `Unsupported` for bzip2: nothing has written NARs so for years, so it is not worth a decoder.
pub(super) fn decompress<'a>(stored: impl BufRead + 'a, compression: Compression) -> io::Result<Box<dyn Read + 'a>> {
    Ok(match compression {
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(stored)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
        Compression::Xz => {
            // Several streams one after the other are one file to xz, and parallel writers make such.
            let stream = Stream::new_stream_decoder(XZ_MEMORY, CONCATENATED)?;
            Box::new(Xz { stored, stream, ended: false })
        }
        Compression::None => Box::new(stored),
        Compression::Bzip2 => return Err(io::ErrorKind::Unsupported.into()),
    })
}

/// liblzma's own reader takes a file that is cut off for one that ends.
struct Xz<R> {
    stored: R,
    stream: Stream,
    ended: bool,
}

impl<R: BufRead> Read for Xz<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while !self.ended && !buffer.is_empty() {
            let input = self.stored.fill_buf()?;
            let at_end = input.is_empty();
            let (taken, given) = (self.stream.total_in(), self.stream.total_out());
            let action = if at_end { Action::Finish } else { Action::Run };
            self.ended = self.stream.process(input, buffer, action)? == Status::StreamEnd;
            let (taken, given) = (self.stream.total_in() - taken, self.stream.total_out() - given);
            // Neither exceeds a buffer's length.
            self.stored.consume(taken as usize);
            if given > 0 {
                return Ok(given as usize);
            }
            if at_end && !self.ended {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(0)
    }
}
