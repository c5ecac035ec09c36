//! Loft's own objects in a bucket, below `loft/v1/`: what pushes and prunes tell each other.
//!
//! JSON, so that `jq` reads them; leases, sweeps and trash may name very many paths and are
//! zstd-compressed. Unknown fields are ignored, a newer `format` is refused: a program that does
//! not know the rules must not act on half of them.

mod bucket;
mod lease;
mod pin;
mod push;
mod sweep;
mod trash;

pub use bucket::BucketRecord;
pub use lease::{LEASE_TTL, LeaseRecord};
pub use pin::{Keep, PinRecord};
pub use push::PushRecord;
pub use sweep::SweepRecord;
pub use trash::{Removed, SetAside, TrashRecord, Why};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::io::Read;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The version of all records that this loft writes and understands.
pub const FORMAT: u32 = 1;

/// A record larger than this is refused: a lease over a million paths has some 40 MB.
pub const MAX_SIZE: u64 = 256 << 20;

/// Why an object below `loft/v1/` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("Record {object} is not the JSON that loft writes")]
    Json {
        object: String,
        #[source]
        cause: serde_json::Error,
    },
    #[error("Record {object} does not decompress")]
    Compression {
        object: String,
        #[source]
        cause: std::io::Error,
    },
    #[error("Record {object} has format {found}, this loft knows up to {FORMAT}; use a newer loft on this bucket")]
    Newer { object: String, found: u32 },
}

#[derive(Deserialize)]
struct Envelope {
    format: u32,
}

fn print<T: Serialize>(record: &T) -> Vec<u8> {
    // Records hold strings, numbers and lists alone: nothing that JSON cannot say.
    serde_json::to_vec(record).unwrap_or_default()
}

fn print_compressed<T: Serialize>(record: &T) -> Vec<u8> {
    let json = print(record);
    // Compressing from memory into memory fails only without memory.
    zstd::bulk::compress(&json, 3).unwrap_or(json)
}

fn parse<T: DeserializeOwned>(object: &str, bytes: &[u8]) -> Result<T, RecordError> {
    let json = |cause| RecordError::Json { object: object.to_owned(), cause };
    let envelope: Envelope = serde_json::from_slice(bytes).map_err(json)?;
    if envelope.format > FORMAT {
        return Err(RecordError::Newer { object: object.to_owned(), found: envelope.format });
    }
    serde_json::from_slice(bytes).map_err(json)
}

fn parse_compressed<T: DeserializeOwned>(object: &str, bytes: &[u8]) -> Result<T, RecordError> {
    let compression = |cause| RecordError::Compression { object: object.to_owned(), cause };
    let mut json = Vec::new();
    let decoder = zstd::stream::read::Decoder::new(bytes).map_err(compression)?;
    decoder.take(MAX_SIZE + 1).read_to_end(&mut json).map_err(compression)?;
    if json.len() as u64 > MAX_SIZE {
        return Err(compression(std::io::Error::other("it unpacks to more than 256 MiB")));
    }
    parse(object, &json)
}

/// Seconds since 1970, the unit of every time in a record.
pub fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nix::PathHash;

    fn hash(digit: char) -> PathHash {
        PathHash::parse(&digit.to_string().repeat(32)).unwrap()
    }

    #[test]
    fn reads_what_it_printed() {
        let lease = LeaseRecord::new("ci@host".into(), 7, vec![hash('0'), hash('a')]);
        assert_eq!(LeaseRecord::parse("k", &lease.print()).unwrap(), lease);
        let bucket = BucketRecord::new("01ARZ3NDEKTSV4RRFFQ69G5FAV".into(), 7, vec!["cache.nixos.org-1".into()]);
        assert_eq!(BucketRecord::parse("k", &bucket.print()).unwrap(), bucket);
        let mut trash = TrashRecord::new("ci@host".into(), 7, Why::Retention);
        trash.removed = vec![Removed::new(hash('0'), b"StorePath: x\n"), Removed::new(hash('1'), b"\xff\0")];
        trash.orphans = vec![crate::nix::NarUrl::parse("nar/x.nar").unwrap()];
        trash.set_aside = vec![SetAside::new("loft/v1/push/x", b"\xff\0")];
        let again = TrashRecord::parse("k", &trash.print()).unwrap();
        assert_eq!(again, trash);
        assert_eq!(again.set_aside[0].bytes(), Some(b"\xff\0".to_vec()));
        assert_eq!(
            (again.removed[0].bytes(), again.removed[1].bytes()),
            (b"StorePath: x\n".to_vec(), b"\xff\0".to_vec())
        );
    }

    #[test]
    fn refuses_newer_formats_and_garbage_naming_the_object() {
        let newer = br#"{"format":2,"generation":"x","created":1,"upstreams":[]}"#;
        let error = BucketRecord::parse("loft/v1/bucket.json", newer).unwrap_err().to_string();
        assert!(error.contains("loft/v1/bucket.json") && error.contains("format 2"), "{error}");
        for garbage in [&b""[..], b"{", b"[]", b"{\"format\":1}", b"\xff\xfe", b"{\"format\":-1}"] {
            assert!(BucketRecord::parse("k", garbage).is_err());
            assert!(LeaseRecord::parse("k", garbage).is_err());
            assert!(SweepRecord::parse("k", garbage).is_err());
            assert!(TrashRecord::parse("k", garbage).is_err());
        }
    }

    #[test]
    fn a_bomb_is_not_unpacked_for_ever() {
        let zeros = vec![b' '; 300 << 20];
        let bomb = zstd::bulk::compress(&zeros, 1).unwrap();
        assert!(matches!(LeaseRecord::parse("k", &bomb), Err(RecordError::Compression { .. })));
    }
}
