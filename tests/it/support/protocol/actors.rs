//! Who takes part: pushers and pruners, each the library's own code on a bucket that waits.

use super::ask::{Answer, Ask, at_once};
use super::machine::{Machine, Start};
use super::port::Port;
use super::shelf::Shelf;
use crate::support::memory::Memory;
use crate::support::time::TestClock;
use crate::support::world;
use loft::bucket::{Bucket, Key, Kind, ObjectInfo, Prefix};
use loft::ledger::Ledger;
use loft::nix::{PathHash, StorePath};
use loft::plan::Request;
use loft::prune;
use loft::push::{self, Interrupt, Options};
use loft::report::Silent;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use ulid::Ulid;

/// What became of a process.
#[derive(Clone)]
pub enum Ended {
    /// It promised that these are there, for as long as retention says.
    Promised(Vec<PathHash>),
    /// It did what it does, or said why not; nobody may rely on anything.
    Over(String),
    /// It goes on as another process, which starts from nothing but a value.
    Then(Next),
}

/// How a process goes on.
#[derive(Clone)]
pub struct Next {
    /// All that the rest depends on: two with the same key go on in the same way.
    pub key: String,
    pub start: Start<Ended>,
}

impl fmt::Debug for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Promised(paths) => write!(f, "success, {} paths promised", paths.len()),
            Self::Over(text) => f.write_str(text),
            Self::Then(next) => write!(f, "goes on with {}", next.key),
        }
    }
}

/// What stands between a process and its bucket.
pub type Wrap = Arc<dyn Fn(Arc<Port>) -> Arc<dyn Bucket> + Send + Sync>;

/// What a process can see of an answer, given the store's time; told apart for requests that are no choice.
pub type Lens = fn(&Ask, Answer, SystemTime, bool) -> Answer;

/// A process in a scenario.
#[derive(Clone)]
pub struct Actor {
    pub name: String,
    pub start: Start<Ended>,
    /// What the process can see of an answer.
    pub lens: Lens,
    /// Whether time passes for it.
    pub clock_stands: bool,
}

/// Nothing between them.
pub fn plain() -> Wrap {
    Arc::new(|port| port)
}

/// Pushes the closures of `roots`, with an empty ledger.
pub fn pusher(name: &str, shelf: &Arc<Shelf>, roots: &[StorePath], options: &Options, wrap: Wrap) -> Actor {
    pusher_who_knows(name, shelf, roots, options, wrap, fresh_ledger())
}

/// What a process knows already when it starts.
pub type Knowledge = Arc<dyn Fn() -> Arc<Ledger> + Send + Sync>;

pub fn fresh_ledger() -> Knowledge {
    Arc::new(|| Arc::new(Ledger::in_memory()))
}

/// Pushes the closures of `roots`.
pub fn pusher_who_knows(
    name: &str,
    shelf: &Arc<Shelf>,
    roots: &[StorePath],
    options: &Options,
    wrap: Wrap,
    knowledge: Knowledge,
) -> Actor {
    let closure: Vec<PathHash> = shelf.closure(roots).iter().map(StorePath::hash_part).collect();
    let (shelf, roots, options) = (shelf.clone(), roots.to_vec(), options.clone());
    let start: Start<Ended> = Arc::new(move |port, clock| {
        let ends = push::Ends {
            store: shelf.clone(),
            bucket: wrap(port.clone()),
            ledger: knowledge(),
            clock,
            report: port,
            requests: Arc::default(),
        };
        let (options, request, closure) = (options.clone(), Request::Closures(roots.clone()), closure.clone());
        Box::pin(async move {
            match push::run(&ends, &options, request).await {
                Ok(summary) if summary.failed + summary.interrupted == 0 => Ended::Promised(closure),
                Ok(summary) => Ended::Over(format!("{} pushed, {} failed", summary.pushed, summary.failed)),
                Err(error) => Ended::Over(loft::remedy::chain(&error)),
            }
        })
    });
    Actor { name: name.to_owned(), start, lens: pusher_lens, clock_stands: false }
}

/// Prunes once, with an empty ledger.
pub fn pruner(name: &str, options: &prune::Options, wrap: Wrap) -> Actor {
    pruner_who_knows(name, options, wrap, fresh_ledger())
}

/// Prunes once.
pub fn pruner_who_knows(name: &str, options: &prune::Options, wrap: Wrap, knowledge: Knowledge) -> Actor {
    let options = prune::Options { who: name.to_owned(), ..options.clone() };
    let start: Start<Ended> = Arc::new(move |port, clock| {
        let (ends, options) = (prune_ends(wrap(port), clock, knowledge()), options.clone());
        Box::pin(async move { Ended::Over(told(pruned(&ends, &options).await)) })
    });
    Actor { name: name.to_owned(), start, lens: pruner_lens, clock_stands: false }
}

