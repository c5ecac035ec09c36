//! Trying again: how often, how long, for what. Time is paused, so waits cost nothing and are exact.

use crate::support::memory::{Fault, Memory, Moment, Request};
use crate::support::time::PausedClock;
use bytes::Bytes;
use loft::bucket::{Body, Bucket, Cause, Headers, Key, Prefix, RequestKind, RetryPolicy, Retrying, list_all};
use loft::remedy::Remedy;
use loft::report::{Event, Report, Silent};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

#[derive(Default)]
struct Heard(Mutex<Vec<(String, String, u32, Duration)>>);

impl Report for Heard {
    fn event(&self, event: Event<'_>) {
        if let Event::Retrying { what, error, attempt, delay } = event {
            self.0.lock().unwrap().push((what.to_owned(), error.to_owned(), attempt, delay));
        }
    }
}

fn key(text: &str) -> Key {
    Key::listed(text)
}

fn body(text: &'static str) -> Body {
    Body::from(Bytes::from(text))
}

fn retrying(memory: &Arc<Memory>, report: Arc<dyn Report>) -> Retrying<Arc<Memory>> {
    let clock = Arc::new(PausedClock::start());
    // The longest waits that jitter can choose.
    Retrying::new(memory.clone(), RetryPolicy::default(), clock, report).with_jitter(Arc::new(|longest| longest))
}

/// Faults of one kind, for the first `times` requests.
fn first(times: usize, at: Moment, fault: Fault) -> impl Fn(Moment, &Request) -> Option<Fault> + Send + Sync {
    let left = AtomicUsize::new(times);
    move |moment, _| {
        let one_less = |left: usize| left.checked_sub(1);
        let hit = moment == at && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok();
        hit.then(|| fault.clone())
    }
}

#[tokio::test(start_paused = true)]
async fn waits_double_up_to_a_cap_and_are_reported() {
    let memory = Arc::new(Memory::garage());
    memory.set_faults(first(9, Moment::Before, Fault::Unavailable(None)));
    let heard = Arc::new(Heard::default());
    let began = Instant::now();
    retrying(&memory, heard.clone()).put(&key("a"), body("x"), Headers::default()).await.unwrap();
    let heard = heard.0.lock().unwrap();
    let delays: Vec<u128> = heard.iter().map(|(.., delay)| delay.as_millis()).collect();
    assert_eq!(delays, [250, 500, 1000, 2000, 4000, 8000, 16_000, 20_000, 20_000]);
    assert_eq!(began.elapsed().as_millis(), delays.iter().sum::<u128>());
    assert_eq!(heard.iter().map(|(_, _, attempt, _)| *attempt).collect::<Vec<_>>(), (1..=9).collect::<Vec<_>>());
    let (what, error, ..) = &heard[0];
    assert!(what.contains("Put a") && error.contains("503 SlowDown"), "{what}: {error}");
    assert_eq!(memory.count(RequestKind::Put), 10);
}

#[tokio::test(start_paused = true)]
async fn the_last_try_is_not_followed_by_a_wait_and_says_how_hard_it_was() {
    let memory = Arc::new(Memory::garage());
    let bucket = retrying(&memory, Arc::new(Silent));
    bucket.head(&key("a")).await.unwrap();
    memory.forget_requests();
    memory.set_faults(|moment, _| (moment == Moment::Before).then_some(Fault::Reset));
    let began = Instant::now();
    let error = bucket.head(&key("a")).await.unwrap_err();
    assert_eq!(memory.count(RequestKind::Head), 10);
    assert_eq!(began.elapsed(), Duration::from_millis(71_750));
    assert_eq!((error.effort.tries, error.effort.elapsed), (10, began.elapsed()));
    assert!(error.to_string().ends_with("(tried 10 times in 71.8 s)"), "{error}");
    assert!(matches!(error.cause, Cause::Broken(_)));
}

