//! What `loft status` says of a cache on a real server is what is there, page after page.

use crate::support::fixture_store::FixtureStore;
use crate::support::local_store::LocalStore;
use crate::support::loft::Loft;
use crate::support::place::Place;
use crate::support::process::end_of;
use serde_json::Value;
use std::collections::BTreeSet;

/// More than a page of narinfos and one of NARs, so that listings are cut into pieces and narinfos are drawn.
const PATHS: usize = 1300;

fn status_counts_what_is_there(place: &Place) {
    let store = FixtureStore::new();
    let mut unpacked = 0;
    for n in 0..PATHS {
        // Text that compresses to about half.
        let text: String = (0..50 + n % 400).map(|i| char::from(b'a' + ((i * i * 31 + n * i) % 13) as u8)).collect();
        unpacked += store.nar(&store.add(&format!("p-{n}")).file("f", text).finish()).len() as u64;
    }
    let loft = Loft::new();
    let pushed = loft.push(&LocalStore::at(store.root()), &["--all"], |command| place.write(command)).expect_success();
    assert_eq!(pushed.number("pushed"), PATHS as u64);
    let nars: BTreeSet<String> = place.cache().keys().into_iter().filter(|key| key.starts_with("nar/")).collect();

    let status = |more: &[&str]| -> Value {
        let mut command = loft.command();
        command.args(["status", "--json"]).args(more);
        place.write(&mut command);
        let ended = end_of(&mut command);
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
        serde_json::from_str(&ended.stdout).unwrap()
    };
    for (more, read) in [(&[][..], 400), (&["--full"], PATHS)] {
        let told = status(more);
        let cache = &told["cache"];
        assert_eq!((&cache["paths"], &cache["nars"]), (&PATHS.into(), &nars.len().into()), "{more:?}");
        assert_eq!(cache["stored"].as_u64(), Some(pushed.number("file_size")));
        assert_eq!((&cache["narinfos_read"], &cache["unpacked_is_exact"]), (&read.into(), &(read == PATHS).into()));
        let error = (cache["unpacked"].as_f64().unwrap() / unpacked as f64 - 1.0).abs();
        assert!(error < if read == PATHS { f64::EPSILON } else { 0.1 }, "{more:?}: {}", cache["unpacked"]);
        assert_eq!((&cache["weeks"][0]["nars"], &cache["earlier"]["nars"]), (&nars.len().into(), &0.into()));
        assert_eq!((&cache["pushes"][0]["pushed"], &cache["damaged"]["count"]), (&PATHS.into(), &0.into()));
        assert_eq!(cache["leases"], serde_json::json!([]));
        let largest = cache["largest"].as_array().unwrap();
        assert!(largest.len() == 10 && largest.iter().all(|large| nars.contains(large["key"].as_str().unwrap())));
    }
}

#[test]
#[ignore = "needs Garage: ./test --full"]
fn status_counts_what_is_in_garage() {
    status_counts_what_is_there(&Place::garage());
}

#[test]
#[ignore = "needs SeaweedFS: ./test --full"]
fn status_counts_what_is_in_seaweedfs() {
    status_counts_what_is_there(&Place::seaweedfs());
}
