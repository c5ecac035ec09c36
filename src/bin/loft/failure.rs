//! How an error is told: what was being done, because of what, and what to do now. The one place that renders errors.

use loft::bucket::Cause;
use loft::config::ConfigError;
use loft::remedy::Remedy;
use std::error::Error;
use std::fmt::Write as _;

/// What ends a run early.
#[derive(Debug)]
pub struct Failure {
    error: Box<dyn Error + Send + Sync>,
    hint: Option<String>,
    /// The doctor knows more than the hint says.
    is_worth_a_look: bool,
    /// The command that looks at the very same bucket.
    doctor: String,
}

impl Failure {
    pub fn new(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { error: error.into(), hint: None, is_worth_a_look: false, doctor: "loft doctor".to_owned() }
    }

    #[must_use]
    pub fn worth_a_look(self) -> Self {
        Self { is_worth_a_look: true, ..self }
    }

    #[must_use]
    pub fn examined_by(self, doctor: String) -> Self {
        Self { doctor, ..self }
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The error itself, where it is an `E`.
    pub fn cause<E: Error + 'static>(&self) -> Option<&E> {
        self.error.downcast_ref()
    }

    /// A line `error: …`, then `because: …` for each cause, then `hint: …`; ends in a newline.
    pub fn render(&self) -> String {
        let mut text = String::new();
        if let Some(config) = self.error.downcast_ref::<ConfigError>() {
            for warning in &config.warnings {
                let _ = writeln!(text, "warning: {}", printable(&warning.to_string()));
            }
            for problem in &config.problems {
                let _ = writeln!(text, "error: {}", printable(&problem.to_string()));
            }
        } else {
            let mut told = self.error.to_string();
            let _ = writeln!(text, "error: {}", printable(&told));
            let mut cause = self.error.source();
            while let Some(error) = cause {
                let says = error.to_string();
                // Some libraries repeat their cause in their own message.
                if !told.contains(&says) {
                    let _ = writeln!(text, "  because: {}", printable(&says));
                }
                told = says;
                cause = error.source();
            }
        }
        let doctor = if self.hint.is_none() || self.is_worth_a_look { self.doctor() } else { None };
        for hint in self.hint.iter().chain(&doctor) {
            let _ = writeln!(text, "  hint: {}", printable(hint));
        }
        text
    }

    /// What stands between this machine and its bucket, the doctor can name.
    fn doctor(&self) -> Option<String> {
        let mut next: Option<&(dyn Error + 'static)> = Some(self.error.as_ref());
        while let Some(error) = next {
            // The cause, since transparent errors hide the `BucketError` around it.
            if let Some(cause) = error.downcast_ref::<Cause>() {
                let stands_in_the_way = match cause {
                    Cause::Unreachable(_) | Cause::Certificate(_) | Cause::Stalled(_) | Cause::Broken(_) => true,
                    _ => cause.remedy() == Remedy::FixConfig,
                };
                return stands_in_the_way
                    .then(|| format!("`{}` tests each step on the way to the bucket", self.doctor));
            }
            next = error.source();
        }
        None
    }

    /// The same for a log or a status, without the excerpt from the file, which needs lines of its own.
    pub fn in_one_line(&self) -> String {
        let mut line = String::new();
        for part in self.render().lines() {
            let part = part.trim_start();
            if part.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start().starts_with('|') {
                continue;
            }
            let (joint, says) = match part.split_once(": ") {
                Some(("because", says)) => (": ", says),
                Some(("error" | "hint", says)) => ("; ", says),
                _ => ("; ", part),
            };
            if !line.is_empty() {
                line.push_str(joint);
            }
            line.push_str(says);
        }
        line
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(error)
    }
}

/// Names come from stores and buckets of others: what could steer a terminal is spelled out.
pub fn printable(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut shown, c| {
        match c {
            '\n' => shown.push(c),
            c if c.is_control() => shown.extend(c.escape_default()),
            c => shown.push(c),
        }
        shown
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use loft::bucket::BucketError;
    use loft::push::PushError;
    use loft::setup::SetupError;
    use std::time::Duration;

    #[derive(Debug, thiserror::Error)]
    #[error("Could not upload {name}")]
    struct Outer {
        name: &'static str,
        source: std::io::Error,
    }

    #[test]
    fn tells_causes_and_hint_and_no_escape_sequences() {
        let source = std::io::Error::other("connection refused");
        let failure = Failure::from(Outer { name: "a\u{1b}[31mb", source }).hint("start Garage");
        assert_eq!(
            failure.render(),
            "error: Could not upload a\\u{1b}[31mb\n  because: connection refused\n  hint: start Garage\n"
        );
        assert_eq!(failure.in_one_line(), "Could not upload a\\u{1b}[31mb: connection refused; start Garage");
    }

    #[test]
    fn the_doctor_is_named_where_a_bucket_cannot_be_reached_and_nowhere_else() {
        let error = |cause| BucketError::new("get", "k", "s3://b", cause);
        let bucket = |cause| Failure::from(error(cause));
        assert!(
            bucket(Cause::Unreachable("refused".into()))
                .render()
                .ends_with("  hint: `loft doctor` tests each step on the way to the bucket\n")
        );
        let url = "loft doctor --to 's3://b?region=r'";
        // As most commands wrap it.
        for wrapped in [
            Failure::from(PushError::from(error(Cause::Broken("reset".into())))),
            Failure::from(SetupError::from(PushError::from(error(Cause::Stalled(Duration::ZERO))))),
        ] {
            let rendered = wrapped.examined_by(url.to_owned()).render();
            assert!(rendered.ends_with(&format!("  hint: `{url}` tests each step on the way to the bucket\n")));
        }
        assert!(bucket(Cause::Setting("no".into())).hint("own").render().ends_with("  hint: own\n"));
        for failure in [bucket(Cause::Expired), Failure::from(std::io::Error::other("x"))] {
            assert!(!failure.render().contains("doctor"));
        }
    }

    #[test]
    fn one_line_leaves_the_excerpt_out() {
        let excerpt =
            "loft.toml:4:15: `compression` is \"lz4\"\n  4 | compression = \"lz4\"\n    |               ^^^^^";
        let failure = Failure::new(excerpt).hint("take zstd");
        assert_eq!(failure.in_one_line(), "loft.toml:4:15: `compression` is \"lz4\"; take zstd");
    }
}
