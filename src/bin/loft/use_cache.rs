//! `loft use`: prints what readers need, or writes it into `nix.conf`.

use crate::action::{Invocation, UseRequest};
use crate::config;
use crate::exit::Exit;
use crate::failure::{Failure, printable};
use crate::init::failure;
use crate::output::{print, tell};
use loft::config::Loaded;
use loft::nix::{PublicKey, SecretKey};
use loft::setup::{Form, Installed, NixConf, Reading, Setting, Substituter, install, is_trusted};
use loft::store::Location;
use rustix::process::{getegid, geteuid, getgroups};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

type Environment = BTreeMap<String, String>;

pub fn use_cache(invocation: &Invocation, request: &UseRequest) -> Result<Exit, Failure> {
    let environment: Environment = config::environment().collect();
    // Who says all of it needs no loft.toml, nor a right one.
    let loaded = match request.url.is_none() || request.public_keys.is_empty() {
        true => Some(config::read(invocation)?),
        false => None,
    };
    let reading = Reading {
        substituter: substituter(request, loaded.as_ref())?,
        public_keys: public_keys(request, loaded.as_ref())?,
        netrc_file: request.netrc.as_deref().map(std::path::absolute).transpose()?,
    };
    let Some(file) = &request.write else {
        match request.json {
            true => print(&format!("{}\n", object(&reading, None)))?,
            false => print(&reading.print(request.form))?,
        }
        return Ok(Exit::Done);
    };
    let file = file.clone().or_else(|| default_file(&environment)).ok_or_else(|| {
        Failure::new("No nix.conf is known: neither XDG_CONFIG_HOME nor HOME is set").hint("name one with --write=FILE")
    })?;
    let location = Location::find(&loft::store::Settings { environment: environment.clone(), ..Default::default() })?;
    let installed = install(&reading, &file, Path::new(location.store_dir.as_str())).map_err(|error| {
        if matches!(error, loft::setup::SetupError::Generated { .. }) {
            let lines = format!("put this into it instead:\n{}", reading.print(Form::NixOs));
            return failure(error).hint(lines.trim_end().replace('\n', "\n    "));
        }
        failure(error)
    })?;
    let heeded = is_heeded(request, &environment, &location);
    if request.json {
        print(&format!("{}\n", object(&reading, Some(&installed))))?;
    } else if !invocation.voice.quiet {
        told(&installed, &reading, heeded);
    }
    match heeded {
        true => after(request, &installed, &location),
        false => tell(
            "warning: the Nix daemon does not heed a user's own nix.conf unless trusted-users in /etc/nix/nix.conf names the user\n  \
             hint: run the same as root: sudo loft use --write --restart …\n",
        ),
    }
    Ok(Exit::Done)
}

fn substituter(request: &UseRequest, loaded: Option<&Loaded>) -> Result<Substituter, Failure> {
    let (url, profile) = (request.url.as_deref(), request.profile.as_deref());
    let public = loaded.and_then(|loaded| loaded.settings.public_url.as_deref());
    match (url.or(public.filter(|_| profile.is_none())), loaded) {
        (Some(url), _) => Ok(Substituter::parse(url, profile)?),
        (None, Some(loaded)) => Ok(Substituter::of(loaded.bucket()?, profile)?),
        (None, None) => Err(Failure::new("No URL is named")),
    }
}

fn public_keys(request: &UseRequest, loaded: Option<&Loaded>) -> Result<Vec<PublicKey>, Failure> {
    let (true, Some(loaded)) = (request.public_keys.is_empty(), loaded) else { return Ok(request.public_keys.clone()) };
    let signing = loaded.signing_keys()?;
    config::tell_warnings(&signing.warnings);
    match signing.keys.is_empty() {
        true => Err(Failure::new("No public key is known, and Nix takes nothing that no trusted key has signed").hint(
            "name it with --public-key NAME:BASE64, or the secret one as signing_key_path in loft.toml; `loft init` makes a pair",
        )),
        false => Ok(signing.keys.iter().map(SecretKey::public).collect()),
    }
}

