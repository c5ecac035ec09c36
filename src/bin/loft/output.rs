//! Results to stdout, talk to stderr; neither may bring the program down.

use crate::args::Color;
use crate::failure::{Failure, printable};
use std::io::{self, IsTerminal as _, Write as _};
use std::panic::PanicHookInfo;
use std::sync::OnceLock;

/// Whether `tell` may use colours; unset means no.
static COLOURS: OnceLock<bool> = OnceLock::new();

/// Words that begin a line, and their colours: red, yellow, green.
const BEGINNINGS: [(&str, &str); 5] =
    [("error:", "1;31"), ("failed:", "1;31"), ("warning:", "1;33"), ("interrupted:", "1;33"), ("  hint:", "1;32")];

/// Obeys the flag; by itself, `NO_COLOR` and the terminal.
pub fn choose_colours(color: Color) {
    let unwanted = || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let _ = COLOURS.set(match color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => io::stderr().is_terminal() && !unwanted(),
    });
}

/// Human text, complete lines. A stderr that is gone is nobody's problem.
pub fn tell(text: &str) {
    let coloured = match COLOURS.get() {
        Some(true) => text.split_inclusive('\n').map(colour).collect(),
        _ => text.to_owned(),
    };
    let _ = io::stderr().lock().write_all(coloured.as_bytes());
}

fn colour(line: &str) -> String {
    match BEGINNINGS.iter().find_map(|(word, code)| Some((line.strip_prefix(word)?, word, code))) {
        Some((rest, word, code)) => format!("\x1b[{code}m{word}\x1b[0m{rest}"),
        None => line.to_owned(),
    }
}

/// A result, complete lines. A reader that has seen enough (`| head`) is fine, and since SIGPIPE stays ignored it
/// cannot kill a push half-way; a full disk is not fine.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::new(OutputError { source: error })),
        _ => Ok(()),
    }
}

#[derive(Debug, thiserror::Error)]
#[error("Could not write the result to stdout")]
struct OutputError {
    source: io::Error,
}

/// One line. Only messages that stand in the program's text are told: a formatted one may hold a secret.
pub fn tell_panic(info: &PanicHookInfo<'_>) {
    let place = info.location().map(|at| format!(" at {}:{}", at.file(), at.line())).unwrap_or_default();
    let what = info.payload().downcast_ref::<&'static str>().map(|text| format!(": {text}")).unwrap_or_default();
    tell(&printable(&format!("error: loft has a bug{place}{what}; please report it with what you ran\n")));
}

/// As a shell takes it for one word that means itself.
pub fn shell_word(text: &str) -> String {
    let is_plain = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-._/:%".contains(c));
    if is_plain { text.to_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}