/// Undoes a sweep.
pub fn undoer(name: &str, sweep: Ulid, options: &prune::Options, wrap: Wrap) -> Actor {
    let options = prune::Options { who: name.to_owned(), ..options.clone() };
    let start: Start<Ended> = Arc::new(move |port, clock| {
        let (ends, options) = (prune_ends(wrap(port), clock, Arc::new(Ledger::in_memory())), options.clone());
        Box::pin(async move {
            let mut undone = prune::Undone::default();
            let result = prune::undo(&ends, &options, sweep, &mut undone).await;
            Ended::Over(told(result.map(|()| format!("{undone:?}"))))
        })
    });
    Actor { name: name.to_owned(), start, lens: pruner_lens, clock_stands: false }
}

pub fn prune_ends(bucket: Arc<dyn Bucket>, clock: Arc<TestClock>, ledger: Arc<Ledger>) -> prune::Ends {
    prune::Ends { bucket, ledger, clock, report: Arc::new(Silent) }
}

async fn pruned(ends: &prune::Ends, options: &prune::Options) -> Result<String, prune::PruneError> {
    let plan = prune::plan(ends, options).await?;
    let mut summary = prune::Summary::default();
    prune::carry_out(ends, options, plan, &mut summary).await?;
    Ok(format!("{summary:?}"))
}

fn told(result: Result<String, prune::PruneError>) -> String {
    result.unwrap_or_else(|error| loft::remedy::chain(&error))
}

pub fn prune_options(retention: Duration) -> prune::Options {
    prune::Options {
        retention,
        max_size: None,
        nar_grace: prune::NAR_GRACE,
        remove_most: true,
        dry_run: false,
        who: String::new(),
        interrupt: Interrupt::default(),
    }
}

/// One encoder, so that the number of cores does not matter.
pub fn push_options(who: &str) -> Options {
    Options { upload_threads: 1.try_into().unwrap(), who: who.to_owned(), trust_ledger: true, ..world::options() }
}

/// A push looks at nothing but which narinfos there are (`push::presence`), so two buckets that
/// differ elsewhere look the same to it.
fn pusher_lens(ask: &Ask, answer: Answer, _: SystemTime, _: bool) -> Answer {
    match answer {
        Answer::Objects { mut objects, next } if ask.on() == Prefix::all().as_str() => {
            objects.retain(|object| matches!(object.key.kind(), Kind::NarInfo(_)));
            for object in &mut objects {
                object.modified = SystemTime::UNIX_EPOCH;
                object.etag.clear();
                object.size = 0;
            }
            Answer::Objects { objects, next }
        }
        Answer::Info(Some(mut info)) if matches!(info.key.kind(), Kind::NarInfo(_)) => {
            info.modified = SystemTime::UNIX_EPOCH;
            info.etag.clear();
            info.size = 0;
            Answer::Info(Some(info))
        }
        answer => answer,
    }
}

/// A prune passes over what lies beside narinfos in the listing of all (`prune::contents`), over NARs
/// that are younger than a day, and over sweeps that others may still be at when it looks for what was
/// left behind.
fn pruner_lens(ask: &Ask, answer: Answer, now: SystemTime, is_private: bool) -> Answer {
    let Answer::Objects { mut objects, next } = answer else { return answer };
    let is_older = |object: &ObjectInfo, age: Duration| now.duration_since(object.modified).unwrap_or_default() > age;
    match ask.on() {
        "" => objects.retain(|object| matches!(object.key.kind(), Kind::NarInfo(_))),
        "nar/" => objects.retain(|object| is_older(object, Duration::from_secs(86_400))),
        "loft/v1/sweep/" if is_private => objects.retain(|object| is_older(object, push::SWEEP_LIFE)),
        _ => {}
    }
    Answer::Objects { objects, next }
}

/// Runs a process alone on `bucket`, by the bucket's clock.
pub fn run_alone(actor: &Actor, bucket: &Memory) -> Ended {
    let now = || at_once(bucket.now()).unwrap();
    let mut start = actor.start.clone();
    loop {
        let clock = TestClock::default();
        clock.set_wall(now());
        let mut machine = Machine::start(&actor.name, clock, now(), &start);
        let ended = loop {
            if let Some(ended) = machine.result() {
                break ended;
            }
            let ask = machine.waiting().remove(0);
            machine.answer(&ask, ask.carry_out(bucket), now());
        };
        match ended {
            Ended::Then(next) => start = next.start,
            ended => return ended,
        }
    }
}

/// Keys that everybody reads and nobody writes once a bucket is in use.
pub fn is_settled_early(key: &str) -> bool {
    key == Key::bucket_record().as_str() || key == Key::cache_info().as_str()
}
