//! What a caller may do about an error: code branches on this, never on message text.

/// Every error of the layers below `plan` answers `remedy()` with one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// The same call may succeed later (an outage, a time-out, a busy server).
    Retry,
    /// The user must change something first (credentials, a setting, a permission).
    FixConfig,
    /// This path or object is lost to us; others are not affected.
    GiveUpOnItem,
    /// Nothing more should be tried (no bucket, no store).
    Stop,
}
