//! A pruner that stands still between its second look and its deletes: what it sent before is refused by the store once
//! its time is over, and who pushes meanwhile keeps what it relies on.
//!
//! `LOFT_TEST_STOPS=50` makes so many rounds in real time, ten at once; every other one outlasts the sweep's deadline.

use crate::support::fixture_store::FixtureStore;
use crate::support::local_store::LocalStore;
use crate::support::loft::{Loft, Pushed};
use crate::support::proxy::{Moment, Proxy, Seen, Verdict};
use crate::support::pruning::{Pruned, RETENTION, Running, add_closure, send};
use crate::support::time::DAY;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// A delete is signed for so long.
const SIGNED_FOR: Duration = Duration::from_secs(60);
const DEADLINE: Duration = Duration::from_secs(5 * 60);
/// A sweep that pushes no longer heed.
const FORGOTTEN: Duration = Duration::from_secs(12 * 60);

/// Keeps the deletes of narinfos back, and stops the pruner at one of them.
#[derive(Default)]
struct Barrier {
    /// At which, from one.
    stops_at: usize,
    pruner: AtomicU32,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    is_open: bool,
    held: Vec<String>,
    /// Every delete of a narinfo that the server has answered: target, status, when.
    answered: Vec<(String, u16, Instant)>,
}

impl Barrier {
    fn judge(&self, moment: Moment, seen: &Seen) -> Verdict {
        if seen.method != "DELETE" || !seen.target.contains(".narinfo") {
            return Verdict::Pass;
        }
        let mut state = self.state.lock().unwrap();
        match moment {
            Moment::Answered(status) => state.answered.push((seen.target.clone(), status, Instant::now())),
            Moment::Arrived if !state.is_open => {
                state.held.push(seen.target.clone());
                if state.held.len() == self.stops_at {
                    while self.pruner.load(Ordering::SeqCst) == 0 {
                        std::thread::yield_now();
                    }
                    send("STOP", self.pruner.load(Ordering::SeqCst));
                }
                self.changed.notify_all();
                drop(self.changed.wait_while(state, |state| !state.is_open).unwrap());
            }
            Moment::Arrived => {}
        }
        Verdict::Pass
    }

    fn wait_for_a_delete(&self) {
        let state = self.state.lock().unwrap();
        let waited =
            self.changed.wait_timeout_while(state, Duration::from_secs(60), |state| state.held.len() < self.stops_at);
        assert!(!waited.unwrap().1.timed_out(), "the pruner deletes nothing");
        // The others that were sent at once with it.
        std::thread::sleep(Duration::from_millis(200));
    }

