//! How the NARs that are there came, week by week.

use super::Survey;
use super::nars::{WEEK, Week};
use std::time::SystemTime;

/// A part of a survey's weeks.
#[derive(Debug, PartialEq, Eq)]
pub struct Growth<'a> {
    /// The newest first; none from before the first NAR.
    pub weeks: &'a [Week],
    /// All that came before them.
    pub earlier: Week,
}

impl Survey {
    /// The last weeks, at most so many.
    pub fn growth(&self, most: usize) -> Growth<'_> {
        let (shown, before) = self.weeks.split_at(most.min(self.weeks.len()));
        let earlier = before
            .iter()
            .fold(self.earlier, |sum, week| Week { count: sum.count + week.count, bytes: sum.bytes + week.bytes });
        let first = match earlier.count {
            0 => shown.iter().rposition(|week| week.count > 0).map_or(0, |oldest| oldest + 1),
            _ => shown.len(),
        };
        Growth { weeks: &shown[..first], earlier }
    }

    /// The beginning of so many weeks.
    pub fn weeks_ago(&self, weeks: usize) -> SystemTime {
        let back = WEEK.checked_mul(u32::try_from(weeks).unwrap_or(u32::MAX));
        back.and_then(|back| self.at.checked_sub(back)).unwrap_or(SystemTime::UNIX_EPOCH)
    }
}
