//! What people see of a push, on stderr: bars on a terminal, a line every few seconds elsewhere.

use crate::action::Voice;
use crate::failure::printable;
use crate::output::tell;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use loft::nix::StorePath;
use loft::quantity::{bytes, duration, paths, rate, soon};
use loft::report::{Counts, Event, NOT_VALID, Outcome, Report, Summary};
use std::collections::HashMap;
use std::io::IsTerminal as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A NAR from which on it has a bar of its own: smaller ones are gone before one could read it.
const OWN_BAR: u64 = 64 << 20;
/// In logs: often enough to see that it lives, seldom enough not to fill them.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Renders events for people.
pub struct Terminal {
    voice: Voice,
    dry_run: bool,
    bars: Option<MultiProgress>,
    state: Mutex<State>,
}

struct State {
    total: Option<ProgressBar>,
    /// For looks, of which nobody knows the end.
    looking: Option<ProgressBar>,
    of_path: HashMap<StorePath, ProgressBar>,
    /// Bytes told by `Progress`, for paths that fail half-way or grow.
    done: u64,
    ahead: u64,
    landed: u64,
    to_land: u64,
    started: Instant,
    last_line: Instant,
}

impl Terminal {
    pub fn new(voice: Voice, dry_run: bool) -> Self {
        let lively = std::io::stderr().is_terminal() && !voice.quiet && !voice.debug;
        let now = Instant::now();
        Self {
            voice,
            dry_run,
            bars: lively.then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10))),
            state: Mutex::new(State {
                total: None,
                looking: None,
                of_path: HashMap::new(),
                done: 0,
                ahead: 0,
                landed: 0,
                to_land: 0,
                started: now,
                last_line: now,
            }),
        }
    }

    /// A line that stays, above the bars.
    fn line(&self, text: &str) {
        let text = printable(text);
        match &self.bars {
            Some(bars) => bars.suspend(|| tell(&format!("{text}\n"))),
            None => tell(&format!("{text}\n")),
        }
    }

    fn planned(&self, state: &mut State, counts: &Counts) {
        // Of several pushes after one another each counts for itself.
        Self::clear(state);
        (state.done, state.landed, state.started) = (0, 0, Instant::now());
        state.ahead = counts.upload_nar_size;
        state.to_land = counts.upload;
        // Of a dry run, the plan is the result.
        if !self.voice.quiet || self.dry_run {
            self.line(&plan_line(counts));
        }
        if let (Some(bars), true) = (&self.bars, counts.upload > 0 && !self.dry_run) {
            let bar = bars.add(ProgressBar::new(counts.upload_nar_size));
            bar.set_style(style("{bar:30} {bytes:>10} of {total_bytes} {bytes_per_sec:>12} {msg}"));
            state.total = Some(bar);
        }
    }

    fn looked(&self, state: &mut State, what: &str, count: u64) {
        let text = format!("looked at {count} {what}");
        if let Some(bars) = &self.bars {
            let spinner = state.looking.get_or_insert_with(|| bars.add(ProgressBar::new_spinner()));
            spinner.set_message(text);
            spinner.tick();
        } else if self.voice.debug {
            self.line(&text);
        } else if !self.voice.quiet && state.last_line.elapsed() >= LINE_EVERY {
            state.last_line = Instant::now();
            self.line(&format!("  {text}"));
        }
    }

    /// Takes away what moves, so that something else may be written.
    pub fn settle(&self) {
        Self::clear(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn started(&self, state: &mut State, path: &StorePath, nar_size: u64) {
        if self.voice.debug {
            self.line(&format!("reading {path} ({})", bytes(nar_size)));
        }
        if let Some(bars) = self.bars.as_ref().filter(|_| nar_size >= OWN_BAR) {
            let bar = bars.add(ProgressBar::new(nar_size));
            bar.set_style(style("{bar:30} {bytes:>10} of {total_bytes} {msg}"));
            bar.set_message(path.name().to_owned());
            // A NAR that is read again has one already.
            if let Some(before) = state.of_path.insert(path.clone(), bar) {
                before.finish_and_clear();
            }
        }
    }

    fn progress(&self, state: &mut State, path: &StorePath, nar_bytes: u64) {
        state.done += nar_bytes;
        if let Some(bar) = &state.total {
            bar.inc(nar_bytes);
        }
        if let Some(bar) = state.of_path.get(path) {
            bar.inc(nar_bytes);
        }
        self.periodic_line(state);
    }

    fn periodic_line(&self, state: &mut State) {
        if self.bars.is_none() && !self.voice.quiet && state.last_line.elapsed() >= LINE_EVERY {
            state.last_line = Instant::now();
            let rate = rate(state.done, state.started.elapsed()).unwrap_or_default();
            self.line(&format!(
                "  {} of {}, {} of {} read, {rate}",
                state.landed,
                paths(state.to_land),
                bytes(state.done),
                bytes(state.ahead.max(state.done)),
            ));
        }
    }

    fn landed(&self, state: &mut State, path: &StorePath) {
        Self::end_bar(state, path);
        state.landed += 1;
        if let Some(bar) = &state.total {
            bar.set_message(format!("{} of {}", state.landed, paths(state.to_land)));
        }
    }

    fn end_bar(state: &mut State, path: &StorePath) {
        if let Some(bar) = state.of_path.remove(path) {
            bar.finish_and_clear();
        }
    }

    fn settled(&self, state: &mut State, path: &StorePath, outcome: &Outcome) {
        Self::end_bar(state, path);
        match outcome {
            Outcome::Pushed { nar_size, file_size } if self.voice.debug => {
                self.line(&format!("pushed {path} ({} → {})", bytes(*nar_size), bytes(*file_size)));
            }
            Outcome::Failed { why, .. } => self.line(&format!("failed: {path}: {why}")),
            Outcome::Invalid => self.line(&format!("failed: {path}: {NOT_VALID}")),
            // The summary tells how many; the user knows why.
            Outcome::Interrupted if self.voice.debug => self.line(&format!("interrupted: {path}")),
            Outcome::WouldPush { nar_size } if !self.voice.quiet => {
                self.line(&format!("would push {path} ({})", bytes(*nar_size)));
            }
            Outcome::Ignored { why } if self.voice.debug => self.line(&format!("ignored {path}: {why}")),
            Outcome::Upstream { key } if self.voice.debug => self.line(&format!("upstream {path}, signed by {key}")),
            Outcome::Present if self.voice.debug => self.line(&format!("present {path}")),
            _ => {}
        }
    }

    fn clear(state: &mut State) {
        for bar in state.of_path.drain().map(|(_, bar)| bar).chain(state.total.take()).chain(state.looking.take()) {
            bar.finish_and_clear();
        }
    }

    fn finished(&self, state: &mut State, summary: &Summary) {
        Self::clear(state);
        if !self.dry_run {
            self.line(&summary_line(summary));
        }
    }
}

impl Report for Terminal {
    fn event(&self, event: Event<'_>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Planned(counts) => self.planned(&mut state, counts),
            Event::Started { path, nar_size } => self.started(&mut state, path, nar_size),
            Event::Progress { path, nar_bytes } => self.progress(&mut state, path, nar_bytes),
            Event::Landed { path } => self.landed(&mut state, path),
            Event::Settled { path, outcome } => self.settled(&mut state, path, outcome),
            Event::Retrying { what, error, attempt, delay } => {
                // The first retry is everyday life on a network; a second one is worth a line.
                if self.voice.debug || (attempt > 1 && !self.voice.quiet) {
                    self.line(&format!("trying again {}: could not {what}: {error}", soon(delay)));
                }
            }
            Event::Looked { what, count } => self.looked(&mut state, what, count),
            Event::Pruned { removed, nars, freed, .. } => {
                self.line(&format!("pruned: {} removed, {nars} NARs deleted ({})", paths(removed), bytes(freed)));
            }
            Event::Waiting { reason } => self.line(&format!("waiting: {reason}")),
            Event::Watching { what } => self.line(what),
            Event::Noticed { paths } if self.voice.debug => self.line(&format!("noticed: {paths} new")),
            Event::Noticed { .. } => {}
            Event::Scanned => self.line("scanned: all that the store had has landed"),
            Event::Postponed { path, delay, .. } => {
                self.line(&format!("postponed: {path} is tried again {}", soon(delay)));
            }
            Event::Outage { what, error, delay } => {
                self.line(&format!("warning: {what}: {error}; trying again {}", soon(delay)));
            }
            Event::Recovered { what, lasted } => {
                self.line(&format!("{what}: works again after {}", duration(lasted)));
            }
            Event::Reread => self.line("configuration and keys were read again"),
            Event::Warning { message } => self.line(&format!("warning: {message}")),
            Event::Finished(summary) => self.finished(&mut state, summary),
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    // A template is part of the program; should one be wrong, a plain bar serves as well.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━╸ ")
}

/// considered = to push + present + upstream + ignored + lost
fn plan_line(counts: &Counts) -> String {
    let mut line = format!(
        "{} considered: {} to push ({}), {} present, {} upstream, {} ignored",
        paths(counts.considered),
        counts.upload,
        bytes(counts.upload_nar_size),
        counts.present,
        counts.upstream,
        counts.ignored,
    );
    for (count, what) in [(counts.invalid, "not valid in the store"), (counts.dangling, "lacking a reference")] {
        if count > 0 {
            line.push_str(&format!(", {count} {what}"));
        }
    }
    line
}

/// considered = pushed + present + upstream + ignored + failed
fn summary_line(summary: &Summary) -> String {
    let mut line = match summary.pushed {
        0 if summary.failed + summary.interrupted == 0 => "Nothing to push: all is settled".to_owned(),
        0 => "Nothing was pushed".to_owned(),
        pushed => format!(
            "Pushed {} ({} → {}{})",
            paths(pushed),
            bytes(summary.nar_size),
            bytes(summary.file_size),
            match summary.reused {
                0 => String::new(),
                reused => format!(", {reused} without a byte: the NAR was there"),
            }
        ),
    };
    line.push_str(&format!(" in {}", duration(summary.duration)));
    if let Some(rate) = rate(summary.nar_size, summary.duration).filter(|_| summary.pushed > 0) {
        line.push_str(&format!(", {rate}"));
    }
    line.push_str(&format!(
        "; {} present, {} upstream, {} ignored, {} failed",
        summary.present, summary.upstream, summary.ignored, summary.failed
    ));
    if summary.interrupted > 0 {
        line.push_str(&format!(", {} interrupted; push again to go on", summary.interrupted));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_tells_every_number() {
        let summary = Summary {
            considered: 15,
            pushed: 5,
            present: 4,
            upstream: 3,
            ignored: 2,
            failed: 1,
            nar_size: 10 << 20,
            file_size: 3 << 20,
            duration: Duration::from_secs(2),
            ..Summary::default()
        };
        assert_eq!(
            summary_line(&summary),
            "Pushed 5 paths (10.0 MiB → 3.00 MiB) in 2.0 s, 5.00 MiB/s; 4 present, 3 upstream, 2 ignored, 1 failed"
        );
    }
}
