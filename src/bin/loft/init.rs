//! `loft init`: a URL in, a line for each thing that is ready, and what to type next.

use crate::action::{InitRequest, Invocation};
use crate::config;
use crate::exit::Exit;
use crate::failure::{Failure, printable};
use crate::network::Network;
use crate::output::{print, shell_word, tell};
use crate::push::who;
use crate::terminal::Terminal;
use loft::bucket::{self, CacheInfo, Lifecycle, Target};
use loft::clock::SystemClock;
use loft::config::{Flags, Sources, file, load};
use loft::remedy::chain;
use loft::setup::{Access, Form, Made, Obstacle, Options, Others, Prepared, Reading, SetupError, Step, hints, prepare};
use rustix::process::geteuid;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub fn init(invocation: &Invocation, request: &InitRequest) -> Result<Exit, Failure> {
    let sources = Sources { file_may_be_missing: true, ..config::sources(invocation, false) };
    let loaded = load(&sources)?;
    config::tell_warnings(&loaded.warnings);
    let target = loaded.bucket()?;
    let config_file = file(&sources);
    // What will hold for a push to which nothing is said.
    let alone = Sources { flags: Flags::default(), environment: without_own(&sources.environment), ..sources.clone() };
    let in_file = config_file.exists().then(|| load(&alone)).transpose()?;
    let environment = &sources.environment;
    let access_key = if environment.contains_key("AWS_ACCESS_KEY_ID") { "\"$AWS_ACCESS_KEY_ID\"" } else { "KEY" };
    let options = Options {
        loaded: &loaded,
        in_file: in_file.as_ref(),
        key_folder: key_folder(&sources),
        config_file,
        key_name: request.key_name.clone(),
        host: who().rsplit('@').next().unwrap_or_default().split('.').next().unwrap_or_default().to_owned(),
        access_key,
        public: request.public.as_deref(),
        dry_run: request.dry_run,
    };
    let network = Network::start()?;
    let report = Arc::new(Terminal::new(invocation.voice, request.dry_run));
    let clock = Arc::new(SystemClock);
    let mut name = target.to_string();
    let result = network.run(async {
        let bucket = bucket::open(target, environment, clock.clone(), report, Arc::default()).await?;
        name = bucket.describe();
        let told = |step: Step<'_>| match request.json {
            // A reader that has gone is told at the end.
            true => drop(print(&format!("{}\n", object(&step)))),
            false => {
                let text = printable(&line(&step, &name, target, &options));
                tell(&if invocation.voice.quiet { warnings(&text) } else { text });
            }
        };
        Ok::<_, Failure>(prepare(&bucket, clock.as_ref(), &options, &told).await)
    });
    network.stop();
    let prepared = result?.map_err(failure)?;
    match request.json {
        true => print(&format!("{}\n", finished(&prepared)))?,
        false if invocation.voice.quiet => quiet_result(&prepared)?,
        false if prepared.is_shut => tell(
            "\nNothing was written on this machine: run this again once everybody can read there, or leave --public out for now.\n",
        ),
        false => next(&prepared, target, &options)?,
    }
    Ok(if prepared.is_ready() { Exit::Done } else { Exit::Unfinished })
}

/// Of what is told, all that `--quiet` leaves: warnings, with what to do about each.
fn warnings(text: &str) -> String {
    let mut kept = false;
    let keeps = |line: &&str| {
        kept = line.starts_with("warning:") || (kept && line.starts_with("  "));
        kept
    };
    text.split_inclusive('\n').filter(keeps).collect()
}

fn quiet_result(prepared: &Prepared) -> Result<(), Failure> {
    prepared.reading.as_ref().map_or(Ok(()), |reading| print(&reading.print(Form::NixConf)))
}

