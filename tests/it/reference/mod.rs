//! docs/reference says what the source says: each page is made anew here and compared with the committed one.

pub mod commands;
mod configuration;
mod metrics;
mod truth;

use crate::page::{difference, settle};
use clap::{Arg, Command};
use loft::config::keys::{KEYS, Key};
use loft::config::variables::VARIABLES;

#[test]
fn commands_are_those_of_the_program() {
    settle("commands.md", &commands::page(commands::tree()));
}

#[test]
fn keys_and_variables_are_those_of_the_configuration() {
    settle("configuration.md", &configuration::page(KEYS, VARIABLES));
}

#[test]
fn metrics_are_those_that_are_rendered() {
    settle("metrics.md", &metrics::page(&metrics::rendered()));
}

/// The comparison sees what is added: an option, a command, a value to choose from.
#[test]
fn a_command_line_that_grew_is_noticed() {
    let committed = commands::page(commands::tree());
    let grown: [fn(Command) -> Command; 3] = [
        |tree| tree.mut_subcommand("push", |push| push.arg(Arg::new("more").long("more").help("More of it"))),
        |tree| tree.subcommand(Command::new("more").about("More of it")),
        |tree| tree.mut_subcommand("pin", |pin| pin.mut_subcommand("add", |add| add.arg(Arg::new("more").short('m')))),
    ];
    for grow in grown {
        let made = commands::page(grow(commands::tree()));
        assert!(difference(&committed, &made).is_some());
        assert!(made.lines().any(|line| line.contains("more") || line.contains("`-m")), "{made}");
    }
}

#[test]
fn a_configuration_that_grew_is_noticed() {
    let committed = configuration::page(KEYS, VARIABLES);
    let keys: Vec<Key> = KEYS.iter().copied().chain([Key { name: "more", ..KEYS[0] }]).collect();
    let difference_of = |made: String| difference(&committed, &made);
    assert!(difference_of(configuration::page(&keys, VARIABLES)).is_some());
    let changed: Vec<Key> = KEYS.iter().map(|key| Key { flag: Some("--more"), ..*key }).collect();
    assert!(difference_of(configuration::page(&changed, VARIABLES)).is_some());
    let variables: Vec<_> = VARIABLES.iter().copied().chain([("MORE", "More of it.")]).collect();
    assert!(difference_of(configuration::page(KEYS, &variables)).is_some());
}

#[test]
fn a_metric_more_is_noticed() {
    let committed = metrics::page(&metrics::rendered());
    let more = metrics::rendered() + "# HELP loft_more More of it.\n# TYPE loft_more gauge\nloft_more 1\n";
    assert!(difference(&committed, &metrics::page(&more)).is_some());
}
