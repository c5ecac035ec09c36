//! One budget for all bytes in flight: what encoders fill and what waits for the network.

use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Semaphores count in `u32`; this grain reaches 256 TiB and wastes little on small paths.
const GRAIN: u64 = 64 << 10;

/// The budget. Clones share it.
#[derive(Debug, Clone)]
pub struct Memory {
    grains: Arc<Semaphore>,
    total: u32,
}

/// Bytes that may be held; given back when dropped.
#[derive(Debug)]
pub struct Reserved {
    permit: OwnedSemaphorePermit,
}

impl Memory {
    pub fn new(bytes: u64) -> Self {
        let total = u32::try_from(bytes / GRAIN).unwrap_or(u32::MAX).max(1);
        Self { grains: Arc::new(Semaphore::new(total as usize)), total }
    }

    /// Waits, on a thread that may block, until `bytes` are free. More than there is at all is
    /// granted as all there is: one large part goes through alone rather than never.
    ///
    /// Who waits here holds no other reservation, so the waiting always ends.
    pub fn reserve_blocking(&self, bytes: u64, runtime: &Handle) -> Option<Reserved> {
        let permit = runtime.block_on(self.grains.clone().acquire_many_owned(self.grains_for(bytes))).ok()?;
        Some(Reserved { permit })
    }

    fn grains_for(&self, bytes: u64) -> u32 {
        u32::try_from(bytes.div_ceil(GRAIN)).unwrap_or(u32::MAX).clamp(1, self.total)
    }
}

impl Reserved {
    /// Gives back what is beyond `bytes`.
    pub fn shrink(&mut self, bytes: u64) {
        let keep = bytes.div_ceil(GRAIN).max(1) as usize;
        let surplus = self.permit.num_permits().saturating_sub(keep);
        drop(self.permit.split(surplus));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_reserved_is_bounded_and_comes_back() {
        let memory = Memory::new(1 << 20);
        let handle = Handle::current();
        let (budget, runtime) = (memory.clone(), handle.clone());
        let mut first =
            tokio::task::spawn_blocking(move || budget.reserve_blocking(1 << 20, &runtime)).await.unwrap().unwrap();
        assert_eq!(memory.grains.available_permits(), 0);
        first.shrink(100);
        assert_eq!(memory.grains.available_permits(), 15);
        drop(first);
        let budget = memory.clone();
        let all = tokio::task::spawn_blocking(move || budget.reserve_blocking(1 << 40, &handle)).await.unwrap();
        assert_eq!(memory.grains.available_permits(), 0);
        drop(all);
        assert_eq!(memory.grains.available_permits(), 16);
    }
}
