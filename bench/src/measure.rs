//! One command from its start to its end: time, processor seconds and memory, as the kernel counts them.

use serde::Serialize;
use std::process::{Command, Stdio};
use std::time::Instant;
use wait4::Wait4 as _;

/// What a command took.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Cost {
    /// Seconds on the clock.
    pub wall: f64,
    /// User and system seconds of the process and of all the children that it has waited for.
    pub cpu: f64,
    /// The largest resident set of one process, in MiB.
    pub memory: f64,
}

/// Runs `command` with nothing to read; panics with its words when it fails.
pub fn measure(command: &mut Command) -> Cost {
    // Into files: a pipe that nobody reads would stop it.
    let said = tempfile::tempfile().expect("a temporary file");
    let output = || Stdio::from(said.try_clone().expect("a second handle"));
    command.stdin(Stdio::null()).stdout(output()).stderr(output());
    let since = Instant::now();
    let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let ended = child.wait4().expect("a child to wait for");
    let wall = since.elapsed().as_secs_f64();
    assert!(ended.status.success(), "{command:?}: {}\n{}", ended.status, text(said));
    let cpu = (ended.rusage.utime + ended.rusage.stime).as_secs_f64();
    Cost { wall, cpu, memory: ended.rusage.maxrss as f64 / f64::from(1 << 20) }
}

fn text(mut file: std::fs::File) -> String {
    use std::io::{Read as _, Seek as _};
    let mut bytes = Vec::new();
    file.rewind().expect("a file");
    file.read_to_end(&mut bytes).expect("a file");
    String::from_utf8_lossy(&bytes).into_owned()
}
