//! T10: every kind of damage that is planted is found under its name, mended, and what was taken out comes back.
//!
//! Each case is run twice: with the store that the bucket was filled from, and without any.

mod case;
mod ground;
mod links;
mod narinfos;
mod nars;
mod records;

use loft::check::Kind;

const DATA: &[Kind] = &[Kind::NarData];

fn zstd(input: impl std::io::Read) -> Vec<u8> {
    zstd::stream::encode_all(input, 1).unwrap()
}
