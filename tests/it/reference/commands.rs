//! Every command and option, from the command line's own definition.

use crate::args::Arguments;
use crate::page::Page;
use clap::{Arg, Command, CommandFactory as _};

pub fn tree() -> Command {
    Arguments::command().disable_help_subcommand(true)
}

pub fn page(mut tree: Command) -> String {
    tree.build();
    let mut page = Page::new("Every command and option", "src/bin/loft/args/");
    page.paragraph(
        "`loft COMMAND --help` says the same, and so do the man pages, `man loft-push` for example. The options of \
         [`loft`](#loft) below \"Options of every command\" are not repeated.",
    );
    command(&mut page, &tree);
    page.finish()
}

fn command(page: &mut Page, command: &Command) {
    let name = command.get_bin_name().unwrap_or(command.get_name());
    page.heading(2, name);
    let about = command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default();
    about.split("\n\n").filter(|text| !text.is_empty()).for_each(|text| page.paragraph(&sentence(text)));
    let usage = command.clone().render_usage().to_string();
    page.block("text", usage.trim_start_matches("Usage: "));

    let is_root = !name.contains(' ');
    let own: Vec<&Arg> =
        command.get_arguments().filter(|arg| !arg.is_hide_set() && (is_root || !is_everywhere(arg))).collect();
    for (heading, args) in by_heading(&own) {
        page.paragraph(&format!("**{heading}**"));
        page.list(args.into_iter().map(item));
    }
    let below: Vec<&Command> = command.get_subcommands().filter(|below| !below.is_hide_set()).collect();
    if !below.is_empty() {
        page.paragraph("**Commands**");
        page.list(below.iter().map(|below| {
            let name = below.get_bin_name().unwrap_or(below.get_name());
            let about = below.get_about().map(ToString::to_string).unwrap_or_default();
            format!("[`{name}`](#{}): {about}", name.replace(' ', "-"))
        }));
    }
    if let Some(after) = command.get_after_long_help().or(command.get_after_help()) {
        closing(page, &after.to_string());
    }
    below.into_iter().for_each(|below| self::command(page, below));
}

/// Examples as they stand; the exit status as a list; all else as running text.
fn closing(page: &mut Page, text: &str) {
    for part in text.split("\n\n") {
        if let Some(status) = part.strip_prefix("Exit status: ") {
            page.paragraph("**Exit status**");
            match statuses(status) {
                Some(statuses) => page.list(statuses),
                None => page.paragraph(&sentence(status)),
            }
            continue;
        }
        let (first, rest) = part.split_once('\n').unwrap_or((part, ""));
        if matches!(first, "Example:" | "Examples:") {
            page.paragraph(&format!("**{}**", first.trim_end_matches(':')));
            page.comment("not run: examples of help, which loft parses");
            page.block("sh", &unindented(rest));
        } else if rest.starts_with("  ") {
            page.paragraph(first);
            page.block("text", &unindented(rest));
        } else {
            page.paragraph(&sentence(part));
        }
    }
}

/// `0 done, 1 stopped` as items; nothing where it is more of a sentence.
fn statuses(text: &str) -> Option<Vec<String>> {
    let is_number = |part: &str| part.split(' ').next().is_some_and(|word| word.parse::<u8>().is_ok());
    if !is_number(text) {
        return None;
    }
    let mut items: Vec<String> = Vec::new();
    for part in text.split_whitespace().collect::<Vec<_>>().join(" ").replace("; ", ", ").split(", ") {
        match items.last_mut().filter(|_| !is_number(part)) {
            Some(item) => *item += &format!(", {part}"),
            None => items.push(part.to_owned()),
        }
    }
    let item = |item: String| item.split_once(' ').map(|(number, meaning)| format!("`{number}`: {meaning}"));
    items.into_iter().map(item).collect()
}

fn unindented(lines: &str) -> String {
    let lines: Vec<_> = lines.lines().map(|line| line.strip_prefix("  ").unwrap_or(line)).collect();
    lines.join("\n")
}

/// With a full stop, as help has none.
fn sentence(text: &str) -> String {
    let text = text.trim();
    if text.ends_with(['.', ':', '?']) { text.to_owned() } else { format!("{text}.") }
}

/// Of the whole program, or what clap brings.
fn is_everywhere(arg: &Arg) -> bool {
    arg.is_global_set() || ["help", "version"].contains(&arg.get_id().as_str())
}

/// Arguments, then options under their headings, in the order of `--help`.
fn by_heading<'a>(args: &[&'a Arg]) -> Vec<(String, Vec<&'a Arg>)> {
    let mut groups: Vec<(String, Vec<&Arg>)> = Vec::new();
    for positional in [true, false] {
        for arg in args.iter().filter(|arg| arg.is_positional() == positional) {
            let usual = if positional { "Arguments" } else { "Options" };
            let heading = arg.get_help_heading().unwrap_or(usual);
            match groups.iter_mut().find(|(known, _)| known == heading) {
                Some((_, group)) => group.push(arg),
                None => groups.push((heading.to_owned(), vec![arg])),
            }
        }
    }
    groups
}

/// `-j`, `--jobs <N>`: what it does.
fn item(arg: &Arg) -> String {
    let names = [arg.get_short().map(|short| format!("-{short}")), arg.get_long().map(|long| format!("--{long}"))];
    let mut names: Vec<String> = names.into_iter().flatten().collect();
    let takes = if arg.get_action().takes_values() { value(arg) } else { String::new() };
    match names.last_mut() {
        Some(last) => *last += &takes,
        None => names.push(takes.trim_start().to_owned()),
    }
    let names: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
    let help = arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default();
    format!("{}: {}{}", names.join(", "), sentence(&help), more(arg))
}

fn value(arg: &Arg) -> String {
    let id = arg.get_id().as_str().to_uppercase();
    let names = arg.get_value_names().map(|names| names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
    let name = names.unwrap_or(id);
    let optional = arg.get_num_args().is_some_and(|range| range.min_values() == 0);
    let equals = if arg.is_require_equals_set() { "=" } else { " " };
    match (arg.is_positional(), optional) {
        (true, _) => format!(" {name}"),
        (false, true) => format!("[{equals}{name}]"),
        (false, false) => format!("{equals}{name}"),
    }
}

/// Default and choices.
fn more(arg: &Arg) -> String {
    if !arg.get_action().takes_values() {
        return String::new();
    }
    let values: Vec<_> = arg.get_possible_values().iter().map(|value| format!("`{}`", value.get_name())).collect();
    let choices = if values.is_empty() { String::new() } else { format!(" One of {}.", values.join(", ")) };
    let defaults: Vec<_> = arg.get_default_values().iter().map(|value| format!("`{}`", value.display())).collect();
    let default = if defaults.is_empty() { String::new() } else { format!(" Default: {}.", defaults.join(", ")) };
    choices + &default
}
