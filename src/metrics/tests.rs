//! The text is what Prometheus's parser takes, and says what the ledger says.

use super::*;
use crate::ledger::{BucketIdentity, Ledger, Settlement, Totals};
use crate::nix::StorePath;
use crate::store::Cursor;
use std::collections::{BTreeMap, BTreeSet};

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds)
}

/// A strict reader of the format: names, types, one block a family, no sample twice. Samples by name and labels,
/// and the type of each family.
fn parse(text: &str) -> (BTreeMap<String, f64>, BTreeMap<String, String>) {
    let (mut samples, mut types) = (BTreeMap::new(), BTreeMap::new());
    let mut helped = BTreeSet::new();
    let mut family = String::new();
    assert!(text.ends_with('\n') && !text.contains("\n\n") && !text.contains('\r'));
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(helped.insert(name.to_owned()), "{name} has two blocks");
            assert!(help.ends_with('.'), "{line}");
            assert!(name.starts_with("loft_") && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}");
            name.clone_into(&mut family);
            continue;
        }
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert_eq!(name, family);
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            assert!(matches!(kind, "counter" | "gauge"));
            types.insert(name.to_owned(), kind.to_owned());
            continue;
        }
        let (id, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = id.split_once('{').map_or((id, None), |(name, labels)| (name, Some(labels)));
        assert_eq!(name, family, "a sample outside of its family");
        assert!(types.contains_key(name));
        if let Some(labels) = labels {
            let inner = labels.strip_suffix("\"}").unwrap();
            let (label, value) = inner.split_once("=\"").unwrap();
            assert!(label.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{label}");
            let mut characters = value.chars();
            while let Some(c) = characters.next() {
                assert!(c != '"' && c != '\n', "{line}");
                assert!(c != '\\' || matches!(characters.next(), Some('\\' | '"' | 'n')), "{line}");
            }
        }
        assert!(samples.insert(id.to_owned(), value.parse().unwrap()).is_none(), "{id} twice");
    }
    (samples, types)
}

fn path(n: u64) -> StorePath {
    StorePath::parse(&format!("{n:032}-p")).unwrap()
}

#[test]
fn an_empty_ledger_has_all_samples_that_alerts_ask_for() {
    let (samples, types) = parse(&render(Some(&Ledger::in_memory().snapshot(0).unwrap()), at(0)));
    assert_eq!(samples[&format!("loft_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"))], 1.0);
    for zero in [
        "loft_queue_paths",
        "loft_queue_failing_paths",
        "loft_queue_oldest_age_seconds",
        "loft_trouble{part=\"bucket\"}",
        "loft_trouble{part=\"store\"}",
        "loft_trouble_since_timestamp_seconds{part=\"bucket\"}",
        "loft_last_success_timestamp_seconds",
        "loft_pushed_paths_total",
        "loft_failed_attempts_total",
        "loft_trouble{part=\"prune\"}",
        "loft_prune_last_success_timestamp_seconds",
        "loft_prune_removed_paths_total",
        "loft_prune_freed_bytes_total",
    ] {
        assert_eq!(samples[zero], 0.0, "{zero}");
    }
    assert_eq!(types.values().filter(|kind| *kind == "counter").count(), 7);
}

#[test]
fn every_number_of_the_ledger_is_there() {
    let ledger = Ledger::in_memory();
    let bucket = BucketIdentity { url: "s3://a\"b\\c\nd".to_owned(), generation: "g".to_owned() };
    let watch = ledger.watch();
    watch.begin_scan(&bucket, &[path(1)], at(0)).unwrap();
    let cursor = Cursor { database: "d".to_owned(), id: 4711, path: None };
    watch.notice("/nix/store", &[path(2), path(3)], false, &cursor, at(10)).unwrap();
    let totals = Totals { batches: 1, pushed: 2, failed: 3, nar_size: 4, file_size: 5, last_success: 1_800_000_050 };
    let postponed = vec![(path(2), "refused".to_owned(), at(99))];
    watch.settle(&Settlement { done: vec![path(3)], postponed, totals }).unwrap();
    watch.note_outage("bucket", "refused", at(20)).unwrap();
    watch.note_outage("moon", "dark", at(30)).unwrap();
    let (samples, _) = parse(&render(Some(&ledger.snapshot(0).unwrap()), at(60)));
    for (id, value) in [
        ("loft_queue_paths", 2),
        ("loft_queue_scan_paths", 1),
        ("loft_queue_failing_paths", 1),
        ("loft_queue_oldest_age_seconds", 60),
        ("loft_trouble{part=\"bucket\"}", 1),
        ("loft_trouble{part=\"store\"}", 0),
        ("loft_trouble{part=\"moon\"}", 1),
        ("loft_trouble_since_timestamp_seconds{part=\"bucket\"}", 1_800_000_020),
        ("loft_first_scan_done{bucket=\"s3://a\\\"b\\\\c\\nd\"}", 0),
        ("loft_cursor_id{store=\"/nix/store\"}", 4711),
        ("loft_last_success_timestamp_seconds", 1_800_000_050),
        ("loft_batches_total", 1),
        ("loft_pushed_paths_total", 2),
        ("loft_failed_attempts_total", 3),
        ("loft_pushed_nar_bytes_total", 4),
        ("loft_sent_nar_bytes_total", 5),
        ("loft_ledger_readable", 1),
    ] {
        assert_eq!(samples.get(id), Some(&f64::from(value)), "{id}");
    }
    watch.settle(&Settlement { done: vec![path(1)], ..Settlement::default() }).unwrap();
    assert!(watch.end_scan(&bucket, at(70)).unwrap());
    let (samples, _) = parse(&render(Some(&ledger.snapshot(0).unwrap()), at(5)));
    assert_eq!(samples["loft_first_scan_done{bucket=\"s3://a\\\"b\\\\c\\nd\"}"], 1.0);
    assert_eq!(samples["loft_queue_oldest_age_seconds"], 0.0, "the clock was set back");
}

#[test]
fn a_ledger_that_cannot_be_read_says_nothing_else() {
    let (samples, _) = parse(&render(None, at(0)));
    assert_eq!(samples["loft_ledger_readable"], 0.0);
    assert_eq!(samples.len(), 2);
}
