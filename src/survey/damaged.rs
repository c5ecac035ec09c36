//! What could not be understood: counted, and the first few named.

use crate::bucket::{BucketError, Key};
use crate::remedy::{Remedy, chain};

/// More names than these help nobody.
const NAMED: usize = 5;

/// Objects that are not what their keys say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Damaged {
    pub count: u64,
    /// The first ones, with what is wrong.
    pub named: Vec<String>,
}

impl Damaged {
    pub(super) fn note(&mut self, key: &Key, error: &(dyn std::error::Error + 'static)) {
        self.count += 1;
        if self.named.len() < NAMED {
            self.named.push(format!("{key}: {}", chain(error)));
        }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.count += other.count;
        self.named.extend(other.named);
        self.named.truncate(NAMED);
    }

    /// Nothing where the error concerns this one object alone; what concerns the bucket stays an error.
    pub(super) fn or_note<T>(&mut self, key: &Key, read: Result<T, BucketError>) -> Result<Option<T>, BucketError> {
        match read {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.remedy() == Remedy::GiveUpOnItem => {
                self.note(key, &error);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Nothing where the object was not understood.
    pub(super) fn or_name<T, E: std::error::Error + 'static>(&mut self, key: &Key, parsed: Result<T, E>) -> Option<T> {
        parsed.map_err(|error| self.note(key, &error)).ok()
    }
}
