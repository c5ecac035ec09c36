//! Hash parts of store paths in a NAR's bytes, found as Nix finds references when it registers a build.

use super::tables::Tables;
use crate::nix::{PathHash, base32};
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

const LEN: usize = 32;
/// More names in one finding help nobody.
const NAMED: usize = 8;

/// Takes the bytes of one NAR, piece by piece.
pub struct Scan {
    tables: Arc<Tables>,
    is_digit: [bool; 256],
    /// The last digits, at most `LEN`.
    tail: [u8; LEN],
    run: usize,
    /// References not seen yet.
    pub unseen: HashSet<PathHash>,
    listed: HashSet<PathHash>,
    /// Visible paths that are named and not listed; the first few.
    pub unlisted: BTreeSet<PathHash>,
}

impl Scan {
    pub fn new(tables: Arc<Tables>, own: PathHash, listed: HashSet<PathHash>) -> Self {
        let mut is_digit = [false; 256];
        base32::digits().for_each(|digit| is_digit[digit as usize & 255] = true);
        let unseen = listed.clone();
        // A path that names itself need not say so for any client's sake.
        let listed = listed.into_iter().chain([own]).collect();
        Self { tables, is_digit, tail: [0; LEN], run: 0, unseen, listed, unlisted: BTreeSet::new() }
    }

    pub fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if !self.is_digit[usize::from(*byte)] {
                self.run = 0;
                continue;
            }
            if self.run == LEN {
                self.tail.copy_within(1.., 0);
                self.run -= 1;
            }
            self.tail[self.run] = *byte;
            self.run += 1;
            if self.run == LEN {
                self.look();
            }
        }
    }

    fn look(&mut self) {
        let Some(hash) = std::str::from_utf8(&self.tail).ok().and_then(PathHash::parse) else { return };
        if self.listed.contains(&hash) {
            self.unseen.remove(&hash);
        } else if self.unlisted.len() < NAMED && self.tables.has(&hash) {
            self.unlisted.insert(hash);
        }
    }
}
