//! How many requests went over the wire, by kind.
//!
//! Counted where they are sent, so tries, pages and probes are all in it.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a request asks of the bucket. The names are S3's operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RequestKind {
    Put,
    Get,
    Head,
    List,
    Delete,
    Copy,
    CreateUpload,
    UploadPart,
    CompleteUpload,
    AbortUpload,
    ListUploads,
    ListParts,
}

impl RequestKind {
    pub const ALL: [Self; 12] = [
        Self::Put,
        Self::Get,
        Self::Head,
        Self::List,
        Self::Delete,
        Self::Copy,
        Self::CreateUpload,
        Self::UploadPart,
        Self::CompleteUpload,
        Self::AbortUpload,
        Self::ListUploads,
        Self::ListParts,
    ];
}

/// Counters that many tasks may add to.
#[derive(Debug, Default)]
pub struct Requests([AtomicU64; RequestKind::ALL.len()]);

impl Requests {
    pub fn add(&self, kind: RequestKind) {
        self.counter(kind).fetch_add(1, Ordering::Relaxed);
    }

    pub fn of(&self, kind: RequestKind) -> u64 {
        self.counter(kind).load(Ordering::Relaxed)
    }

    pub fn total(&self) -> u64 {
        RequestKind::ALL.iter().map(|kind| self.of(*kind)).sum()
    }

    fn counter(&self, kind: RequestKind) -> &AtomicU64 {
        // A fieldless enum's values are 0..len, and the array has that length.
        &self.0[kind as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_own_counter() {
        let requests = Requests::default();
        for (n, kind) in RequestKind::ALL.into_iter().enumerate() {
            (0..=n).for_each(|_| requests.add(kind));
        }
        for (n, kind) in RequestKind::ALL.into_iter().enumerate() {
            assert_eq!(requests.of(kind), n as u64 + 1);
        }
        assert_eq!(requests.total(), 78);
    }
}
