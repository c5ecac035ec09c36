//! The bucket as one process has it: what it asks waits here until somebody answers.

use super::ask::{Answer, Ask, Failure};
use super::names::Names;
use async_trait::async_trait;
use bytes::Bytes;
use loft::bucket::{Body, Bucket, BucketError, Headers, Key, ObjectInfo, Page, Part, Prefix, Upload};
use loft::report::{Event, Report};
use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, SystemTime};
use tokio::sync::{Notify, oneshot};

pub struct Port {
    state: Mutex<State>,
    /// Something was asked.
    pub asked: Notify,
}

struct State {
    names: Names,
    /// By number, in the order in which they were asked.
    waiting: Vec<(u64, Ask, oneshot::Sender<Answer>)>,
    /// How much was asked so far.
    count: u64,
    /// Encoders that began and have not sent their NAR yet: they may be at work on a thread.
    encoding: usize,
    /// NARs that were sent, perhaps more than once.
    sent: HashSet<String>,
    /// The store's clock, as the last answer said.
    now: SystemTime,
}

impl Port {
    pub fn new(process: &str, now: SystemTime) -> Self {
        let state =
            State { names: Names::new(process), waiting: Vec::new(), count: 0, encoding: 0, sent: HashSet::new(), now };
        Self { state: Mutex::new(state), asked: Notify::new() }
    }

    /// What waits for an answer, in an order that is the same in every run.
    pub fn waiting(&self) -> Vec<Ask> {
        let mut asks: Vec<Ask> = self.state().waiting.iter().map(|(_, ask, _)| ask.clone()).collect();
        asks.sort();
        asks
    }

    /// As `waiting`, but only what was asked after the first `count`, and with numbers.
    pub fn waiting_since(&self, count: u64) -> Vec<(Ask, u64)> {
        let state = self.state();
        let new = state.waiting.iter().rev().take_while(|(number, ..)| *number >= count);
        let mut asks: Vec<(Ask, u64)> = new.map(|(number, ask, _)| (ask.clone(), *number)).collect();
        asks.sort();
        asks
    }

    pub fn is_waiting(&self) -> bool {
        !self.state().waiting.is_empty()
    }

    /// Something waits for an answer, and no thread is at work that could ask more.
    pub fn is_settled(&self) -> bool {
        let state = self.state();
        !state.waiting.is_empty() && state.encoding == 0
    }

    /// A NAR that was encoded is sent later; others may hear its name before.
    pub fn nar_is_held_back(&self, key: &Key) {
        let mut state = self.state();
        state.names.name(key.as_str(), u128::from(u16::MAX));
        if state.sent.insert(text(key)) {
            state.encoding -= 1;
        }
    }

    pub fn count(&self) -> u64 {
        self.state().count
    }

    /// Answers one of what waits; `now` is the store's clock.
    pub fn answer(&self, ask: &Ask, answer: Answer, now: SystemTime) {
        let number = self.state().waiting.iter().find(|(_, waiting, _)| waiting == ask).map(|(number, ..)| *number);
        self.answer_to(number.unwrap_or_else(|| panic!("{ask:?} does not wait for an answer")), answer, now);
    }

    /// As `answer`, by number; whoever asked may have given up.
    pub fn answer_to(&self, number: u64, answer: Answer, now: SystemTime) {
        let mut state = self.state();
        state.now = now;
        let Some(at) = state.waiting.iter().position(|(waiting, ..)| *waiting == number) else { return };
        let (_, _, sender) = state.waiting.remove(at);
        let answer = state.names.inward(answer);
        let _ = sender.send(answer);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    async fn ask(&self, ask: Ask) -> Result<Answer, BucketError> {
        let (on, answer) = {
            let mut state = self.state();
            let on = ask.on().to_owned();
            if let Ask::Put { key, .. } = &ask
                && key.starts_with("nar/")
                && state.sent.insert(key.clone())
            {
                state.encoding = state.encoding.saturating_sub(1);
            }
            let ask = state.names.outward(ask);
            let (sender, answer) = oneshot::channel();
            state.waiting.retain(|(_, _, sender)| !sender.is_closed());
            let number = state.count;
            state.waiting.push((number, ask, sender));
            state.count += 1;
            (on, answer)
        };
        self.asked.notify_one();
        let error = |failure: Failure| BucketError::new("ask for", on, self.describe(), failure.cause());
        match answer.await {
            Ok(Answer::Failed(failure)) => Err(error(failure)),
            Ok(answer) => Ok(answer),
            Err(_) => Err(error(Failure::Reset)),
        }
    }

    async fn change(&self, ask: Ask) -> Result<(), BucketError> {
        match self.ask(ask).await? {
            Answer::Done => Ok(()),
            other => panic!("{other:?} is no answer to a change"),
        }
    }
}

/// A process tells its port when a thread begins to read files.
impl Report for Port {
    fn event(&self, event: Event<'_>) {
        if let Event::Started { .. } = event {
            self.state().encoding += 1;
        }
    }
}

fn text(key: &Key) -> String {
    key.as_str().to_owned()
}

#[async_trait]
impl Bucket for Port {
    fn describe(&self) -> String {
        "a bucket of the test".to_owned()
    }

