//! No page points at what is not there: files, and headings in them.

use crate::book_blocks::pages;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

fn tree() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What is text in Markdown: blocks of code, code within lines and comments are taken out.
fn prose(markdown: &str) -> String {
    let mut text = String::new();
    let mut in_block = false;
    for line in markdown.lines() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if !in_block {
            text.extend(line.split('`').step_by(2));
        }
        text.push('\n');
    }
    text
}

/// Targets of `[text](target)` and `![text](target)`, each with its line.
fn links(markdown: &str) -> Vec<(usize, String)> {
    let text = prose(markdown);
    let starts = text.match_indices("](").map(|(at, _)| at);
    let link = |at: usize| {
        let target = text[at + 2..].split(')').next().unwrap_or_default();
        (text[..at].matches('\n').count() + 1, target.to_owned())
    };
    starts.map(link).collect()
}

/// What a heading can be linked by, as mdBook and GitHub make it.
fn anchors(markdown: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    let mut seen = BTreeMap::new();
    let mut in_block = false;
    for line in markdown.lines() {
        if line.starts_with("```") {
            in_block = !in_block;
        }
        let text = line.trim_start_matches('#');
        if in_block || text.len() == line.len() || !text.starts_with(' ') {
            continue;
        }
        let kept = text.trim().chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        let anchor: String = kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect();
        // The second of a name is another one.
        let number = seen.entry(anchor.clone()).and_modify(|number| *number += 1).or_insert(0);
        anchors.insert(if *number == 0 { anchor } else { format!("{anchor}-{number}") });
    }
    anchors
}

/// Every link of `page` that leads nowhere, among pages and files that are there.
fn dead(page: &Path, markdown: &str, texts: &BTreeMap<PathBuf, String>) -> Vec<String> {
    let folder = page.parent().unwrap_or(Path::new(""));
    let mut dead = Vec::new();
    for (line, target) in links(markdown) {
        if target.contains("://") {
            continue;
        }
        let (file, anchor) = target.split_once('#').map_or((target.as_str(), None), |(file, it)| (file, Some(it)));
        let file = if file.is_empty() { page.to_owned() } else { normal(&folder.join(file)) };
        let is_there = texts.contains_key(&file) || tree().join(&file).exists();
        let has = |anchor: &str| texts.get(&file).is_none_or(|text| anchors(text).contains(anchor));
        // The book is docs/ alone: what it links to outside of it would be missing there.
        let leaves_book = page.starts_with("docs") && !file.starts_with("docs");
        if !is_there || !anchor.is_none_or(has) || leaves_book {
            dead.push(format!("{}:{line}: {target}", page.display()));
        }
    }
    dead
}

/// Without `..`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(normal.pop()),
            Component::CurDir => {}
            part => normal.push(part),
        }
    }
    normal
}

fn texts() -> BTreeMap<PathBuf, String> {
    pages().into_iter().collect()
}

#[test]
fn every_link_leads_somewhere() {
    let texts = texts();
    let found: usize = texts.values().map(|text| links(text).len()).sum();
    assert!(found > 80, "only {found} links were found");
    let dead: Vec<String> = texts.iter().flat_map(|(page, text)| dead(page, text, &texts)).collect();
    assert!(dead.is_empty(), "{}", dead.join("\n"));
}

#[test]
fn dead_links_are_found() {
    let page = Path::new("docs/page.md");
    let mut texts = texts();
    for (text, count) in [
        ("see [it](no-such-page.md)", 1),
        ("see [it](ci.md)", 0),
        ("see [it](ci.md#no-such-heading) and [that](faq.md)", 1),
        ("see [it](checking.md#signing-what-is-there-loft-sign)", 0),
        ("# A heading\n[here](#a-heading) and [there](#another)", 1),
        ("![picture](no-such-picture.svg)", 1),
        ("![picture](picture.svg)", 0),
        ("[out](../Cargo.toml)", 1),
        ("[out](https://example.org/no)", 0),
        ("```\n[code](no.md)\n```\n`[code](no.md)`", 0),
        ("[over\nlines](no.md)", 1),
        ("[up](reference/../ci.md)", 0),
        ("## It\n## It\n## It\n[a](#it) [b](#it-2) [c](#it-3)", 1),
    ] {
        texts.insert(page.to_owned(), text.to_owned());
        assert_eq!(dead(page, text, &texts).len(), count, "{text}");
    }
}

/// Each page of docs/ is in the book, once.
#[test]
fn every_page_is_in_the_summary() {
    let summary = std::fs::read_to_string(tree().join("docs/SUMMARY.md")).unwrap();
    let mut listed: Vec<PathBuf> =
        links(&summary).into_iter().map(|(_, target)| Path::new("docs").join(target)).collect();
    listed.sort();
    let is_page = |page: &PathBuf| page.starts_with("docs") && !page.ends_with("SUMMARY.md");
    assert_eq!(listed, pages().into_iter().map(|(page, _)| page).filter(is_page).collect::<Vec<_>>());
}
