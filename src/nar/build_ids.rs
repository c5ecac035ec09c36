//! The files with debug information in a NAR, by where they are: as Nix finds them for `index-debug-info`.

use super::observe::Observe;
use crate::nix::BuildId;

/// See the module's head.
#[derive(Default)]
pub(super) struct BuildIds {
    /// From the root to the node under way.
    names: Vec<Vec<u8>>,
    found: Vec<BuildId>,
}

impl BuildIds {
    pub fn finish(self) -> Vec<BuildId> {
        self.found
    }
}

impl Observe for BuildIds {
    fn enter(&mut self, name: &[u8]) {
        self.names.push(name.to_owned());
    }
    fn directory(&mut self) {}
    fn end_of_directory(&mut self) {
        self.names.pop();
    }
    fn symlink(&mut self, _target: &[u8]) {
        self.names.pop();
    }
    fn regular(&mut self, _executable: bool, _size: u64, _offset: u64) {
        self.found.extend(BuildId::of_file(&self.names));
        self.names.pop();
    }
}
