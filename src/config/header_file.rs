//! Headers whose values should not stand in `loft.toml`: `extra_headers_file` has a line for each, and each file of
//! `[s3.extra_header_files]` the value of one.
//!
//! A line is `Name: value`, as in HTTP, or `LOFT_EXTRA_HEADER_NAME=value`, as in a file of environment variables,
//! with or without quotes around the value. Lines that are empty or begin with `#` or `;` say nothing.

use super::document::{Located, Value};
use super::origin::{Origin, Place};
use super::problem::Problem;
use super::target::HEADER_VARIABLE;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// No server takes as much.
const LONGEST: u64 = 64 * 1024;

/// What files of headers say. Problems hold nothing of a line that is no header: it may be a secret.
#[derive(Default)]
pub struct HeaderFile {
    pub headers: Vec<(String, Located)>,
    pub problems: Vec<Problem>,
    pub warnings: Vec<Problem>,
}

impl HeaderFile {
    pub fn read(path: &Path, origin: &Origin) -> Self {
        let mut file = Self::default();
        match read_guarded(path) {
            Ok(text) => text.lines().enumerate().for_each(|(index, line)| file.line(path, index + 1, line.trim())),
            Err(why) => {
                file.unusable(origin, format!("Could not use the file of extra headers {}: {why}", path.display()));
            }
        }
        file
    }

    /// Adds the header whose value, and nothing else, is the content of a file.
    pub fn add_value(&mut self, path: &Path, name: String, origin: &Origin) {
        match read_guarded(path).and_then(|text| own_value(&text)) {
            Ok(value) => {
                let place = Origin::File(Place { file: path.into(), line: 1, column: 1 });
                self.headers.push((name, Located::new(Value::Text(value), place)));
            }
            Err(why) => {
                self.unusable(
                    origin,
                    format!("Could not use {}, the file of extra header {name:?}: {why}", path.display()),
                );
            }
        }
    }

    fn unusable(&mut self, origin: &Origin, message: String) {
        let help = "the user that runs loft must be able to read it, and nobody else may write it";
        self.problems.push(Problem::new(origin.clone(), message).help(help));
    }

    fn line(&mut self, path: &Path, line: usize, text: &str) {
        if text.is_empty() || text.starts_with(['#', ';']) {
            return;
        }
        let origin = || Origin::File(Place { file: path.into(), line, column: 1 });
        let mut take = |name: String, value: &str| {
            self.headers.push((name, Located::new(Value::Text(value.to_owned()), origin())));
        };
        // What comes first decides: values may hold the other.
        let header = text.split_once(':').filter(|(name, value)| is_plausible(name, value));
        let variable = text.split_once('=').map(|(name, value)| (name.trim_end(), unquoted(value.trim())));
        let named = variable.and_then(|(name, value)| Some((name.strip_prefix(HEADER_VARIABLE)?, value)));
        let named = named.filter(|(name, _)| name.chars().all(is_of_name));
        match (header, named, variable) {
            (Some((name, value)), ..) => take(name.trim_end().to_owned(), value.trim()),
            (None, Some((name, value)), _) => take(name.replace('_', "-"), value),
            // Never taken for a header: it may be the secret key, which a proxy would be told then.
            (None, None, Some((name, _))) if is_variable(name) => {
                let message = "This variable in a file of extra headers has no effect";
                let help = format!("only {HEADER_VARIABLE}NAME=value is read there");
                self.warnings.push(Problem::new(origin(), message).help(help));
            }
            (None, None, _) => {
                let help = format!("write `Name: value` or `{HEADER_VARIABLE}NAME=value`");
                self.problems.push(Problem::new(origin(), "This line is no header").help(help));
            }
        }
    }
}

/// Whether what stands before a line's first colon is meant as a header's name, rather than a part of a secret that
/// stands there alone and would be sent, and shown, as a name. `user:password`, identifiers of keys and the
/// beginning of a token are names to HTTP as well; so this asks for what names of headers look like. Any other name
/// can be had in `loft.toml`, or by a variable.
fn is_plausible(name: &str, value: &str) -> bool {
    const LONGEST_WORD: usize = 19;
    const MOST_DIGITS: usize = 4;
    let bare = name.trim_end();
    let has_words = bare.contains(['-', '_']);
    // A space tells them apart where a name is one word.
    let has_space = bare.len() < name.len() || value.starts_with([' ', '\t']);
    bare.starts_with(|c: char| c.is_ascii_alphabetic())
        && bare.chars().all(is_of_name)
        && bare.split(['-', '_']).all(|word| word.len() <= LONGEST_WORD)
        && bare.chars().filter(char::is_ascii_digit).count() <= MOST_DIGITS
        && (has_words || has_space)
}

fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-' || c == '_'
}

/// Without the newline that editors leave at the end.
fn own_value(text: &str) -> Result<String, String> {
    let line = text.strip_suffix('\n').unwrap_or(text);
    match line.strip_suffix('\r').unwrap_or(line) {
        "" => Err("it is empty".to_owned()),
        value => Ok(value.to_owned()),
    }
}

fn is_variable(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}

/// As systemd and shells read it, for what headers hold.
fn unquoted(value: &str) -> &str {
    ['"', '\''].into_iter().find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote)).unwrap_or(value)
}

fn read_guarded(path: &Path) -> Result<String, String> {
    let real = path.canonicalize().map_err(|error| error.to_string())?;
    if real.starts_with("/nix/store") {
        return Err("it stands in the Nix store, where everybody can read it".to_owned());
    }
    let metadata = std::fs::metadata(&real).map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("it is not a file".to_owned());
    }
    if metadata.mode() & 0o002 != 0 {
        return Err("others may write it (chmod o-w), so its content may be anybody's".to_owned());
    }
    let mut text = String::new();
    let file = std::fs::File::open(&real).map_err(|error| error.to_string())?;
    file.take(LONGEST + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    match text.len() as u64 > LONGEST {
        true => Err("it is longer than any server takes".to_owned()),
        false => Ok(text),
    }
}
