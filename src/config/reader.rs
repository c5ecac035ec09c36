//! Typed access to the merged values: checks, defaults, and a record of what took effect.
//!
//! Every setting is read exactly once through here, whoever set it, so that a flag, a variable and a
//! line of the file are checked alike and `loft config show` cannot forget one.

use super::document::{Located, Name, Value};
use super::origin::{Origin, Source};
use super::problem::Problem;
use super::schema::{self, Secrecy};
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;

/// A setting as it took effect, without secrets.
#[derive(Debug, Clone, PartialEq)]
pub struct Effective {
    /// For example `loft.upload_threads`.
    pub key: String,
    /// `null` where nothing is set.
    pub value: Json,
    pub origin: Origin,
}

/// A checked value, its origin and its place.
#[derive(Debug, Clone)]
pub struct Given<T> {
    pub value: T,
    pub origin: Origin,
    span: Option<Range<usize>>,
}

pub struct Reader {
    source: Option<Source>,
    values: BTreeMap<Name, Located>,
    pub problems: Vec<Problem>,
    pub warnings: Vec<Problem>,
    pub effective: Vec<Effective>,
}

impl Reader {
    pub fn new(source: Option<Source>, values: BTreeMap<Name, Located>) -> Self {
        Self { source, values, problems: Vec::new(), warnings: Vec::new(), effective: Vec::new() }
    }

    /// A value of any type: `read` says what it is or nothing, `expected` completes "must be …".
    pub fn parsed<T>(
        &mut self,
        name: Name,
        expected: &str,
        read: impl Fn(&Value) -> Option<T>,
        show: impl Fn(&T) -> Json,
    ) -> Option<Given<T>> {
        let located = self.values.remove(&name)?;
        let Some(value) = read(&located.value) else {
            let problem = self.refusal(name, &located, expected);
            self.problems.push(problem);
            return None;
        };
        let shown = match schema::secrecy(name.0, name.1) {
            Some(Secrecy::Public) => show(&value),
            Some(Secrecy::Partly) => json!(beginning(&located.value)),
            Some(Secrecy::Secret) | None => json!("(set)"),
        };
        self.record(name, shown, located.origin.clone());
        Some(Given { value, origin: located.origin, span: located.span })
    }

    /// As `parsed`, with a default.
    pub fn parsed_or<T>(
        &mut self,
        name: Name,
        expected: &str,
        default: T,
        read: impl Fn(&Value) -> Option<T>,
        show: impl Fn(&T) -> Json,
    ) -> T {
        match self.parsed(name, expected, read, &show) {
            Some(given) => given.value,
            None => {
                self.record(name, show(&default), Origin::Default);
                default
            }
        }
    }

    /// Text that is not empty.
    pub fn text(&mut self, name: Name, expected: &str, fits: impl Fn(&str) -> bool) -> Option<Given<String>> {
        let read = |value: &Value| match value {
            Value::Text(text) if !text.is_empty() && fits(text) => Some(text.clone()),
            _ => None,
        };
        let given = self.parsed(name, expected, read, |text| json!(text));
        self.record_unset(name);
        given
    }

    pub fn path(&mut self, name: Name) -> Option<Given<PathBuf>> {
        let given = self.text(name, "the path of a file, in quotes", |path| !path.contains('\0'))?;
        Some(Given { value: PathBuf::from(given.value), origin: given.origin, span: given.span })
    }

    pub fn boolean(&mut self, name: Name, default: bool) -> bool {
        let read = |value: &Value| match value {
            Value::Boolean(boolean) => Some(*boolean),
            _ => None,
        };
        self.parsed_or(name, "true or false, without quotes", default, read, |boolean| json!(boolean))
    }

    pub fn integer_or(&mut self, name: Name, range: RangeInclusive<u32>, default: u32) -> u32 {
        let expected = whole_number(&range);
        self.parsed_or(name, &expected, default, |value| integer(value, &range), |number| json!(number))
    }

    pub fn integer(&mut self, name: Name, range: RangeInclusive<u32>) -> Option<Given<u32>> {
        let given = self.parsed(name, &whole_number(&range), |value| integer(value, &range), |number| json!(number));
        self.record_unset(name);
        given
    }

