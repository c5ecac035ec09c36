//! The dialect of INI in `~/.aws/config` and `~/.aws/credentials`.
//!
//! Comments begin a line with `#` or `;`. Indented lines belong to a nested setting (`s3 =`) that
//! nobody here needs. Later settings win.

use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub(super) struct Ini(BTreeMap<String, BTreeMap<String, String>>);

impl Ini {
    /// Never fails: a line that makes no sense is no setting.
    pub fn parse(text: &str) -> Self {
        let mut ini = Self::default();
        let mut section: Option<String> = None;
        for line in text.lines() {
            let trimmed = line.trim();
            if trimmed.is_empty() || trimmed.starts_with(['#', ';']) || line.starts_with([' ', '\t']) {
                continue;
            }
            if let Some(name) = trimmed.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
                // `[profile  a]` and `[profile "a b"]` are written too.
                let name = name.split_whitespace().collect::<Vec<_>>().join(" ").replace('"', "");
                ini.0.entry(name.clone()).or_default();
                section = Some(name);
            } else if let (Some(section), Some((name, value))) = (&section, trimmed.split_once('=')) {
                let settings = ini.0.entry(section.clone()).or_default();
                settings.insert(name.trim().to_lowercase(), value.trim().to_owned());
            }
        }
        ini
    }

    pub fn section(&self, name: &str) -> Option<&BTreeMap<String, String>> {
        self.0.get(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_sections_and_skips_what_is_nested() {
        let ini = Ini::parse(
            "aws_access_key_id = outside\n[default]\n# a = 1\na=1\ns3 =\n  a = 3\n[profile  \"b c\"] ; x\nRole_Arn = x=y \n[",
        );
        assert_eq!(ini.section("default").unwrap()["a"], "1");
        assert_eq!(ini.section("profile b c").unwrap()["role_arn"], "x=y");
        assert!(ini.section("").is_some_and(BTreeMap::is_empty), "an unclosed bracket is an empty section");
        assert!(ini.section("other").is_none());
    }
}
