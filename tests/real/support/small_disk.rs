//! A file system of its own that can be full.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Unmounted when dropped.
pub struct SmallDisk {
    at: PathBuf,
}

impl SmallDisk {
    pub fn mount(at: &Path, size: &str) -> Self {
        std::fs::create_dir_all(at).expect("folder");
        let mut mount = Command::new("mount");
        let mounted = mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "none"]).arg(at).status();
        assert!(mounted.is_ok_and(|status| status.success()), "this test mounts a file system: run it as root");
        Self { at: at.to_owned() }
    }

    pub fn fill(&self) {
        let filling = format!("of={}", self.at.join("filling").display());
        let ended = Command::new("dd").args(["if=/dev/zero", "bs=4096", "status=none", &filling]).output();
        assert!(!ended.expect("dd").status.success(), "it is not full");
    }

    pub fn make_room(&self) {
        std::fs::remove_file(self.at.join("filling")).expect("the filling");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Whoever still has a file there keeps it until they end.
        drop(Command::new("umount").arg("-l").arg(&self.at).status());
    }
}
