//! Black-box tests: the `loft` program against a real Nix, a real Garage and a real SeaweedFS.
//!
//! Every test here is `#[ignore]`d for a plain `cargo test`, since it needs programs that cargo cannot
//! provide; `./test --full` puts those in place and runs all of them, `./test` those that need Nix alone.
//! Once asked for, a test never skips: what is missing fails it, with the way to get it.

mod harness;
mod store;
mod support;
