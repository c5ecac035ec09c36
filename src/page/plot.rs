//! Plots as inline SVG, which takes its colours from the page's style.

use super::html::escape;
use crate::quantity::{bytes, day};
use crate::survey::{Growth, Survey};
use std::fmt::Write as _;

/// Of the drawing; it is scaled to the page.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 160.0;

/// How the stored bytes grew: what is there today, by the week in which it came.
pub fn growth(found: &Survey) -> String {
    let Growth { weeks, earlier } = found.growth(found.weeks.len());
    if weeks.is_empty() {
        return String::new();
    }
    let mut sum = earlier.bytes;
    let mut sums = vec![sum];
    // The oldest week comes last there, and first here.
    for week in weeks.iter().rev() {
        sum += week.bytes;
        sums.push(sum);
    }
    let most = sum.max(1) as f64;
    let x = |at: usize| at as f64 / weeks.len() as f64 * WIDTH;
    let y = |bytes: u64| HEIGHT - bytes as f64 / most * (HEIGHT - 8.0);
    let line: Vec<String> = sums.iter().enumerate().map(|(at, sum)| format!("{:.1},{:.1}", x(at), y(*sum))).collect();
    let line = line.join(" ");
    let begin = day(found.weeks_ago(weeks.len()));
    format!(
        "<figure>\n<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"Stored bytes over time\" \
         preserveAspectRatio=\"none\"><polygon class=\"area\" points=\"0,{HEIGHT} {line} {WIDTH},{HEIGHT}\"/>\
         <polyline class=\"line\" points=\"{line}\"/></svg>\n\
         <figcaption><span>{begin}: {}</span><span>{}: {}</span></figcaption>\n</figure>\n",
        bytes(earlier.bytes),
        day(found.at),
        bytes(sum),
    )
}

/// The largest NARs as bars, by the packages that they belong to.
pub fn largest(found: &Survey) -> String {
    let most = found.largest.first().map_or(1, |large| large.size.max(1)) as f64;
    let mut rows = String::new();
    for large in &found.largest {
        let name = large.path.as_ref().map_or_else(|| large.key.as_str(), |path| path.name());
        let _ = writeln!(
            rows,
            "<tr><th scope=\"row\">{}</th><td class=\"number\">{}</td>\
             <td class=\"bar\"><span style=\"width:{:.1}%\"></span></td></tr>",
            escape(name),
            bytes(large.size),
            large.size as f64 / most * 100.0,
        );
    }
    rows
}
