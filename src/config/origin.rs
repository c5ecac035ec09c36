//! Where a value came from, and the file's text to show when it is wrong.

use super::schema;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Who set a value. Later ones win: default, file, environment, flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    Default,
    File(Place),
    /// The variable's name.
    Environment(String),
    /// As typed, for example `--to`.
    Flag(&'static str),
}

/// A position in a file; line and column count from 1, columns in characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub file: Arc<Path>,
    pub line: usize,
    pub column: usize,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(place) => place.fmt(f),
            Self::Environment(name) => f.write_str(name),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.display(), self.line, self.column)
    }
}

/// A configuration file's text.
#[derive(Debug, Clone)]
pub struct Source {
    file: Arc<Path>,
    text: String,
}

/// The line that a problem is about, fit to be shown: without secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snippet {
    pub line: usize,
    pub text: String,
    /// Characters of `text`, from 0; `None` where the text was cut for safety.
    pub mark: Option<Range<usize>>,
}

impl Source {
    pub fn new(file: PathBuf, text: String) -> Self {
        Self { file: file.into(), text }
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// The position of a byte offset; offsets beyond the end are the end.
    pub fn place(&self, offset: usize) -> Place {
        let before = self.before(offset);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Place {
            file: Arc::clone(&self.file),
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..).unwrap_or_default().chars().count() + 1,
        }
    }

    /// The line of `span`'s start, if it may be shown: a mistake near a secret must not bring the secret into a log.
    /// A syntax error may have run lines together, so the whole line is shown only where it plainly holds one
    /// harmless setting, else the name of a known key or nothing.
    pub fn snippet(&self, span: &Range<usize>) -> Option<Snippet> {
        let place = self.place(span.start);
        let text = self.text.lines().nth(place.line - 1)?;
        let key = leading_key(text.trim_start());
        // A line that was torn off an array starts and ends like a header.
        let bare = |c| is_key_character(c) || "[]. ".contains(c);
        let is_header = text.trim_start().starts_with('[') && text.trim_end().chars().all(bare);
        // Of an address with a password only the `@` tells.
        let one_setting = text.matches('=').count() == 1 && !text.contains('@') && !schema::names_a_secret(text);
        if is_header || (schema::is_public(key) && one_setting) {
            let marked = self.text.get(span.clone()).and_then(|marked| marked.lines().next()).unwrap_or_default();
            let start = place.column - 1;
            let mark = Some(start..start + marked.chars().count().max(1));
            return Some(Snippet { line: place.line, text: text.to_owned(), mark });
        }
        let text = schema::is_known(key).then(|| format!("{key} = …"))?;
        Some(Snippet { line: place.line, text, mark: None })
    }

    fn before(&self, offset: usize) -> &str {
        let mut end = offset.min(self.text.len());
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        self.text.get(..end).unwrap_or_default()
    }
}

/// The last part of the (possibly dotted) bare key that a line starts with.
fn leading_key(line: &str) -> &str {
    let end = line.find(|c| !is_key_character(c) && c != '.').unwrap_or(line.len());
    let dotted = line.get(..end).unwrap_or_default();
    dotted.rsplit('.').next().unwrap_or_default()
}

fn is_key_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-'
}

impl fmt::Display for Snippet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.line.to_string();
        let gutter = " ".repeat(number.len());
        write!(f, "  {number} | {}", self.text.replace('\t', " "))?;
        match &self.mark {
            Some(mark) => write!(f, "\n  {gutter} | {}{}", " ".repeat(mark.start), "^".repeat(mark.len().max(1))),
            None => Ok(()),
        }
    }
}
