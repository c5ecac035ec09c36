//! `loft pin`: named roots, added, listed, removed. Needs no Nix store: what counts is what the cache has.

use crate::action::{Invocation, PinRequest};
use crate::config;
use crate::exit::Exit;
use crate::failure::{Failure, printable};
use crate::network::{self, Network};
use crate::output::{print, tell};
use crate::push::who;
use crate::terminal::Terminal;
use loft::config::Loaded;
use loft::nix::StorePath;
use loft::pin::{self, Pinned};
use loft::push::{Interrupt, Lessee};
use loft::quantity::{age, paths};
use loft::record::{Keep, seconds};
use loft::store::{Location, resolve};
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

/// Roots that are named in a list; the others are counted.
const NAMED: usize = 3;

pub fn pin(invocation: &Invocation, request: &PinRequest) -> Result<Exit, Failure> {
    let loaded = config::read(invocation)?;
    loaded.bucket()?;
    let roots = match request {
        PinRequest::Add { paths, .. } => {
            paths.iter().map(|path| store_path(&loaded, path)).collect::<Result<Vec<_>, _>>()?
        }
        PinRequest::Remove { .. } | PinRequest::List { .. } => Vec::new(),
    };
    let interrupt = Interrupt::default();
    let network = Network::start()?;
    network.catch_signals(interrupt.clone());
    let done = network.run(async {
        let report = Arc::new(Terminal::new(invocation.voice, false));
        let ends = network::prune_ends(&loaded, report).await?;
        let bucket = ends.bucket.as_ref();
        match request {
            PinRequest::Add { name, keep, .. } => {
                let (bucket, clock, report) = (ends.bucket.clone(), ends.clock, ends.report);
                let lessee = Lessee { bucket, clock, report, who: who(), interrupt };
                let count = roots.len() as u64;
                pin::add(&lessee, name, roots, *keep).await?;
                tell(&format!("Pinned {} as {name}, {}.\n", paths(count), rule(*keep)));
            }
            PinRequest::Remove { name, but_last } => {
                let removed = pin::remove(bucket, name, *but_last).await?;
                let pins = if removed == 1 { "pin" } else { "pins" };
                tell(&format!("Removed {removed} {pins} of {name}; what they kept goes by its age now.\n"));
            }
            PinRequest::List { json } => {
                let pins = pin::list(bucket).await?;
                let now = bucket.now().await?;
                list(&pins, now, *json)?;
            }
        }
        Ok(Exit::Done)
    });
    network.stop();
    done
}

fn list(pins: &[Pinned], now: SystemTime, as_json: bool) -> Result<(), Failure> {
    if pins.is_empty() && !as_json {
        tell("There are no pins.\n");
    }
    for pin in pins {
        let line = match as_json {
            true => json!({
                "name": pin.name, "at": seconds(pin.at), "who": pin.who, "keep": pin.keep, "roots": pin.roots,
                "holds": pin.holds,
            })
            .to_string(),
            false => printable(&in_words(pin, now)),
        };
        print(&(line + "\n"))?;
    }
    Ok(())
}

fn in_words(pin: &Pinned, now: SystemTime) -> String {
    let ago = age(now.duration_since(pin.at).unwrap_or_default());
    let mut roots: Vec<String> = pin.roots.iter().take(NAMED).map(ToString::to_string).collect();
    if pin.roots.len() > NAMED {
        roots.push(format!("and {} more", pin.roots.len() - NAMED));
    }
    let over = if pin.holds { "" } else { ", over: the next prune removes it" };
    format!("{}  {ago} ago by {}, {}{over}: {}", pin.name, pin.who, rule(pin.keep), roots.join(" "))
}

fn rule(keep: Keep) -> String {
    match keep {
        Keep::Forever => "kept until it is removed".to_owned(),
        Keep::Days(1) => "kept for 1 day".to_owned(),
        Keep::Days(days) => format!("kept for {days} days"),
        Keep::Last(1) => "kept while it is the newest of its name".to_owned(),
        Keep::Last(count) => format!("kept while it is among the newest {count} of its name"),
    }
}

/// What was typed, as a store path. One that is spelled out need not be in any store here; a symlink is followed into the
/// configured one.
fn store_path(loaded: &Loaded, typed: &Path) -> Result<StorePath, Failure> {
    if let Some(spelled) = spelled_out(typed) {
        return Ok(spelled);
    }
    let location = Location::find(&loaded.settings.store)?;
    let hint = "name it as /nix/store/HASH-NAME or HASH-NAME, or give a symlink to it";
    resolve(&location, typed).map_err(|error| Failure::from(error).hint(hint))
}

/// A store path may itself be a symlink into another one, and is then not that one.
fn spelled_out(typed: &Path) -> Option<StorePath> {
    let named = |path: &Path| StorePath::parse(path.file_name()?.to_str()?).ok();
    match typed.parent() {
        Some(parent) if parent.as_os_str().is_empty() => named(typed),
        _ if typed.is_absolute() => typed.ancestors().filter_map(named).last(),
        _ => None,
    }
}
