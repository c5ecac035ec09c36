//! Carrying out a plan: NARs largest first, narinfos as soon as they may.
//!
//! One loop owns the graph; tasks do the waiting. A path that fails takes its referrers with it,
//! each named; everything else goes on.

use super::error::PathError;
use super::extras::{Logs, Writer};
use super::lease::Lease;
use super::order::{Order, Ready};
use super::publish::{Published, publish};
use super::reuse;
use super::upload::{LARGE_NAR, Memory, OpenUploads, Uploaded, Uploader};
use super::{Ends, Options};
use crate::nix::{PathInfo, Sha256};
use crate::plan::Plan;
use crate::report::{Event, Outcome, Report};
use std::collections::{HashMap, VecDeque};
use std::num::NonZeroU64;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::task::{Id, JoinSet};

/// Narinfos and small NARs are all waiting: many at once hide the distance to the bucket.
const MIN_REQUESTS: usize = 48;
/// Of the memory limit, beside it: for listings that wait for the network.
const NOTES_SHARE: u64 = 4;

/// The fate of each upload of the plan, told as it became known.
#[derive(Debug, Default)]
pub struct Fates {
    pub published: Vec<(usize, Published)>,
    pub failed: u64,
    /// Not landed because the user stopped the push.
    pub interrupted: u64,
}

/// One NAR to upload, for all the paths that have it.
struct Job {
    nar_size: u64,
    paths: Vec<usize>,
    /// It is in the bucket already, and only what goes beside the paths is to be written.
    reused: Option<Uploaded>,
}

enum Done {
    Nar(Result<Uploaded, PathError>),
    NarInfo(Result<Published, PathError>),
}

/// What a task is about, to be known even when it panics.
enum Task {
    Nar(Job),
    NarInfo(usize),
}