/// `loft use` ends the same way.
pub fn failure(error: SetupError) -> Failure {
    let hint = error.hint();
    let failure = match error {
        // Its problems have lines of their own.
        SetupError::Config(error) => Failure::from(error),
        // Which requests are refused, the doctor tells.
        error @ SetupError::Access { .. } => Failure::from(error).worth_a_look(),
        error => Failure::from(error),
    };
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// Without what names another bucket for this shell alone.
fn without_own(environment: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    environment
        .iter()
        .filter(|(name, _)| *name != loft::config::URL_VARIABLE)
        .map(|(n, v)| (n.clone(), v.clone()))
        .collect()
}

/// Beside the configuration where root has named one, in the user's own folder otherwise: never in a working
/// directory, which may be a repository.
fn key_folder(sources: &Sources) -> Option<PathBuf> {
    if let Some(file) = sources.file.as_ref().filter(|_| geteuid().is_root()) {
        return Some(std::path::absolute(file).ok()?.parent()?.to_owned());
    }
    let own = |variable: &str| sources.environment.get(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    let folder = own("XDG_CONFIG_HOME").or_else(|| Some(own("HOME")?.join(".config")))?;
    Some(folder.join("loft"))
}

const fn word(made: Made) -> &'static str {
    match made {
        Made::New => "new",
        Made::Found => "found",
        Made::Would => "would",
    }
}

const fn verb(made: Made) -> &'static str {
    match made {
        Made::New => "made",
        Made::Found => "was there",
        Made::Would => "would be made",
    }
}

/// A label, and what became of it.
fn line(step: &Step<'_>, name: &str, target: &Target, options: &Options<'_>) -> String {
    let row = |label: &str, text: &str| format!("{label:<15} {text}\n");
    match step {
        Step::Bucket { made, is_private_name, others } => {
            let label = if matches!(target, Target::S3(_)) { "bucket" } else { "directory" };
            let mut text = row(label, &format!("{name}: {}", verb(*made)));
            if *made == Made::New {
                text.push_str(&instead(others, label, target, options));
            }
            if *is_private_name && let Target::S3(settings) = target {
                let bucket = &settings.bucket;
                text.push_str(&format!(
                    "warning: Garage keeps a name that a key has made for that key alone; for others and for reading by HTTP:\n  \
                     garage bucket alias ID {bucket}      with the ID that `garage bucket list` tells\n"
                ));
            }
            text
        }
        Step::Rights(rights) => {
            let denied: Vec<String> = rights.failures().map(|(action, ..)| action.to_string()).collect();
            let mut text = match denied.is_empty() {
                true => row("rights", "all that pushing and pruning need"),
                false => row("rights", "not all that pushing and pruning need"),
            };
            if !denied.is_empty() {
                text.push_str(&format!("warning: these credentials may not {}\n", denied.join(", ")));
                text.push_str(&format!("  hint: {}\n", hints::allow(target, options.access_key)));
            }
            for odd in &rights.odd {
                text.push_str(&format!("warning: {odd}; `loft check` tells more\n"));
            }
            if !rights.left_behind.is_empty() {
                text.push_str(&format!(
                    "warning: {} scratch objects below loft/v1/probe/ could not be removed\n",
                    rights.left_behind.len()
                ));
            }
            text
        }
        Step::CacheInfo { made, differs } => {
            let mut text = row("nix-cache-info", verb(*made));
            if let Some((found, wanted)) = differs {
                text.push_str(&difference(found, wanted));
            }
            text
        }
        Step::Record(made) => row("bucket.json", verb(*made)),
        Step::Key { file, public, made, was_lost } => {
            let name = public.map(|public| format!(", named {}", public.name())).unwrap_or_default();
            let mut text = row("signing key", &format!("{}{name}: {}", file.display(), verb(*made)));
            if *was_lost {
                text.push_str(
                    "warning: the configuration names this key, and it was not there: readers who trust another of its name do \
                     not take what a new one signs\n  \
                     hint: if there is a copy of the old one, put it in its place; else sign what is there anew (loft sign), and \
                     give readers the new public key\n",
                );
            }
            text
        }
        Step::Warning(problem) => format!("warning: {problem}\n"),
        Step::Config { file, made, missing } => {
            let mut text = row("configuration", &format!("{}: {}", file.display(), verb(*made)));
            if let Some(missing) = missing {
                text.push_str("warning: it stays as it is, and lacks:\n");
                text.extend(missing.lines().filter(|line| !line.is_empty()).map(|line| format!("  {line}\n")));
            }
            text
        }
        Step::Quirks(quirks) => match &quirks.lifecycle {
            Lifecycle::Rules(rules) => {
                let deleting =
                    rules.iter().filter_map(|rule| Some((rule, rule.expires.as_ref().or(rule.archives.as_ref())?)));
                let told = |(rule, when): (&bucket::LifecycleRule, &String)| {
                    format!(
                        "warning: the store's lifecycle rule {:?} takes objects away {when}; remove it, or paths will be missing\n",
                        rule.id
                    )
                };
                deleting.map(told).collect()
            }
            Lifecycle::Unknown(_) => String::new(),
        },
        Step::Access(access) => row("reading", &reading(access, target, options.public.is_some())),
    }
}

