//! The parts of a push, one by one, for `cargo bench` (time) and `bench/instructions` (a count that is the same on each run).

mod listing;
pub mod parts;
