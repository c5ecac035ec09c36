//! Medians and ratios as a Markdown table.

use crate::case::Run;
use crate::peer::Peer;
use std::fmt::Write as _;

/// One run as a line of the log.
pub fn line(run: &Run) -> String {
    let cost = &run.cost;
    format!(
        "{:<24} {:<26} #{}  {:8.2} s wall {:8.2} s cpu {:6.0} MiB  {:6} requests {:8.1} MB sent",
        run.case,
        run.peer.name(),
        run.round,
        cost.wall,
        cost.cpu,
        cost.memory,
        run.requests.values().sum::<u64>(),
        run.sent as f64 / 1e6
    )
}

/// A row for each case and peer. Ratios are to `nix copy` in the same case: of medians.
pub fn page(runs: &[Run]) -> String {
    let mut text = String::from(
        "| case | program | wall, s (min–max) | wall / nix | CPU, s | CPU / nix | peak, MiB | requests | by method | MB sent |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
    );
    for (case, peer) in rows(runs) {
        let of = |peer: Peer, figure: fn(&Run) -> f64| figures(runs, &case, peer, figure);
        let wall = of(peer, |run| run.cost.wall);
        let cpu = of(peer, |run| run.cost.cpu);
        let ratio = |figure: fn(&Run) -> f64| match (median(&of(peer, figure)), median(&of(Peer::Nix, figure))) {
            (Some(own), Some(nix)) if peer != Peer::Nix => format!("{:.2}", own / nix),
            _ => String::new(),
        };
        let memory = of(peer, |run| run.cost.memory).into_iter().fold(0.0, f64::max);
        let all = of(peer, |run| run.requests.values().sum::<u64>() as f64);
        let sent = of(peer, |run| run.sent as f64 / 1e6);
        let methods: Vec<String> = runs
            .iter()
            .find(|run| run.case == case && run.peer == peer)
            .map(|run| run.requests.iter().map(|(method, count)| format!("{count} {method}")).collect())
            .unwrap_or_default();
        let _ = writeln!(
            text,
            "| {case} | {} | {:.2} ({:.2}–{:.2}) | {} | {:.2} | {} | {memory:.0} | {:.0} | {} | {:.1} |",
            peer.name(),
            median(&wall).unwrap_or_default(),
            wall.iter().copied().fold(f64::INFINITY, f64::min),
            wall.iter().copied().fold(0.0, f64::max),
            ratio(|run| run.cost.wall),
            median(&cpu).unwrap_or_default(),
            ratio(|run| run.cost.cpu),
            median(&all).unwrap_or_default(),
            methods.join(", "),
            median(&sent).unwrap_or_default(),
        );
    }
    text
}

/// Cases as they first ran, peers in their own order.
pub fn rows(runs: &[Run]) -> Vec<(String, Peer)> {
    let mut cases: Vec<&str> = Vec::new();
    for run in runs {
        if !cases.contains(&run.case.as_str()) {
            cases.push(&run.case);
        }
    }
    let peers = |case: &str| {
        let mut peers: Vec<Peer> = runs.iter().filter(|run| run.case == case).map(|run| run.peer).collect();
        peers.sort_unstable();
        peers.dedup();
        peers
    };
    cases.into_iter().flat_map(|case| peers(case).into_iter().map(|peer| (case.to_owned(), peer))).collect()
}

pub fn figures(runs: &[Run], case: &str, peer: Peer, figure: impl Fn(&Run) -> f64) -> Vec<f64> {
    runs.iter().filter(|run| run.case == case && run.peer == peer).map(figure).collect()
}

pub fn median(figures: &[f64]) -> Option<f64> {
    let mut sorted = figures.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}
