//! Prunes a bucket once and tells in JSON what was done; what tests against real servers drive.
//!
//! `cargo run --example prune_once -- --to URL --retention DAYS [--nar-grace DAYS] [--remove-most] [--undo ID] [--list-trash]`
//!
//! The ledger is `ledger.db` in the current folder. Exit status: 0 done, 1 refused or stopped, 2 something is left.

use loft::bucket::{self, CacheUrl, Requests};
use loft::clock::SystemClock;
use loft::ledger::Ledger;
use loft::prune::{self, Ends, NAR_GRACE, Options, PruneError};
use loft::push::Interrupt;
use loft::remedy::chain;
use loft::report::{Event, Report};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

struct Warnings;

impl Report for Warnings {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Warning { message } => eprintln!("warning: {message}"),
            Event::Waiting { reason } => eprintln!("waiting: {reason}"),
            _ => {}
        }
    }
}

#[derive(Default)]
struct Arguments {
    to: String,
    retention: Duration,
    nar_grace: Option<Duration>,
    remove_most: bool,
    undo: Option<ulid::Ulid>,
    list_trash: bool,
}

fn arguments() -> Result<Arguments, String> {
    let mut found = Arguments::default();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        let days = |text: String| match text.parse::<f64>() {
            Ok(days) => Ok(Duration::from_secs_f64(days * 86_400.0)),
            Err(error) => Err(format!("{text}: {error}")),
        };
        match word.as_str() {
            "--to" => found.to = value()?,
            "--retention" => found.retention = days(value()?)?,
            "--nar-grace" => found.nar_grace = Some(days(value()?)?),
            "--undo" => found.undo = Some(value()?.parse().map_err(|_| "not an id")?),
            "--remove-most" => found.remove_most = true,
            "--list-trash" => found.list_trash = true,
            "--json" => {}
            _ => return Err(format!("what is {word}?")),
        }
    }
    Ok(found)
}

async fn run(arguments: Arguments) -> Result<i32, Box<dyn std::error::Error>> {
    let (clock, report) = (Arc::new(SystemClock), Arc::new(Warnings));
    let target = CacheUrl::parse(&arguments.to)?.target;
    let environment = std::env::vars().collect();
    let requests = Arc::<Requests>::default();
    let bucket = bucket::open(&target, &environment, clock.clone(), report.clone(), requests).await?;
    let ledger = Arc::new(Ledger::open(Path::new("ledger.db")));
    let ends = Ends { bucket, ledger, clock, report };
    let options = Options {
        retention: arguments.retention,
        max_size: None,
        nar_grace: arguments.nar_grace.unwrap_or(NAR_GRACE),
        remove_most: arguments.remove_most,
        dry_run: false,
        who: "prune_once".to_owned(),
        interrupt: Interrupt::default(),
    };
    if arguments.list_trash {
        for trashed in prune::list_trash(&ends).await? {
            println!("{} {}", trashed.id, trashed.paths);
        }
        return Ok(0);
    }
    if let Some(id) = arguments.undo {
        let undone = prune::undo(&ends, &options, id).await?;
        for (path, fate) in &undone.paths {
            println!("{path} {fate:?}");
        }
        return Ok(0);
    }
    let plan = prune::plan(&ends, &options).await?;
    let done = prune::carry_out(&ends, &options, plan).await?;
    let trash: Vec<String> = done.trash.iter().map(|id| format!("\"{id}\"")).collect();
    println!(
        r#"{{"removed":{},"rescued":{},"restored":{},"failed":{},"nars":{},"freed":{},"records":{},"unfinished":{},"trash":[{}]}}"#,
        done.removed.len(),
        done.rescued,
        done.restored,
        done.failed,
        done.nars,
        done.freed,
        done.records,
        done.is_unfinished,
        trash.join(",")
    );
    Ok(if done.failed > 0 || done.is_unfinished { 2 } else { 0 })
}

fn main() {
    let arguments = arguments().unwrap_or_else(|why| {
        eprintln!("error: {why}");
        std::process::exit(1)
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads");
    let code = runtime.block_on(run(arguments)).unwrap_or_else(|error| {
        let why = error.downcast_ref::<PruneError>().map_or_else(|| error.to_string(), |error| chain(error));
        eprintln!("error: {why}");
        1
    });
    std::process::exit(code);
}