#[tokio::test(start_paused = true)]
async fn only_what_may_pass_is_tried_again() {
    let memory = Arc::new(Memory::garage());
    memory.set_faults(|moment, _| (moment == Moment::Before).then_some(Fault::Denied));
    let bucket = retrying(&memory, Arc::new(Silent));
    let error = bucket.put(&key("a"), body("x"), Headers::default()).await.unwrap_err();
    assert_eq!((error.remedy(), memory.count(RequestKind::Put)), (Remedy::FixConfig, 1));
    assert!(!error.to_string().contains("tried"), "{error}");
    memory.clear_hook();
    bucket.put(&key("a"), body("xyz"), Headers::default()).await.unwrap();
    let error = bucket.get(&key("a"), 2).await.unwrap_err();
    assert_eq!((error.remedy(), memory.count(RequestKind::Get)), (Remedy::GiveUpOnItem, 1));
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_obeyed_within_bounds() {
    let memory = Arc::new(Memory::garage());
    let wait = Duration::from_secs(30);
    memory.set_faults(first(1, Moment::Before, Fault::Unavailable(Some(wait))));
    let bucket = retrying(&memory, Arc::new(Silent));
    let began = Instant::now();
    bucket.put(&key("a"), body("x"), Headers::default()).await.unwrap();
    assert_eq!(began.elapsed(), wait + Duration::from_millis(250), "plus jitter, so that not all come back at once");

    // More than we are willing to wait: the error at once, rather than a try that was not asked for.
    memory.set_faults(|moment, _| {
        (moment == Moment::Before).then_some(Fault::Unavailable(Some(Duration::from_secs(3600))))
    });
    let began = Instant::now();
    let error = bucket.put(&key("a"), body("x"), Headers::default()).await.unwrap_err();
    assert_eq!((error.effort.tries, began.elapsed()), (1, Duration::ZERO));
    assert_eq!(error.retry_after(), Some(Duration::from_secs(3600)));
}

#[tokio::test(start_paused = true)]
async fn a_server_never_reached_is_given_up_soon() {
    let memory = Arc::new(Memory::garage());
    let unreachable = |moment: Moment, _: &Request| (moment == Moment::Before).then_some(Fault::Unreachable);
    memory.set_faults(unreachable);
    let bucket = retrying(&memory, Arc::new(Silent));
    let began = Instant::now();
    let error = bucket.head(&key("a")).await.unwrap_err();
    assert_eq!((error.effort.tries, began.elapsed()), (3, Duration::from_millis(750)));
    // Nor is it a server yet that takes connections and breaks them: it may be another kind of port.
    memory.set_faults(|moment, _| (moment == Moment::Before).then_some(Fault::Reset));
    assert_eq!(bucket.head(&key("a")).await.unwrap_err().effort.tries, 3);
    // A network that swallows packets takes ten seconds a try.
    memory.set_hook(Arc::new(|moment, _| {
        Box::pin(async move {
            if moment == Moment::Before {
                tokio::time::sleep(Duration::from_secs(10)).await;
            }
            Some(Fault::Unreachable)
        })
    }));
    let began = Instant::now();
    assert_eq!(bucket.head(&key("a")).await.unwrap_err().effort.tries, 1);
    assert_eq!(began.elapsed(), Duration::from_secs(10));
    // Once it has answered, an outage is ridden out.
    memory.clear_hook();
    bucket.head(&key("a")).await.unwrap();
    memory.set_faults(unreachable);
    assert_eq!(bucket.head(&key("a")).await.unwrap_err().effort.tries, 10);
}

#[tokio::test(start_paused = true)]
async fn jitter_stays_within_bounds_and_spreads() {
    let memory = Arc::new(Memory::garage());
    let mut firsts = Vec::new();
    for _ in 0..200 {
        memory.set_faults(first(3, Moment::Before, Fault::Unavailable(None)));
        let heard = Arc::new(Heard::default());
        let clock = Arc::new(PausedClock::start());
        let bucket = Retrying::new(memory.clone(), RetryPolicy::default(), clock, heard.clone());
        bucket.head(&key("a")).await.unwrap();
        let heard = heard.0.lock().unwrap();
        for ((.., delay), longest) in heard.iter().zip([250, 500, 1000]) {
            assert!(*delay <= Duration::from_millis(longest), "{delay:?}");
        }
        firsts.push(heard[0].3);
    }
    firsts.sort();
    // Full jitter: from nothing to all, evenly.
    assert!(firsts[10] < Duration::from_millis(50), "{:?}", firsts[10]);
    assert!(firsts[190] > Duration::from_millis(200), "{:?}", firsts[190]);
    let median = firsts[100];
    assert!((Duration::from_millis(80)..Duration::from_millis(170)).contains(&median), "{median:?}");
}

#[tokio::test(start_paused = true)]
async fn lost_answers_are_looked_after() {
    for fault in [Fault::Reset, Fault::TimeOut, Fault::Unavailable(None), Fault::Cut] {
        let memory = Arc::new(Memory::garage());
        let bucket = retrying(&memory, Arc::new(Silent));
        for kind in [RequestKind::Put, RequestKind::UploadPart, RequestKind::CompleteUpload, RequestKind::Delete] {
            let name = key(&format!("{kind:?}"));
            let upload = bucket.start_upload(&name, Headers::default()).await.unwrap();
            let part = bucket.put_part(&upload, 1, body("part")).await.unwrap();
            memory.plant("Delete", "x");
            let lost = first(1, Moment::After, fault.clone());
            memory.set_faults(move |moment, request| if request.kind == kind { lost(moment, request) } else { None });
            memory.forget_requests();
            match kind {
                RequestKind::Put => bucket.put(&name, body("part"), Headers::default()).await.unwrap(),
                RequestKind::UploadPart => assert_eq!(bucket.put_part(&upload, 1, body("part")).await.unwrap(), part),
                RequestKind::CompleteUpload => bucket.finish_upload(&upload, &[part]).await.unwrap(),
                _ => bucket.delete(&name).await.unwrap(),
            }
            memory.clear_hook();
            let sent = memory.requests().iter().map(|request| request.kind).collect::<Vec<_>>();
            let expected =
                if kind == RequestKind::CompleteUpload { vec![kind, RequestKind::Head] } else { vec![kind, kind] };
            assert_eq!(sent, expected, "{fault:?}");
            let objects = memory.contents();
            match kind {
                RequestKind::Put | RequestKind::CompleteUpload => assert_eq!(objects[&name], "part"),
                _ => assert!(!objects.contains_key(&name)),
            }
        }
    }
}

/// A Complete that failed for good is not taken for one that worked, and "could not look" not for either.
#[tokio::test(start_paused = true)]
async fn a_failed_complete_stays_failed() {
    let memory = Arc::new(Memory::garage());
    let bucket = retrying(&memory, Arc::new(Silent));
    let upload = bucket.start_upload(&key("a"), Headers::default()).await.unwrap();
    let part = bucket.put_part(&upload, 1, body("part")).await.unwrap();
    memory.set_faults(|moment, request| match request.kind {
        RequestKind::CompleteUpload if moment == Moment::Before => Some(Fault::Reset),
        RequestKind::Head => Some(Fault::Denied),
        _ => None,
    });
    let error = bucket.finish_upload(&upload, std::slice::from_ref(&part)).await.unwrap_err();
    assert_eq!(error.remedy(), Remedy::FixConfig, "{error:?}");
    memory.set_faults(|moment, request| {
        (request.kind == RequestKind::CompleteUpload && moment == Moment::Before).then_some(Fault::Reset)
    });
    let error = bucket.finish_upload(&upload, &[part]).await.unwrap_err();
    assert_eq!(error.effort.tries, 10);
    assert!(memory.contents().is_empty());
}

/// All tries of a put with a deadline share it.
#[tokio::test(start_paused = true)]
async fn deadlines_outlive_no_retry() {
    let memory = Arc::new(Memory::garage());
    memory.set_faults(|moment, _| (moment == Moment::Before).then_some(Fault::Reset));
    let bucket = retrying(&memory, Arc::new(Silent));
    bucket.now().await.unwrap();
    memory.forget_requests();
    let began = Instant::now();
    // Waits of 0.25, 0.5, 1 and 2 s are over before the fifth try; after 4 s more it is too late for a sixth.
    let (name, within) = (key("a"), Duration::from_secs(5));
    let error = bucket.put_before(&name, body("x"), Headers::default(), within).await.unwrap_err();
    assert!(began.elapsed() <= Duration::from_secs(8), "{:?}", began.elapsed());
    assert!(matches!(error.cause, Cause::Expired), "{error:?}");
    assert_eq!((memory.count(RequestKind::Put), memory.contents().len()), (5, 0));
}

/// One that may still happen is not followed by another: what is written after that one worked must be safe.
#[tokio::test(start_paused = true)]
async fn a_delete_with_a_deadline_is_sent_again_only_where_it_cannot_have_been_applied() {
    for (fault, sent) in
        [(Fault::Unreachable, 2), (Fault::Reset, 1), (Fault::TimeOut, 1), (Fault::Unavailable(None), 1)]
    {
        let memory = Arc::new(Memory::garage());
        memory.plant("a", "x");
        let bucket = retrying(&memory, Arc::new(Silent));
        bucket.now().await.unwrap();
        memory.forget_requests();
        memory.set_faults(first(1, Moment::Before, fault.clone()));
        let result = bucket.delete_before(&key("a"), Duration::from_secs(60)).await;
        assert_eq!((result.is_ok(), memory.count(RequestKind::Delete)), (sent == 2, sent), "{fault:?}");
    }
}

/// The machine sleeps between two tries: what it was allowed to publish before, it is not afterwards.
#[tokio::test(start_paused = true)]
async fn a_put_is_not_tried_again_after_its_deadline() {
    for (asleep, expected) in [(299, Some(2)), (300, None), (7200, None)] {
        let memory = Arc::new(Memory::garage());
        let clock = memory.clock.clone();
        let woken = clock.clone();
        let reset = first(1, Moment::Before, Fault::Reset);
        memory.set_faults(move |moment, request| {
            let fault = reset(moment, request)?;
            woken.advance(Duration::from_secs(asleep));
            Some(fault)
        });
        let bucket = Retrying::new(memory.clone(), RetryPolicy::default(), clock, Arc::new(Silent));
        let put = bucket.put_before(&key("a"), body("x"), Headers::NAR_INFO, Duration::from_secs(300)).await;
        match expected {
            Some(requests) => {
                put.unwrap();
                assert_eq!((memory.count(RequestKind::Put), memory.contents().len()), (requests, 1));
                assert_eq!(memory.objects()[&key("a")].headers, Headers::NAR_INFO);
            }
            None => {
                let error = put.unwrap_err();
                assert!(matches!(error.cause, Cause::Expired), "{error:?}");
                assert_eq!(error.remedy(), Remedy::GiveUpOnItem);
                assert_eq!((memory.count(RequestKind::Put), memory.contents().len()), (1, 0), "{asleep} s");
            }
        }
    }
}

/// Everything goes wrong at once, in ways drawn from a seed: what is said to have worked has worked.
#[tokio::test(start_paused = true)]
async fn what_is_said_is_so_under_mixed_faults() {
    for seed in 1..=20 {
        let memory = Arc::new(Memory::garage());
        let state = AtomicU64::new(seed);
        memory.set_faults(move |moment, _| {
            let step = |x: u64| x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let drawn = state.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |x| Some(step(x))).unwrap() >> 33;
            // About 5 % each, before and after.
            match (drawn % 40, moment) {
                (0, _) => Some(Fault::Unavailable(None)),
                (1, _) => Some(Fault::Unavailable(Some(Duration::from_secs(2)))),
                (2, _) => Some(Fault::Reset),
                (3, _) => Some(Fault::TimeOut),
                (4, Moment::Before) => Some(Fault::Unreachable),
                (5, Moment::After) => Some(Fault::Cut),
                (6, _) => Some(Fault::Delay(Duration::from_secs(1))),
                _ => None,
            }
        });
        let bucket = retrying(&memory, Arc::new(Silent));
        let mut expected = Vec::new();
        for n in 0..60 {
            let name = key(&format!("{n:02}"));
            let landed = match n % 3 {
                0 => bucket.put(&name, body("put"), Headers::default()).await.is_ok(),
                1 => async {
                    let upload = bucket.start_upload(&name, Headers::default()).await?;
                    let part = bucket.put_part(&upload, 1, body("part")).await?;
                    bucket.finish_upload(&upload, &[part]).await
                }
                .await
                .is_ok(),
                _ => {
                    memory.plant(name.as_str(), "old");
                    bucket.delete(&name).await.is_err()
                }
            };
            if landed {
                expected.push(name);
            }
        }
        memory.clear_hook();
        let listed = list_all(&bucket, &Prefix::all()).await.unwrap();
        let listed: Vec<Key> = listed.into_iter().map(|object| object.key).collect();
        assert_eq!(listed, expected, "seed {seed}");
        assert!(expected.len() >= 38, "retries carry nearly all of it: {} (seed {seed})", expected.len());
    }
}

