//! Carrying out a plan: NARs largest first, narinfos as soon as they may.
//!
//! One loop owns the graph; tasks do the waiting. A path that fails takes its referrers with it,
//! each named; everything else goes on.

use super::error::{PathError, chain};
use super::lease::Lease;
use super::order::{Order, Ready};
use super::publish::{Published, publish};
use super::reuse;
use super::upload::{Memory, Uploaded, Uploader};
use super::{Ends, Options};
use crate::nix::{PathInfo, Sha256};
use crate::plan::Plan;
use crate::report::{Event, Outcome, Report};
use std::collections::{HashMap, VecDeque};
use std::num::NonZeroU64;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// A NAR from which on more than one thread may compress it.
const LARGE_NAR: u64 = 32 << 20;
/// Narinfos and small NARs are all waiting: many at once hide the distance to the bucket.
const MIN_REQUESTS: usize = 48;

/// The fate of each upload of the plan, told as it became known.
#[derive(Debug, Default)]
pub struct Fates {
    pub published: Vec<(usize, Published)>,
    pub failed: Vec<usize>,
    pub reused: u64,
}

/// One NAR to upload, for all the paths that have it.
struct Job {
    nar_size: u64,
    paths: Vec<usize>,
}

enum Done {
    Nar { paths: Vec<usize>, result: Result<Uploaded, PathError> },
    NarInfo { path: usize, result: Result<Published, PathError> },
}

/// Pushes the plan's uploads under `lease`.
pub async fn run(ends: &Ends, options: &Options, lease: Arc<Lease>, plan: &Plan) -> Fates {
    let mut run = Run::new(ends, options, lease, plan);
    run.start_reused(reuse::find(ends, options, plan).await);
    loop {
        run.start_jobs();
        let Some(done) = run.tasks.join_next().await else { break };
        match done {
            Ok(Done::Nar { paths, result: Ok(uploaded) }) => run.nar_landed(paths, uploaded),
            Ok(Done::Nar { paths, result: Err(error) }) => run.nar_failed(paths, &error),
            Ok(Done::NarInfo { path, result: Ok(published) }) => run.landed(path, published),
            Ok(Done::NarInfo { path, result: Err(error) }) => run.failed(path, &error),
            // A panic in a task: its path is settled below, since nothing told its fate.
            Err(error) => {
                let message = chain(&PathError::Task(error));
                run.report.event(Event::Warning { message: &message });
            }
        }
    }
    for path in run.order.unsettled() {
        run.failed(path, &PathError::Interrupted);
    }
    run.fates
}

struct Run<'a> {
    ends: &'a Ends,
    options: &'a Options,
    plan: &'a Plan,
    report: Arc<dyn Report>,
    lease: Arc<Lease>,
    uploader: Arc<Uploader>,
    infos: Arc<Vec<PathInfo>>,
    order: Order,
    jobs: VecDeque<Job>,
    /// NAR bytes of the jobs that have not started.
    ahead: u64,
    tasks: JoinSet<Done>,
    nars_under_way: usize,
    fates: Fates,
}

