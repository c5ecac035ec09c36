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

/// An error with its causes in one line, for reports. A cause whose words are already there is left
/// out: transparent wrappers, and errors of other libraries, repeat what they wrap.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let own = cause.to_string();
        if !text.contains(&own) {
            text.push_str(": ");
            text.push_str(&own);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[derive(Debug, thiserror::Error)]
    enum Outer {
        #[error("Could not read a")]
        Plain(#[source] Inner),
        #[error(transparent)]
        Transparent(Inner),
        #[error("Could not read b: {0}, after 3 tries")]
        Repeating(#[source] Inner),
    }

    #[derive(Debug, thiserror::Error)]
    #[error("The disk said no")]
    struct Inner(#[source] io::Error);

    #[test]
    fn each_cause_is_said_once() {
        let inner = || Inner(io::Error::other("out of sectors"));
        for (error, expected) in [
            (Outer::Plain(inner()), "Could not read a: The disk said no: out of sectors"),
            (Outer::Transparent(inner()), "The disk said no: out of sectors"),
            (Outer::Repeating(inner()), "Could not read b: The disk said no, after 3 tries: out of sectors"),
        ] {
            assert_eq!(chain(&error), expected);
        }
    }
}
