//! What stores do differently and nothing in loft rests on; people want to know it all the same.

/// As far as it could be told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Quirks {
    /// Whether a PUT that is to write only where nothing is (`If-None-Match: *`) is refused where something is. `None`: the
    /// store does not know this condition, or could not be asked.
    pub conditional_writes: Option<bool>,
    pub lifecycle: Lifecycle,
}

/// Rules by which the store itself deletes objects of this bucket, or puts them out of reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lifecycle {
    /// Those that are enabled and may concern this cache's keys.
    Rules(Vec<LifecycleRule>),
    /// Why nobody can tell.
    Unknown(String),
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self::Rules(Vec::new())
    }
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LifecycleRule {
    /// As its author has named it; may be empty.
    pub id: String,
    /// Of the keys in the bucket that it is about, with the cache's own prefix.
    pub prefix: String,
    /// When it deletes objects: "after 30 days", "on 2027-01-01T00:00:00Z".
    pub expires: Option<String>,
    /// When it moves them where nobody can read them at once: "to GLACIER after 60 days".
    pub archives: Option<String>,
    /// After so many days it ends unfinished uploads.
    pub aborts_uploads_after: Option<u32>,
}