impl<'a> Run<'a> {
    fn new(ends: &'a Ends, options: &'a Options, lease: Arc<Lease>, plan: &'a Plan) -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let uploader = Uploader {
            bucket: ends.bucket.clone(),
            clock: ends.clock.clone(),
            report: ends.report.clone(),
            interrupt: options.interrupt.clone(),
            packing: options.packing,
            memory: Memory::new(options.memory_limit),
            encoders: Arc::new(Semaphore::new(encoders(options, cores))),
            requests: Arc::new(Semaphore::new(options.upload_threads.get().max(MIN_REQUESTS))),
        };
        let jobs = jobs(plan);
        Self {
            ends,
            options,
            plan,
            report: ends.report.clone(),
            lease,
            uploader: Arc::new(uploader),
            infos: Arc::new(plan.paths.iter().map(|planned| planned.info.clone()).collect()),
            order: Order::new(plan),
            ahead: jobs.iter().map(|job| job.nar_size).sum(),
            jobs,
            tasks: JoinSet::new(),
            nars_under_way: 0,
            fates: Fates::default(),
        }
    }

    /// Starts NARs while there is room. Encoders and memory have limits of their own; this one
    /// bounds the tasks.
    fn start_jobs(&mut self) {
        let room = self.options.upload_threads.get().max(MIN_REQUESTS);
        while self.nars_under_way < room && !self.options.interrupt.is_raised() {
            let Some(mut job) = self.jobs.pop_front() else { return };
            self.ahead -= job.nar_size;
            job.paths.retain(|path| !self.order.is_settled(*path));
            let Some(first) = job.paths.first().copied() else { continue };
            self.nars_under_way += 1;
            let (uploader, infos) = (self.uploader.clone(), self.infos.clone());
            let root = self.ends.store.location().real_path(&infos[first].path);
            let workers = self.workers(job.nar_size);
            let paths = job.paths;
            self.tasks.spawn(async move {
                let result = uploader.upload(&infos[first], root, workers).await;
                Done::Nar { paths, result }
            });
        }
    }

    /// Extra compression threads: none while other NARs keep the cores busy, all cores for one that
    /// is larger than its share of all that is left.
    fn workers(&self, nar_size: u64) -> u32 {
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as u64;
        let lone = nar_size >= LARGE_NAR && nar_size > self.ahead / cores.max(1);
        if lone && cores > 1 { cores as u32 } else { 0 }
    }

    fn start_reused(&mut self, found: HashMap<usize, Uploaded>) {
        for (path, uploaded) in found {
            for job in &mut self.jobs {
                job.paths.retain(|other| *other != path);
            }
            self.fates.reused += 1;
            if let Some(ready) = self.order.uploaded(path, uploaded) {
                self.start_publishing(ready);
            }
        }
    }

    fn nar_landed(&mut self, paths: Vec<usize>, uploaded: Uploaded) {
        self.nars_under_way -= 1;
        let shares: Vec<Uploaded> = paths.iter().skip(1).map(|_| uploaded.share()).collect();
        self.fates.reused += shares.len() as u64;
        // The first path is charged with the bytes that were sent.
        for (path, nar) in paths.into_iter().zip(std::iter::once(uploaded).chain(shares)) {
            if let Some(ready) = self.order.uploaded(path, nar) {
                self.start_publishing(ready);
            }
        }
    }

    fn nar_failed(&mut self, paths: Vec<usize>, error: &PathError) {
        self.nars_under_way -= 1;
        for path in paths {
            self.failed(path, error);
        }
    }

    fn start_publishing(&mut self, ready: Ready) {
        let (infos, lease) = (self.infos.clone(), self.lease.clone());
        let (uploader, keys) = (self.uploader.clone(), self.options.keys.clone());
        let dir = self.plan.store_dir.clone();
        let path = ready.path;
        self.tasks.spawn(async move {
            let result = match uploader.requests.acquire().await {
                Ok(_request) => publish(uploader.bucket.as_ref(), &lease, &dir, &keys, &infos[path], ready).await,
                Err(_) => Err(PathError::Interrupted),
            };
            Done::NarInfo { path, result }
        });
    }

    fn landed(&mut self, path: usize, published: Published) {
        let outcome = Outcome::Pushed { nar_size: published.nar_size(), file_size: published.sent() };
        self.report.event(Event::Settled { path: &self.infos[path].path, outcome: &outcome });
        for ready in self.order.published(path, &published) {
            self.start_publishing(ready);
        }
        self.fates.published.push((path, published));
    }

    fn failed(&mut self, path: usize, error: &PathError) {
        if self.order.is_settled(path) {
            return;
        }
        let infos = self.infos.clone();
        self.settle_failed(path, Outcome::Failed { why: chain(error), blocked_by: None });
        for referrer in self.order.failed(path) {
            let cause = infos[path].path.clone();
            let why = format!("It refers to {cause}, which did not land");
            self.settle_failed(referrer, Outcome::Failed { why, blocked_by: Some(cause) });
        }
    }

    fn settle_failed(&mut self, path: usize, outcome: Outcome) {
        self.report.event(Event::Settled { path: &self.infos[path].path, outcome: &outcome });
        self.fates.failed.push(path);
    }
}

/// How many NARs are compressed at once. Compressors hold memory of their own, xz nearly 100 MiB
/// each; they may take half of what the user allows, and there is always one.
fn encoders(options: &Options, cores: usize) -> usize {
    let affordable = options.memory_limit / 2 / options.packing.memory().max(1);
    cores.min(options.upload_threads.get()).min(usize::try_from(affordable).unwrap_or(usize::MAX)).max(1)
}

/// One job per distinct NAR, largest first so that the end is not one long tail.
fn jobs(plan: &Plan) -> VecDeque<Job> {
    let mut by_nar: HashMap<Sha256, Job> = HashMap::new();
    for (index, planned) in plan.paths.iter().enumerate().filter(|(_, planned)| planned.is_upload()) {
        let nar_size = planned.info.nar_size.map_or(0, NonZeroU64::get);
        by_nar.entry(planned.info.nar_hash).or_insert_with(|| Job { nar_size, paths: Vec::new() }).paths.push(index);
    }
    let mut jobs: Vec<Job> = by_nar.into_values().collect();
    // The second key makes the order the plan's, not the hash map's.
    jobs.sort_by_key(|job| (std::cmp::Reverse(job.nar_size), job.paths[0]));
    jobs.into()
}
