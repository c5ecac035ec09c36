//! Noticing what becomes valid: nothing is missed, whatever happens to events, databases and daemons.

use crate::support::fake_daemon::{FakeDaemon, Script};
use crate::support::fixture_store::FixtureStore;
use loft::store::{Store, open};
use loft::watch::{News, Place, Wake, look};
use std::time::{Duration, Instant};

fn news(store: &dyn Store, place: &Place) -> News {
    look(store, place).unwrap()
}

#[test]
fn a_readable_database_is_read_on_from_its_cursor() {
    let fixture = FixtureStore::new();
    let store = open(&fixture.settings()).unwrap();
    let a = fixture.add("a").contents("a").finish();
    let first = news(store.as_ref(), &Place::Nowhere);
    assert_eq!((first.appeared, first.from_start), (vec![a], true));
    let b = fixture.add("b").contents("b").finish();
    let second = news(store.as_ref(), &first.place);
    assert_eq!((second.appeared, second.from_start), (vec![b], false));
    assert_eq!(news(store.as_ref(), &second.place).appeared, []);
}

#[test]
fn a_daemon_alone_is_compared_with_what_it_said_before() {
    let fixture = FixtureStore::new();
    let paths: Vec<_> = (0..4).map(|n| fixture.add(&format!("p{n}")).contents("x").finish()).collect();
    let infos = |range: std::ops::Range<usize>| paths[range].iter().map(|path| fixture.info(path)).collect::<Vec<_>>();
    let look_at = |range: std::ops::Range<usize>, place: &Place| {
        let daemon = FakeDaemon::start(Script::truthful(infos(range)));
        news(open(&daemon.settings()).unwrap().as_ref(), place)
    };
    let first = look_at(0..3, &Place::Nowhere);
    assert_eq!((first.appeared.len(), first.from_start), (3, true));
    let second = look_at(1..4, &first.place);
    assert_eq!((&second.appeared, &second.gone), (&vec![paths[3].clone()], &vec![paths[0].clone()]));
    assert!(!second.from_start);

    // The database can be read again: what was listed is known, the rest is new.
    let e = fixture.add("e").contents("e").finish();
    let third = news(open(&fixture.settings()).unwrap().as_ref(), &second.place);
    assert_eq!(third.appeared.iter().collect::<std::collections::BTreeSet<_>>(), [&paths[0], &e].into());
    assert!(!third.from_start && matches!(third.place, Place::Cursor(_)));
    // And no more: nothing is known of what the daemon says now.
    let fourth = look_at(1..4, &third.place);
    assert!(fourth.from_start && fourth.appeared.len() == 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_wakes_long_before_the_next_poll() {
    let fixture = FixtureStore::new();
    let store = open(&fixture.settings()).unwrap();
    let mut wake = Wake::new(store.location(), false);
    let before = news(store.as_ref(), &Place::Nowhere).place;
    assert!(wake.poll() >= Duration::from_secs(1));
    let adding = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        fixture.add("a").contents("a").finish();
        fixture
    });
    // Fewer rounds than polls would take.
    let began = Instant::now();
    while news(store.as_ref(), &before).appeared.is_empty() {
        wake.next().await;
        assert!(began.elapsed() < wake.poll(), "noticed by polling alone");
    }
    drop(adding.join());
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_does_not_wake_the_reader() {
    let fixture = FixtureStore::new();
    fixture.add("a").contents("a").finish();
    let store = open(&fixture.settings()).unwrap();
    let mut wake = Wake::new(store.location(), false);
    for _ in 0..3 {
        news(store.as_ref(), &Place::Nowhere);
        let woken = tokio::time::timeout(Duration::from_millis(400), wake.next()).await;
        assert!(woken.is_err(), "the look itself caused another");
    }
}