/// Buckets in one line.
const MOST_NAMED: usize = 8;

/// For who has mistyped the name of a cache that there is.
fn instead(others: &Others, label: &str, target: &Target, options: &Options<'_>) -> String {
    let known = match others.known.len() {
        0 => String::new(),
        1..=MOST_NAMED => format!(" (there are {})", others.known.join(", ")),
        more => format!(" (there are {} and {} more)", others.known[..MOST_NAMED].join(", "), more - MOST_NAMED),
    };
    let undo = format!(
        "  there was none of this name{known}; if it is mistyped, this takes it away: {}\n",
        hints::remove(target)
    );
    match &others.in_file {
        Some(other) => {
            format!("warning: this {label} is new, and {} names {other}\n{undo}", options.config_file.display())
        }
        None => undo,
    }
}

fn difference(found: &CacheInfo, wanted: &CacheInfo) -> String {
    let mut parts = Vec::new();
    if found.priority != wanted.priority {
        let priority = |info: &CacheInfo| info.priority.map_or("none".to_owned(), |priority| priority.to_string());
        parts.push(format!("its priority is {} where {} is configured", priority(found), priority(wanted)));
    }
    if found.want_mass_query != wanted.want_mass_query {
        parts.push("it does not invite many questions at once (WantMassQuery)".to_owned());
    }
    if found.store_dir.is_none() {
        parts.push("it does not say for which store directory it is".to_owned());
    }
    format!("  {}; loft never changes it\n", parts.join(", "))
}

fn reading(access: &Access, target: &Target, asked: bool) -> String {
    match access {
        Access::Everybody { url, switched: true } => format!("everybody, at {url}: switched on"),
        Access::Everybody { url, switched: false } => format!("everybody, at {url}"),
        Access::WouldSwitch { url } => format!("everybody, at {url}: would be switched on"),
        Access::Directory => "whoever can read its files".to_owned(),
        Access::Nobody { url, why, tried } => {
            let is_taken = *why == Obstacle::AnotherCache;
            let who = match target {
                Target::S3(_) => "with credentials only",
                Target::Directory(_) => "whoever can read its files",
            };
            let mut text = match asked || is_taken {
                true => format!("{who}\nwarning: {url}: {why}"),
                // Before there is a bucket, it may have no address yet.
                false if url.is_empty() => format!("{who} ({why})"),
                false => format!("{who} ({url}: {why})"),
            };
            if let Some(Err(error)) = tried {
                text.push_str(&format!("\nwarning: {}", chain(error)));
            }
            let hint = match (tried, target) {
                _ if is_taken => {
                    let which = if asked { "--public" } else { "public_url in [loft]" };
                    format!("correct {which}, or the bucket: readers would get what is there")
                }
                (None, Target::S3(settings)) if !asked => format!("to let everybody read: {}", hints::public(settings)),
                (tried, target) => hints::publish(target, tried.as_ref()),
            };
            format!("{text}\n  hint: {hint}")
        }
    }
}

