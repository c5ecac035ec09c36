//! Every key of `loft.toml` and every variable, from the tables of the configuration.

use crate::page::Page;
use loft::config::keys::{Fallback, Key, OBSOLETE};

const SECTIONS: [(&str, &str); 2] = [
    ("s3", "Where the cache is, and how to reach it."),
    ("loft", "What is pushed and how, and what the service does."),
];

pub fn page(keys: &[Key], variables: &[(&str, &str)]) -> String {
    let mut page = Page::new("Every key and variable", "src/config/keys.rs and src/config/variables.rs");
    page.paragraph(
        "Of a setting that is given more than once, the last of these counts: default, `loft.toml`, environment, flag. \
         [Configuration](../configuration.md) tells how they go together; `loft config show` tells which are in effect, and \
         where each came from.",
    );
    for (section, about) in SECTIONS {
        page.heading(2, &format!("[{section}]"));
        page.paragraph(about);
        keys.iter().filter(|key| key.section == section).for_each(|key| entry(&mut page, key));
    }
    page.heading(2, "Keys without effect");
    page.paragraph("The older loft had these. They are named in a warning, and can be removed.");
    page.list(OBSOLETE.iter().map(|(section, name, why)| format!("`{name}` of `[{section}]`: {why}.")));
    page.heading(2, "Environment");
    page.paragraph(
        "What counts where a setting is given more than once stands above; an empty variable counts as none.",
    );
    page.list(variables.iter().map(|(name, meaning)| format!("`{name}`: {meaning}")));
    page.finish()
}

fn entry(page: &mut Page, key: &Key) {
    page.heading(3, key.name);
    page.paragraph(key.meaning);
    let fallback = match key.fallback {
        Fallback::Value(value) => format!("Default: `{value}`"),
        Fallback::Unset(then) => format!("Default: {then}"),
    };
    let quoted = |names: &[&str]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let also = |what: &str, name: Option<&str>| name.map(|name| format!("{what}: `{name}`"));
    let facts = [
        Some(format!("Must be {}", key.takes)),
        Some(fallback),
        also("Flag", key.flag),
        (!key.variables.is_empty()).then(|| format!("Environment: {}", quoted(key.variables))),
        also("Parameter of the URL", key.parameter),
        also("systemd credential", key.credential),
    ];
    page.list(facts.into_iter().flatten());
}
