//! Growth as a chart: a line a week, the newest last.

use loft::quantity::{bytes, day};
use loft::survey::{Growth, Survey};
use std::io::IsTerminal as _;

/// More lines than this push the rest off a terminal.
const SHOWN: usize = 12;
const WIDTH: usize = 40;

/// What bars are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bars {
    /// Eighths of a character.
    Blocks,
    Ascii,
}

impl Bars {
    /// Blocks for a terminal that says that it knows them.
    pub fn of_stdout() -> Self {
        let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set).unwrap_or_default().to_lowercase();
        let is_unicode = locale.ends_with("utf-8") || locale.ends_with("utf8");
        if is_unicode && std::io::stdout().is_terminal() { Self::Blocks } else { Self::Ascii }
    }

    /// `share` of the full width, from 0 to 1; anything more than nothing is seen.
    fn draw(self, share: f64) -> String {
        const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
        let steps = if self == Self::Blocks { 8 } else { 1 };
        let width = (share * (WIDTH * steps) as f64).round() as usize;
        let width = if share > 0.0 { width.clamp(1, WIDTH * steps) } else { 0 };
        match self {
            Self::Blocks => "█".repeat(width / 8) + EIGHTHS[width % 8],
            Self::Ascii => "#".repeat(width),
        }
    }
}

pub fn lines(found: &Survey, bars: Bars) -> Vec<String> {
    let Growth { weeks, earlier } = found.growth(SHOWN);
    let most = weeks.iter().map(|week| week.bytes).max().unwrap_or_default().max(1);
    let mut lines = Vec::new();
    if earlier.count > 0 {
        lines.push(format!("  earlier     {:>8}  {:>8}", earlier.count, bytes(earlier.bytes)));
    }
    for (age, week) in weeks.iter().enumerate().rev() {
        let bar = bars.draw(week.bytes as f64 / most as f64);
        let begins = day(found.weeks_ago(age + 1));
        lines.push(format!("  {begins}  {:>8}  {:>8}  {bar}", week.count, bytes(week.bytes)));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_end_within_their_width_and_show_whatever_is_there() {
        for (share, ascii, blocks) in
            [(0.0, 0, ""), (0.0001, 1, "▏"), (1.0 / 64.0, 1, "▋"), (1.0, WIDTH, &*"█".repeat(WIDTH))]
        {
            assert_eq!(Bars::Ascii.draw(share), "#".repeat(ascii), "{share}");
            assert_eq!(Bars::Blocks.draw(share), blocks, "{share}");
        }
    }
}