/// What to type now. The lines for readers are the result.
fn next(prepared: &Prepared, target: &Target, options: &Options<'_>) -> Result<(), Failure> {
    if options.dry_run {
        tell("\nNothing was made (--dry-run).\n");
        return Ok(());
    }
    if prepared.unchanged {
        tell("\nAll of it was there; nothing was changed.\n");
    }
    let flag = match options.config_file == Path::new(loft::config::DEFAULT_FILE) {
        true => String::new(),
        false => format!("-c {} ", options.config_file.display()),
    };
    let copies = match target {
        Target::S3(_) => "the configuration, the signing key and the credentials",
        Target::Directory(_) => "the configuration and the signing key",
    };
    let file = options.config_file.display();
    let once = if prepared.lacks { format!(", once {file} has the lines that it lacks") } else { String::new() };
    tell(&match prepared.denied.is_empty() {
        true => format!(
            "\nTo push{once} (from another machine too, with copies of {copies}):\n  loft {flag}push ./result\n"
        ),
        false => "\nThese credentials cannot push yet; once they may (see above), run this again.\n".to_owned(),
    });
    let Some(reading) = &prepared.reading else { return Ok(()) };
    let command = use_command(reading);
    tell(&format!("\nTo read, on each machine that shall:\n  {command}\n"));
    if reading.substituter.as_str().starts_with("s3://") {
        tell(
            "The Nix daemon, that is root, needs the credentials for it: in /root/.aws/credentials, or see docs/providers.md.\n",
        );
    }
    tell("or these lines in its /etc/nix/nix.conf (`loft use --form` knows more forms):\n");
    print(&reading.print(Form::NixConf))
}

/// The command that does it anywhere.
fn use_command(reading: &Reading) -> String {
    let keys: String = reading.public_keys.iter().map(|key| format!(" --public-key {key}")).collect();
    let url = reading.substituter.as_str();
    // It is pasted into a shell, before sudo's eyes.
    let quoted = shell_word(url);
    format!("sudo loft use --write --restart {quoted}{keys}")
}

fn object(step: &Step<'_>) -> Value {
    match step {
        Step::Bucket { made, others, .. } => json!({
            "event": "bucket", "made": word(*made), "others": others.known, "in_file": others.in_file,
        }),
        Step::Rights(rights) => json!({
            "event": "rights",
            "denied": rights.failures().map(|(action, why, _)| json!({"action": action.name(), "why": why.name()})).collect::<Vec<_>>(),
            "odd": rights.odd.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "left_behind": rights.left_behind.iter().map(|key| key.as_str()).collect::<Vec<_>>(),
        }),
        Step::CacheInfo { made, differs } => json!({
            "event": "nix-cache-info", "made": word(*made), "differs": differs.as_ref().map(|(found, _)| found.print()),
        }),
        Step::Record(made) => json!({"event": "record", "made": word(*made)}),
        Step::Key { file, public, made, was_lost } => json!({
            "event": "key", "made": word(*made), "file": file.display().to_string(), "public": public.map(ToString::to_string),
            "was_lost": was_lost,
        }),
        Step::Warning(problem) => json!({"event": "warning", "message": problem.to_string()}),
        Step::Config { file, made, missing } => json!({
            "event": "config", "made": word(*made), "file": file.display().to_string(), "missing": missing,
        }),
        Step::Quirks(quirks) => json!({
            "event": "quirks",
            "conditional_writes": quirks.conditional_writes,
            "deleting_rules": match &quirks.lifecycle {
                Lifecycle::Rules(rules) => rules.iter().filter(|rule| rule.expires.is_some() || rule.archives.is_some()).count(),
                Lifecycle::Unknown(_) => 0,
            },
        }),
        Step::Access(access) => {
            let (who, url) = match access {
                Access::Everybody { url, .. } => ("everybody", Some(url)),
                Access::WouldSwitch { url } => ("would", Some(url)),
                Access::Nobody { url, .. } => ("nobody", Some(url)),
                Access::Directory => ("directory", None),
            };
            json!({"event": "reading", "public": who, "url": url})
        }
    }
}

fn finished(prepared: &Prepared) -> Value {
    let reading = prepared.reading.as_ref();
    json!({
        "event": "finished",
        "ready": prepared.is_ready(),
        "changed": !prepared.unchanged,
        "substituter": reading.map(|reading| reading.substituter.as_str()),
        "public_keys": reading.map(|reading| reading.public_keys.iter().map(ToString::to_string).collect::<Vec<_>>()),
        "nix_conf": reading.map(|reading| reading.print(Form::NixConf)),
    })
}
