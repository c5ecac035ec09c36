//! Every metric, from the text that scrapers get.

use crate::page::Page;
use loft::ledger::{BucketIdentity, KnownBucket, Ledger, Scan};
use loft::store::Cursor;
use std::collections::BTreeMap;
use std::time::UNIX_EPOCH;

/// The metrics of a ledger that knows a bucket and a store, so that no family is without a sample.
pub fn rendered() -> String {
    let folder = tempfile::tempdir().expect("temporary folder");
    let ledger = Ledger::open(&folder.path().join("cache.db"));
    let mut snapshot = ledger.snapshot(0).expect("a snapshot");
    let cursor = Cursor { database: "1".into(), id: 1, path: None };
    snapshot.places.push(("/nix/store".into(), Some(cursor)));
    let identity = BucketIdentity { url: "s3://b".into(), generation: "1".into() };
    snapshot.buckets.push(KnownBucket { identity, size: None, scan: Scan::Due });
    loft::metrics::render(Some(&snapshot), UNIX_EPOCH)
}

pub fn page(rendered: &str) -> String {
    let mut page = Page::new("Every metric", "src/metrics/mod.rs");
    page.paragraph(
        "The service answers Prometheus with these at `metrics_address`, and `loft status --prometheus` prints them; both \
         come from the ledger alone ([What is in it, what is pending](../status.md#metrics)). Where `loft_ledger_readable` \
         is 0, it and `loft_build_info` are all.",
    );
    let families = families(rendered);
    page.list(families.into_iter().map(|(name, kind, labels, help)| {
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        format!("`{name}{labels}` ({kind}): {help}")
    }));
    page.finish()
}

/// Name, type, names of labels and help, in the order of the text.
fn families(rendered: &str) -> Vec<(String, String, Vec<String>, String)> {
    let mut help = BTreeMap::new();
    let mut families: Vec<(String, String, Vec<String>, String)> = Vec::new();
    for line in rendered.lines() {
        if let Some((name, text)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            help.insert(name.to_owned(), text.to_owned());
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let help = help.get(name).cloned().unwrap_or_default();
            families.push((name.to_owned(), kind.to_owned(), Vec::new(), help));
        } else if let Some((_, labels)) = line.split_once('{')
            && let Some(family) = families.last_mut()
        {
            let labels = labels.split_once('}').expect("an end").0.split(',');
            family.2 = labels.map(|label| label.split_once('=').expect("a label").0.to_owned()).collect();
        }
    }
    families
}

/// Names that stand in the source are in the text that the page is made from.
#[test]
fn no_metric_of_the_source_is_left_out() {
    let source = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/metrics/mod.rs")).unwrap();
    let source = source.split("#[cfg(test)]").next().unwrap();
    let names: Vec<&str> = source.split('"').filter(|text| text.starts_with("loft_") && !text.contains(' ')).collect();
    assert!(names.len() > 15, "{names:?}");
    let page = page(&rendered());
    let missing: Vec<_> = names
        .into_iter()
        .filter(|name| !page.contains(&format!("`{name}`")) && !page.contains(&format!("`{name}{{")))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}
