//! `nix.conf` as Nix reads it, and lines added to it so that nothing else of it changes.
//!
//! Nix's rules (`AbstractConfig::applyConfig`): a line is a statement, `#` begins a comment anywhere, there are no
//! continuation lines and no quotes. `NAME = …` replaces what stood before and `extra-NAME = …` adds to it, so the order
//! counts, across included files too.

use std::io;
use std::path::{Path, PathBuf};

/// Deeper than this only a file that includes itself goes.
const DEEPEST: usize = 16;

/// A setting that loft adds to or goes by; the second name is its older one, which Nix still takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting {
    Substituters,
    TrustedPublicKeys,
    NetrcFile,
    TrustedUsers,
    RequireSigs,
}

impl Setting {
    const fn names(self) -> &'static [&'static str] {
        match self {
            Self::Substituters => &["substituters", "binary-caches"],
            Self::TrustedPublicKeys => &["trusted-public-keys", "binary-cache-public-keys"],
            Self::NetrcFile => &["netrc-file"],
            Self::TrustedUsers => &["trusted-users"],
            Self::RequireSigs => &["require-sigs"],
        }
    }

    pub const fn name(self) -> &'static str {
        self.names()[0]
    }
}

/// Between words.
const BLANKS: [char; 4] = [' ', '\t', '\n', '\r'];

/// A file's own lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NixConf {
    lines: Vec<String>,
}

enum Statement<'t> {
    Set {
        name: &'t str,
        adds: bool,
        values: Vec<&'t str>,
    },
    Include {
        path: &'t str,
        must_be_there: bool,
    },
    /// Nix refuses it.
    Odd,
}

/// What is met on the way through a file and those that it includes.
enum Met<'t> {
    Set {
        name: &'t str,
        adds: bool,
        values: &'t [&'t str],
    },
    /// An included file that is not there although it must be, or cannot be read.
    Unread {
        path: &'t Path,
        why: io::Error,
    },
    Circle,
    Odd,
}

/// One assignment to a setting, by whatever file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Assignment {
    adds: bool,
    values: Vec<String>,
    file: PathBuf,
    /// From 0.
    line: usize,
}

/// What a file and those that it includes say of one setting.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    assignments: Vec<Assignment>,
    /// Included files that could not be read: they may say more.
    pub unread: Vec<PathBuf>,
}

impl NixConf {
    pub fn parse(text: &str) -> Self {
        Self { lines: text.split_inclusive('\n').map(str::to_owned).collect() }
    }

    pub fn text(&self) -> String {
        self.lines.concat()
    }

    /// What this says of `setting`, with the files that it includes; `path` is where it stands, for relative ones.
    pub fn said(&self, setting: Setting, path: &Path) -> Said {
        let mut said = Said::default();
        self.say(setting, path, &mut said);
        said
    }

    /// The same, after what other files have said.
    pub fn say(&self, setting: Setting, path: &Path, said: &mut Said) {
        self.walk(path, 0, &mut |file, line, met| match met {
            Met::Set { name, adds, values } if setting.names().contains(&name) => {
                let values = values.iter().map(|&value| value.to_owned()).collect();
                said.assignments.push(Assignment { adds, values, file: file.to_owned(), line });
            }
            Met::Unread { path, .. } => said.unread.push(path.to_owned()),
            _ => {}
        });
    }

    /// What Nix would complain of. The text of lines is not repeated: it may hold a secret.
    pub fn problems(&self, path: &Path) -> Vec<String> {
        let mut problems = Vec::new();
        self.walk(path, 0, &mut |file, line, met| {
            let place = format!("{}:{}", file.display(), line + 1);
            match met {
                Met::Set { .. } => {}
                Met::Unread { path, why } => {
                    problems.push(format!("{place}: {} cannot be read: {why}", path.display()))
                }
                Met::Circle => problems.push(format!("{place}: this include leads in a circle")),
                Met::Odd => problems.push(format!("{place}: this line is no setting")),
            }
        });
        problems
    }

