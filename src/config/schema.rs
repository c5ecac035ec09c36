//! Questions about the keys of `loft.toml`, and the nearest one to a key that is none.

use super::keys::{KEYS, Key};

/// Whether a value may be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secrecy {
    Public,
    /// An identifier: its first four characters at most.
    Partly,
    Secret,
}

pub const SECTIONS: &[&str] = &["s3", "loft"];

pub fn find(section: &str, name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.section == section && key.name == name)
}

pub fn secrecy(section: &str, name: &str) -> Option<Secrecy> {
    find(section, name).map(|key| key.secrecy)
}

/// Whether the value of any key of this name may be shown.
pub fn is_public(name: &str) -> bool {
    KEYS.iter().any(|key| key.name == name && key.secrecy == Secrecy::Public)
}

pub fn is_known(name: &str) -> bool {
    KEYS.iter().any(|key| key.name == name)
}

/// Whether a text has the name of a key whose value may not be shown.
pub fn names_a_secret(text: &str) -> bool {
    KEYS.iter().any(|key| key.secrecy != Secrecy::Public && text.contains(key.name))
}

/// What to write instead of an unknown key `typed` of `section` (empty: outside every section).
pub fn suggestion(section: &str, typed: &str) -> Option<String> {
    if let Some(key) = KEYS.iter().find(|key| key.name == typed && key.section != section) {
        return Some(format!("`{typed}` belongs in [{}]", key.section));
    }
    let names = KEYS.iter().filter(|key| section.is_empty() || key.section == section).map(|key| key.name);
    let here = nearest(typed, names).map(|name| format!("did you mean `{name}`?"));
    here.or_else(|| {
        let elsewhere = KEYS.iter().filter(|key| key.section != section);
        let name = nearest(typed, elsewhere.clone().map(|key| key.name))?;
        let home = elsewhere.clone().find(|key| key.name == name)?.section;
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
