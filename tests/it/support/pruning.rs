//! A prune of a world's bucket, with the oracle watching.

use super::world::World;
use loft::clock::Clock;
use loft::prune::{self, Ends, NAR_GRACE, Options, PruneError, PrunePlan, Summary, Undone};
use loft::push::Interrupt;
use std::sync::Arc;
use std::time::Duration;
use ulid::Ulid;

pub const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// 30 days, as by default.
pub fn options() -> Options {
    Options {
        retention: 30 * DAY,
        max_size: None,
        nar_grace: NAR_GRACE,
        remove_most: false,
        dry_run: false,
        who: "prune@here".to_owned(),
        interrupt: Interrupt::default(),
    }
}

pub struct Pruner<'w> {
    world: &'w World,
    pub clock: Arc<dyn Clock>,
    pub options: Options,
}

impl<'w> Pruner<'w> {
    pub fn new(world: &'w World) -> Self {
        Self { world, clock: world.clock.clone(), options: options() }
    }

    pub fn ends(&self) -> Ends {
        let ends = self.world.ends();
        Ends { bucket: ends.bucket, ledger: ends.ledger, clock: self.clock.clone(), report: ends.report }
    }

    pub async fn plan(&self) -> Result<PrunePlan, PruneError> {
        prune::plan(&self.ends(), &self.options).await
    }

    pub async fn try_run(&self) -> Result<Summary, PruneError> {
        let plan = self.plan().await?;
        let mut summary = Summary::default();
        prune::carry_out(&self.ends(), &self.options, plan, &mut summary).await?;
        Ok(summary)
    }

    /// A prune that works, of a bucket in which every promise holds at every moment.
    pub async fn run(&self) -> Summary {
        let summary = self.run_broken().await;
        self.world.check();
        summary
    }

    /// Of a bucket that others have broken.
    pub async fn run_broken(&self) -> Summary {
        let summary = self.try_run().await.unwrap();
        assert_eq!((summary.failed, summary.is_unfinished), (0, false), "{summary:?}");
        summary
    }

    pub async fn undo(&self, id: Ulid) -> Result<Undone, PruneError> {
        let mut undone = Undone::default();
        let result = prune::undo(&self.ends(), &self.options, id, &mut undone).await;
        self.world.check();
        result.map(|()| undone)
    }
}
