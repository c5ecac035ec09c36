//! Calls of loft in shell scripts: the words that the shell would hand to it.

/// Every call, with `loft` as its first word. Variables and substitutions stay as they are written.
pub fn calls(script: &str) -> Vec<Vec<String>> {
    let script = script.replace("\\\n", " ");
    let mut calls = Vec::new();
    for (at, _) in script.match_indices("loft ") {
        let before = script[..at].trim_end_matches(' ');
        let line = before.rsplit('\n').next().unwrap_or_default().trim_start();
        // Where a command may begin: at a line's start, after what joins commands, within a substitution, or
        // after a word that takes a command.
        let begins = line.is_empty()
            || line.ends_with(['|', '&', ';', '('])
            || ["sudo", "$", "- run:", "run:", "-"].contains(&line);
        if begins && !is_quoted(before) {
            let words = words(&script[at..]);
            calls.push(words);
        }
    }
    calls
}

/// Whether the end of a text is within single quotes or a comment.
fn is_quoted(before: &str) -> bool {
    let line = before.rsplit('\n').next().unwrap_or_default();
    line.contains(" # ") || line.starts_with('#') || line.matches('\'').count() % 2 == 1
}

/// The words of the command at the beginning of a text.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '\'' => word.get_or_insert_default().extend(characters.by_ref().take_while(|c| *c != '\'')),
            '"' => {
                let word = word.get_or_insert_default();
                // A substitution within may hold quotes itself.
                let mut depth = 0;
                while let Some(c) = characters.next() {
                    match c {
                        '"' if depth == 0 => break,
                        '\\' => word.extend(characters.next()),
                        c => {
                            depth += i32::from(c == '(') - i32::from(c == ')');
                            word.push(c);
                        }
                    }
                }
            }
            '\\' => word.get_or_insert_default().extend(characters.next()),
            ' ' | '\t' => words.extend(word.take()),
            '#' if word.is_none() => break,
            '\n' | '|' | '&' | ';' | '<' | '>' | ')' => break,
            '$' if characters.peek() == Some(&'(') => {
                let word = word.get_or_insert_default();
                word.push('$');
                let mut depth = 0;
                for c in characters.by_ref() {
                    word.push(c);
                    depth += i32::from(c == '(') - i32::from(c == ')');
                    if depth == 0 {
                        break;
                    }
                }
            }
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[test]
fn calls_are_found() {
    let found = |script: &str| calls(script).into_iter().map(|words| words.join("\u{b7}")).collect::<Vec<_>>();
    for (script, expected) in [
        ("loft push ./result   # not this\n", vec!["loft·push·./result"]),
        ("nix path-info --all | loft push -", vec!["loft·push·-"]),
        ("loft push --to 's3://a?b=c&d=e' \\\n  ./result", vec!["loft·push·--to·s3://a?b=c&d=e·./result"]),
        ("nix-build --option k \"$(loft key show signing-key)\"", vec!["loft·key·show·signing-key"]),
        ("loft run -- sh -c 'nix-build && touch it' || [ -e it ]", vec!["loft·run·--·sh·-c·nix-build && touch it"]),
        ("sudo loft status; loft prune &\n", vec!["loft·status", "loft·prune"]),
        ("loft completions zsh >~/.zfunc/_loft", vec!["loft·completions·zsh"]),
        ("- run: loft check", vec!["loft·check"]),
        ("loft run --signing-key \"$DIR/key\" -- nix build", vec!["loft·run·--signing-key·$DIR/key·--·nix·build"]),
        (
            "loft check --read-data=$(( $(date +%s) % 30 ))/30 -q",
            vec!["loft·check·--read-data=$(( $(date +%s) % 30 ))/30·-q"],
        ),
        ("# loft push\ncp bin/loft /usr/bin\nls loft \n", vec![]),
    ] {
        assert_eq!(found(script), expected, "{script}");
    }
}