/// The fake's own edges, which the pruning protocol must survive.
#[tokio::test(start_paused = true)]
async fn garage_lets_a_deletion_win_over_a_put_that_it_overtakes() {
    for (profile, survives) in [(Memory::garage(), false), (Memory::aws(), true)] {
        let memory = Arc::new(profile);
        memory.set_faults(|moment, request| {
            let held_up = moment == Moment::Before && request.kind == RequestKind::Put;
            held_up.then_some(Fault::Delay(Duration::from_secs(5)))
        });
        let name = key("a");
        let put = memory.put(&name, body("x"), Headers::default());
        let delete = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            memory.delete(&name).await
        };
        let (put, deleted) = tokio::join!(put, delete);
        put.unwrap();
        deleted.unwrap();
        assert_eq!(memory.contents().contains_key(&key("a")), survives);
    }
}

#[tokio::test(start_paused = true)]
async fn while_nothing_works_later_calls_do_not_wait_anew() {
    let memory = Arc::new(Memory::garage());
    let bucket = retrying(&memory, Arc::new(Silent));
    bucket.put(&key("a"), body("x"), Headers::default()).await.unwrap();
    let down = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let requests = Arc::new(AtomicUsize::new(0));
    let (is_down, count) = (down.clone(), requests.clone());
    memory.set_faults(move |moment, _| {
        let hit = moment == Moment::Before && is_down.load(Ordering::SeqCst);
        count.fetch_add(usize::from(hit), Ordering::SeqCst);
        hit.then_some(Fault::Unavailable(None))
    });
    let began = Instant::now();
    for _ in 0..5 {
        bucket.head(&key("a")).await.unwrap_err();
    }
    assert!(began.elapsed() < Duration::from_secs(600), "{:?} for five calls", began.elapsed());
    let before = requests.load(Ordering::SeqCst);
    for _ in 0..100 {
        bucket.head(&key("a")).await.unwrap_err();
    }
    assert_eq!(requests.load(Ordering::SeqCst) - before, 100, "one look each");
    // One that works, and there is patience again.
    down.store(false, Ordering::SeqCst);
    bucket.head(&key("a")).await.unwrap();
    down.store(true, Ordering::SeqCst);
    let before = requests.load(Ordering::SeqCst);
    bucket.head(&key("a")).await.unwrap_err();
    assert!(requests.load(Ordering::SeqCst) - before >= 10);
}
