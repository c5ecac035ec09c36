//! The blocks of code in pages for people, and what is done with each.
//!
//! A block's language says what reads it. On the line before, a comment may say why it is not read or run:
//! `<!-- not run: needs a flake -->`, `<!-- not loft.toml: Garage's own file -->`.

use std::path::{Path, PathBuf};

/// A fenced block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    pub page: PathBuf,
    /// Of the fence.
    pub line: usize,
    pub language: String,
    /// The comment before it.
    pub mark: Option<String>,
    pub text: String,
}

/// What is done with a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// loft's own reader takes it, with unknown keys as errors.
    Configuration,
    /// TOML, of another program.
    Toml,
    Json,
    Yaml,
    /// Nix parses it.
    Nix,
    /// Nix knows every setting.
    NixConf,
    /// systemd verifies it.
    Unit,
    /// A shell runs it, and all succeeds.
    Run,
    /// A shell parses it, and loft the commands that call it.
    Commands,
    /// What something prints, or how something looks.
    Shown,
}

impl Block {
    pub fn place(&self) -> String {
        format!("{}:{}", self.page.display(), self.line)
    }

    /// Or what its writer has to say.
    pub fn class(&self) -> Result<Class, String> {
        let reason = |before: &str| self.mark.as_deref().and_then(|mark| mark.strip_prefix(before)).map(str::trim);
        let is_unit = self.text.lines().any(|line| line.trim() == "[Service]" || line.trim() == "[Timer]");
        let (class, exception) = match self.language.as_str() {
            "toml" if reason("not loft.toml:").is_some() => (Class::Toml, reason("not loft.toml:")),
            "toml" => (Class::Configuration, None),
            "sh" if reason("not run:").is_some() => (Class::Commands, reason("not run:")),
            "sh" => (Class::Run, None),
            "json" => (Class::Json, None),
            "yaml" => (Class::Yaml, None),
            "nix" => (Class::Nix, None),
            "ini" if is_unit => (Class::Unit, None),
            "ini" => (Class::NixConf, None),
            "text" => (Class::Shown, None),
            other => {
                let known = "sh, toml, json, yaml, nix, ini, or text for what is only shown";
                return Err(format!("{}: a block of {other:?}; its language must be one of {known}", self.place()));
            }
        };
        match (self.mark.as_deref(), exception) {
            (_, Some("")) => Err(format!("{}: the comment before it gives no reason", self.place())),
            (Some(mark), None) if mark.starts_with("not ") => {
                Err(format!("{}: \"{mark}\" is said of no block of {:?}", self.place(), self.language))
            }
            _ => Ok(class),
        }
    }
}

/// The blocks of a page.
pub fn blocks(page: &Path, markdown: &str) -> Vec<Block> {
    let mut found: Vec<Block> = Vec::new();
    let mut open: Option<(Block, usize)> = None;
    let mut before = "";
    for (index, line) in markdown.lines().enumerate() {
        let text = line.trim_start();
        match &mut open {
            Some((block, _)) if text.trim_end() == "```" => {
                found.push(block.clone());
                open = None;
            }
            Some((block, indentation)) => {
                // In a list a block stands as far right as its item.
                let start = (line.len() - text.len()).min(*indentation);
                block.text += &line[start..];
                block.text.push('\n');
            }
            None => {
                if let Some(language) = text.strip_prefix("```") {
                    let mark = before.trim().strip_prefix("<!--").and_then(|rest| rest.strip_suffix("-->"));
                    let block = Block {
                        page: page.to_owned(),
                        line: index + 1,
                        language: language.trim().to_owned(),
                        mark: mark.map(|mark| mark.trim().to_owned()),
                        text: String::new(),
                    };
                    open = Some((block, line.len() - text.len()));
                }
            }
        }
        before = line;
    }
    if let Some((block, _)) = open {
        panic!("{}: the block has no end", block.place());
    }
    found
}

/// Lines that Markdown takes for code because of four spaces before them; nobody could say what reads those.
#[allow(dead_code)] // One of the two test programs asks.
pub fn indented(markdown: &str) -> Vec<usize> {
    let (mut in_block, mut in_list, mut after_blank) = (false, false, true);
    let mut found = Vec::new();
    for (index, line) in markdown.lines().enumerate() {
        let text = line.trim_start();
        let begins_item =
            text.starts_with("- ") || text.split_once(". ").is_some_and(|(it, _)| it.parse::<u32>().is_ok());
        match line.len() - text.len() {
            _ if text.starts_with("```") => in_block = !in_block,
            _ if in_block || text.is_empty() => {}
            // Paragraphs of items stand as far right as these.
            4.. if after_blank && !in_list => found.push(index + 1),
            0 => in_list = begins_item,
            _ => {}
        }
        after_blank = text.is_empty();
    }
    found
}

/// Every page that people read, from the tree's top, with its text.
pub fn pages() -> Vec<(PathBuf, String)> {
    let tree = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = Vec::new();
    for folder in ["", "docs", "docs/reference", "bench"] {
        for entry in std::fs::read_dir(tree.join(folder)).expect("a folder of pages") {
            let name = entry.expect("a page").file_name().into_string().expect("a name");
            if name.ends_with(".md") {
                let page = Path::new(folder).join(name);
                let text = std::fs::read_to_string(tree.join(&page)).expect("a page");
                pages.push((page, text));
            }
        }
    }
    pages.sort();
    pages
}

/// The blocks of all pages.
pub fn all() -> Vec<Block> {
    pages().iter().flat_map(|(page, text)| blocks(page, text)).collect()
}

/// Those of one class.
pub fn of(class: Class) -> Vec<Block> {
    all().into_iter().filter(|block| block.class() == Ok(class)).collect()
}
