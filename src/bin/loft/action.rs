//! What the typed arguments mean, as plain values without clap.

use crate::args::{
    Arguments, BareAction, Check, Color, Completions, Config, Doctor, Init, Key, Man, Pin, PinRule, Prune, Push,
    ReadingForm, Run, Settings, Shell, Sign, Status, Use, Verb, Watch,
};
use clap::CommandFactory as _;
use clap::error::ErrorKind;
use loft::check::Portion;
use loft::config::Flags;
use loft::nix::{KeyName, PublicKey};
use loft::record::Keep;
use loft::setup::Form;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use ulid::Ulid;

/// What to do, and how to talk about it.
#[derive(Debug)]
pub struct Invocation {
    pub action: Action,
    /// `-c`; a file that was named must exist.
    pub config: Option<PathBuf>,
    /// Settings that were typed; they win over all others.
    pub flags: Flags,
    pub voice: Voice,
}

#[derive(Debug, PartialEq)]
pub enum Action {
    Init(InitRequest),
    Use(UseRequest),
    Push(PushRequest),
    /// Push what becomes valid while this runs.
    Run {
        command: Vec<OsString>,
        pin: Option<loft::push::Pin>,
    },
    ClearLedger,
    FillLedger,
    /// `loft watch` and bare `loft`: scan if asked to, then watch.
    Serve {
        dry_run: bool,
    },
    Prune(PruneRequest),
    UndoPrune(UndoRequest),
    Pin(PinRequest),
    ListTrash {
        json: bool,
    },
    ForgetFirstScan,
    Hook,
    Status(StatusRequest),
    Check(CheckRequest),
    Doctor(DoctorRequest),
    Sign(SignRequest),
    GenerateKey {
        name: String,
        out: Option<PathBuf>,
    },
    ShowKey {
        file: PathBuf,
    },
    ShowConfig {
        json: bool,
    },
    CheckConfig,
    Completions {
        shell: Shell,
    },
    /// One page to stdout.
    PrintManPage {
        command: Vec<String>,
    },
    WriteManPages {
        dir: PathBuf,
    },
}

