//! The NARs, from a listing alone: how many, how large, when they came.

use crate::bucket::{Bucket, BucketError, Key, ObjectInfo, nar_pages};
use crate::nix::StorePath;
use futures_util::TryStreamExt as _;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, SystemTime};

pub(super) const WEEK: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Half a year.
pub const SHOWN_WEEKS: usize = 26;
const LARGEST: usize = 10;

/// One of the largest NARs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Large {
    pub key: Key,
    /// As it is stored.
    pub size: u64,
    pub modified: SystemTime,
    /// A path that it belongs to, where a narinfo that was read says so.
    pub path: Option<StorePath>,
    /// What it unpacks to, as that narinfo says.
    pub nar_size: Option<u64>,
}

/// NARs that came within some time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Week {
    pub count: u64,
    pub bytes: u64,
}

/// All NARs added up.
#[derive(Debug)]
pub struct Nars {
    pub count: u64,
    pub bytes: u64,
    pub largest: Vec<Large>,
    pub weeks: Vec<Week>,
    pub earlier: Week,
}

struct Tally {
    now: SystemTime,
    count: u64,
    bytes: u64,
    /// The smallest of them on top.
    largest: BinaryHeap<Reverse<(u64, Key, SystemTime)>>,
    weeks: [Week; SHOWN_WEEKS],
    earlier: Week,
}

/// Lists all NARs.
pub async fn tally(bucket: &dyn Bucket, now: SystemTime) -> Result<Nars, BucketError> {
    let mut tally = Tally::new(now);
    let mut pages = nar_pages(bucket);
    while let Some(objects) = pages.try_next().await? {
        objects.iter().for_each(|object| tally.add(object));
    }
    Ok(tally.finish())
}

impl Tally {
    fn new(now: SystemTime) -> Self {
        let weeks = [Week::default(); SHOWN_WEEKS];
        Self { now, count: 0, bytes: 0, largest: BinaryHeap::new(), weeks, earlier: Week::default() }
    }

    fn add(&mut self, object: &ObjectInfo) {
        self.count += 1;
        self.bytes += object.size;
        // What comes from the future was written by a server whose clock was set back: as good as now.
        let age = self.now.duration_since(object.modified).unwrap_or_default();
        let week = usize::try_from(age.as_secs() / WEEK.as_secs()).unwrap_or(usize::MAX);
        let week = self.weeks.get_mut(week).unwrap_or(&mut self.earlier);
        week.count += 1;
        week.bytes += object.size;
        let is_large = self.largest.len() < LARGEST
            || self.largest.peek().is_some_and(|Reverse((size, _, _))| object.size > *size);
        if is_large {
            self.largest.push(Reverse((object.size, object.key.clone(), object.modified)));
            if self.largest.len() > LARGEST {
                self.largest.pop();
            }
        }
    }

    fn finish(self) -> Nars {
        let largest = self.largest.into_sorted_vec().into_iter().map(|Reverse((size, key, modified))| Large {
            key,
            size,
            modified,
            path: None,
            nar_size: None,
        });
        Nars {
            count: self.count,
            bytes: self.bytes,
            largest: largest.collect(),
            weeks: self.weeks.to_vec(),
            earlier: self.earlier,
        }
    }
}
