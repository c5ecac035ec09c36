//! The protocol of pushes and prunes, run one request at a time.
//!
//! `ask`: requests and answers as values. `port`: a bucket that asks and waits. `names`: the same names
//! in every run. `machine`: one process, run step by step. `actors`: who takes part, with what `shelf` has.
//! `explore`: all interleavings of a few. `ablation`: the same protocol with one of its parts taken out.
//! `sim`: long runs that a seed decides (`dice`), looked at by `judge`; pushes write what stands `beside` paths.

pub mod ablation;
pub mod actors;
pub mod ask;
pub mod beside;
pub mod dice;
pub mod explore;
pub mod judge;
pub mod machine;
pub mod names;
pub mod port;
pub mod shelf;
pub mod sim;
