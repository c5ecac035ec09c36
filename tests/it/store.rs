//! The local store through its two back ends.

use crate::support::fixture_store::FixtureStore;

#[test]
fn fixture_registers_what_it_writes() {
    let fixture = FixtureStore::new();
    let lib = fixture.add("lib").file("lib/x.so", b"x").finish();
    let app = fixture.add("app").executable("bin/app", b"#!/bin/sh\n").reference(&lib).self_reference().finish();
    assert_eq!(fixture.info(&app).references.len(), 2);
    assert!(fixture.real_path(&app).join("bin/app").is_file());
    let rows: i64 = fixture.sql(|db| db.query_row("select count(*) from Refs", [], |row| row.get(0)).unwrap());
    assert_eq!(rows, 2);
    fixture.collect(&app);
    let rows: i64 = fixture.sql(|db| db.query_row("select count(*) from Refs", [], |row| row.get(0)).unwrap());
    assert_eq!(rows, 0);
    assert!(!fixture.real_path(&app).exists());
}
