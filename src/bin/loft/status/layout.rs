//! Short sections: a label, then text beside it in a column of its own.

use crate::failure::printable;

const WIDTH: usize = 80;
const LABELS: usize = 11;

/// A page in the making.
#[derive(Default)]
pub struct Page(String);

impl Page {
    /// A line with a label, or none below the one before. Long text goes on in the same column.
    pub fn line(&mut self, label: &str, text: &str) {
        let text = printable(&text.replace('\n', " "));
        let words = text.trim_start();
        let indent = text.len() - words.len();
        let (mut label, mut line, mut is_empty) = (label, " ".repeat(indent), true);
        for word in words.split(' ') {
            // A word that is too long for any line is never cut: it may be what somebody wants to copy.
            if !is_empty && LABELS + line.chars().count() + 1 + word.chars().count() > WIDTH {
                self.put(label, &line);
                (label, line, is_empty) = ("", " ".repeat(indent + 2), true);
            }
            if !is_empty {
                line.push(' ');
            }
            line.push_str(word);
            is_empty = false;
        }
        self.put(label, &line);
    }

    /// Lines that are laid out already, under a heading.
    pub fn block(&mut self, heading: &str, lines: impl IntoIterator<Item = String>) {
        self.gap();
        self.0.push_str(heading);
        self.0.push('\n');
        for line in lines {
            self.0.push_str(printable(&line).trim_end());
            self.0.push('\n');
        }
    }

    pub fn gap(&mut self) {
        if !self.0.is_empty() {
            self.0.push('\n');
        }
    }

    pub fn finish(self) -> String {
        self.0
    }

    fn put(&mut self, label: &str, text: &str) {
        self.0.push_str(format!("{label:LABELS$}{text}").trim_end());
        self.0.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_stays_in_its_column_and_words_stay_whole() {
        let mut page = Page::default();
        page.line("Trouble", "bucket: Could not reach the server; check the endpoint and the network, or both\u{1b}");
        page.line("", &format!("  {}", "x".repeat(100)));
        assert_eq!(
            page.finish(),
            format!(
                "Trouble    bucket: Could not reach the server; check the endpoint and the\n             \
                 network, or both\\u{{1b}}\n             {}\n",
                "x".repeat(100)
            )
        );
    }
}
