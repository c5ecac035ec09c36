//! Runs one part once, for a tool that counts: `loft-part NAME`, or `loft-part` for the names of those that can be counted.

use loft_bench::parts::PARTS;

fn main() {
    let Some(name) = std::env::args().nth(1) else {
        PARTS.iter().filter(|part| part.is_counted).for_each(|part| println!("{}", part.name));
        return;
    };
    let part = PARTS.iter().find(|part| part.name == name).unwrap_or_else(|| panic!("there is no part {name}"));
    let mut run = (part.prepare)().run;
    // What is done once in a life is not counted.
    run();
    counted(&mut run);
}

/// By this name the tool knows what to count.
#[inline(never)]
fn counted(run: &mut dyn FnMut()) {
    run();
}
