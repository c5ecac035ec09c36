//! The queue and the watcher's rows: nothing leaves them unasked.

use super::*;
use crate::store::Cursor;

fn path(n: u64) -> StorePath {
    StorePath::parse(&format!("{}-p{n}", hash(n))).unwrap()
}

pub(super) fn paths(range: std::ops::Range<u64>) -> Vec<StorePath> {
    range.map(path).collect()
}

fn cursor(id: i64) -> Cursor {
    Cursor { database: "7".to_owned(), id, path: Some("p".to_owned()) }
}

#[test]
fn what_was_noticed_is_queued_until_it_has_landed() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&file(&dir));
    assert_eq!(ledger.watch().cursor("s").unwrap(), None);
    ledger.watch().notice("s", &paths(0..3), false, &cursor(3), at(0)).unwrap();
    drop(ledger);

    let ledger = Ledger::open(&file(&dir));
    assert_eq!(ledger.watch().cursor("s").unwrap(), Some(cursor(3)));
    assert_eq!(ledger.watch().cursor("other").unwrap(), None);
    let due = ledger.queue().due(at(0), 10).unwrap();
    assert_eq!(due.iter().map(|queued| queued.path.clone()).collect::<HashSet<_>>(), paths(0..3).into_iter().collect());

    let settlement = Settlement {
        done: vec![path(0), path(9)],
        postponed: vec![(path(1), "no".to_owned(), at(60)), (path(8), "not queued".to_owned(), at(60))],
        totals: Totals { batches: 1, pushed: 2, last_success: 5, ..Totals::default() },
    };
    ledger.watch().settle(&settlement).unwrap();
    ledger.watch().settle(&Settlement { totals: settlement.totals, ..Settlement::default() }).unwrap();
    let totals = Totals { batches: 2, pushed: 4, last_success: 5, ..Totals::default() };
    assert_eq!(ledger.watch().totals().unwrap(), totals);
    let due = ledger.queue().due(at(1), 10).unwrap();
    assert_eq!(due.iter().map(|queued| &queued.path).collect::<Vec<_>>(), [&path(2)]);
    assert_eq!(ledger.queue().next_due(at(1)).unwrap(), Some(at(60)));
    assert_eq!(ledger.queue().next_due(at(60)).unwrap(), None);
    assert_eq!(ledger.queue().due(at(60), 10).unwrap().len(), 2);
    assert_eq!(ledger.queue().due(at(60), 1).unwrap().len(), 1);
    let failing = &ledger.queue().list(1).unwrap()[0];
    assert_eq!((failing.attempts, failing.error.as_deref(), failing.since), (1, Some("no"), at(0)));
    let counts = QueueCounts { waiting: 2, scan: 0, failing: 1, oldest: Some(at(0)) };
    assert_eq!(ledger.queue().counts().unwrap(), counts);

    // The clock was set back by a year: nobody waits that long.
    let year = Duration::from_secs(365 * 86_400);
    assert_eq!(ledger.queue().due(at(0) - year, 10).unwrap().len(), 2);
    // Asked for again, it is due at once, and it is still one row that keeps its history.
    ledger.queue().add(&[path(1)], at(2)).unwrap();
    assert_eq!(ledger.queue().due(at(2), 10).unwrap().len(), 2);
    assert_eq!(ledger.queue().counts().unwrap().failing, 1);
    // Emptying the memory forgets neither.
    ledger.clear().unwrap();
    assert_eq!(ledger.queue().counts().unwrap(), counts);
    assert_eq!(ledger.watch().cursor("s").unwrap(), Some(cursor(3)));
}

#[test]
fn a_scan_is_done_when_all_of_it_is_gone_from_the_queue() {
    let ledger = Ledger::in_memory();
    let watch = ledger.watch();
    let (here, elsewhere) = (bucket("g1"), bucket("g2"));
    assert_eq!(watch.scan(&here).unwrap(), Scan::Due);
    assert!(!watch.end_scan(&here, at(0)).unwrap(), "what was never begun is not done");
    watch.begin_scan(&here, &paths(0..3), at(0)).unwrap();
    assert_eq!(watch.scan(&here).unwrap(), Scan::Begun(at(0)));
    // What is built meanwhile goes first, also where the scan has found it.
    watch.notice("s", &[path(2), path(7)], false, &cursor(1), at(1)).unwrap();
    let order: Vec<StorePath> = ledger.queue().due(at(1), 2).unwrap().into_iter().map(|queued| queued.path).collect();
    assert_eq!(order.into_iter().collect::<HashSet<_>>(), HashSet::from([path(2), path(7)]));
    watch.settle(&Settlement { done: vec![path(0)], ..Settlement::default() }).unwrap();
    assert!(!watch.end_scan(&here, at(2)).unwrap());
    watch.settle(&Settlement { done: vec![path(1)], ..Settlement::default() }).unwrap();
    assert!(watch.end_scan(&here, at(3)).unwrap());
    assert!(!watch.end_scan(&here, at(4)).unwrap(), "it was done before");
    assert_eq!(watch.scan(&here).unwrap(), Scan::Done(at(3)));
    assert_eq!(watch.scan(&elsewhere).unwrap(), Scan::Due, "another bucket has its own");
    watch.begin_scan(&here, &paths(4..6), at(5)).unwrap();
    let waiting = ledger.queue().counts().unwrap().waiting;
    watch.forget_scans().unwrap();
    assert_eq!(watch.scan(&here).unwrap(), Scan::Due);
    assert_eq!(ledger.queue().counts().unwrap().waiting, waiting, "what is queued leaves by landing alone");
}

#[test]
fn an_inventory_is_known_once_it_was_taken() {
    let ledger = Ledger::in_memory();
    let watch = ledger.watch();
    assert_eq!(watch.inventory("s").unwrap(), None);
    watch.notice_inventory("s", &[], false, &paths(0..3), &[], at(0)).unwrap();
    watch.notice_inventory("s", &[path(3)], false, &[path(3)], &[path(0)], at(0)).unwrap();
    assert_eq!(watch.inventory("s").unwrap(), Some(paths(1..4).into_iter().collect()));
    assert_eq!(ledger.queue().counts().unwrap().waiting, 1);
    // A database that became readable makes it worthless: meanwhile nobody kept it.
    watch.notice("s", &[], false, &cursor(1), at(0)).unwrap();
    assert_eq!(watch.inventory("s").unwrap(), None);
    watch.notice_inventory("s", &[], false, &[path(9)], &[], at(0)).unwrap();
    assert_eq!(watch.inventory("s").unwrap(), Some(HashSet::from([path(9)])));
    assert_eq!(watch.cursor("s").unwrap().map(|cursor| cursor.id), Some(0), "no row is after a look at all");
}

#[test]
fn an_outage_keeps_its_beginning() {
    let ledger = Ledger::in_memory();
    ledger.watch().note_outage("bucket", "refused", at(0)).unwrap();
    ledger.watch().note_outage("bucket", "timed out", at(50)).unwrap();
    let outage = Outage { what: "bucket".to_owned(), since: at(0), error: "timed out".to_owned() };
    assert_eq!(ledger.watch().outages().unwrap(), [outage]);
    ledger.watch().end_outage("bucket").unwrap();
    assert_eq!(ledger.watch().outages().unwrap(), []);
}

#[test]
fn the_queue_never_says_empty_because_it_could_not_look() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(dir.path());
    assert!(ledger.trouble().is_some());
    assert!(ledger.queue().due(at(0), 1).is_err());
    assert!(ledger.queue().add(&paths(0..1), at(0)).is_err());
    assert!(ledger.watch().cursor("s").is_err());
}