/// The file that Nix reads for everybody, where this is root; the user's own otherwise.
fn default_file(environment: &Environment) -> Option<PathBuf> {
    if geteuid().is_root() {
        return Some(system_file(environment));
    }
    let path = |name: &str| environment.get(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let listed =
        environment.get("NIX_USER_CONF_FILES").and_then(|files| files.split(':').find(|file| !file.is_empty()));
    listed.map(PathBuf::from).or_else(|| {
        let folder = path("XDG_CONFIG_HOME").or_else(|| Some(path("HOME")?.join(".config")))?;
        Some(folder.join("nix/nix.conf"))
    })
}

fn system_file(environment: &Environment) -> PathBuf {
    let folder = environment.get("NIX_CONF_DIR").filter(|folder| !folder.is_empty());
    Path::new(folder.map_or("/etc/nix", String::as_str)).join("nix.conf")
}

fn told(installed: &Installed, reading: &Reading, heeded: bool) {
    let file = installed.file.display();
    let text = match (&installed.changed, &installed.backup) {
        (false, _) => format!("{file} says all of it already; nothing was changed.\n"),
        (true, Some(backup)) => {
            let done = if installed.replaced.is_some() { "changed" } else { "added" };
            format!("{file}: {done}; what it was before is in {}.\n", backup.display())
        }
        (true, None) => format!("{file}: made.\n"),
    };
    tell(&printable(&text));
    if installed.changed && heeded {
        let instead = installed.replaced.as_ref().map(|old| format!(" instead of {old}")).unwrap_or_default();
        let url = reading.substituter.as_str();
        tell(&printable(&format!("Nix now reads {url}{instead} and believes {}.\n", names(reading))));
    }
    for unread in &installed.unread {
        tell(&printable(&format!("warning: {} is included and could not be read\n", unread.display())));
    }
}

fn names(reading: &Reading) -> String {
    reading.public_keys.iter().map(|key| key.name().as_str()).collect::<Vec<_>>().join(", ")
}

/// A daemon goes by what is in a user's own file only if it trusts the user.
fn is_heeded(request: &UseRequest, environment: &Environment, location: &Location) -> bool {
    let is_users = !geteuid().is_root() && request.write == Some(None);
    !is_users || !location.daemon_socket.exists() || is_trusted_user(environment)
}

/// What it takes for Nix to read the file.
fn after(request: &UseRequest, installed: &Installed, location: &Location) {
    if !location.daemon_socket.exists() {
        return;
    }
    if request.restart {
        restart();
    } else if installed.changed && geteuid().is_root() {
        tell("The Nix daemon reads the file when it starts: --restart, or systemctl restart nix-daemon\n");
    }
}

fn is_trusted_user(environment: &Environment) -> bool {
    let file = system_file(environment);
    let text = std::fs::read_to_string(&file).unwrap_or_default();
    let said = NixConf::parse(&text).said(Setting::TrustedUsers, &file);
    let user = ["USER", "LOGNAME"].iter().find_map(|name| environment.get(*name)).map_or("", String::as_str);
    is_trusted(&said, user, &groups())
}

/// Names of this user's groups, as far as `/etc/group` knows them.
fn groups() -> Vec<String> {
    let mut ids: Vec<u32> = getgroups().unwrap_or_default().iter().map(|id| id.as_raw()).collect();
    ids.push(getegid().as_raw());
    let known = std::fs::read_to_string("/etc/group").unwrap_or_default();
    let name = |line: &str| {
        let mut fields = line.split(':');
        let (name, id) = (fields.next()?, fields.nth(1)?.parse().ok()?);
        ids.contains(&id).then(|| name.to_owned())
    };
    known.lines().filter_map(name).collect()
}

/// By what runs it. A daemon that cannot be restarted is no failure: the file is right.
fn restart() {
    let command: &[&str] = if Path::new("/run/systemd/system").exists() {
        &["systemctl", "restart", "nix-daemon.service"]
    } else if cfg!(target_os = "macos") {
        &["launchctl", "kickstart", "-k", "system/org.nixos.nix-daemon"]
    } else {
        tell(
            "warning: what runs the Nix daemon here is not known; restart it yourself, since it reads the file when it starts\n",
        );
        return;
    };
    let shown = command.join(" ");
    match Command::new(command[0]).args(&command[1..]).status() {
        Ok(status) if status.success() => tell(&format!("The Nix daemon was restarted ({shown}).\n")),
        Ok(_) => tell(&format!("warning: the Nix daemon was not restarted: {shown} failed\n")),
        Err(error) => tell(&format!("warning: the Nix daemon was not restarted: {shown}: {error}\n")),
    }
}

fn object(reading: &Reading, installed: Option<&Installed>) -> serde_json::Value {
    json!({
        "substituter": reading.substituter.as_str(),
        "public_keys": reading.public_keys.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "netrc_file": reading.netrc_file.as_ref().map(|file| file.display().to_string()),
        "file": installed.map(|installed| installed.file.display().to_string()),
        "changed": installed.map(|installed| installed.changed),
        "replaced": installed.and_then(|installed| installed.replaced.as_ref()),
        "backup": installed.and_then(|installed| installed.backup.as_ref()).map(|file| file.display().to_string()),
    })
}
