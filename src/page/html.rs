//! The page's text.

use super::{MARK, Page, plot};
use crate::quantity::bytes;
use crate::setup::{Form, Reading};
use crate::survey::Survey;
use std::fmt::Write as _;
use std::time::SystemTime;

/// Of the newest pushes.
const PUSHES: usize = 10;
/// Of what one push was asked for.
const ROOTS: usize = 3;

const STYLE: &str = "\
:root { color-scheme: light dark; --ink: #1d2733; --soft: #5b6876; --line: #d8dee5; --paper: #fff; --mark: #2a6ebb; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e9ee; --soft: #9aa7b4; --line: #36414c; --paper: #14191f; --mark: #6aa9ee; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 46rem; padding: 1rem; font: 1rem/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); }
h1 { font-size: 1.5rem; overflow-wrap: anywhere; }
h2 { margin-top: 2rem; font-size: 1.1rem; }
pre { overflow-x: auto; padding: .75rem; border: 1px solid var(--line); border-radius: .4rem; font-size: .85rem; }
dl { display: flex; flex-wrap: wrap; gap: 1rem 2.5rem; margin: 0; }
dt { color: var(--soft); font-size: .85rem; }
dd { margin: 0; font-size: 1.5rem; font-variant-numeric: tabular-nums; }
figure { margin: 0; }
svg { display: block; width: 100%; height: 10rem; border-bottom: 1px solid var(--line); }
.area { fill: var(--mark); opacity: .18; }
.line { fill: none; stroke: var(--mark); stroke-width: 2; vector-effect: non-scaling-stroke; }
figcaption { display: flex; justify-content: space-between; gap: 1rem; }
.note, figcaption, footer, time { color: var(--soft); font-size: .85rem; }
table { width: 100%; border-collapse: collapse; }
th, td { padding: .25rem .5rem .25rem 0; text-align: left; font-weight: normal; vertical-align: top; overflow-wrap: anywhere; }
time, .number { white-space: nowrap; font-variant-numeric: tabular-nums; }
.number { text-align: right; }
.bar { width: 35%; }
.bar span { display: block; height: .9rem; margin-top: .3rem; background: var(--mark); border-radius: .2rem; }
@media (max-width: 30rem) { time { white-space: normal; } }
footer { margin-top: 3rem; border-top: 1px solid var(--line); padding-top: .5rem; }
";

/// The whole page: a pure function of what was found.
pub fn html(found: &Survey, page: &Page) -> String {
    let mut text = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n{MARK}\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Nix binary cache</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<h1>Nix binary cache</h1>\n"
    );
    text.push_str(&numbers(found));
    if let Some(reading) = &page.reading {
        text.push_str(&lines(reading));
    }
    let growth = plot::growth(found);
    if !growth.is_empty() {
        let _ = write!(
            text,
            "<h2>Growth</h2>\n<p class=\"note\">What is here today, by the week in which it came.</p>\n{growth}"
        );
    }
    if !found.largest.is_empty() {
        let _ = write!(text, "<h2>Largest packages, as stored</h2>\n<table>\n{}</table>\n", plot::largest(found));
    }
    text.push_str(&pushes(found));
    let _ = write!(
        text,
        "<footer>As of {}, written by loft {}.</footer>\n</body>\n</html>\n",
        time(found.at),
        env!("CARGO_PKG_VERSION")
    );
    text
}

fn numbers(found: &Survey) -> String {
    let unpacked = found.unpacked;
    let about = if unpacked.is_exact { "" } else { "about " };
    format!(
        "<dl>\n<div><dt>Paths</dt><dd>{}</dd></div>\n<div><dt>Stored</dt><dd>{}</dd></div>\n\
         <div><dt>Unpacked</dt><dd>{about}{}</dd></div>\n</dl>\n",
        found.paths,
        bytes(found.stored),
        bytes(unpacked.bytes),
    )
}

fn lines(reading: &Reading) -> String {
    let of = |form| escape(&reading.print(form));
    format!(
        "<h2>To use it</h2>\n<p>In <code>nix.conf</code>:</p>\n<pre>{}</pre>\n<p>On NixOS:</p>\n<pre>{}</pre>\n",
        of(Form::NixConf),
        of(Form::NixOs),
    )
}

fn pushes(found: &Survey) -> String {
    if found.pushes.is_empty() {
        return String::new();
    }
    let mut rows = String::new();
    for push in found.pushes.iter().take(PUSHES) {
        let names: Vec<String> = push.roots.iter().take(ROOTS).map(|root| escape(root.name())).collect();
        let more = push.roots.len().saturating_sub(ROOTS);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let _ = writeln!(
            rows,
            "<tr><td>{}</td><td>{}{more}</td><td class=\"number\">{} new</td></tr>",
            time(push.at),
            names.join(", "),
            push.pushed,
        );
    }
    format!("<h2>Last pushes</h2>\n<table>\n{rows}</table>\n")
}

/// To the minute, in UTC.
fn time(time: SystemTime) -> String {
    let shown = jiff::Timestamp::try_from(time).map(|at| at.strftime("%Y-%m-%d %H:%M UTC").to_string());
    format!("<time>{}</time>", shown.unwrap_or_default())
}

/// Text as HTML shows it, in elements and in quoted attributes.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}
