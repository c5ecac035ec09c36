//! `loft status`: what is pending here, and what is in the cache. Changes neither.
//!
//! What the ledger says is told first: it needs no network, and is what people want to know when the bucket
//! cannot be reached.

mod cache;
mod chart;
mod json;
mod layout;
mod local;
mod metrics;

use crate::action::{Invocation, StatusRequest};
use crate::config;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::network::Network;
use crate::output::print;
use crate::terminal::Terminal;
use local::Local;
use loft::bucket;
use loft::clock::{Clock as _, SystemClock};
use loft::config::Loaded;
use loft::survey::{Depth, Survey, survey};
use std::sync::Arc;

pub fn status(invocation: &Invocation, request: &StatusRequest) -> Result<Exit, Failure> {
    let loaded = config::read(invocation)?;
    let local = Local::read(&loaded.settings, SystemClock.wall());
    if let Some(to) = &request.metrics {
        return metrics::write(local, to.as_deref());
    }
    if !request.json {
        print(&local.page())?;
    }
    let cache = (!request.local).then(|| look(invocation, &loaded, request.full)).transpose();
    if request.json {
        print(&json::object(&local, &cache))?;
    } else if let Ok(Some((name, found))) = &cache {
        print(&cache::page(name, found))?;
    }
    cache?;
    match local.failure() {
        Some(failure) => Err(failure),
        None => Ok(Exit::Done),
    }
}

/// What is in the bucket, and what it is called.
fn look(invocation: &Invocation, loaded: &Loaded, full: bool) -> Result<(String, Survey), Failure> {
    let target = loaded.bucket()?;
    let depth = if full { Depth::Full } else { Depth::Sample };
    let report = Arc::new(Terminal::new(invocation.voice, false));
    let environment = config::environment().collect();
    let network = Network::start()?;
    let found = network.run(async {
        let bucket = bucket::open(target, &environment, Arc::new(SystemClock), report, Arc::default()).await?;
        Ok((bucket.describe(), survey(bucket.as_ref(), depth).await?))
    });
    network.stop();
    found
}
