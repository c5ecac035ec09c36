//! Wall time of each case as bars, relative to `nix copy`.

use crate::case::Run;
use crate::peer::Peer;
use crate::table::{figures, median, rows};
use plotters::prelude::*;
use std::path::Path;

const ROW: u32 = 26;
const COLOURS: [RGBColor; 5] = [
    RGBColor(38, 110, 190),
    RGBColor(120, 170, 220),
    RGBColor(150, 150, 150),
    RGBColor(190, 190, 190),
    RGBColor(225, 205, 160),
];

pub fn draw(runs: &[Run], file: &Path) {
    let bars: Vec<(String, Peer, f64, f64)> = rows(runs)
        .into_iter()
        .filter_map(|(case, peer)| {
            let of = |peer| median(&figures(runs, &case, peer, |run| run.cost.wall));
            let (own, nix) = (of(peer)?, of(Peer::Nix)?);
            Some((case, peer, own, own / nix))
        })
        .collect();
    if bars.is_empty() {
        return;
    }
    let size = (860, 60 + ROW * bars.len() as u32);
    let area = SVGBackend::new(file, size).into_drawing_area();
    let plot = || -> Result<(), Box<dyn std::error::Error>> {
        area.fill(&WHITE)?;
        let text = |size: i32| ("sans-serif", size).into_font();
        area.draw(&Text::new("Wall time, nix copy = 1 (shorter is better)", (20, 16), text(16)))?;
        let (left, width) = (330, 420.0);
        let most = bars.iter().map(|bar| bar.3).fold(1.0, f64::max);
        let mut before = String::new();
        for (n, (case, peer, seconds, ratio)) in bars.iter().enumerate() {
            let top = 48 + (ROW * n as u32) as i32;
            if *case != before {
                area.draw(&Text::new(case.clone(), (20, top + 3), text(14)))?;
                area.draw(&PathElement::new(vec![(20, top - 4), (840, top - 4)], RGBColor(225, 225, 225)))?;
                before.clone_from(case);
            }
            area.draw(&Text::new(peer.name(), (180, top + 3), text(13)))?;
            let end = left + (width * ratio / most).max(1.0) as i32;
            let colour = COLOURS[*peer as usize];
            area.draw(&Rectangle::new([(left, top), (end, top + 17)], colour.filled()))?;
            area.draw(&Text::new(format!("{ratio:.2}  ({seconds:.1} s)"), (end + 6, top + 3), text(13)))?;
        }
        area.present()?;
        Ok(())
    };
    plot().expect("a plot");
}
