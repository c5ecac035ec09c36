//! What a service tells on stderr: one line for each event.
//!
//! People at a terminal read sentences. Elsewhere a line has fields, `name=value`, and in the journal it
//! begins with its priority, so that `journalctl -p warning` finds what matters.

use crate::action::Voice;
use crate::failure::printable;
use crate::output::tell;
use loft::quantity::{bytes, duration, paths, soon};
use loft::report::{Counts, Event, NOT_VALID, Outcome, Report, Summary};
use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::os::unix::fs::MetadataExt as _;

/// Priorities as syslog numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Priority {
    Warning = 4,
    Notice = 5,
    Info = 6,
    Debug = 7,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Sentences,
    Fields { priority: bool },
}

/// Renders events for a log.
pub struct Log {
    form: Form,
    least: Priority,
}

impl Log {
    pub fn new(voice: Voice) -> Self {
        let form = match std::io::stderr().is_terminal() {
            true => Form::Sentences,
            false => Form::Fields { priority: goes_to_journal() },
        };
        let least = match voice {
            Voice { debug: true, .. } => Priority::Debug,
            Voice { quiet: true, .. } => Priority::Warning,
            Voice { .. } => Priority::Info,
        };
        Self { form, least }
    }

    fn line(&self, priority: Priority, sentence: &str, fields: &[(&str, &str)]) {
        if priority <= self.least {
            tell(&render(self.form, priority, sentence, fields));
        }
    }

    fn settled(&self, path: &str, name: &str, outcome: &Outcome) {
        let line = |priority, sentence: &str, fields: &[(&str, &str)]| {
            let all: Vec<_> = std::iter::once(("path", path)).chain(fields.iter().copied()).collect();
            self.line(priority, &format!("{sentence}: {name}"), &all);
        };
        match outcome {
            Outcome::Pushed { nar_size, file_size } => {
                let (nar, file) = (nar_size.to_string(), file_size.to_string());
                match self.form {
                    Form::Sentences => {
                        let sizes = format!("{} → {}", bytes(*nar_size), bytes(*file_size));
                        self.line(Priority::Info, &format!("pushed {name} ({sizes})"), &[]);
                    }
                    Form::Fields { .. } => line(Priority::Info, "pushed", &[("nar_size", &nar), ("file_size", &file)]),
                }
            }
            Outcome::Failed { why, .. } => line(Priority::Warning, "failed", &[("error", why)]),
            Outcome::Invalid => line(Priority::Info, "collected", &[("reason", NOT_VALID)]),
            Outcome::WouldPush { nar_size } => {
                line(Priority::Info, "would push", &[("nar_size", &nar_size.to_string())]);
            }
            Outcome::Present => line(Priority::Debug, "present", &[]),
            Outcome::Upstream { key } => line(Priority::Debug, "upstream", &[("key", key.as_str())]),
            Outcome::Ignored { why } => line(Priority::Debug, "ignored", &[("reason", why)]),
            Outcome::Interrupted => line(Priority::Debug, "interrupted", &[]),
        }
    }

    fn planned(&self, counts: &Counts) {
        let priority = if counts.upload > 0 { Priority::Info } else { Priority::Debug };
        let (considered, upload, size) =
            (counts.considered.to_string(), counts.upload.to_string(), counts.upload_nar_size.to_string());
        let sentence = format!("{} to push of {}", counts.upload, paths(counts.considered));
        self.line(
            priority,
            &self.either(sentence, "planned"),
            &[("considered", &considered), ("upload", &upload), ("nar_size", &size)],
        );
    }

    fn finished(&self, summary: &Summary) {
        let priority = match summary {
            Summary { failed: 1.., .. } => Priority::Warning,
            Summary { pushed: 1.., .. } => Priority::Info,
            _ => Priority::Debug,
        };
        let sentence = format!(
            "{} pushed, {} failed, {} → {} in {}",
            paths(summary.pushed),
            summary.failed,
            bytes(summary.nar_size),
            bytes(summary.file_size),
            duration(summary.duration)
        );
        let number = |value: u64| value.to_string();
        self.line(
            priority,
            &self.either(sentence, "finished"),
            &[
                ("pushed", &number(summary.pushed)),
                ("present", &number(summary.present)),
                ("failed", &number(summary.failed)),
                ("nar_size", &number(summary.nar_size)),
                ("file_size", &number(summary.file_size)),
                ("requests", &number(summary.requests)),
                ("seconds", &format!("{:.3}", summary.duration.as_secs_f64())),
            ],
        );
    }

    /// What a sentence has said already.
    fn only_field<'t>(&self, name: &'t str, value: &'t str) -> Vec<(&'t str, &'t str)> {
        match self.form {
            Form::Sentences => Vec::new(),
            Form::Fields { .. } => vec![(name, value)],
        }
    }

    /// A sentence says all by itself; a line of fields begins with a word.
    fn either(&self, sentence: String, word: &str) -> String {
        match self.form {
            Form::Sentences => sentence,
            Form::Fields { .. } => word.to_owned(),
        }
    }
}

