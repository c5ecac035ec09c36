//! The effective configuration, for people and for programs. Secrets never got this far.

use super::reader::Effective;
use serde_json::{Value as Json, json};
use std::fmt::Write as _;

/// One line for each setting: key, value, origin.
pub fn table(effective: &[Effective]) -> String {
    let rows: Vec<(String, String, String)> =
        effective.iter().map(|entry| (entry.key.clone(), value_text(&entry.value), entry.origin.to_string())).collect();
    let width = |column: fn(&(String, String, String)) -> &String, most: usize| {
        rows.iter().map(|row| column(row).chars().count()).filter(|width| *width <= most).max().unwrap_or(0)
    };
    let (keys, values) = (width(|row| &row.0, 60), width(|row| &row.1, 50));
    let mut text = String::new();
    for (key, value, origin) in &rows {
        let _ = writeln!(text, "{key:keys$}  {value:values$}  {origin}");
    }
    text
}

/// `{"settings": [{"key", "value", "origin", …}]}`.
pub fn json(effective: &[Effective]) -> Json {
    let settings: Vec<Json> = effective
        .iter()
        .map(|entry| json!({ "key": entry.key, "value": entry.value, "origin": origin_json(&entry.origin) }))
        .collect();
    json!({ "settings": settings })
}

fn origin_json(origin: &super::Origin) -> Json {
    use super::Origin;
    match origin {
        Origin::Default => json!({ "kind": "default" }),
        Origin::File(place) => json!({
            "kind": "file",
            "file": place.file.display().to_string(),
            "line": place.line,
            "column": place.column,
        }),
        Origin::Environment(name) => json!({ "kind": "environment", "variable": name }),
        Origin::Flag(flag) => json!({ "kind": "flag", "flag": flag }),
    }
}

fn value_text(value: &Json) -> String {
    match value {
        Json::Null => "-".to_owned(),
        Json::String(text) => text.clone(),
        other => other.to_string(),
    }
}
