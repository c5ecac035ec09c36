//! A prune in words.

use crate::failure::{Failure, printable};
use loft::prune::{Counts, NAR_GRACE, Options, PrunePlan, Reason, Removal, Summary};
use loft::quantity::{age, bytes, duration, paths};
use std::cmp::Reverse;
use std::fmt::Write as _;
use std::time::Duration;

/// Paths that are named for each reason without `--all`.
const NAMED: usize = 20;
/// Trash records that a summary names.
const IDS: usize = 3;

/// all paths = those that stay + not pushed for so long + over the size limit
pub fn plan(counts: &Counts, options: &Options) -> String {
    let going = counts.expired + counts.retired;
    let mut text = format!(
        "{} in the cache ({}): {} stay ({}), {} not pushed for {}",
        paths(counts.paths),
        bytes(counts.bytes),
        counts.paths - going,
        bytes(counts.bytes_kept),
        counts.expired,
        days(options.retention),
    );
    if let Some(size) = options.max_size {
        let _ = write!(text, ", {} over the limit of {}", counts.retired, bytes(size.max));
    }
    text.push('\n');
    if counts.restored > 0 {
        let _ = writeln!(text, "{} come back from trash: something refers to them again", paths(counts.restored));
    }
    if counts.garbage > 0 {
        let later = counts.garbage - counts.due;
        let _ = writeln!(
            text,
            "{} that nothing points at ({}): {} due now ({}), {later} after their {}",
            nars(counts.garbage),
            bytes(counts.garbage_bytes),
            counts.due,
            bytes(counts.due_bytes),
            days(NAR_GRACE),
        );
    }
    if counts.damaged > 0 {
        let _ = writeln!(
            text,
            "warning: {} damaged and kept, with what they need as far as that can be read; loft check tells more",
            match counts.damaged {
                1 => "1 narinfo is".to_owned(),
                many => format!("{many} narinfos are"),
            }
        );
    }
    if let (true, Some(size)) = (counts.is_still_too_large, options.max_size) {
        let _ = writeln!(
            text,
            "warning: {} stay, more than the {} that were to be left of {}: the rest is pinned, is being pushed, or was \
             pushed within 24 hours",
            bytes(counts.bytes_kept),
            bytes(size.target),
            bytes(size.max),
        );
    }
    text
}

/// Every path that would go, by reason; the largest first.
pub async fn removals(plan: &PrunePlan, options: &Options, all: bool) -> Result<String, Failure> {
    let mut text = String::new();
    let now = plan.at();
    let reasons = [
        (Reason::Retention, format!("Not pushed for {}, and nothing that stays needs them", days(options.retention))),
        (Reason::Size, "Over the size limit, pushed longest ago".to_owned()),
    ];
    for (reason, heading) in reasons {
        let mut group: Vec<Removal> = plan.condemned();
        group.retain(|removal| removal.reason == reason);
        if group.is_empty() {
            continue;
        }
        group.sort_by_key(|removal| (Reverse(removal.size), removal.last_pushed, removal.path));
        let _ = writeln!(text, "{heading}:");
        let total = group.len();
        group.truncate(if all { total } else { NAMED });
        for page in group.chunks_mut(1000) {
            plan.name(page).await?;
            for removal in page {
                let name = removal.info.take().map_or_else(|| removal.path.to_string(), |info| info.path.to_string());
                let old = age(now.duration_since(removal.last_pushed).unwrap_or_default());
                let _ = writeln!(text, "  {:>8}  {old:>8}  {}", bytes(removal.size), printable(&name));
            }
        }
        if total > group.len() {
            let _ = writeln!(text, "  and {} more; --all names them", total - group.len());
        }
    }
    Ok(text)
}

/// condemned = removed + needed again + left
pub fn summary(counts: &Counts, summary: &Summary, took: Duration) -> String {
    let condemned = counts.expired + counts.retired;
    let removed = summary.removed.len() as u64;
    let left = condemned.saturating_sub(removed + summary.rescued);
    let mut text = match condemned {
        0 => "No path had to go".to_owned(),
        _ => format!(
            "Removed {removed} of {}: {} needed again, {left} left for the next prune",
            paths(condemned),
            summary.rescued
        ),
    };
    let _ = write!(text, "; {} deleted, {} freed, in {}", nars(summary.nars), bytes(summary.freed), duration(took));
    for (count, what) in [
        (summary.restored, "put back from trash"),
        (summary.uploads, "abandoned uploads ended"),
        (summary.failed, "failed, each was named above"),
    ] {
        if count > 0 {
            let _ = write!(text, "; {count} {what}");
        }
    }
    text.push('\n');
    if removed > 0 {
        let _ =
            writeln!(text, "  their NARs are freed by a prune in {}; until then they come back with:", days(NAR_GRACE));
        // What went last is referred to by what went first.
        for id in summary.trash.iter().rev().take(IDS) {
            let _ = writeln!(text, "  loft prune --undo {id}");
        }
        if summary.trash.len() > IDS {
            let _ = writeln!(text, "  and {} more: loft prune --list-trash", summary.trash.len() - IDS);
        }
    }
    text
}

fn nars(count: u64) -> String {
    if count == 1 { "1 NAR".to_owned() } else { format!("{count} NARs") }
}

fn days(time: Duration) -> String {
    match time.as_secs() / (24 * 60 * 60) {
        1 => "1 day".to_owned(),
        days => format!("{days} days"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use loft::prune::MaxSize;
    use loft::push::Interrupt;

    #[test]
    fn plan_and_summary_add_up() {
        let options = Options {
            retention: Duration::from_secs(30 * 86_400),
            max_size: Some(MaxSize { max: 10 << 30, target: 8 << 30 }),
            nar_grace: NAR_GRACE,
            remove_most: false,
            dry_run: false,
            who: String::new(),
            interrupt: Interrupt::default(),
        };
        let counts = Counts {
            paths: 100,
            expired: 20,
            retired: 5,
            bytes: 12 << 30,
            bytes_kept: 9 << 30,
            garbage: 3,
            garbage_bytes: 3 << 20,
            due: 1,
            due_bytes: 1 << 20,
            ..Counts::default()
        };
        assert_eq!(
            plan(&counts, &options),
            "100 paths in the cache (12.0 GiB): 75 stay (9.00 GiB), 20 not pushed for 30 days, 5 over the limit of 10.0 GiB\n\
             3 NARs that nothing points at (3.00 MiB): 1 due now (1.00 MiB), 2 after their 7 days\n"
        );
        let hash = PathHash::parse(&"0".repeat(32)).unwrap();
        let done = Summary { removed: vec![hash; 22], rescued: 2, nars: 1, freed: 1 << 20, ..Summary::default() };
        let told = summary(&counts, &done, Duration::from_secs(2));
        let first = "Removed 22 of 25 paths: 2 needed again, 1 left for the next prune; 1 NAR deleted, 1.00 MiB freed, in 2.0 s\n";
        assert!(told.starts_with(first), "{told}");
    }

    use loft::nix::PathHash;
}
