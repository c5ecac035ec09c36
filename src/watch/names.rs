//! Which registered paths are pushed by themselves.

use crate::nix::StorePath;

/// Whether a path that was registered is worth pushing for its own sake.
///
/// Derivations, lock files and names of work in progress are not. Where something that is pushed
/// refers to one it goes along all the same: a cache without it would promise what it cannot keep.
pub fn is_pushed(path: &StorePath) -> bool {
    let name = path.name();
    let unwanted = [".drv", ".lock", ".tmp", ".chroot"];
    !unwanted.iter().any(|ending| name.ends_with(ending)) && !name.starts_with(".tmp")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_and_outputs_are_pushed_and_work_in_progress_is_not() {
        let named = |name: &str| StorePath::parse(&format!("{}-{name}", "a".repeat(32))).unwrap();
        for name in ["hello-2.12", "source", "hello-2.12.tar.gz", "locked", "drv", "a.drv-b", "tmp"] {
            assert!(is_pushed(&named(name)), "{name}");
        }
        for name in ["hello-2.12.drv", "flake.lock", "hello.tmp", "hello.drv.chroot", "hello.lock"] {
            assert!(!is_pushed(&named(name)), "{name}");
        }
    }
}
