//! What a NAR consists of, noted down while it is written: for readers that want to know without fetching it.

use super::build_ids::BuildIds;
use super::listing::{Listing, NoListing};
use crate::nix::BuildId;
use bytes::Bytes;

/// Is told the tree in the NAR's order. After `enter` comes one node: a file, a symlink, or a directory with its entries
/// and its end. The root has no `enter`.
pub(super) trait Observe {
    fn enter(&mut self, name: &[u8]);
    fn directory(&mut self);
    fn end_of_directory(&mut self);
    fn symlink(&mut self, target: &[u8]);
    /// `offset` is that of the contents in the NAR.
    fn regular(&mut self, executable: bool, size: u64, offset: u64);
}

/// What to note down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wanted {
    pub listing: bool,
    pub build_ids: bool,
}

impl Wanted {
    pub fn is_nothing(self) -> bool {
        self == Self::default()
    }
}

/// What was noted down; empty where it was not wanted.
#[derive(Debug, Default)]
pub struct Observed {
    /// The content of the `.ls` object.
    pub listing: Option<Result<Bytes, NoListing>>,
    /// Of the files with debug information.
    pub build_ids: Vec<BuildId>,
}

pub(super) struct Observer {
    listing: Option<Listing>,
    build_ids: Option<BuildIds>,
}

impl Observer {
    pub fn new(wanted: Wanted) -> Self {
        Self { listing: wanted.listing.then(Listing::default), build_ids: wanted.build_ids.then(BuildIds::default) }
    }

    pub fn finish(self) -> Observed {
        Observed {
            listing: self.listing.map(Listing::finish),
            build_ids: self.build_ids.map(BuildIds::finish).unwrap_or_default(),
        }
    }

    fn each(&mut self) -> impl Iterator<Item = &mut dyn Observe> {
        let listing = self.listing.as_mut().map(|listing| listing as &mut dyn Observe);
        listing.into_iter().chain(self.build_ids.as_mut().map(|ids| ids as &mut dyn Observe))
    }
}

impl Observe for Observer {
    fn enter(&mut self, name: &[u8]) {
        self.each().for_each(|observer| observer.enter(name));
    }
    fn directory(&mut self) {
        self.each().for_each(Observe::directory);
    }
    fn end_of_directory(&mut self) {
        self.each().for_each(Observe::end_of_directory);
    }
    fn symlink(&mut self, target: &[u8]) {
        self.each().for_each(|observer| observer.symlink(target));
    }
    fn regular(&mut self, executable: bool, size: u64, offset: u64) {
        self.each().for_each(|observer| observer.regular(executable, size, offset));
    }
}
