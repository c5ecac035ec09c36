//! `nix.conf` as Nix reads it, and lines added to it so that nothing else of it changes.
//!
//! Nix's rules (`AbstractConfig::applyConfig`): a line is a statement, `#` begins a comment anywhere, there are no
//! continuation lines and no quotes. `NAME = …` replaces what stood before and `extra-NAME = …` adds to it, so the order
//! counts, across included files too.

use std::io;
use std::path::{Path, PathBuf};

/// Deeper than this only a file that includes itself goes.
const DEEPEST: usize = 16;

/// A setting that loft adds to; the second name is its older one, which Nix still takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting {
    Substituters,
    TrustedPublicKeys,
    NetrcFile,
    TrustedUsers,
}

impl Setting {
    const fn names(self) -> &'static [&'static str] {
        match self {
            Self::Substituters => &["substituters", "binary-caches"],
            Self::TrustedPublicKeys => &["trusted-public-keys", "binary-cache-public-keys"],
            Self::NetrcFile => &["netrc-file"],
            Self::TrustedUsers => &["trusted-users"],
        }
    }

    pub const fn name(self) -> &'static str {
        self.names()[0]
    }
}

/// A file's own lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NixConf {
    lines: Vec<String>,
}

enum Statement<'t> {
    Set { name: &'t str, adds: bool, values: Vec<&'t str> },
    Include { path: &'t str },
}

/// One assignment to a setting, by whatever file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Assignment {
    adds: bool,
    values: Vec<String>,
    /// Line in the file that was asked about; `None` for one of an included file.
    line: Option<usize>,
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
        self.gather(setting, path, 0, &mut said);
        said
    }

    fn gather(&self, setting: Setting, path: &Path, depth: usize, said: &mut Said) {
        for (index, line) in self.lines.iter().enumerate() {
            match statement(line) {
                Some(Statement::Set { name, adds, values }) if setting.names().contains(&name) => {
                    let values = values.into_iter().map(str::to_owned).collect();
                    said.assignments.push(Assignment { adds, values, line: (depth == 0).then_some(index) });
                }
                Some(Statement::Include { path: included }) if depth < DEEPEST => {
                    let included = path.parent().unwrap_or(Path::new("/")).join(included);
                    match std::fs::read_to_string(&included) {
                        Ok(text) => Self::parse(&text).gather(setting, &included, depth + 1, said),
                        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                        Err(_) => said.unread.push(included),
                    }
                }
                _ => {}
            }
        }
    }

    /// Adds one value to a list: to the last line that adds to it, unless something replaces the list after that.
    pub fn add(&mut self, setting: Setting, value: &str, path: &Path) {
        let line = match self.said(setting, path).assignments.last() {
            Some(Assignment { adds: true, line, .. }) => line.and_then(|index| self.lines.get_mut(index)),
            _ => None,
        };
        let Some(line) = line else { return self.append(&format!("extra-{} = {value}", setting.name())) };
        let statement = line.split('#').next().unwrap_or_default().trim_end().len();
        line.insert_str(statement, &format!(" {value}"));
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
            Statement::Include { path } if Path::new(path).file_name()? == name => Some(path),
            _ => None,
        })
    }
}

impl Said {
    /// What is in effect; `None` where nobody says anything and Nix's default holds, with what is added to it.
    pub fn values(&self) -> (bool, Vec<&str>) {
        let mut replaced = false;
        let mut values = Vec::new();
        for assignment in &self.assignments {
            if !assignment.adds {
                replaced = true;
                values.clear();
            }
            values.extend(assignment.values.iter().map(String::as_str));
        }
        (replaced, values)
    }
}

fn statement(line: &str) -> Option<Statement<'_>> {
    let mut words = line.split('#').next()?.split([' ', '\t', '\n', '\r']).filter(|word| !word.is_empty());
    let first = words.next()?;
    let second = words.next()?;
    match first {
        "include" | "!include" => Some(Statement::Include { path: second }),
        _ if second != "=" => None,
        _ => {
            let (adds, name) = first.strip_prefix("extra-").map_or((false, first), |name| (true, name));
            Some(Statement::Set { name, adds, values: words.collect() })
        }
    }
}
