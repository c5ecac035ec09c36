//! What was noted down of a NAR, and the memory that it takes until it is in the bucket.

use super::memory::{Memory, Reserved};
use crate::nar::Observed;
use tokio::runtime::Handle;

/// See the module's head.
#[derive(Debug, Default)]
pub struct Noted {
    pub observed: Observed,
    _reserved: Option<Reserved>,
}

impl From<Observed> for Noted {
    fn from(observed: Observed) -> Self {
        Self { observed, _reserved: None }
    }
}

impl Noted {
    /// Waits, on a thread that may block, until the listing fits the budget. It is in memory already, but this thread begins
    /// no other meanwhile. Whoever holds one waits for nothing but the network, so the waiting ends.
    pub fn reserve(self, budget: &Memory, runtime: &Handle) -> Self {
        let listing = self.observed.listing.as_ref().and_then(|listing| listing.as_ref().ok());
        let _reserved = listing.and_then(|text| budget.reserve_blocking(text.len() as u64, runtime));
        Self { _reserved, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn listed(bytes: usize) -> Noted {
        Observed { listing: Some(Ok(vec![b' '; bytes].into())), ..Observed::default() }.into()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn listings_wait_for_each_other_and_small_ones_do_not() {
        let (budget, runtime) = (Memory::new(1 << 20), Handle::current());
        let reserve = |bytes| {
            let (budget, runtime) = (budget.clone(), runtime.clone());
            tokio::task::spawn_blocking(move || listed(bytes).reserve(&budget, &runtime))
        };
        let large = reserve(900 << 10).await.unwrap();
        let small = reserve(1000).await.unwrap();
        let mut other = reserve(900 << 10);
        assert!(tokio::time::timeout(Duration::from_millis(100), &mut other).await.is_err(), "it did not wait");
        drop((large, small));
        let other = other.await.unwrap();
        assert_eq!(other.observed.listing.as_ref().unwrap().as_ref().unwrap().len(), 900 << 10);
        drop(other);
        // More than there is at all goes through alone rather than never.
        reserve(5 << 20).await.unwrap();
    }
}
