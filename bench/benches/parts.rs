//! How long each part takes: `cargo bench --manifest-path bench/Cargo.toml`.

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use loft_bench::parts::{Amount, PARTS, Work};

fn main() {
    divan::main();
}

#[divan::bench(args = PARTS.iter().map(|part| part.name), sample_count = 20, max_time = 5)]
fn part(bencher: Bencher, name: &str) {
    let part = PARTS.iter().find(|part| part.name == name).expect("a part of this name");
    let Work { mut before, mut run } = (part.prepare)();
    let bencher = bencher.with_inputs(&mut before);
    match part.amount {
        Amount::Bytes(bytes) => bencher.counter(BytesCount::new(bytes)).bench_local_values(|()| run()),
        Amount::Items(items) => bencher.counter(ItemsCount::new(items)).bench_local_values(|()| run()),
    }
}