    async fn check_access(&self) -> Result<(), BucketError> {
        Ok(())
    }

    async fn put(&self, key: &Key, body: Body, _: Headers) -> Result<(), BucketError> {
        self.change(Ask::Put { key: text(key), bytes: body.bytes, within: None }).await
    }

    async fn put_before(&self, key: &Key, body: Body, _: Headers, within: Duration) -> Result<(), BucketError> {
        self.change(Ask::Put { key: text(key), bytes: body.bytes, within: Some(within) }).await
    }

    async fn get(&self, key: &Key, limit: u64) -> Result<Option<(ObjectInfo, Bytes)>, BucketError> {
        match self.ask(Ask::Get { key: text(key), limit }).await? {
            Answer::Object(found) => Ok(found),
            other => panic!("{other:?} is no answer to a GET"),
        }
    }

    async fn get_range(&self, key: &Key, offset: u64, length: u64) -> Result<Option<Bytes>, BucketError> {
        let found = self.get(key, u64::MAX).await?;
        Ok(found.map(|(_, bytes)| {
            let start = offset.min(bytes.len() as u64);
            let end = offset.saturating_add(length).min(bytes.len() as u64);
            bytes.slice(start as usize..end as usize)
        }))
    }

    async fn head(&self, key: &Key) -> Result<Option<ObjectInfo>, BucketError> {
        match self.ask(Ask::Head { key: text(key) }).await? {
            Answer::Info(found) => Ok(found),
            other => panic!("{other:?} is no answer to a HEAD"),
        }
    }

    async fn list(&self, prefix: &Prefix, after: Option<&str>) -> Result<Page, BucketError> {
        let ask = Ask::List { prefix: prefix.as_str().to_owned(), after: after.map(str::to_owned) };
        match self.ask(ask).await? {
            Answer::Objects { objects, next } => Ok(Page { objects, next }),
            other => panic!("{other:?} is no answer to a LIST"),
        }
    }

    async fn delete(&self, key: &Key) -> Result<(), BucketError> {
        self.change(Ask::Delete { key: text(key), within: None }).await
    }

    async fn delete_before(&self, key: &Key, within: Duration) -> Result<(), BucketError> {
        self.change(Ask::Delete { key: text(key), within: Some(within) }).await
    }

    async fn copy(&self, from: &Key, to: &Key, _: Headers) -> Result<bool, BucketError> {
        match self.ask(Ask::Copy { from: text(from), to: text(to) }).await? {
            Answer::Copied(copied) => Ok(copied),
            other => panic!("{other:?} is no answer to a COPY"),
        }
    }

    async fn start_upload(&self, key: &Key, _: Headers) -> Result<Upload, BucketError> {
        panic!("{key} is larger than these tests expect");
    }

    async fn put_part(&self, upload: &Upload, _: u32, _: Body) -> Result<Part, BucketError> {
        panic!("{} is larger than these tests expect", upload.key);
    }

    async fn finish_upload(&self, upload: &Upload, _: &[Part]) -> Result<(), BucketError> {
        panic!("{} is larger than these tests expect", upload.key);
    }

    async fn abort_upload(&self, _: &Upload) -> Result<(), BucketError> {
        Ok(())
    }

    async fn list_parts(&self, _: &Upload) -> Result<Option<Vec<Part>>, BucketError> {
        Ok(None)
    }

    async fn list_uploads(&self, prefix: &Prefix) -> Result<Vec<(Upload, SystemTime)>, BucketError> {
        match self.ask(Ask::Uploads { prefix: prefix.as_str().to_owned() }).await? {
            Answer::Uploads(uploads) => Ok(uploads),
            other => panic!("{other:?} is no answer to a listing of uploads"),
        }
    }

    async fn now(&self) -> Result<SystemTime, BucketError> {
        Ok(self.state().now)
    }
}
