//! The one rule by which pins hold: each by its own `keep`, counted among those of its name.

use crate::bucket::ObjectInfo;
use crate::record::PinRecord;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::time::SystemTime;

/// A pin that is in the bucket.
pub struct Judged {
    pub object: ObjectInfo,
    pub record: PinRecord,
    /// Whether it keeps its roots; the next prune removes it otherwise.
    pub holds: bool,
}

/// By name, each name's newest first. `found` must have all pins of each name: newer ones may end an older one.
pub fn judge(mut found: Vec<(ObjectInfo, PinRecord)>, now: SystemTime) -> Vec<Judged> {
    found.sort_by(|(a, _), (b, _)| name(a).cmp(name(b)).then_with(|| newest_first(a, b)));
    let mut newer: HashMap<String, usize> = HashMap::new();
    let judged = found.into_iter().map(|(object, record)| {
        let rank = newer.entry(name(&object).to_owned()).or_default();
        let age = now.duration_since(object.modified).unwrap_or_default();
        let holds = record.keep.holds(age, *rank);
        *rank += 1;
        Judged { object, record, holds }
    });
    judged.collect()
}

/// Empty where a key has none; such keys count as one name.
pub fn name(object: &ObjectInfo) -> &str {
    object.key.pin_name().unwrap_or_default()
}

/// By the store's clock; of the same second, by key.
pub fn newest_first(a: &ObjectInfo, b: &ObjectInfo) -> Ordering {
    (b.modified, &b.key).cmp(&(a.modified, &a.key))
}
