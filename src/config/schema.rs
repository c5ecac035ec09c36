//! Every key of `loft.toml`, and the nearest one to a key that is none.

/// Whether a value may be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secrecy {
    Public,
    /// An identifier: its first four characters at most.
    Partly,
    Secret,
}

use Secrecy::{Partly, Public, Secret};

/// Section, key, secrecy; in the order in which they are shown.
pub const KEYS: &[(&str, &str, Secrecy)] = &[
    ("s3", "bucket", Public),
    ("s3", "prefix", Public),
    ("s3", "region", Public),
    ("s3", "endpoint", Public),
    ("s3", "addressing_style", Public),
    ("s3", "access_key", Partly),
    ("s3", "secret_key", Secret),
    ("s3", "access_key_file", Public),
    ("s3", "secret_key_file", Public),
    ("s3", "profile", Public),
    ("s3", "ca_file", Public),
    ("s3", "storage_class", Public),
    ("s3", "extra_headers", Secret),
    ("s3", "extra_headers_file", Public),
    ("s3", "extra_header_files", Public),
    ("loft", "cache", Public),
    ("loft", "public_url", Public),
    ("loft", "store", Public),
    ("loft", "upload_threads", Public),
    ("loft", "memory_limit", Public),
    ("loft", "compression", Public),
    ("loft", "compression_level", Public),
    ("loft", "signing_key_path", Public),
    ("loft", "signing_key_paths", Public),
    ("loft", "signing_key_name", Public),
    ("loft", "skip_signed_by_keys", Public),
    ("loft", "upstreams", Public),
    ("loft", "exclude", Public),
    ("loft", "priority", Public),
    ("loft", "nar_listings", Public),
    ("loft", "build_logs", Public),
    ("loft", "debug_info", Public),
    ("loft", "local_cache_path", Public),
    ("loft", "scan_on_startup", Public),
    ("loft", "populate_cache_on_startup", Public),
    ("loft", "metrics_address", Public),
    ("loft", "prune_enabled", Public),
    ("loft", "prune_retention_days", Public),
    ("loft", "prune_max_size_gb", Public),
    ("loft", "prune_target_percentage", Public),
    ("loft", "prune_schedule", Public),
];

pub const SECTIONS: &[&str] = &["s3", "loft"];

/// Keys of the original loft that have no effect any more, and why.
pub const OBSOLETE: &[(&str, &str, &str)] = &[
    ("loft", "use_disk_for_large_nars", "NARs are streamed, so that none needs the disk"),
    ("loft", "large_nar_threshold_mb", "NARs are streamed, and memory_limit bounds the memory for all of them"),
];

pub fn secrecy(section: &str, key: &str) -> Option<Secrecy> {
    KEYS.iter().find(|(s, k, _)| *s == section && *k == key).map(|(_, _, secrecy)| *secrecy)
}

/// Whether the value of any key of this name may be shown.
pub fn is_public(key: &str) -> bool {
    KEYS.iter().any(|(_, k, secrecy)| *k == key && *secrecy == Public)
}

pub fn is_known(key: &str) -> bool {
    KEYS.iter().any(|(_, k, _)| *k == key)
}

/// Whether a text has the name of a key whose value may not be shown.
pub fn names_a_secret(text: &str) -> bool {
    KEYS.iter().any(|(_, key, secrecy)| *secrecy != Public && text.contains(key))
}

/// What to write instead of an unknown `key` of `section` (empty: outside every section).
pub fn suggestion(section: &str, key: &str) -> Option<String> {
    if let Some((home, ..)) = KEYS.iter().find(|(s, k, _)| *k == key && *s != section) {
        return Some(format!("`{key}` belongs in [{home}]"));
    }
    let names = KEYS.iter().filter(|(s, ..)| section.is_empty() || *s == section).map(|(_, k, _)| *k);
    let here = nearest(key, names).map(|name| format!("did you mean `{name}`?"));
    here.or_else(|| {
        let elsewhere = KEYS.iter().filter(|(s, ..)| *s != section);
        let name = nearest(key, elsewhere.clone().map(|(_, k, _)| *k))?;
        let (home, ..) = elsewhere.clone().find(|(_, k, _)| *k == name)?;
        Some(format!("did you mean `{name}`, which belongs in [{home}]?"))
    })
}

/// The candidate with the fewest edits from `typed`, if it is near enough to be meant.
pub fn nearest<'a>(typed: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let typed = typed.to_lowercase().replace('-', "_");
    let allowed = (typed.chars().count() / 3).clamp(1, 4);
    candidates
        .map(|candidate| (distance(&typed, candidate), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Edits between two texts: a character more, less, other, or swapped with its neighbour. Inputs are cut to 64
/// characters, which no key reaches.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().take(64).collect();
    let b: Vec<char> = b.chars().take(64).collect();
    // `rows[i][j]` is the distance of the first `i` characters from the first `j`.
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_edits() {
        for (a, b, edits) in [
            ("", "", 0),
            ("kitten", "sitting", 3),
            ("lotf", "loft", 1),
            ("", "abc", 3),
            ("abc", "", 3),
            ("äb", "ab", 1),
        ] {
            assert_eq!(distance(a, b), edits, "{a} {b}");
        }
    }

    #[test]
    fn suggests_what_was_meant() {
        assert_eq!(suggestion("loft", "uplod_threads").unwrap(), "did you mean `upload_threads`?");
        assert_eq!(suggestion("loft", "upload-threads").unwrap(), "did you mean `upload_threads`?");
        assert_eq!(suggestion("loft", "bucket").unwrap(), "`bucket` belongs in [s3]");
        assert_eq!(suggestion("", "compression").unwrap(), "`compression` belongs in [loft]");
        assert_eq!(suggestion("loft", "endpont").unwrap(), "did you mean `endpoint`, which belongs in [s3]?");
        assert_eq!(suggestion("loft", "zzzzzz"), None);
    }
}
