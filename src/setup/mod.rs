//! The first minutes: a bucket made ready (`prepare`), and machines told to read from it (`reading`, `install`).
//!
//! Everything here can be done again: what is there is left as it is, and told.

mod document;
mod error;
pub mod hints;
mod install;
mod key_pair;
mod new_file;
mod nix_conf;
mod prepare;
mod public;
mod reading;
mod trusted;

pub use error::SetupError;
pub use install::{Installed, install};
pub use key_pair::write_key;
pub use nix_conf::{NixConf, Said, Setting};
pub use prepare::{Made, Options, Others, Prepared, Step, prepare};
pub use public::{Access, Obstacle};
pub use reading::{Form, Reading, Substituter, SubstituterError, target_of};
pub use trusted::is_trusted;
