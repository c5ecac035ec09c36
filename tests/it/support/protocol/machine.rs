//! One process, run step by step: it goes on only when one of its requests is answered.
//!
//! It is the real thing, with its tasks, timers and threads, on a runtime of its own whose time
//! stands still. The runtime tells when nothing in it can go on (`on_thread_park`), and threads are
//! waited for by standing in the queue behind them: there is only one. So what a process asks next
//! is a function of the answers that it got, and of the clock that it was shown.

use super::ask::{Answer, Ask};
use super::port::Port;
use crate::support::time::TestClock;
use futures_util::future::LocalBoxFuture;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;
use tokio::task::LocalSet;
use tokio::time::Instant;

/// What starts a process on its bucket, by its clock.
pub type Start<T> = Arc<dyn Fn(Arc<Port>, Arc<TestClock>) -> LocalBoxFuture<'static, T> + Send + Sync>;

pub struct Machine<T> {
    runtime: Option<Runtime>,
    process: LocalSet,
    /// Woken when the runtime has nothing left to do.
    idle: Arc<Notify>,
    port: Arc<Port>,
    clock: Arc<TestClock>,
    /// By how much the clock was moved.
    elapsed: Duration,
    result: Arc<Mutex<Option<T>>>,
    /// For how long it slept before it asked what it asks now.
    slept: Duration,
}

impl<T: Clone + 'static> Machine<T> {
    /// Starts a process and runs it until it waits for answers. `clock` is its own; `now` the store's.
    pub fn start(name: &str, clock: TestClock, now: SystemTime, start: &Start<T>) -> Self {
        let idle = Arc::new(Notify::new());
        let parked = idle.clone();
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .max_blocking_threads(1)
            .on_thread_park(move || parked.notify_waiters())
            .build()
            .unwrap();
        let (port, clock) = (Arc::new(Port::new(name, now)), Arc::new(clock));
        let result = Arc::new(Mutex::new(None));
        let (running, ended, bell) = (start(port.clone(), clock.clone()), result.clone(), port.clone());
        let process = LocalSet::new();
        process.spawn_local(async move {
            let value = running.await;
            *ended.lock().unwrap() = Some(value);
            bell.asked.notify_one();
        });
        let mut machine = Self {
            runtime: Some(runtime),
            process,
            idle,
            port,
            clock,
            elapsed: Duration::ZERO,
            result,
            slept: Duration::ZERO,
        };
        machine.settle();
        machine
    }

    pub fn waiting(&self) -> Vec<Ask> {
        self.port.waiting()
    }

    /// What was asked after the first `count` requests, and how many there were by now.
    pub fn waiting_since(&self, count: u64) -> (Vec<(Ask, u64)>, u64) {
        (self.port.waiting_since(count), self.port.count())
    }

    /// As `answer`, by number.
    pub fn answer_to(&mut self, number: u64, answer: Answer, now: SystemTime) {
        self.port.answer_to(number, answer, now);
        self.settle();
    }

    /// For how long it slept before it asked what it asks now: time that passes for all who have clocks.
    pub fn slept(&self) -> Duration {
        self.slept
    }

    /// What it returned, if it has.
    pub fn result(&self) -> Option<T> {
        self.result.lock().unwrap().clone()
    }

    /// Says that its clock stands at so much after the start of all.
    pub fn began_at(&mut self, elapsed: Duration) {
        self.elapsed = elapsed;
    }

    /// Moves its clock to so much after the start; the process does not see it before it is answered.
    pub fn set_elapsed(&mut self, elapsed: Duration) {
        self.clock.advance(elapsed.saturating_sub(self.elapsed));
        self.elapsed = self.elapsed.max(elapsed);
    }

    /// Answers one request and runs until it waits again.
    pub fn answer(&mut self, ask: &Ask, answer: Answer, now: SystemTime) {
        self.port.answer(ask, answer, now);
        self.settle();
    }

    /// Lets `by` of the runtime's time pass, so that timers fire.
    pub fn pass(&mut self, by: Duration) {
        self.process.block_on(self.runtime(), tokio::time::advance(by));
        self.settle();
    }

    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().unwrap()
    }

    fn has_news(&self) -> bool {
        self.result.lock().unwrap().is_some() || self.port.is_waiting()
    }

    /// Runs until it can go no further. One that merely sleeps is woken: its sleep is over sooner or
    /// later, and what it then asks waits as long as it takes.
    fn settle(&mut self) {
        self.slept = self.process.block_on(self.runtime(), async {
            self.run_on().await;
            let since = Instant::now();
            if !self.has_news() {
                // Nobody listens for `idle` now, so the runtime's time goes on to the next timer.
                let news = async {
                    while !self.has_news() {
                        self.port.asked.notified().await;
                    }
                };
                tokio::time::timeout(Duration::from_secs(86_400), news).await.expect("the process waits for nothing");
                self.run_on().await;
            }
            since.elapsed()
        });
    }

    /// Runs until all tasks wait, and no thread works for them.
    ///
    /// A process that waits for the bucket has no other threads than encoders, which are counted. For
    /// the rest (reading the store, reading the ledger) the queue is waited for, a few times since one
    /// thread may beget another before anything is asked.
    async fn run_on(&self) {
        for _ in 0..4 {
            self.idle.notified().await;
            while !self.port.is_settled() && self.result.lock().unwrap().is_none() {
                let before = self.port.count();
                tokio::task::spawn_blocking(|| ()).await.unwrap();
                self.idle.notified().await;
                if self.port.count() == before {
                    break;
                }
            }
            if self.has_news() {
                return;
            }
        }
    }
}

impl<T> Drop for Machine<T> {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
