//! What is measured: a corpus, what the bucket and the client know already, and who takes part.

use crate::corpus::{Corpora, Corpus};
use crate::garage::Garage;
use crate::measure::{Cost, measure};
use crate::peer::{Home, Peer};
use crate::programs::Programs;
use crate::proxy::{Proxy, Seen};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    A,
    B,
    C,
}

/// What was there before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    /// An empty bucket, and a client that has never run.
    Nothing,
    /// All of it is in the bucket; the client has forgotten that.
    InBucket,
    /// All of it is in the bucket, and the client knows.
    Known,
    /// As `Known`, but for one new path that refers to the others.
    AllButOne,
}

pub struct Case {
    pub name: String,
    corpus: Name,
    before: Before,
    latency: Duration,
    pub peers: &'static [Peer],
}

/// One measured run.
#[derive(Debug, Clone, Serialize)]
pub struct Run {
    pub case: String,
    pub peer: Peer,
    pub round: u32,
    #[serde(flatten)]
    pub cost: Cost,
    /// By method.
    pub requests: BTreeMap<String, u64>,
    /// Bytes of all bodies that were sent.
    pub sent: u64,
}

pub fn all(latency: Duration) -> Vec<Case> {
    use Before::{AllButOne, InBucket, Known, Nothing};
    use Name::{A, B, C};
    use Peer::{Loft, LoftThreads, Nix, NixParallel, Rclone};
    let late = format!(", {} ms", latency.as_millis());
    let cases: [(String, Name, Before, Duration, &'static [Peer]); 8] = [
        ("A cold".into(), A, Nothing, Duration::ZERO, &[Loft, LoftThreads, Nix, Rclone]),
        ("B cold".into(), B, Nothing, Duration::ZERO, &[Loft, Nix, Rclone]),
        ("C cold".into(), C, Nothing, Duration::ZERO, &[Loft, LoftThreads, Nix, NixParallel, Rclone]),
        (format!("A cold{late}"), A, Nothing, latency, &[Loft, Nix]),
        (format!("B cold{late}"), B, Nothing, latency, &[Loft, Nix]),
        ("B again, known".into(), B, Known, Duration::ZERO, &[Loft, Nix]),
        ("B again, forgotten".into(), B, InBucket, Duration::ZERO, &[Loft, Nix]),
        ("B and one more, known".into(), B, AllButOne, Duration::ZERO, &[Loft, Nix]),
    ];
    let case = |(name, corpus, before, latency, peers)| Case { name, corpus, before, latency, peers };
    cases.into_iter().map(case).collect()
}

impl Case {
    pub fn run(&self, peer: Peer, round: u32, corpora: &Corpora, programs: &Programs) -> Run {
        let corpus: &Corpus = match self.corpus {
            Name::A => &corpora.a,
            Name::B => &corpora.b,
            Name::C => &corpora.c,
        };
        let garage = Garage::start(programs);
        let proxy = Proxy::start(&garage.address, self.latency);
        let mut home = Home::new();
        let push = |home: &Home, root: &str| measure(&mut peer.push(programs, home, corpus, root, &proxy.address));
        if self.before != Before::Nothing {
            push(&home, &corpus.root);
        }
        if self.before == Before::InBucket {
            home = Home::new();
        }
        proxy.take();
        let root = if self.before == Before::AllButOne { &corpus.one_more } else { &corpus.root };
        // Every file has been read before, for every peer, so that nobody is the first to warm the cache.
        corpus.warm();
        let cost = push(&home, root);
        let Seen { requests, bytes } = proxy.take();
        Run { case: self.name.clone(), peer, round, cost, requests, sent: bytes }
    }
}
