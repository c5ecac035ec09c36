//! The other half: what is in the bucket.

use super::chart;
use super::layout::Page;
use loft::prune::NAR_GRACE;
use loft::quantity::{age, bytes, day, paths};
use loft::survey::{Large, Pin, Survey, Trash, Unpacked};
use std::time::SystemTime;

/// Pins that are named; the others are counted.
const PINS: usize = 12;
/// What is left of a line for a name beside size and age.
const NAME: usize = 56;

pub fn page(name: &str, found: &Survey) -> String {
    let mut page = Page::default();
    page.gap();
    page.line("", "");
    page.line("Cache", name);
    if found.record.is_none() && found.paths == 0 && found.nars == 0 {
        page.line("", "empty: nothing was ever pushed there");
    } else {
        page.line("", &contents(found));
    }
    pushes(&mut page, found);
    work(&mut page, found);
    trash(&mut page, &found.trash);
    pins(&mut page, &found.pins);
    if found.damaged.count > 0 {
        page.line("Damaged", &format!("{} that could not be understood:", objects(found.damaged.count)));
        found.damaged.named.iter().for_each(|name| page.line("", &format!("  {name}")));
    }
    if !found.largest.is_empty() {
        let lines: Vec<String> = found.largest.iter().map(|large| line_of(large, found.at)).collect();
        page.block("Largest NARs, as stored", lines);
        if found.largest.iter().any(|large| large.path.is_none()) && !found.unpacked.is_exact {
            page.line("", "--full reads every narinfo and names them all");
        }
        page.block("Growth, by the week in which NARs came", chart::lines(found, chart::Bars::of_stdout()));
    }
    page.finish()
}

fn contents(found: &Survey) -> String {
    let nars = if found.nars == 1 { "1 NAR".to_owned() } else { format!("{} NARs", found.nars) };
    let mut text = format!("{}, {nars}: {}", paths(found.paths), bytes(found.stored));
    let Unpacked { bytes: unpacked, ratio, is_exact, read } = found.unpacked;
    // What is stored has NARs as well that no path names any more: those of paths in trash.
    match (unpacked, is_exact) {
        (0, _) => {}
        (_, true) => text.push_str(&format!("; the paths unpack to {}", bytes(unpacked))),
        (_, false) => text.push_str(&format!(" for about {} unpacked", bytes(unpacked))),
    }
    if let Some(ratio) = ratio {
        let digits = if ratio < 0.0995 { 1 } else { 0 };
        text.push_str(&format!(" ({:.digits$} %)", ratio * 100.0));
    }
    if !is_exact {
        text.push_str(&format!(", judging by {read} of them drawn at random"));
    }
    text
}

fn pushes(page: &mut Page, found: &Survey) {
    let mut label = "Last push";
    for push in &found.pushes {
        let ago = since(push.at, found.at);
        page.line(label, &format!("{ago} ago by {}: {} pushed, {} there", push.who, push.pushed, push.present));
        label = "";
    }
    if found.pushes.is_empty() && found.paths > 0 {
        page.line(
            label,
            "no record of one is left: they expire with the retention, or another program filled this cache",
        );
    }
}

fn work(page: &mut Page, found: &Survey) {
    for lease in &found.leases {
        let who = lease.who.as_deref().unwrap_or("somebody");
        let over = lease.paths.map(|count| format!(", over {}", paths(count))).unwrap_or_default();
        let since = since(lease.since.unwrap_or(lease.renewed), found.at);
        page.line("Pushing", &format!("{who}, for {since}{over}"));
    }
    for sweep in &found.sweeps {
        let who = sweep.who.as_deref().unwrap_or("somebody");
        let over = sweep.condemned.map(|count| format!(", over {}", paths(count))).unwrap_or_default();
        page.line("Pruning", &format!("{who}, for {}{over}", since(sweep.since, found.at)));
    }
}

fn trash(page: &mut Page, trash: &Trash) {
    let (Some(oldest), Some(newest)) = (trash.oldest, trash.newest) else { return };
    if trash.paths == 0 && trash.is_exact {
        return;
    }
    let about = if trash.is_exact { "" } else { "more than " };
    let (first, last) = (day(oldest + NAR_GRACE), day(newest + NAR_GRACE));
    let when = if first == last { format!("from {first} on") } else { format!("from {first} to {last}") };
    let (count, size) = (paths(trash.paths), bytes(trash.bytes));
    page.line("Trash", &format!("{about}{count}, {size} to be freed {when}; loft prune --list-trash tells more"));
}

fn pins(page: &mut Page, pins: &[Pin]) {
    if pins.is_empty() {
        return;
    }
    let named = pins.iter().take(PINS).map(|pin| match pin.count {
        1 => pin.name.clone(),
        count => format!("{} ({count})", pin.name),
    });
    let mut text = named.collect::<Vec<_>>().join(", ");
    if pins.len() > PINS {
        text.push_str(&format!(" and {} more", pins.len() - PINS));
    }
    page.line("Pins", &text);
}

fn line_of(large: &Large, now: SystemTime) -> String {
    let name = large.path.as_ref().map_or(large.key.as_str(), |path| path.name());
    let shown: String = match name.chars().count() > NAME {
        true => name.chars().take(NAME - 1).chain(['…']).collect(),
        false => name.to_owned(),
    };
    format!("  {:>8}  {:>8}  {shown}", bytes(large.size), since(large.modified, now))
}

fn objects(count: u64) -> String {
    if count == 1 { "1 object".to_owned() } else { format!("{count} objects") }
}

fn since(time: SystemTime, now: SystemTime) -> String {
    age(now.duration_since(time).unwrap_or_default())
}