    /// Every statement, in the order in which Nix reads them.
    fn walk(&self, path: &Path, depth: usize, meet: &mut dyn FnMut(&Path, usize, Met<'_>)) {
        for (index, line) in self.lines.iter().enumerate() {
            match statement(line) {
                None => {}
                Some(Statement::Odd) => meet(path, index, Met::Odd),
                Some(Statement::Set { name, adds, values }) => {
                    meet(path, index, Met::Set { name, adds, values: &values });
                }
                Some(Statement::Include { .. }) if depth == DEEPEST => meet(path, index, Met::Circle),
                Some(Statement::Include { path: included, must_be_there }) => {
                    let included = path.parent().unwrap_or(Path::new("/")).join(included);
                    // As Nix: what it goes by is ASCII, whatever stands beside it.
                    match std::fs::read(&included) {
                        Ok(bytes) => {
                            Self::parse(&String::from_utf8_lossy(&bytes)).walk(&included, depth + 1, meet);
                        }
                        Err(error) if error.kind() == io::ErrorKind::NotFound && !must_be_there => {}
                        Err(why) => meet(path, index, Met::Unread { path: &included, why }),
                    }
                }
            }
        }
    }

    /// Adds one value to a list: to the last line that adds to it, unless something replaces the list after that.
    pub fn add(&mut self, setting: Setting, value: &str, path: &Path) {
        let line = match self.said(setting, path).assignments.last() {
            Some(last) if last.adds && last.file == path => self.lines.get_mut(last.line),
            _ => None,
        };
        let Some(line) = line else { return self.append(&format!("extra-{} = {value}", setting.name())) };
        let statement = line.split('#').next().unwrap_or_default().trim_end().len();
        line.insert_str(statement, &format!(" {value}"));
    }

    /// Puts `new` where the word `old` stands in this line, or takes it away.
    fn replace(&mut self, line: usize, old: &str, new: Option<&str>) {
        let Some(line) = self.lines.get_mut(line) else { return };
        let mut from = 0;
        for word in line.clone().split_inclusive(BLANKS) {
            let length = word.trim_end_matches(BLANKS).len();
            if &word[..length] == old {
                match new {
                    Some(new) => line.replace_range(from..from + length, new),
                    // With the blank before it.
                    None => line.replace_range(from.saturating_sub(1)..from + length, ""),
                }
                return;
            }
            from += word.len();
        }
    }

    /// One value for those that `is_same` tells of, each of which stands in this file, which is at `path`.
    pub fn unite(&mut self, setting: Setting, path: &Path, is_same: impl Fn(&str) -> bool, new: &str) {
        let mut new = Some(new);
        for assignment in self.said(setting, path).in_effect().iter().filter(|assignment| assignment.file == path) {
            for old in assignment.values.iter().filter(|value| is_same(value)) {
                self.replace(assignment.line, old, new.take());
            }
        }
    }

    /// One more line at the end, in the file's own kind of line ends.
    pub fn append(&mut self, statement: &str) {
        let end = match self.lines.first() {
            Some(line) if line.ends_with("\r\n") => "\r\n",
            _ => "\n",
        };
        if let Some(last) = self.lines.last_mut().filter(|last| !last.ends_with('\n')) {
            last.push_str(end);
        }
        self.lines.push(format!("{statement}{end}"));
    }

    /// Whether it includes a file of this name.
    pub fn includes(&self, name: &str) -> Option<&str> {
        self.lines.iter().find_map(|line| match statement(line)? {
            Statement::Include { path, .. } if Path::new(path).file_name()? == name => Some(path),
            _ => None,
        })
    }
}

impl Said {
    /// Nothing that came before something that replaces it.
    fn in_effect(&self) -> &[Assignment] {
        let first = self.assignments.iter().rposition(|assignment| !assignment.adds).unwrap_or_default();
        self.assignments.get(first..).unwrap_or_default()
    }

    /// Values in effect, each with the file that says it.
    pub fn places(&self) -> impl Iterator<Item = (&Path, &str)> {
        self.in_effect().iter().flat_map(|assignment| {
            assignment.values.iter().map(move |value| (assignment.file.as_path(), value.as_str()))
        })
    }

    /// What is in effect; `None` where nobody says anything and Nix's default holds, with what is added to it.
    pub fn values(&self) -> (bool, Vec<&str>) {
        let replaced = self.assignments.iter().any(|assignment| !assignment.adds);
        (replaced, self.places().map(|(_, value)| value).collect())
    }
}

fn statement(line: &str) -> Option<Statement<'_>> {
    let mut words = line.split('#').next()?.split(BLANKS).filter(|word| !word.is_empty());
    let first = words.next()?;
    Some(match (first, words.next()) {
        ("include" | "!include", Some(path)) => Statement::Include { path, must_be_there: first == "include" },
        (_, Some("=")) => {
            let (adds, name) = first.strip_prefix("extra-").map_or((false, first), |name| (true, name));
            Statement::Set { name, adds, values: words.collect() }
        }
        _ => Statement::Odd,
    })
}
