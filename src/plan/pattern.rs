//! Patterns of store paths that are never pushed.

use crate::nix::StorePath;
use std::fmt;

/// A pattern over names such as `linux-*` or `*-source`: `*` is any text, `?` any one character, all else stands for
/// itself. It must cover the whole name (`hello-2.12`), or the whole base name (`<hash>-hello-2.12`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(String);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    #[error("A pattern cannot be empty")]
    Empty,
    #[error("Pattern {0:?} has a `/`, but patterns are over names such as `hello-2.12`, not over paths")]
    Slash(String),
    #[error("Pattern {pattern:?} has {character:?}, which no store path's name contains")]
    Character { pattern: String, character: char },
}

impl Pattern {
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        if text.contains('/') {
            return Err(PatternError::Slash(text.to_owned()));
        }
        let known = |c: char| c.is_ascii_alphanumeric() || "+-._?=*".contains(c);
        match text.chars().find(|c| !known(*c)) {
            Some(character) => Err(PatternError::Character { pattern: text.to_owned(), character }),
            None => Ok(Self(text.to_owned())),
        }
    }

    pub fn matches(&self, path: &StorePath) -> bool {
        covers(self.0.as_bytes(), path.name().as_bytes()) || covers(self.0.as_bytes(), path.as_str().as_bytes())
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Only the last `*` is ever tried again, so the cost is at most the product of the lengths.
fn covers(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(wanted) if *wanted == b'?' || *wanted == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    p = at + 1;
                    t = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|rest| *rest == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn covers_whole_names() {
        let path = StorePath::parse("0mdqa9w1p6cmli6976v4wi0sw9r4p5pr-hello-2.12.1").unwrap();
        for pattern in
            ["hello-2.12.1", "hello-*", "*", "*-2.*", "h?llo-2*1", "0mdqa9w1p6cmli6976v4wi0sw9r4p5pr-*", "**1"]
        {
            assert!(Pattern::parse(pattern).unwrap().matches(&path), "{pattern}");
        }
        for pattern in ["hello", "ello-*", "*-2.12", "hello-2.12.1?", "HELLO-*", "*x*"] {
            assert!(!Pattern::parse(pattern).unwrap().matches(&path), "{pattern}");
        }
        let many_stars = Pattern::parse(&format!("{}b", "*a".repeat(80))).unwrap();
        let long = StorePath::parse(&format!("0mdqa9w1p6cmli6976v4wi0sw9r4p5pr-{}", "a".repeat(200))).unwrap();
        assert!(!many_stars.matches(&long));
    }

    #[test]
    fn refuses_what_can_never_match() {
        assert!(matches!(Pattern::parse(""), Err(PatternError::Empty)));
        assert!(matches!(Pattern::parse("/nix/store/*"), Err(PatternError::Slash(_))));
        assert!(matches!(Pattern::parse("a b"), Err(PatternError::Character { character: ' ', .. })));
    }
}
