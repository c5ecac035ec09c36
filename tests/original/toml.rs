//! The `loft.toml` of the original loft, for both test programs.

/// The example of its documentation, word for word.
pub const EXAMPLE: &str = include_str!("loft.toml");

/// The example with other values: `settings` are lines of `key = value`. One that the example does not have stands
/// in `[s3]` or, by default, in `[loft]`, which is the last table.
pub fn example_with<'a>(s3: impl IntoIterator<Item = &'a str>, settings: impl IntoIterator<Item = &'a str>) -> String {
    let mut text = EXAMPLE.to_owned();
    for line in s3 {
        text = set(text, line, |text, line| text.replacen("[s3]\n", &format!("[s3]\n{line}\n"), 1));
    }
    for line in settings {
        text = set(text, line, |text, line| format!("{text}{line}\n"));
    }
    text
}

fn set(text: String, line: &str, add: impl Fn(&str, &str) -> String) -> String {
    let key = line.split('=').next().unwrap().trim_end();
    let is_it = |old: &&str| old.strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with('='));
    match text.lines().find(is_it) {
        Some(old) => text.replacen(old, line, 1),
        None => add(&text, line),
    }
}
