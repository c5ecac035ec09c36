//! `--list-trash` and `--undo`: what can be brought back, and bringing it back.

use super::{Talk, json, options};
use crate::action::{Invocation, UndoRequest};
use crate::config;
use crate::exit::Exit;
use crate::failure::{Failure, printable};
use crate::network::{self, Network};
use crate::output::{print, tell};
use loft::nix::StorePath;
use loft::prune::{self, NAR_GRACE, Restored, Trashed, Undone};
use loft::push::Interrupt;
use loft::quantity::{age, day, paths};
use loft::record::Why;
use std::time::SystemTime;

pub fn list_trash(invocation: &Invocation, json: bool) -> Result<Exit, Failure> {
    let loaded = config::read(invocation)?;
    loaded.bucket()?;
    let talk = Talk::new(invocation, json);
    let network = Network::start()?;
    let found = network.run(async {
        let ends = network::prune_ends(&loaded, talk.report.clone()).await?;
        let found = prune::list_trash(&ends).await?;
        let now = ends.bucket.now().await.map_err(prune::PruneError::from)?;
        Ok::<_, Failure>((found, now))
    });
    network.stop();
    let (found, now) = found?;
    if found.is_empty() && !json {
        tell("Nothing can be undone: there is no trash.\n");
    }
    for trash in &found {
        let until = trash.at + NAR_GRACE;
        match json {
            true => print(&json::trashed(trash, until))?,
            false => print(&line(trash, until, now))?,
        }
    }
    talk.end(Ok(Exit::Done))
}

fn line(trash: &Trashed, until: SystemTime, now: SystemTime) -> String {
    let ago = age(now.duration_since(trash.at).unwrap_or_default());
    let left = match until.duration_since(now) {
        Ok(_) => format!("can be undone until {}", day(until)),
        Err(_) => "as far as its NARs are still there".to_owned(),
    };
    let what = match (trash.why, trash.paths) {
        (Why::Retention, 0) => format!("{} NARs that nothing pointed at", trash.orphans),
        // Of one that was interrupted, some are still there.
        (Why::Retention, count) => format!("removal of {}", paths(count)),
        (Why::Damage, 0) => format!("{} set aside as damaged", own_records(trash.records)),
        (Why::Damage, count) => format!("{} set aside as damaged", paths(count)),
    };
    printable(&format!("{}  {ago:>7} ago  {what}, by {}; {left}", trash.id, trash.who)) + "\n"
}

pub fn undo(invocation: &Invocation, request: &UndoRequest) -> Result<Exit, Failure> {
    let loaded = config::read(invocation)?;
    loaded.bucket()?;
    let interrupt = Interrupt::default();
    let options = options(&loaded, interrupt.clone());
    let talk = Talk::new(invocation, request.json);
    let network = Network::start()?;
    network.catch_signals(interrupt.clone());
    let mut undone = Undone::default();
    let result = network.run(async {
        let ends = network::prune_ends(&loaded, talk.report.clone()).await?;
        Ok::<_, Failure>(prune::undo(&ends, &options, request.id, &mut undone).await?)
    });
    network.stop();
    talk.clear();
    if result.is_ok() || !undone.paths.is_empty() || !undone.records.is_empty() {
        if request.json {
            print(&json::undone(&undone))?;
        } else {
            print(&fates(&undone))?;
            talk.line(false, &summary(&undone));
        }
    }
    let failed = undone.paths.iter().any(|(_, restored)| matches!(restored, Restored::Failed(_)));
    talk.end(result.map(|()| match failed {
        true if interrupt.is_raised() => Exit::Interrupted,
        true => Exit::Unfinished,
        false => Exit::Done,
    }))
}

fn fates(undone: &Undone) -> String {
    let fate = |(hash, restored): &(loft::nix::PathHash, Restored)| {
        let name = undone.names.get(hash).map_or_else(|| hash.to_string(), StorePath::to_string);
        let line = match restored {
            Restored::Done => format!("restored: {name}"),
            Restored::AsItWas => format!("restored as it was, damaged: {name}"),
            Restored::Present => format!("present: {name}"),
            Restored::Failed(why) => format!("failed: {name}: {why}"),
        };
        printable(&line) + "\n"
    };
    let records = undone.records.iter().map(|key| printable(&format!("restored as it was, damaged: {key}")) + "\n");
    undone.paths.iter().map(fate).chain(records).collect()
}

fn summary(undone: &Undone) -> String {
    let count = |wanted: fn(&Restored) -> bool| undone.paths.iter().filter(|(_, restored)| wanted(restored)).count();
    let (done, present) = (count(|fate| *fate == Restored::Done), count(|fate| *fate == Restored::Present));
    let damaged = count(|fate| *fate == Restored::AsItWas) + undone.records.len();
    let failed = count(|fate| matches!(fate, Restored::Failed(_)));
    let all = match undone.records.len() as u64 {
        0 => paths(undone.paths.len() as u64),
        records => format!("{} and {}", paths(undone.paths.len() as u64), own_records(records)),
    };
    let mut text = format!("{all}: {done} put back, {present} there already, {failed} failed");
    if damaged > 0 {
        text.push_str(&format!(", {damaged} put back damaged as they were"));
    }
    text.push('\n');
    if done > 0 {
        text.push_str("  what was put back counts as just pushed, so the next prune keeps it\n");
    }
    text
}

fn own_records(count: u64) -> String {
    if count == 1 { "1 record of loft's own".to_owned() } else { format!("{count} records of loft's own") }
}
