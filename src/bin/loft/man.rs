//! `loft man`: man pages, made from the command line's own definition.
//!
//! The text after a command's help is set here rather than by clap_mangen, which would run its lines together.

use crate::args::Arguments;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output;
use clap::{Command, CommandFactory as _};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use std::io;
use std::path::{Path, PathBuf};

/// The page of one command, such as `["pin", "add"]`; of loft itself where nothing was named.
pub fn print(names: &[String]) -> Result<Exit, Failure> {
    let root = command();
    let mut found = &root;
    for name in names {
        found = found.find_subcommand(name).ok_or_else(|| {
            Failure::new(format!("There is no command loft {}", names.join(" ")))
                .hint(format!("{} --help lists what there is", full_name(found)))
        })?;
    }
    output::print(&page(found).map_err(|source| RenderError { source })?)?;
    Ok(Exit::Done)
}

/// A page for every command: `loft.1`, `loft-push.1`, `loft-pin-add.1`.
pub fn write_all(dir: &Path) -> Result<Exit, Failure> {
    std::fs::create_dir_all(dir).map_err(|source| WriteError { file: dir.to_owned(), source })?;
    write_tree(&command(), dir)?;
    Ok(Exit::Done)
}

fn write_tree(command: &Command, dir: &Path) -> Result<(), Failure> {
    let file = dir.join(Man::new(command.clone()).get_filename());
    page(command).and_then(|text| std::fs::write(&file, text)).map_err(|source| WriteError { file, source })?;
    command.get_subcommands().try_for_each(|command| write_tree(command, dir))
}

/// The whole command line, with what only building it fills in.
fn command() -> Command {
    let mut command = in_manual(Arguments::command().disable_help_subcommand(true));
    command.build();
    command
}

/// Values to choose from stand in the text, as in `--help`, rather than in a list of their own.
fn in_manual(command: Command) -> Command {
    let command = command.subcommand_help_heading("COMMANDS").mut_args(|argument| {
        let values: Vec<_> = argument.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
        if values.is_empty() || !argument.get_action().takes_values() {
            return argument;
        }
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        let help = format!("{help} [possible values: {}]", values.join(", "));
        argument.help(help.trim_start().to_owned()).hide_possible_values(true)
    });
    command.mut_subcommands(in_manual)
}

fn page(command: &Command) -> io::Result<String> {
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ").to_owned();
    let man = Man::new(command.clone().override_usage(usage));
    // No date, so that the same source makes the same page. It has to be written out: nothing at all would be
    // left out, and the version then stand where a date belongs.
    let man = man.date("\"\"").source(concat!("loft ", env!("CARGO_PKG_VERSION"))).manual("Loft");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    let mut rest = Roff::new();
    if let Some(text) = command.get_after_help() {
        closing_sections(&mut rest, &text.to_string());
    }
    see_also(&mut rest, command);
    rest.to_writer(&mut page)?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

/// Examples as they stand, line by line; the exit status as running text; anything else as notes.
fn closing_sections(roff: &mut Roff, text: &str) {
    let mut lines = text.lines().filter(|line| !line.is_empty()).peekable();
    while let Some(first) = lines.next() {
        let rest = std::iter::from_fn(|| lines.next_if(|line| !begins_section(line)));
        if let Some(status) = first.strip_prefix("Exit status: ") {
            roff.control("SH", ["EXIT STATUS"]);
            let whole = std::iter::once(status).chain(rest).collect::<Vec<_>>().join(" ");
            roff.text([roman(whole)]);
            continue;
        }
        let examples = is_examples(first);
        roff.control("SH", [if examples { "EXAMPLES" } else { "NOTES" }]);
        roff.control("nf", []);
        if !examples {
            roff.text([roman(first)]);
        }
        rest.for_each(|line| {
            roff.text([roman(line)]);
        });
        roff.control("fi", []);
    }
}

fn begins_section(line: &str) -> bool {
    is_examples(line) || line.starts_with("Exit status: ")
}

fn is_examples(line: &str) -> bool {
    matches!(line, "Examples:" | "Example:")
}

/// `loft(1)` from everywhere; from there to its commands.
fn see_also(roff: &mut Roff, command: &Command) {
    let name = full_name(command);
    let parents = name.match_indices(' ').map(|(at, _)| name[..at].replace(' ', "-"));
    let children = command.get_subcommands().map(full_name).map(|name| name.replace(' ', "-"));
    let names: Vec<_> = parents.chain(children).collect();
    if names.is_empty() {
        return;
    }
    roff.control("SH", ["SEE ALSO"]);
    let mut line = Vec::new();
    for (number, name) in names.into_iter().enumerate() {
        line.push(roman(if number == 0 { "" } else { ", " }));
        line.extend([bold(name), roman("(1)")]);
    }
    roff.text(line);
}

/// `loft pin add`
fn full_name(command: &Command) -> String {
    command.get_bin_name().unwrap_or(command.get_name()).to_owned()
}

#[derive(Debug, thiserror::Error)]
#[error("Could not make a man page")]
struct RenderError {
    source: io::Error,
}

#[derive(Debug, thiserror::Error)]
#[error("Could not write man pages to {}", file.display())]
struct WriteError {
    file: PathBuf,
    source: io::Error,
}