    /// A list of texts; each item that `read` refuses is its own problem.
    pub fn list<T>(&mut self, name: Name, expected: &str, read: impl Fn(&str) -> Result<T, String>) -> Vec<Given<T>> {
        let Some(located) = self.values.remove(&name) else {
            self.record(name, json!([]), Origin::Default);
            return Vec::new();
        };
        let Value::List(items) = &located.value else {
            let list = format!("a list of {expected}, for example {}", list_example(&located.value));
            let problem = self.refusal(name, &located, &list);
            self.problems.push(problem);
            return Vec::new();
        };
        let mut taken = Vec::new();
        for item in items {
            let read = match &item.value {
                Value::Text(text) => read(text),
                _ => Err(format!("An item of `{}` is {}, but must be {expected}", name.1, describe(&item.value))),
            };
            match read {
                Ok(value) => taken.push(Given { value, origin: item.origin.clone(), span: item.span.clone() }),
                Err(message) => {
                    let problem = self.problem_at(item.origin.clone(), item.span.as_ref(), message);
                    self.problems.push(problem);
                }
            }
        }
        let shown: Vec<_> = items.iter().filter_map(|item| text_of(&item.value)).map(|text| json!(text)).collect();
        self.record(name, Json::Array(shown), located.origin.clone());
        taken
    }

    /// A problem with a value that was read.
    pub fn refuse<T>(&mut self, given: &Given<T>, message: impl Into<String>, help: &str) {
        let problem = self.problem_at(given.origin.clone(), given.span.as_ref(), message).help(help);
        self.problems.push(problem);
    }

    pub fn warn<T>(&mut self, given: &Given<T>, message: impl Into<String>, help: &str) {
        let warning = self.problem_at(given.origin.clone(), given.span.as_ref(), message).help(help);
        self.warnings.push(warning);
    }

    pub fn problem_at(&self, origin: Origin, span: Option<&Range<usize>>, message: impl Into<String>) -> Problem {
        let snippet = self.source.as_ref().zip(span).and_then(|(source, span)| source.snippet(span));
        Problem { snippet, ..Problem::new(origin, message) }
    }

    pub fn record(&mut self, (section, key): Name, value: Json, origin: Origin) {
        self.record_as(format!("{section}.{key}"), value, origin);
    }

    pub fn record_as(&mut self, key: String, value: Json, origin: Origin) {
        self.effective.push(Effective { key, value, origin });
    }

    /// Records that nothing is set, unless the last record is of this key.
    pub fn record_unset(&mut self, name: Name) {
        let key = format!("{}.{}", name.0, name.1);
        if self.effective.last().is_none_or(|last| last.key != key) {
            self.record(name, Json::Null, Origin::Default);
        }
    }

    fn refusal(&self, (section, key): Name, located: &Located, expected: &str) -> Problem {
        let is = match schema::secrecy(section, key) {
            Some(Secrecy::Public) => format!("is {}", describe(&located.value)),
            _ => "does not fit".to_owned(),
        };
        self.problem_at(located.origin.clone(), located.span.as_ref(), format!("`{key}` {is}, but must be {expected}"))
    }
}

fn integer(value: &Value, range: &RangeInclusive<u32>) -> Option<u32> {
    match value {
        Value::Integer(number) => u32::try_from(*number).ok().filter(|number| range.contains(number)),
        _ => None,
    }
}

fn whole_number(range: &RangeInclusive<u32>) -> String {
    match *range.end() {
        u32::MAX => format!("a whole number from {}, without quotes", range.start()),
        end => format!("a whole number from {} to {end}, without quotes", range.start()),
    }
}

fn text_of(value: &Value) -> Option<&str> {
    match value {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

fn list_example(value: &Value) -> String {
    match value {
        Value::Text(text) if text.len() < 60 && !text.contains('@') => format!("[{text:?}]"),
        _ => "[\"…\"]".to_owned(),
    }
}

/// A value in a message: short, and without what may be a password in a URL.
pub fn describe(value: &Value) -> String {
    match value {
        Value::Text(text) if text.contains('@') => "a text with `@`".to_owned(),
        Value::Text(text) if text.chars().count() > 60 => {
            format!("{:?}", text.chars().take(60).chain(['…']).collect::<String>())
        }
        Value::Text(text) => format!("{text:?}"),
        Value::Integer(number) => number.to_string(),
        Value::Boolean(boolean) => boolean.to_string(),
        Value::List(_) => "a list".to_owned(),
        Value::Other(kind) => (*kind).to_owned(),
    }
}

/// The first four characters, unless that were half of it.
fn beginning(value: &Value) -> String {
    let text = text_of(value).unwrap_or_default();
    let shown = if text.chars().count() > 8 { 4 } else { 0 };
    text.chars().take(shown).chain(['…']).collect()
}
