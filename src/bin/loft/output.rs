//! Results to stdout, talk to stderr; neither may bring the program down.

use crate::failure::{Failure, printable};
use std::io::{self, Write as _};
use std::panic::PanicHookInfo;

/// Human text, complete lines. A stderr that is gone is nobody's problem.
pub fn tell(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
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