    /// Lets all pass, and waits for what the server says to those of `held`.
    fn open(&self, held: &[String]) -> Vec<(String, u16)> {
        self.state.lock().unwrap().is_open = true;
        self.changed.notify_all();
        let patience = Instant::now() + Duration::from_secs(20);
        loop {
            let state = self.state.lock().unwrap();
            let answers: Vec<_> = state.answered.iter().filter(|(target, ..)| held.contains(target)).collect();
            if answers.len() == held.len() {
                return answers.into_iter().map(|(target, status, _)| (target.clone(), *status)).collect();
            }
            drop(state);
            assert!(Instant::now() < patience, "no answer to {held:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The same signed request, straight to the server.
fn send_again(endpoint: &str, signed_for: &str, target: &str) -> String {
    let bare = |url: &str| url.trim_start_matches("http://").to_owned();
    let mut server = TcpStream::connect(bare(endpoint)).expect("Garage");
    let head = format!("DELETE {target} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", bare(signed_for));
    server.write_all(head.as_bytes()).expect("sent");
    let mut answer = String::new();
    server.read_to_string(&mut answer).expect("an answer");
    answer
}

/// How the time passes while the pruner stands.
#[derive(Debug, Clone, Copy)]
enum Stop {
    /// The wall clocks jump; what counts from boot goes on.
    Jump(Duration),
    Real(Duration),
}

/// What was sent before goes on its way before the pruner does, or together with it.
fn stopped(stop: Stop, is_released_first: bool) {
    let (cache, fixture) = (Pruned::new(), FixtureStore::new());
    let (pusher, pruner, store) = (Loft::new(), Loft::new(), LocalStore::at(fixture.root()));
    let old: Vec<_> = (0..4).map(|n| add_closure(&fixture, &format!("old-{n}"), &[], 4)).collect();
    let roots: Vec<String> = old.iter().map(|paths| fixture.logical(paths.last().unwrap())).collect();
    cache.push(&pusher, &store, &roots.iter().map(String::as_str).collect::<Vec<_>>());
    cache.pass(40 * DAY);

    // Where the clock from boot does not jump as well, nothing may be left that it would let pass: all have been sent.
    let stops_at = if matches!(stop, Stop::Jump(_)) { old.len() } else { 1 };
    let barrier = Arc::new(Barrier { stops_at, ..Barrier::default() });
    let proxy = Proxy::gated(&cache.bucket().endpoint, {
        let barrier = barrier.clone();
        move |moment, seen| barrier.judge(moment, seen)
    });
    let since = Instant::now();
    let more = ["--retention", RETENTION, "--remove-most"];
    let mut pruning = Running::start(cache.prune_command(&pruner, &proxy.endpoint, &more));
    barrier.pruner.store(pruning.id(), Ordering::SeqCst);
    barrier.wait_for_a_delete();

    // Somebody comes to rely on what is about to go.
    let new = add_closure(&fixture, "new", &[old[0][3].clone(), old[1][3].clone(), old[2][2].clone()], 3);
    let new = fixture.logical(&new[2]);
    let mut pushing = Running::start(cache.push_command(&pusher, &store, &[&new], &cache.bucket().endpoint));
    match stop {
        Stop::Jump(by) => {
            // Its lease is there, and it has looked at the sweeps.
            std::thread::sleep(Duration::from_secs(1));
            cache.time.pass(by);
        }
        Stop::Real(duration) => std::thread::sleep(duration),
    }
    let is_forgotten = matches!(stop, Stop::Jump(by) if by >= FORGOTTEN);
    if is_forgotten {
        // Nothing makes it wait any longer, and it ends before the pruner awakes.
        let pushed = Pushed::read(pushing.end()).expect_success();
        assert_eq!(pushed.number("pushed"), 3);
    } else {
        assert!(!pushing.has_ended(), "{stop:?}: a push did not wait for the sweep: {:?}", pushing.end());
    }
    let resumed = Instant::now();
    // Once awake it may send others, signed anew.
    let held = barrier.state.lock().unwrap().held.clone();
    if !is_released_first {
        send("CONT", pruning.id());
    }
    let late = barrier.open(&held);
    assert!(!late.is_empty());
    for (target, status) in &late {
        // Garage does not answer a client that has hung up; sent once more as it was, it answers.
        let again = send_again(&cache.bucket().endpoint, &proxy.endpoint, target);
        let is_refused = (400..404).contains(status) || *status == 0;
        assert!(is_refused, "{stop:?}, {is_released_first}: {status} for {target}; now: {again}");
        assert!(again.starts_with("HTTP/1.1 400") && again.contains("Date is too old"), "{stop:?}: {target}: {again}");
    }
    send("CONT", pruning.id());

    let ended = pruning.end();
    Pushed::read(pushing.end()).expect_success();
    let when = format!("{stop:?}, {is_released_first}, prune: {ended:?}");
    cache.expect_sound(&when);
    let (visible, wanted) = (cache.visible(), store.closure(&[&new]));
    assert!(wanted.iter().all(|path| visible.contains(path)), "{when}: {visible:?}");
    assert_eq!(cache.bucket().keys_below("loft/v1/sweep/"), Vec::<String>::new(), "{when}");
    let answered = barrier.state.lock().unwrap().answered.clone();
    let accepted: Vec<_> = answered.iter().filter(|(_, status, _)| (200..300).contains(status)).collect();
    let nothing_went = visible.len() == 4 * old.len() + 3;
    match stop {
        // The wall has jumped: the first refusal ends the sweep.
        Stop::Jump(_) => assert!(accepted.is_empty() && nothing_went && ended.code == Some(2), "{when}: {accepted:?}"),
        Stop::Real(duration) if duration >= DEADLINE => {
            assert!(accepted.is_empty() && nothing_went, "{when}: {accepted:?}")
        }
        // New ones may be sent within the sweep's time.
        Stop::Real(_) => {
            assert!(accepted.iter().all(|(.., at)| *at > resumed && *at < since + DEADLINE + SIGNED_FOR), "{when}");
        }
    }

    // The next one goes on, and takes nothing that is needed.
    cache.prune(&pruner);
    cache.expect_sound("the next prune");
    assert_eq!(cache.visible(), wanted);
}

#[test]
#[ignore = "needs Garage: ./test --full"]
fn deletes_of_a_stopped_pruner_are_refused_by_garage() {
    std::thread::scope(|scope| {
        for by in [SIGNED_FOR + Duration::from_secs(3), DEADLINE, FORGOTTEN] {
            for is_released_first in [true, false] {
                scope.spawn(move || stopped(Stop::Jump(by), is_released_first));
            }
        }
    });
}

#[test]
#[ignore = "needs Garage: ./test --full"]
fn long_stops_of_a_pruner_of_garage_in_real_time() {
    let rounds = std::env::var("LOFT_TEST_STOPS").map_or(3, |text| text.parse().expect("a number"));
    let numbers: Vec<u32> = (0..rounds).collect();
    for at_once in numbers.chunks(10) {
        std::thread::scope(|scope| {
            for number in at_once {
                let long = rounds > 3 && number % 2 == 1;
                let duration = if long { DEADLINE } else { SIGNED_FOR } + Duration::from_secs(3);
                scope.spawn(move || stopped(Stop::Real(duration), number % 4 < 2));
            }
        });
    }
}
