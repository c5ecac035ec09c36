//! Measures loft beside its peers: the same store paths, the same Garage, the same machine, in turn.
//!
//! `bench/run` starts this with all that it needs. Every run has a fresh server with an empty bucket and a client that
//! remembers nothing, unless the case is about what it remembers.

mod case;
mod corpus;
mod garage;
mod measure;
mod peer;
mod plot;
mod programs;
mod proxy;
mod table;

use case::{Case, Run};
use clap::Parser;
use corpus::Corpora;
use peer::Peer;
use programs::Programs;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Parser)]
#[command(about = "Measures loft beside its peers; see bench/README.md")]
struct Arguments {
    /// How often each case is run by each peer; the table has medians.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Only cases whose names contain one of these, such as `A` or `cold`.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Only these peers.
    #[arg(long, value_delimiter = ',')]
    peers: Vec<Peer>,
    /// Milliseconds that a request takes longer in the cases with latency.
    #[arg(long, default_value_t = 30)]
    latency: u64,
    /// Where stores with the corpora are kept.
    #[arg(long)]
    corpora: PathBuf,
    /// Where the table, the plot and all single runs are written.
    #[arg(long)]
    out: PathBuf,
    #[command(flatten)]
    programs: Programs,
}

fn main() {
    let arguments = Arguments::parse();
    let cases: Vec<Case> = case::all(Duration::from_millis(arguments.latency))
        .into_iter()
        .filter(|case| arguments.only.is_empty() || arguments.only.iter().any(|part| case.name.contains(part.as_str())))
        .collect();
    std::fs::create_dir_all(&arguments.out).expect("the folder for results");
    let programs = arguments.programs.absolute();
    let corpora = Corpora::make(&arguments.corpora, &programs);
    let mut raw = std::fs::File::create(arguments.out.join("runs.jsonl")).expect("runs.jsonl");
    let mut runs: Vec<Run> = Vec::new();
    for round in 1..=arguments.rounds {
        for case in &cases {
            let peers = case.peers.iter().filter(|peer| arguments.peers.is_empty() || arguments.peers.contains(peer));
            // In another order each round, so that nobody always comes after the same.
            let mut peers: Vec<Peer> = peers.copied().collect();
            let turn = round as usize % peers.len().max(1);
            peers.rotate_left(turn);
            for peer in peers {
                let run = case.run(peer, round, &corpora, &programs);
                eprintln!("{}", table::line(&run));
                writeln!(raw, "{}", serde_json::to_string(&run).expect("JSON")).expect("runs.jsonl");
                runs.push(run);
            }
        }
    }
    let page = table::page(&runs);
    std::fs::write(arguments.out.join("table.md"), &page).expect("table.md");
    plot::draw(&runs, &arguments.out.join("wall.svg"));
    println!("{page}");
}