/// Pushes the plan's uploads under `lease`.
pub async fn run(ends: &Ends, options: &Options, lease: Arc<Lease>, plan: &Plan) -> Fates {
    let mut run = Run::new(ends, options, lease, plan);
    run.start_reused(reuse::find(ends, options, plan).await);
    loop {
        run.start_jobs();
        let Some(joined) = run.tasks.join_next_with_id().await else { break };
        let (id, done) = match joined {
            Ok((id, done)) => (id, Ok(done)),
            Err(error) => (error.id(), Err(PathError::Task(error))),
        };
        match (run.under_way.remove(&id), done) {
            (Some(Task::Nar(job)), done) => {
                run.nars_under_way -= 1;
                match done {
                    Ok(Done::Nar(Ok(uploaded))) => run.nar_landed(job, uploaded),
                    Ok(Done::Nar(Err(error))) | Err(error) => run.nar_failed(job, &error),
                    Ok(Done::NarInfo(_)) => {}
                }
            }
            (Some(Task::NarInfo(path)), Ok(Done::NarInfo(Ok(published)))) => run.landed(path, published),
            (Some(Task::NarInfo(path)), Ok(Done::NarInfo(Err(error))) | Err(error)) => run.failed(path, &error),
            (Some(Task::NarInfo(_)), Ok(Done::Nar(_))) | (None, _) => {}
        }
    }
    // What never started: the user stopped the push, or the lease is lost.
    for path in run.order.unsettled() {
        let error = run.lease.remaining().err().unwrap_or(PathError::Interrupted);
        run.failed(path, &error);
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
    extras: Arc<Writer>,
    infos: Arc<Vec<PathInfo>>,
    order: Order,
    jobs: VecDeque<Job>,
    /// NAR bytes of the jobs that have not started.
    ahead: u64,
    tasks: JoinSet<Done>,
    under_way: HashMap<Id, Task>,
    nars_under_way: usize,
    encoders: usize,
    fates: Fates,
}

impl<'a> Run<'a> {
    fn new(ends: &'a Ends, options: &'a Options, lease: Arc<Lease>, plan: &'a Plan) -> Self {
        let encoders = encoders(options);
        let uploader = Uploader {
            bucket: ends.bucket.clone(),
            clock: ends.clock.clone(),
            report: ends.report.clone(),
            interrupt: options.interrupt.clone(),
            packing: options.packing,
            wanted: options.extras.of_nar(),
            memory: Memory::new(options.memory_limit),
            notes: Memory::new(options.memory_limit / NOTES_SHARE),
            encoders: Arc::new(Semaphore::new(encoders)),
            most_workers: u32::try_from(encoders).unwrap_or(1),
            open: OpenUploads::new(ends.bucket.clone()),
            requests: Arc::new(Semaphore::new(options.upload_threads.get().max(MIN_REQUESTS))),
        };
        let extras = Writer {
            wanted: options.extras,
            bucket: ends.bucket.clone(),
            report: ends.report.clone(),
            interrupt: options.interrupt.clone(),
            lease: lease.clone(),
            location: ends.store.location().clone(),
            requests: uploader.requests.clone(),
            encoders: uploader.encoders.clone(),
            notes: uploader.notes.clone(),
            logs: Logs::default(),
        };
        let jobs = jobs(plan);
        Self {
            ends,
            options,
            plan,
            report: ends.report.clone(),
            lease,
            uploader: Arc::new(uploader),
            extras: Arc::new(extras),
            infos: Arc::new(plan.paths.iter().map(|planned| planned.info.clone()).collect()),
            order: Order::new(plan),
            ahead: jobs.iter().map(|job| job.nar_size).sum(),
            jobs,
            tasks: JoinSet::new(),
            under_way: HashMap::new(),
            nars_under_way: 0,
            encoders,
            fates: Fates::default(),
        }
    }

    /// Starts NARs while there is room. Encoders and memory have limits of their own; this one
    /// bounds the tasks. Without the lease nothing could be published, so nothing is started.
    fn start_jobs(&mut self) {
        let room = self.options.upload_threads.get().max(MIN_REQUESTS);
        while self.nars_under_way < room && !self.options.interrupt.is_raised() && self.lease.remaining().is_ok() {
            let Some(mut job) = self.jobs.pop_front() else { return };
            self.ahead -= job.nar_size;
            job.paths.retain(|path| !self.order.is_settled(*path));
            let Some(first) = job.paths.first().copied() else { continue };
            self.nars_under_way += 1;
            let (uploader, extras, infos) = (self.uploader.clone(), self.extras.clone(), self.infos.clone());
            let root = self.ends.store.location().real_path(&infos[first].path);
            let (workers, paths, reused) = (self.workers(job.nar_size), job.paths.clone(), job.reused.take());
            let upload = async move {
                if let Some(uploaded) = reused {
                    extras.write_unsent(&infos[first], uploaded.url()).await?;
                    return Ok(uploaded);
                }
                let (uploaded, noted) = uploader.upload(&infos[first], root, workers).await?;
                let infos: Vec<&PathInfo> = paths.iter().map(|path| &infos[*path]).collect();
                extras.write(&infos, uploaded.url(), &noted.observed).await?;
                Ok(uploaded)
            };
            let task = self.tasks.spawn(async move { Done::Nar(upload.await) });
            self.under_way.insert(task.id(), Task::Nar(job));
        }
    }

    /// Compression threads: the encoder's own while other NARs keep the cores busy, all encoders'
    /// places for a NAR that is larger than its share of all that is left.
    fn workers(&self, nar_size: u64) -> u32 {
        let lone = nar_size >= LARGE_NAR && nar_size > self.ahead / self.encoders as u64;
        if lone && self.encoders > 1 { self.uploader.most_workers } else { 0 }
    }

    fn start_reused(&mut self, found: HashMap<usize, Uploaded>) {
        for (path, uploaded) in found {
            for job in &mut self.jobs {
                job.paths.retain(|other| *other != path);
            }
            if !self.options.extras.is_nothing() {
                self.jobs.push_front(Job { nar_size: 0, paths: vec![path], reused: Some(uploaded) });
            } else if let Some(ready) = self.order.uploaded(path, uploaded) {
                self.start_publishing(ready);
            }
        }
    }

    fn nar_landed(&mut self, job: Job, uploaded: Uploaded) {
        for path in job.paths {
            if let Some(ready) = self.order.uploaded(path, uploaded.share()) {
                self.start_publishing(ready);
            }
        }
    }

    /// The files of the first path were read. Where they are at fault, the next path with the same
    /// NarHash has its own.
    fn nar_failed(&mut self, mut job: Job, error: &PathError) {
        if error.is_about_files() && job.paths.len() > 1 {
            let read = job.paths.remove(0);
            self.ahead += job.nar_size;
            self.jobs.push_front(job);
            self.failed(read, error);
            return;
        }
        for path in job.paths {
            self.failed(path, error);
        }
    }

    fn start_publishing(&mut self, ready: Ready) {
        let (infos, lease) = (self.infos.clone(), self.lease.clone());
        let (uploader, keys) = (self.uploader.clone(), self.options.keys.clone());
        let dir = self.plan.store_dir.clone();
        let path = ready.path;
        let task = self.tasks.spawn(async move {
            Done::NarInfo(match uploader.requests.acquire().await {
                Ok(_request) => publish(uploader.bucket.as_ref(), &lease, &dir, &keys, &infos[path], ready).await,
                Err(_) => Err(PathError::Interrupted),
            })
        });
        self.under_way.insert(task.id(), Task::NarInfo(path));
    }

    fn landed(&mut self, path: usize, published: Published) {
        self.report.event(Event::Landed { path: &self.infos[path].path });
        for ready in self.order.published(path, &published) {
            self.start_publishing(ready);
        }
        self.fates.published.push((path, published));
    }

    fn failed(&mut self, path: usize, error: &PathError) {
        if self.order.is_settled(path) {
            return;
        }
        let outcome = error.outcome();
        let cause = self.infos[path].path.clone();
        let blocked = match &outcome {
            Outcome::Interrupted => Outcome::Interrupted,
            _ => Outcome::Failed { why: format!("It refers to {cause}, which did not land"), blocked_by: Some(cause) },
        };
        self.settle_failed(path, &outcome);
        for referrer in self.order.failed(path) {
            self.settle_failed(referrer, &blocked);
        }
    }

    fn settle_failed(&mut self, path: usize, outcome: &Outcome) {
        self.report.event(Event::Settled { path: &self.infos[path].path, outcome });
        match outcome {
            Outcome::Interrupted => self.fates.interrupted += 1,
            _ => self.fates.failed += 1,
        }
    }
}

/// How many threads compress at once: no more than cores, and no more than the memory limit allows,
/// since compressors hold memory of their own (xz nearly 100 MiB each). There is always one.
fn encoders(options: &Options) -> usize {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let affordable = options.memory_limit / options.packing.memory().max(1);
    cores.min(options.upload_threads.get()).min(usize::try_from(affordable).unwrap_or(usize::MAX)).max(1)
}

/// One job per distinct NAR, largest first so that the end is not one long tail.
fn jobs(plan: &Plan) -> VecDeque<Job> {
    let mut by_nar: HashMap<Sha256, Job> = HashMap::new();
    for (index, planned) in plan.paths.iter().enumerate().filter(|(_, planned)| planned.is_upload()) {
        let nar_size = planned.info.nar_size.map_or(0, NonZeroU64::get);
        by_nar
            .entry(planned.info.nar_hash)
            .or_insert_with(|| Job { nar_size, paths: Vec::new(), reused: None })
            .paths
            .push(index);
    }
    let mut jobs: Vec<Job> = by_nar.into_values().collect();
    // The second key makes the order the plan's, not the hash map's.
    jobs.sort_by_key(|job| (std::cmp::Reverse(job.nar_size), job.paths[0]));
    jobs.into()
}
