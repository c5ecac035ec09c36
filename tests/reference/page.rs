//! Pages of docs/reference, which are made from the source: how they are written, and how they are compared.

use std::path::Path;

/// Set by tests/tools/reference, which writes the pages anew.
const WRITE: &str = "LOFT_WRITE_REFERENCE";
const WIDTH: usize = 118;

/// A page of Markdown that grows from above.
#[derive(Default)]
pub struct Page {
    text: String,
}

impl Page {
    pub fn new(title: &str, source: &str) -> Self {
        let mut page = Self::default();
        page.text += &format!("<!-- Made from {source} by tests/tools/reference: change that, not this page. -->\n");
        page.heading(1, title);
        page
    }

    pub fn heading(&mut self, level: usize, text: &str) {
        self.text += &format!("\n{} {text}\n", "#".repeat(level));
    }

    pub fn paragraph(&mut self, text: &str) {
        self.text += &format!("\n{}\n", wrapped(text, ""));
    }

    /// Items below one another.
    pub fn list(&mut self, items: impl IntoIterator<Item = String>) {
        let items: String = items.into_iter().map(|item| format!("- {}\n", wrapped(&item, "  "))).collect();
        if !items.is_empty() {
            self.text += &format!("\n{items}");
        }
    }

    /// Of the block that follows.
    #[allow(dead_code)] // One of the two test programs has no blocks.
    pub fn comment(&mut self, text: &str) {
        self.text += &format!("\n<!-- {text} -->");
    }

    #[allow(dead_code)]
    pub fn block(&mut self, language: &str, lines: &str) {
        self.text += &format!("\n```{language}\n{}\n```\n", lines.trim_end());
    }

    pub fn finish(self) -> String {
        self.text
    }
}

/// The text in lines, each after the first below an indentation. Code is not cut.
fn wrapped(text: &str, indentation: &str) -> String {
    let mut lines = vec![String::new()];
    for word in words(text) {
        let line = lines.last_mut().expect("a line");
        let fits = line.chars().count() + 1 + word.chars().count() + indentation.len() <= WIDTH;
        match line.is_empty() {
            true => line.push_str(&word),
            false if fits => *line += &format!(" {word}"),
            false => lines.push(word),
        }
    }
    lines.join(&format!("\n{indentation}"))
}

/// What a line may end after: words, and code as a whole.
fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match words.last_mut().filter(|last| last.matches('`').count() % 2 == 1) {
            Some(last) => *last += &format!(" {word}"),
            None => words.push(word.to_owned()),
        }
    }
    words
}

/// Compares a page with the committed one, or writes it where that was asked for.
#[track_caller]
pub fn settle(name: &str, made: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference").join(name);
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&file, made).expect("docs/reference can be written");
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    if let Some(difference) = difference(&committed, made) {
        panic!(
            "docs/reference/{name} is not what the source says; write it anew by tests/tools/reference\n{difference}"
        );
    }
}

/// The first line that differs, if one does.
pub fn difference(committed: &str, made: &str) -> Option<String> {
    let (mut old, mut new) = (committed.lines(), made.lines());
    for number in 1.. {
        match (old.next(), new.next()) {
            (None, None) => break,
            (is, should) if is != should => {
                let shown = |line: Option<&str>| line.unwrap_or("(the page's end)").to_owned();
                return Some(format!("line {number} is:     {}\nbut should be: {}", shown(is), shown(should)));
            }
            _ => {}
        }
    }
    None
}
