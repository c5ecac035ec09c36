//! Memory that a service gives back.
//!
//! glibc raises the size from which on it maps blocks by themselves each time one is freed. The parts of one
//! large NAR then come from a heap, of which up to 64 MiB may stay with the idle service for good. Naming the
//! usual size keeps it, but glibc listens to that only when a program starts. (musl, in static releases, maps large
//! blocks by themselves whatever was freed.)

use std::os::unix::process::CommandExt as _;
use std::process::Command;

const VARIABLE: &str = "MALLOC_MMAP_THRESHOLD_";
/// glibc's own, before it raises it.
const SIZE: &str = "131072";

/// Starts this program anew in its own process, with the same arguments, unless that was done or somebody else
/// has chosen. Where it does not work the service is a little larger.
pub fn settle() {
    if !cfg!(target_env = "gnu") || std::env::var_os(VARIABLE).is_some() {
        return;
    }
    let Ok(program) = std::env::current_exe() else { return };
    let mut arguments = std::env::args_os();
    let mut command = Command::new(program);
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    // Returns only where it failed.
    let _ = command.args(arguments).env(VARIABLE, SIZE).exec();
}
