//! A configuration file as located values: syntax, known keys and nothing else.
//!
//! The tree is walked by hand rather than through serde, so that one run tells all problems and
//! every value keeps its position.

use super::keys::OBSOLETE;
use super::origin::{Origin, Source};
use super::problem::Problem;
use super::schema;
use std::collections::BTreeMap;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A value as it stands in a file, a variable or a flag.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Text(String),
    Integer(i64),
    Boolean(bool),
    List(Vec<Located>),
    /// What no setting takes; the text names the kind.
    Other(&'static str),
}

/// A value and who set it.
#[derive(Debug, Clone, PartialEq)]
pub struct Located {
    pub value: Value,
    pub origin: Origin,
    /// Bytes of the file, where it comes from one.
    pub span: Option<Range<usize>>,
}

impl Located {
    pub fn new(value: Value, origin: Origin) -> Self {
        Self { value, origin, span: None }
    }
}

/// Section and key.
pub type Name = (&'static str, &'static str);

/// What a file says.
#[derive(Debug, Default)]
pub struct Document {
    pub values: BTreeMap<Name, Located>,
    /// `[s3.extra_headers]`, in the file's order.
    pub headers: Vec<(String, Located)>,
    /// `[s3.extra_header_files]`, likewise.
    pub header_files: Vec<(String, Located)>,
    pub problems: Vec<Problem>,
    /// Unknown and obsolete keys.
    pub unknown: Vec<Problem>,
    pub obsolete: Vec<Problem>,
}

/// A mistake early in a file brings others after it; more than these help nobody.
const MAX_SYNTAX_PROBLEMS: usize = 5;

impl Document {
    pub fn parse(source: &Source) -> Self {
        let mut document = Self::default();
        let (table, errors) = DeTable::parse_recoverable(source.text());
        if !errors.is_empty() {
            // What was recovered around a syntax error would bring false complaints.
            for error in errors.iter().take(MAX_SYNTAX_PROBLEMS) {
                let span = error.span().unwrap_or(0..0);
                document.problems.push(problem(source, &span, format!("Not valid TOML: {}", error.message())));
            }
            return document;
        }
        for (key, value) in in_order(table.get_ref()) {
            match (key.get_ref().as_ref(), value.get_ref()) {
                (name, DeValue::Table(section)) => match schema::SECTIONS.iter().find(|known| **known == name) {
                    Some(known) => document.section(source, known, section),
                    None => document.unknown_section(source, key.span(), name),
                },
                (name, _) if schema::SECTIONS.contains(&name) => {
                    let message = format!("`{name}` must be a section");
                    document.problems.push(problem(source, &key.span(), message).help(format!("write [{name}]")));
                }
                (name, _) => document.unknown_key(source, "", name, key.span()),
            }
        }
        document
    }

    fn section(&mut self, source: &Source, section: &'static str, table: &DeTable<'_>) {
        for (key, value) in in_order(table) {
            let name = key.get_ref().as_ref();
            if let Some((_, _, reason)) = OBSOLETE.iter().find(|(s, k, _)| *s == section && *k == name) {
                let message = format!("`{name}` in [{section}] has no effect any more: {reason}");
                self.obsolete.push(problem(source, &key.span(), message).help("remove the line"));
                continue;
            }
            let Some(known) = schema::find(section, name) else {
                self.unknown_key(source, section, name, key.span());
                continue;
            };
            match value.get_ref() {
                DeValue::Table(headers) if known.name == "extra_headers" => self.headers = entries(source, headers),
                DeValue::Table(files) if known.name == "extra_header_files" => {
                    self.header_files = entries(source, files)
                }
                _ => {
                    self.values.insert((known.section, known.name), located(source, value));
                }
            }
        }
    }

    fn unknown_key(&mut self, source: &Source, section: &str, name: &str, span: Range<usize>) {
        let place = if section.is_empty() { String::new() } else { format!(" in [{section}]") };
        let mut unknown = problem(source, &span, format!("Unknown key `{name}`{place}"));
        unknown.help = schema::suggestion(section, name);
        self.unknown.push(unknown);
    }

    fn unknown_section(&mut self, source: &Source, span: Range<usize>, name: &str) {
        let mut unknown = problem(source, &span, format!("Unknown section [{name}]"));
        unknown.help = schema::nearest(name, schema::SECTIONS.iter().copied())
            .map(|known| format!("did you mean [{known}]?"))
            .or_else(|| schema::suggestion("", name))
            .or_else(|| {
                Some("the sections are [s3], [s3.extra_headers], [s3.extra_header_files] and [loft]".to_owned())
            });
        self.unknown.push(unknown);
    }
}

/// A problem at a span of the file, with the line.
pub fn problem(source: &Source, span: &Range<usize>, message: impl Into<String>) -> Problem {
    let snippet = source.snippet(span);
    Problem { snippet, ..Problem::new(Origin::File(source.place(span.start)), message) }
}

/// A table's entries as the file has them; the map itself orders by name.
fn in_order<'t, 'i>(table: &'t DeTable<'i>) -> Vec<(&'t Spanned<std::borrow::Cow<'i, str>>, &'t Spanned<DeValue<'i>>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

fn entries(source: &Source, table: &DeTable<'_>) -> Vec<(String, Located)> {
    in_order(table).into_iter().map(|(name, value)| (name.get_ref().to_string(), located(source, value))).collect()
}

fn located(source: &Source, value: &Spanned<DeValue<'_>>) -> Located {
    let span = value.span();
    let origin = Origin::File(source.place(span.start));
    let value = match value.get_ref() {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Boolean(boolean) => Value::Boolean(*boolean),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Value::Integer(number),
            Err(_) => Value::Other("a number beyond 64 bits"),
        },
        DeValue::Array(items) => Value::List(items.iter().map(|item| located(source, item)).collect()),
        DeValue::Float(_) => Value::Other("a fraction"),
        DeValue::Datetime(_) => Value::Other("a date or time without quotes"),
        DeValue::Table(_) => Value::Other("a table"),
    };
    Located { value, origin, span: Some(span) }
}
