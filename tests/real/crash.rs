//! `kill -9` at random moments: what is visible is whole at every one of them, and a rerun completes it.

use crate::support::audit::Cache;
use crate::support::corpus::Corpus;
use crate::support::loft::{Loft, Pushed};
use crate::support::moments::Moments;
use crate::support::nix::{KeyPair, Nix};
use crate::support::place::Place;
use crate::support::process::end_of;
use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const KILLS: u32 = 50;

/// A fresh cache for one round, in the same place.
struct Round<'a> {
    corpus: &'a Corpus,
    key: &'a KeyPair,
    to: String,
    environment: Vec<(&'static str, String)>,
    loft: Loft,
}

impl Round<'_> {
    fn command(&self) -> Command {
        let mut command = self.loft.push_command(&self.corpus.store, &[&self.corpus.root]);
        command.args(["--to", &self.to, "--signing-key"]).arg(self.key.secret_file());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Pushes, and kills the process after `moment` unless it ended before. Says whether it was killed.
    fn push_and_kill(&self, moment: Duration) -> bool {
        let mut child = self
            .command()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("loft starts");
        std::thread::sleep(moment);
        let killed = matches!(child.try_wait(), Ok(None));
        child.kill().expect("SIGKILL");
        child.wait().expect("its end");
        killed
    }

    fn push(&self) -> Pushed {
        Pushed::read(end_of(&mut self.command())).expect_success()
    }
}

fn killed_at_any_moment<'a>(
    corpus: &Corpus,
    key: &KeyPair,
    round: impl Fn(u32) -> (String, Vec<(&'static str, String)>),
    cache: impl Fn(u32) -> Cache<'a>,
    substituter: impl Fn(u32) -> String,
) {
    let start = |number| {
        let (to, environment) = round(number);
        Round { corpus, key, to, environment, loft: Loft::new() }
    };
    let since = Instant::now();
    start(0).push();
    // How long a push takes; shortened whenever one ended before its moment came.
    let mut whole = since.elapsed();
    let closure = corpus.store.closure(&[&corpus.root]);

    let (mut moments, mut number, mut killed, mut halfway) = (Moments::new(), 0, 0, 0);
    while killed < KILLS {
        number += 1;
        assert!(number <= 4 * KILLS, "only {killed} of {number} pushes were still running when they were to be killed");
        let round = start(number);
        let moment = moments.next(whole);
        if !round.push_and_kill(moment) {
            whole = whole.mul_f64(0.9);
            continue;
        }
        killed += 1;
        let cache = cache(number);
        let none = BTreeSet::new();
        assert_eq!(cache.violations(&none), Vec::<String>::new(), "killed after {moment:?}");
        let visible = cache.narinfos().len();
        halfway += u32::from(visible > 0 && visible < closure.len());
        // The same machine with its ledger, and now and then another one.
        let rerun = if number % 3 == 0 { start(number).push() } else { round.push() };
        assert_eq!(rerun.number("pushed") + rerun.number("present"), closure.len() as u64);
        assert_eq!(cache.violations(&none), Vec::<String>::new(), "rerun after a kill at {moment:?}");
        assert_eq!(cache.narinfos().into_keys().collect::<Vec<_>>(), closure, "rerun after a kill at {moment:?}");
    }
    println!("{killed} kills in {number} pushes, {halfway} with a part of the closure visible");
    assert!(halfway > 0, "no kill came between the first narinfo and the last: the moments are badly chosen");
    Nix::installed().fetch(&substituter(number), &[&corpus.root], &key.public);
}

#[test]
#[ignore = "needs Nix: ./test --full"]
fn long_kills_while_pushing_to_a_folder() {
    let (corpus, place) = (Corpus::odd(), Place::folder());
    let key = Nix::installed().generate_key("crash-1");
    let Place::Folder(folder) = &place else { unreachable!() };
    let below = |number: u32| folder.path().join(number.to_string());
    let url = |number: u32| format!("file://{}", below(number).display());
    killed_at_any_moment(&corpus, &key, |number| (url(number), Vec::new()), |number| Cache::Folder(below(number)), url);
}

#[test]
#[ignore = "needs Garage: ./test --full"]
fn long_kills_while_pushing_to_garage() {
    let corpus = Corpus::odd();
    let key = Nix::installed().generate_key("crash-1");
    let place = Place::garage();
    let bucket = place.bucket().unwrap();
    let round = |number: u32| {
        let environment = bucket.environment().map(|(name, value)| (name, value.to_owned()));
        (bucket.url().replace('?', &format!("/round-{number}?")), environment.to_vec())
    };
    let cache = |number: u32| Cache::Below(bucket, format!("round-{number}/"));
    killed_at_any_moment(&corpus, &key, round, cache, |number| format!("{}/round-{number}", place.substituter()));
}
