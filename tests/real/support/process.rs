//! Running programs to their end.

use std::process::{Command, Stdio};

/// What a program said, and how it ended.
#[derive(Debug)]
pub struct Ended {
    /// The exit code; nothing when a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Runs a program to its end, whatever that is.
pub fn end_of(command: &mut Command) -> Ended {
    let output = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("cannot start {:?}: {error}", command.get_program()));
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Runs a program that must succeed, and gives its standard output.
#[track_caller]
pub fn stdout_of(command: &mut Command) -> String {
    let ended = end_of(command);
    if ended.code != Some(0) {
        panic!("{command:?} ended with {:?}\n{}\n{}", ended.code, ended.stdout, ended.stderr);
    }
    ended.stdout
}