impl Report for Log {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Planned(counts) => self.planned(counts),
            Event::Started { path, nar_size } => {
                self.line(Priority::Debug, "reading", &[("path", path.as_str()), ("nar_size", &nar_size.to_string())]);
            }
            Event::Progress { .. } | Event::Landed { .. } => {}
            Event::Settled { path, outcome } => self.settled(path.as_str(), path.name(), outcome),
            Event::Retrying { what, error, attempt, delay } => {
                let priority = if attempt > 1 { Priority::Notice } else { Priority::Debug };
                let delay = duration(delay);
                self.line(priority, "retrying", &[("what", what), ("error", error), ("delay", &delay)]);
            }
            Event::Looked { what, count } => {
                self.line(Priority::Debug, "looked", &[("what", what), ("count", &count.to_string())]);
            }
            Event::Pruned { removed, restored, failed, nars, freed } => {
                let priority = match (removed + restored + nars, failed) {
                    (0, 0) => Priority::Debug,
                    (_, 0) => Priority::Info,
                    _ => Priority::Warning,
                };
                let sentence = format!("pruned: {} removed, {nars} NARs deleted ({})", paths(removed), bytes(freed));
                let number = |value: u64| value.to_string();
                let fields = [
                    ("removed", number(removed)),
                    ("restored", number(restored)),
                    ("failed", number(failed)),
                    ("nars", number(nars)),
                    ("freed", number(freed)),
                ];
                let fields: Vec<(&str, &str)> = match self.form {
                    Form::Sentences => Vec::new(),
                    Form::Fields { .. } => fields.iter().map(|(name, value)| (*name, value.as_str())).collect(),
                };
                self.line(priority, &self.either(sentence, "pruned"), &fields);
            }
            Event::Waiting { reason } => self.line(Priority::Notice, "waiting", &[("reason", reason)]),
            Event::Watching { what } => {
                self.line(Priority::Notice, &self.either(what.to_owned(), "started"), &self.only_field("what", what));
            }
            Event::Noticed { paths } => self.line(Priority::Debug, "noticed", &[("paths", &paths.to_string())]),
            Event::Scanned => {
                let sentence = "the first scan is done: all that the store had has landed".to_owned();
                self.line(Priority::Notice, &self.either(sentence, "scanned"), &[]);
            }
            Event::Postponed { path, attempt, delay } => {
                let fields = [("path", path.as_str()), ("attempt", &attempt.to_string()), ("delay", &duration(delay))];
                self.line(Priority::Info, "postponed", &fields);
            }
            Event::Outage { what, error, delay } => {
                let fields = [("what", what), ("error", error), ("retry", &soon(delay))];
                self.line(Priority::Warning, "outage", &fields);
            }
            Event::Recovered { what, lasted } => {
                self.line(Priority::Notice, "recovered", &[("what", what), ("after", &duration(lasted))]);
            }
            Event::Reread => {
                let what = "configuration and keys were read again";
                self.line(Priority::Notice, &self.either(what.to_owned(), "reread"), &[]);
            }
            Event::Warning { message } => self.line(Priority::Warning, "warning", &[("message", message)]),
            Event::Finished(summary) => self.finished(summary),
        }
    }
}

/// One line, whatever the values hold.
fn render(form: Form, priority: Priority, word: &str, fields: &[(&str, &str)]) -> String {
    let mut line = String::new();
    match form {
        Form::Sentences => {
            line.push_str(word);
            // A sentence with numbers has said them; what is left over are reasons.
            let told: Vec<&str> = fields
                .iter()
                .filter(|(name, _)| !matches!(*name, "nar_size" | "file_size" | "considered" | "upload" | "requests"))
                .filter(|(name, _)| !matches!(*name, "pushed" | "present" | "failed" | "seconds"))
                .filter(|(name, value)| *name != "path" || !word.contains(value.get(33..).unwrap_or(value)))
                .map(|(_, value)| *value)
                .collect();
            if !told.is_empty() {
                let _ = write!(line, ": {}", told.join(", "));
            }
        }
        Form::Fields { priority: with } => {
            if with {
                let _ = write!(line, "<{}>", priority as u8);
            }
            line.push_str(word.split(": ").next().unwrap_or(word));
            for (name, value) in fields {
                let plain = !value.is_empty() && value.chars().all(|c| c.is_ascii_graphic() && !"\"=\\".contains(c));
                match plain {
                    true => drop(write!(line, " {name}={value}")),
                    false => drop(write!(line, " {name}={value:?}")),
                }
            }
        }
    }
    format!("{}\n", printable(&line.replace('\n', " ")))
}

/// systemd names the stream's device and inode; a stderr that was sent elsewhere has others.
fn goes_to_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    std::fs::metadata("/dev/stderr").is_ok_and(|found| stream == format!("{}:{}", found.dev(), found.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_fields_where_programs_read_them() {
        let fields = [("path", "0mdqa9w1p6cmli6976v4wi0sw9r4p5pr-hello-2.12"), ("error", "it broke\n\"badly\"\u{1b}")];
        let journal = render(Form::Fields { priority: true }, Priority::Warning, "failed: hello-2.12", &fields);
        assert_eq!(
            journal,
            "<4>failed path=0mdqa9w1p6cmli6976v4wi0sw9r4p5pr-hello-2.12 error=\"it broke\\n\\\"badly\\\"\\u{1b}\"\n"
        );
        let terminal = render(Form::Sentences, Priority::Warning, "failed: hello-2.12", &fields);
        assert_eq!(terminal, "failed: hello-2.12: it broke \"badly\"\\u{1b}\n");
    }
}