#[derive(Debug, PartialEq, Eq)]
pub struct InitRequest {
    /// Let everybody read, at this address.
    pub public: Option<String>,
    pub key_name: Option<KeyName>,
    pub dry_run: bool,
    /// One JSON object per step on stdout.
    pub json: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub struct UseRequest {
    pub url: Option<String>,
    pub public_keys: Vec<PublicKey>,
    /// Into this file, or the user's own.
    pub write: Option<Option<PathBuf>>,
    pub restart: bool,
    pub form: Form,
    pub netrc: Option<PathBuf>,
    pub profile: Option<String>,
    /// One JSON object on stdout.
    pub json: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub struct PushRequest {
    pub roots: Roots,
    pub closure: bool,
    pub pin: Option<loft::push::Pin>,
    pub dry_run: bool,
    /// One JSON object per event on stdout.
    pub json: bool,
    /// `--force-scan` asks the bucket rather than the ledger.
    pub use_ledger: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub enum PinRequest {
    Add { name: String, paths: Vec<PathBuf>, keep: Keep },
    Remove { name: String, but_last: usize },
    List { json: bool },
}

#[derive(Debug, PartialEq, Eq)]
pub struct StatusRequest {
    /// One JSON object on stdout.
    pub json: bool,
    /// Read every narinfo.
    pub full: bool,
    /// Ask the bucket nothing.
    pub local: bool,
    /// Metrics instead, into this file or to stdout.
    pub metrics: Option<Option<PathBuf>>,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct PruneRequest {
    pub dry_run: bool,
    /// One JSON object per event on stdout.
    pub json: bool,
    /// Name every path that goes.
    pub all: bool,
    pub remove_most: bool,
    /// In bytes, instead of the configured limit.
    pub max_size: Option<u64>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct UndoRequest {
    pub id: Ulid,
    pub json: bool,
}

#[derive(Debug, PartialEq)]
pub struct SignRequest {
    /// None: the public halves of the configured keys.
    pub trusted: Vec<PublicKey>,
    pub read_data: bool,
    pub dry_run: bool,
    /// One JSON object per path on stdout.
    pub json: bool,
}

#[derive(Debug, PartialEq)]
pub struct CheckRequest {
    pub read_data: Option<Portion>,
    pub read_again: bool,
    pub repair: bool,
    pub remove_most: bool,
    pub public_keys: Vec<PublicKey>,
    pub probe: bool,
    /// One JSON object per finding on stdout.
    pub json: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub struct DoctorRequest {
    /// Ask nobody over the network.
    pub offline: bool,
    pub probe: bool,
    /// One JSON object per finding on stdout.
    pub json: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Roots {
    /// What was typed, not yet resolved, followed by the lines of stdin where `-` was typed.
    Typed {
        paths: Vec<PathBuf>,
        stdin: bool,
    },
    WholeStore,
}

/// How much to tell, and whether in colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Voice {
    pub debug: bool,
    pub quiet: bool,
    pub color: Color,
}

impl Invocation {
    pub fn new(typed: Arguments) -> Result<Self, clap::Error> {
        let voice = Voice { debug: typed.global.debug, quiet: typed.global.quiet, color: typed.global.color };
        let mut flags = Flags::default();
        let bare = typed.bare;
        let bare_used = bare.action != BareAction::default() || bare.dry_run;
        let action = match typed.verb {
            Some(_) if bare_used => {
                return Err(Arguments::command().error(
                    ErrorKind::ArgumentConflict,
                    "The flags of the older loft stand alone; put the flags of a command after it, as in `loft push --dry-run`",
                ));
            }
            Some(Verb::Init(Init { url, to, public, signing_key, key_name, store, dry_run, json })) => {
                let signing_keys = signing_key.into_iter().collect();
                flags = Flags { to: url.or(to), signing_keys, store, ..Flags::default() };
                Action::Init(InitRequest { public, key_name, dry_run, json })
            }
            Some(Verb::Use(Use { url, to, public_key, write, restart, form, netrc, profile, json })) => {
                let (url, form) = (url.or(to), form.into());
                Action::Use(UseRequest { url, public_keys: public_key, write, restart, form, netrc, profile, json })
            }
            Some(Verb::Push(Push { pin: None, keep, .. })) if keep.is_given() => return Err(rule_without_pin()),
            Some(Verb::Push(push)) => Action::Push(push_request(push, &mut flags)),
            Some(Verb::Run(Run { pin: None, keep, .. })) if keep.is_given() => return Err(rule_without_pin()),
            Some(Verb::Run(Run { pin, keep, settings, command })) => {
                flags = settings.into();
                Action::Run { command, pin: pin_of(pin, &keep) }
            }
            Some(Verb::Watch(Watch { settings, dry_run })) => {
                flags = settings.into();
                Action::Serve { dry_run }
            }
            Some(Verb::Hook) => Action::Hook,
            Some(Verb::Status(Status { to, json, full, local, prometheus })) => {
                flags.to = to;
                Action::Status(StatusRequest { json, full, local, metrics: prometheus })
            }
            Some(Verb::Sign(sign)) => {
                let Sign { trusted_public_key: trusted, read_data, dry_run, json, settings } = sign;
                flags = settings.into();
                Action::Sign(SignRequest { trusted, read_data, dry_run, json })
            }
            Some(Verb::Check(check)) => Action::Check(check_request(check, &mut flags)),
            Some(Verb::Doctor(Doctor { offline, no_probe, json, settings })) => {
                flags = settings.into();
                Action::Doctor(DoctorRequest { offline, probe: !no_probe, json })
            }
            Some(Verb::Key(Key::Generate { name, out })) => Action::GenerateKey { name, out },
            Some(Verb::Key(Key::Show { file })) => Action::ShowKey { file },
            Some(Verb::Config(Config::Show { json })) => Action::ShowConfig { json },
            Some(Verb::Config(Config::Check)) => Action::CheckConfig,
            Some(Verb::Prune(prune)) => prune_action(prune, &mut flags),
            Some(Verb::Pin(pin)) => pin_action(pin, &mut flags),
            Some(Verb::Completions(Completions { shell })) => Action::Completions { shell },
            Some(Verb::Man(Man { dir: Some(dir), .. })) => Action::WriteManPages { dir },
            Some(Verb::Man(Man { dir: None, command })) => Action::PrintManPage { command },
            None if bare.dry_run && bare.action.changes_only_the_ledger() => {
                return Err(Arguments::command().error(
                    ErrorKind::ArgumentConflict,
                    "--dry-run goes with pushing and pruning; the ledger may be emptied or filled at any time",
                ));
            }
            None => bare_action(bare.action, bare.dry_run),
        };
        Ok(Self { action, config: typed.global.config, flags, voice })
    }
}

impl From<ReadingForm> for Form {
    fn from(typed: ReadingForm) -> Self {
        match typed {
            ReadingForm::NixConf => Self::NixConf,
            ReadingForm::Nixos => Self::NixOs,
            ReadingForm::Flake => Self::Flake,
            ReadingForm::Options => Self::Options,
        }
    }
}

impl From<Settings> for Flags {
    fn from(typed: Settings) -> Self {
        let Settings { to, level, jobs, signing_key, store } = typed;
        Self { to, level, jobs, signing_keys: signing_key, store, ..Self::default() }
    }
}

fn push_request(push: Push, flags: &mut Flags) -> PushRequest {
    *flags = push.settings.into();
    let stdin = push.paths.iter().any(|path| path == Path::new("-"));
    let paths = push.paths.into_iter().filter(|path| path != Path::new("-")).collect();
    let roots = if push.all { Roots::WholeStore } else { Roots::Typed { paths, stdin } };
    PushRequest {
        roots,
        closure: !push.no_closure,
        pin: pin_of(push.pin, &push.keep),
        dry_run: push.dry_run,
        json: push.json,
        use_ledger: true,
    }
}

fn prune_action(typed: Prune, flags: &mut Flags) -> Action {
    let Prune { dry_run, json, all, remove_most, undo, list_trash, to, retention, max_size } = typed;
    (flags.to, flags.retention_days) = (to, retention);
    match undo {
        Some(id) => Action::UndoPrune(UndoRequest { id, json }),
        None if list_trash => Action::ListTrash { json },
        None => Action::Prune(PruneRequest { dry_run, json, all, remove_most, max_size }),
    }
}

fn pin_action(typed: Pin, flags: &mut Flags) -> Action {
    let (to, request) = match typed {
        Pin::Add { name, paths, keep: rule, to } => (to, PinRequest::Add { name, paths, keep: keep(&rule) }),
        Pin::Rm { name, all_but_last, to } => (to, PinRequest::Remove { name, but_last: all_but_last }),
        Pin::List { json, to } => (to, PinRequest::List { json }),
    };
    flags.to = to;
    Action::Pin(request)
}

fn rule_without_pin() -> clap::Error {
    let message = "--keep-days and --keep-last say how long a pin holds; name it with --pin NAME";
    Arguments::command().error(ErrorKind::MissingRequiredArgument, message)
}

fn pin_of(name: Option<String>, rule: &PinRule) -> Option<loft::push::Pin> {
    name.map(|name| loft::push::Pin { name, keep: keep(rule) })
}

fn keep(rule: &PinRule) -> Keep {
    match (rule.keep_days, rule.keep_last) {
        (Some(days), _) => Keep::Days(days),
        (None, Some(count)) => Keep::Last(count),
        (None, None) => Keep::Forever,
    }
}

fn check_request(typed: Check, flags: &mut Flags) -> CheckRequest {
    let Check { read_data, read_again, repair, remove_most, public_key, no_probe, json, settings } = typed;
    *flags = settings.into();
    CheckRequest { read_data, read_again, repair, remove_most, public_keys: public_key, probe: !no_probe, json }
}

fn bare_action(typed: BareAction, dry_run: bool) -> Action {
    let push = |roots, use_ledger| {
        Action::Push(PushRequest { roots, closure: true, pin: None, dry_run, json: false, use_ledger })
    };
    match typed {
        BareAction { clear_cache: true, .. } => Action::ClearLedger,
        BareAction { populate_cache: true, .. } => Action::FillLedger,
        BareAction { reset_initial_scan: true, .. } => Action::ForgetFirstScan,
        BareAction { prune: true, .. } => Action::Prune(PruneRequest { dry_run, ..PruneRequest::default() }),
        BareAction { force_scan: true, .. } => push(Roots::WholeStore, false),
        BareAction { upload_path, .. } if !upload_path.is_empty() => {
            push(Roots::Typed { paths: upload_path, stdin: false }, true)
        }
        BareAction { .. } => Action::Serve { dry_run },
    }
}
