//! How much of a foreign text an error repeats: enough to find it, never a megabyte.

const MAX_LEN: usize = 200;

/// The beginning of `text`, marked where something is left out.
pub(super) fn excerpt(text: &str) -> String {
    if text.len() <= MAX_LEN {
        return text.to_owned();
    }
    format!("{}…", &text[..text.floor_char_boundary(MAX_LEN)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_between_characters() {
        assert_eq!(excerpt("short"), "short");
        let cut = excerpt(&"ä".repeat(1_000_000));
        assert_eq!(cut, format!("{}…", "ä".repeat(100)));
        assert_eq!(excerpt(&format!("a{}", "ä".repeat(199))), format!("a{}…", "ä".repeat(99)));
    }
}
