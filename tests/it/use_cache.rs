//! `loft use`: the forms it prints, and nix.conf files of many shapes that it adds to.

use loft::nix::{KeyName, PublicKey, SecretKey, StoreDir};
use loft::setup::{Form, NixConf, Reading, Setting, SetupError, Substituter, SubstituterError, install, is_trusted};
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const URL: &str = "https://cache.example.org";
const KEY: &str = "cache.example.org-1:V/+kMGMW5Qhb65Bk+mPgDA/RUKt03Cm1AjgaAT3U9vs=";

fn key() -> PublicKey {
    PublicKey::parse(KEY).unwrap()
}

fn reading(url: &str) -> Reading {
    Reading { substituter: Substituter::parse(url, None).unwrap(), public_keys: vec![key()], netrc_file: None }
}

fn store_dir() -> PathBuf {
    PathBuf::from(StoreDir::default().as_str())
}

/// A folder with a `nix.conf`.
struct Machine {
    folder: tempfile::TempDir,
}

impl Machine {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn with(text: &str) -> Self {
        let machine = Self::new();
        fs::write(machine.conf(), text).unwrap();
        machine
    }

    fn conf(&self) -> PathBuf {
        self.at("nix.conf")
    }

    fn at(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    fn text(&self) -> String {
        fs::read_to_string(self.conf()).unwrap()
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(self.folder.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loft"));
        command.args(args).current_dir(self.folder.path()).env_clear().stdin(Stdio::null());
        command.env("HOME", self.folder.path());
        command
    }

    #[track_caller]
    fn run(&self, code: i32, args: &[&str]) -> (String, String) {
        let Output { status, stdout, stderr } = self.command(args).output().unwrap();
        let (stdout, stderr) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
        assert_eq!(status.code(), Some(code), "{stdout}\n{stderr}");
        (stdout, stderr)
    }
}

/// Before and after, where URL and KEY are added.
const SHAPES: &[(&str, &str)] = &[
    ("", "extra-substituters = URL\nextra-trusted-public-keys = KEY\n"),
    // No newline at the end; line ends of another system.
    ("cores = 2", "cores = 2\nextra-substituters = URL\nextra-trusted-public-keys = KEY\n"),
    ("cores = 2\r\n", "cores = 2\r\nextra-substituters = URL\r\nextra-trusted-public-keys = KEY\r\n"),
    (
        "extra-substituters = A\r\ncores = 2",
        "extra-substituters = A URL\r\ncores = 2\r\nextra-trusted-public-keys = KEY\r\n",
    ),
    // Lists are added to where they are added to already, before a comment.
    (
        "extra-substituters = A B # ours\nextra-trusted-public-keys=\n",
        "extra-substituters = A B URL # ours\nextra-trusted-public-keys=\nextra-trusted-public-keys = KEY\n",
    ),
    (
        "extra-substituters =\nextra-trusted-public-keys = \tk-1:AAAA  \n",
        "extra-substituters = URL\nextra-trusted-public-keys = \tk-1:AAAA KEY  \n",
    ),
    (
        "extra-binary-caches = A\nbinary-cache-public-keys = k-1:AAAA\n",
        "extra-binary-caches = A URL\nbinary-cache-public-keys = k-1:AAAA\nextra-trusted-public-keys = KEY\n",
    ),
    // Nothing that is set is changed, and what is set last must not take ours away.
    (
        "substituters = https://cache.nixos.org A\n",
        "substituters = https://cache.nixos.org A\nextra-substituters = URL\nextra-trusted-public-keys = KEY\n",
    ),
    (
        "extra-substituters = A URL\nextra-trusted-public-keys = KEY\nsubstituters = B\ntrusted-public-keys = k-1:AAAA\n",
        "extra-substituters = A URL\nextra-trusted-public-keys = KEY\nsubstituters = B\ntrusted-public-keys = k-1:AAAA\n\
         extra-substituters = URL\nextra-trusted-public-keys = KEY\n",
    ),
    // What is there is there, in whatever form.
    ("substituters = A URL\ntrusted-public-keys = KEY\n", "substituters = A URL\ntrusted-public-keys = KEY\n"),
    (
        "substituters = URL/ \nextra-trusted-public-keys = k:A KEY",
        "substituters = URL/ \nextra-trusted-public-keys = k:A KEY",
    ),
    (
        "extra-substituters = URL?priority=10\n",
        "extra-substituters = URL?priority=10\nextra-trusted-public-keys = KEY\n",
    ),
    // But not in a comment, nor as a part of something else.
    (
        "# extra-substituters = URL\nextra-trusted-substituters = URL\nextra-substituters = URL2 xURL\n",
        "# extra-substituters = URL\nextra-trusted-substituters = URL\nextra-substituters = URL2 xURL URL\n\
         extra-trusted-public-keys = KEY\n",
    ),
    // There are no continuation lines: the last word is a backslash, and the next line is another statement.
    ("extra-substituters = A \\\n  B\n", "extra-substituters = A \\ URL\n  B\nextra-trusted-public-keys = KEY\n"),
    // Lines that Nix itself would refuse are left to it.
    ("what is this\n\n \t\n=\n", "what is this\n\n \t\n=\nextra-substituters = URL\nextra-trusted-public-keys = KEY\n"),
];

#[test]
fn nix_conf_of_every_shape_is_added_to_once() {
    for (before, after) in SHAPES {
        let fill = |text: &str| text.replace("URL", URL).replace("KEY", KEY);
        let (before, after) = (fill(before), fill(after));
        let machine = Machine::with(&before);
        let installed = install(&reading(URL), &machine.conf(), &store_dir()).unwrap();
        assert_eq!(machine.text(), after, "from {before:?}");
        assert_eq!(installed.changed, before != after);
        match installed.backup {
            Some(backup) => assert_eq!(fs::read_to_string(backup).unwrap(), before),
            None => assert_eq!(before, after),
        }
        let names = machine.names();
        let again = install(&reading(URL), &machine.conf(), &store_dir()).unwrap();
        assert!(!again.changed && again.backup.is_none(), "{again:?}");
        assert_eq!((machine.text(), machine.names()), (after, names), "a second time");
    }
}

#[test]
fn another_way_to_the_same_cache_takes_the_place_of_the_first() {
    const GARAGE: &str = "s3://b?endpoint=h:3900&scheme=http&region=garage";
    let with = |more: &str| format!("{GARAGE}&{more}");
    let (nix, me) = (with("profile=nix"), with("profile=me"));
    let line = |words: &[&str]| format!("extra-substituters = {} # ours\n", words.join(" "));
    for (before, typed, after) in [
        // With a profile after none, another one, none again.
        (line(&["A", GARAGE, "B"]), &nix, line(&["A", &nix, "B"])),
        (line(&[&me]), &nix, line(&[&nix])),
        (line(&["A", &nix]), &GARAGE.to_owned(), line(&["A", GARAGE])),
        // What an earlier loft has doubled.
        (line(&["A", GARAGE, &me, "B"]), &nix, line(&["A", &nix, "B"])),
        (line(&[GARAGE]) + &line(&[&nix]), &nix, line(&[&nix]) + "extra-substituters = # ours\n"),
        // Its own words, and those that say how Nix should treat it.
        (line(&["s3://b?region=eu&endpoint=https://h:3900"]), &nix, line(&[&nix])),
        (line(&[&with("priority=10&want-mass-query=true&new-in-nix=1")]), &nix, {
            line(&[&format!("{nix}&priority=10&want-mass-query=true&new-in-nix=1")])
        }),
        // The same in other words is left alone.
        (line(&["s3://b?region=garage&endpoint=http://h:3900"]), &GARAGE.to_owned(), {
            line(&["s3://b?region=garage&endpoint=http://h:3900"])
        }),
        (line(&[&with("priority=10")]), &GARAGE.to_owned(), line(&[&with("priority=10")])),
        (line(&["/srv/cache?priority=1"]), &"file:///srv/cache".to_owned(), line(&["/srv/cache?priority=1"])),
        // Other places are other caches.
        (line(&["s3://b", "s3://b/x?endpoint=h:3900", "s3://b?endpoint=h2:3900"]), &nix, {
            line(&["s3://b", "s3://b/x?endpoint=h:3900", "s3://b?endpoint=h2:3900", &nix])
        }),
    ] {
        let machine = Machine::with(&format!("{before}extra-trusted-public-keys = {KEY}\n"));
        let installed = install(&reading(typed), &machine.conf(), &store_dir()).unwrap();
        assert_eq!(machine.text(), format!("{after}extra-trusted-public-keys = {KEY}\n"), "from {before:?}");
        assert_eq!(installed.changed, before != after);
        assert!(!install(&reading(typed), &machine.conf(), &store_dir()).unwrap().changed, "a second time");
    }

    // By the program, which says what it has replaced.
    let machine = Machine::with("");
    let write = format!("--write={}", machine.conf().display());
    let run = |more: &[&str]| machine.run(0, &[&["use", &write, GARAGE, "--public-key", KEY], more].concat()).1;
    run(&[]);
    let told = run(&["--profile", "nix"]);
    assert!(told.contains(&format!("Nix now reads {nix} instead of {GARAGE} and")), "{told}");
    assert_eq!(machine.text(), format!("extra-substituters = {nix}\nextra-trusted-public-keys = {KEY}\n"));

    // In another file it is for its owner to change.
    let machine = Machine::with("include other.conf\n");
    fs::write(machine.at("other.conf"), line(&[GARAGE])).unwrap();
    let error = install(&reading(&nix), &machine.conf(), &store_dir()).unwrap_err();
    assert!(error.to_string().contains("other.conf names this cache already, as s3://b") && error.hint().is_some());
    assert_eq!(machine.text(), "include other.conf\n");
    // Unless it is the one that is left to the owner.
    let machine = Machine::with("!include nix.custom.conf\n");
    fs::write(machine.at("nix.custom.conf"), line(&[GARAGE])).unwrap();
    install(&reading(&nix), &machine.conf(), &store_dir()).unwrap();
    assert!(fs::read_to_string(machine.at("nix.custom.conf")).unwrap().starts_with(&line(&[&nix])));
}

#[test]
fn a_link_that_leads_nowhere_and_a_file_that_is_no_text_are_left_alone() {
    let machine = Machine::new();
    symlink(machine.at("dotfiles/nix.conf"), machine.conf()).unwrap();
    let write = format!("--write={}", machine.conf().display());
    let (_, stderr) = machine.run(1, &["use", &write, URL, "--public-key", KEY]);
    let gone = machine.at("dotfiles/nix.conf").display().to_string();
    assert!(stderr.contains(&format!("is a link to {gone}, which is not there")), "{stderr}");
    assert!(stderr.contains(&format!("hint: make {gone}")), "{stderr}");
    assert_eq!(machine.names(), ["nix.conf"]);

    let latin = b"cores = 2\n# f\xfcr uns\n";
    fs::remove_file(machine.conf()).unwrap();
    fs::write(machine.conf(), latin).unwrap();
    let (_, stderr) = machine.run(1, &["use", &write, URL, "--public-key", KEY]);
    assert!(stderr.contains("nix.conf: line 2 is not UTF-8") && stderr.contains("hint: "), "{stderr}");
    assert_eq!((fs::read(machine.conf()).unwrap(), machine.names().len()), (latin.to_vec(), 1));
}

#[test]
fn a_file_that_is_not_there_is_made_readable_for_all() {
    let machine = Machine::new();
    let conf = machine.at("etc/nix/nix.conf");
    let mut command = Command::new("sh");
    let loft = format!(
        "umask 077; exec {} use --write={} {URL} --public-key {KEY}",
        env!("CARGO_BIN_EXE_loft"),
        conf.display()
    );
    assert!(command.args(["-c", &loft]).current_dir(machine.folder.path()).output().unwrap().status.success());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&conf), mode(conf.parent().unwrap())), (0o644, 0o755));
    // A folder that loft does not know is not made.
    let elsewhere = format!("--write={}", machine.at("etc/typo/nix.conf").display());
    let (_, stderr) = machine.run(1, &["use", &elsewhere, URL, "--public-key", KEY]);
    assert!(stderr.contains("Could not write") && stderr.contains("make its folder first"), "{stderr}");
}

#[test]
fn mode_and_earlier_copies_stay() {
    let machine = Machine::with("cores = 2\n");
    fs::set_permissions(machine.conf(), Permissions::from_mode(0o640)).unwrap();
    for url in [URL, "https://second.example.org"] {
        install(&reading(url), &machine.conf(), &store_dir()).unwrap();
    }
    assert_eq!(machine.names(), ["nix.conf", "nix.conf.before-loft", "nix.conf.before-loft.2"]);
    assert_eq!(fs::read_to_string(machine.at("nix.conf.before-loft")).unwrap(), "cores = 2\n");
    for name in machine.names() {
        assert_eq!(fs::metadata(machine.at(&name)).unwrap().permissions().mode() & 0o777, 0o640, "{name}");
    }
    assert!(machine.text().contains(&format!("extra-substituters = {URL} https://second.example.org\n")));
}

#[test]
fn included_files_count() {
    // What an included file says is there; what it replaces is not.
    let machine = Machine::with("include caches.conf\n!include missing.conf\ncores = 2\n");
    fs::write(machine.at("caches.conf"), format!("substituters = {URL}\n!include nested/keys.conf\n")).unwrap();
    fs::create_dir(machine.at("nested")).unwrap();
    fs::write(machine.at("nested/keys.conf"), format!("extra-trusted-public-keys = {KEY}\n!include keys.conf\n"))
        .unwrap();
    assert!(
        !install(&reading(URL), &machine.conf(), &store_dir()).unwrap().changed,
        "a file that includes itself ends"
    );

    let machine = Machine::with(&format!("extra-substituters = {URL}\n!include reset.conf\n"));
    fs::write(machine.at("reset.conf"), "substituters = A\n").unwrap();
    install(&reading(URL), &machine.conf(), &store_dir()).unwrap();
    assert!(
        machine.text().ends_with(&format!(
            "!include reset.conf\nextra-substituters = {URL}\nextra-trusted-public-keys = {KEY}\n"
        ))
    );
    assert_eq!(fs::read_to_string(machine.at("reset.conf")).unwrap(), "substituters = A\n");

    // Installers that own nix.conf leave this one to the user.
    let owned =
        "# Generated; changes are overwritten.\nextra-experimental-features = nix-command\n!include nix.custom.conf\n";
    let machine = Machine::with(owned);
    let installed = install(&reading(URL), &machine.conf(), &store_dir()).unwrap();
    assert_eq!((installed.file, machine.text().as_str()), (machine.at("nix.custom.conf"), owned));
    assert!(!install(&reading(URL), &machine.conf(), &store_dir()).unwrap().changed);
}

#[test]
fn what_a_system_generates_is_refused_with_the_form_for_it() {
    let machine = Machine::new();
    let store = machine.at("store");
    fs::create_dir(&store).unwrap();
    fs::write(store.join("abc-nix.conf"), "cores = 2\n").unwrap();
    symlink(store.join("abc-nix.conf"), machine.at("static")).unwrap();
    symlink(machine.at("static"), machine.conf()).unwrap();
    let output = machine
        .command(&["use", &format!("--write={}", machine.conf().display()), URL, "--public-key", KEY])
        .env("NIX_STORE_DIR", &store)
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    for part in [
        "is made from this system's configuration",
        "nix.settings = {",
        "trusted-public-keys = [ \"cache.example.org-1:",
    ] {
        assert!(stderr.contains(part), "{stderr}");
    }
    assert_eq!(machine.text(), "cores = 2\n");

    // A link to anywhere else (dotfiles) stays one.
    fs::remove_file(machine.conf()).unwrap();
    fs::write(machine.at("dotfile"), "cores = 2\n").unwrap();
    symlink(machine.at("dotfile"), machine.conf()).unwrap();
    let installed = install(&reading(URL), &machine.conf(), &store).unwrap();
    assert!(fs::symlink_metadata(machine.conf()).unwrap().is_symlink());
    assert!(machine.text().contains(URL) && installed.file.ends_with("dotfile"));
}

#[test]
fn another_key_of_the_name_is_not_fought() {
    let other = SecretKey::generate(KeyName::parse("cache.example.org-1").unwrap()).unwrap().public();
    let text = format!("trusted-public-keys = {other}\n");
    let machine = Machine::with(&text);
    let error = install(&reading(URL), &machine.conf(), &store_dir()).unwrap_err();
    assert!(matches!(error, SetupError::OtherKey { .. }) && error.hint().is_some(), "{error}");
    assert_eq!((machine.text(), machine.names().len()), (text, 1));
}

#[test]
fn netrc_is_named_once() {
    let with_netrc = |file: &str| Reading { netrc_file: Some(file.into()), ..reading(URL) };
    let machine = Machine::with("");
    assert!(install(&with_netrc("/etc/nix/netrc"), &machine.conf(), &store_dir()).unwrap().changed);
    assert!(machine.text().ends_with("netrc-file = /etc/nix/netrc\n"));
    assert!(!install(&with_netrc("/etc/nix/netrc"), &machine.conf(), &store_dir()).unwrap().changed);
    let error = install(&with_netrc("/other"), &machine.conf(), &store_dir()).unwrap_err();
    assert!(error.hint().unwrap().contains("/etc/nix/netrc"), "{error}");
}

#[test]
fn many_at_once_lose_nothing() {
    let machine = Machine::with("cores = 2\n");
    let write = format!("--write={}", machine.conf().display());
    let children: Vec<_> = (0..8)
        .map(|n| {
            let url = format!("https://c{n}.example.org");
            machine.command(&["use", &write, &url, "--public-key", KEY]).stderr(Stdio::null()).spawn().unwrap()
        })
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let text = machine.text();
    for n in 0..8 {
        assert_eq!(text.matches(&format!("https://c{n}.example.org")).count(), 1, "{text}");
    }
    assert_eq!(text.matches(KEY).count(), 1);
    let whole = |name: &String| name == "nix.conf" || name.starts_with("nix.conf.before-loft");
    assert!(machine.names().iter().all(whole), "{:?}", machine.names());
}

#[test]
fn every_form_says_the_same() {
    let netrc = Reading { netrc_file: Some("/etc/nix/netrc".into()), ..reading("https://cache.example.org/") };
    assert_eq!(
        netrc.print(Form::NixConf),
        format!("extra-substituters = {URL}\nextra-trusted-public-keys = {KEY}\nnetrc-file = /etc/nix/netrc\n")
    );
    assert_eq!(
        netrc.print(Form::NixOs),
        format!(
            "nix.settings = {{\n  substituters = [ \"{URL}\" ];\n  trusted-public-keys = [ \"{KEY}\" ];\n  \
             netrc-file = \"/etc/nix/netrc\";\n}};\n"
        )
    );
    assert_eq!(
        reading(URL).print(Form::Flake),
        format!(
            "nixConfig = {{\n  extra-substituters = [ \"{URL}\" ];\n  extra-trusted-public-keys = [ \"{KEY}\" ];\n}};\n"
        )
    );
    assert_eq!(
        reading(URL).print(Form::Options),
        format!("--option extra-substituters '{URL}' --option extra-trusted-public-keys '{KEY}'\n")
    );
}

#[test]
fn the_url_is_that_of_readers() {
    let parse = |text: &str| Substituter::parse(text, None).map(|url| url.as_str().to_owned());
    for (text, url) in [
        ("https://h/x/", "https://h/x"),
        // In the form that every Nix reads, and without what is about writing.
        (
            "s3://b?endpoint=http://h:3900&region=garage&compression=xz",
            "s3://b?endpoint=h:3900&scheme=http&region=garage",
        ),
        ("s3://b?endpoint=https%3A%2F%2Fh&secret-key=/k", "s3://b?endpoint=h"),
        ("s3://b/team%20a?region=eu-west-1&profile=p", "s3://b/team%20a?region=eu-west-1&profile=p"),
        ("file:///srv/my%20cache", "file:///srv/my%20cache"),
    ] {
        assert_eq!(parse(text).as_deref(), Ok(url));
    }
    for text in ["", "cache", "ftp://h", "https://", "https://a b", "https://h#x", "s3://b?endpiont=x", "file://x"] {
        assert!(parse(text).is_err(), "{text}");
    }
    for text in ["https://u:p4ss@h", "http://u@h/x", "s3://k:p4ss@b", "s3://b?endpoint=https://k:p4ss@h"] {
        assert!(!parse(text).unwrap_err().to_string().contains("p4ss"));
    }
    assert_eq!(parse("https://u:p4ss@h"), Err(SubstituterError::Secret));
    let with_profile = Substituter::parse("s3://b?region=r", Some("nix")).unwrap();
    assert_eq!(with_profile.as_str(), "s3://b?region=r&profile=nix");
}

#[test]
fn the_configuration_fills_in_what_is_not_said() {
    let machine = Machine::new();
    machine.run(0, &["key", "generate", "mine-1", "--out", "key"]);
    let (public, _) = machine.run(0, &["key", "show", "key"]);
    let configure = |more: &str| {
        let text = format!("[s3]\nbucket = \"b\"\nendpoint = \"http://h:1\"\nregion = \"garage\"\n[loft]\n{more}\n");
        fs::write(machine.at("loft.toml"), text).unwrap();
    };
    configure("signing_key_path = \"key\"");
    let (stdout, _) = machine.run(0, &["use"]);
    let keys = format!("extra-trusted-public-keys = {public}");
    assert_eq!(stdout, format!("extra-substituters = s3://b?endpoint=h:1&scheme=http&region=garage\n{keys}"));
    configure(&format!("signing_key_path = \"key\"\npublic_url = \"{URL}/\""));
    assert_eq!(machine.run(0, &["use"]).0, format!("extra-substituters = {URL}\n{keys}"));
    // Credentials are for the bucket itself.
    assert!(machine.run(0, &["use", "--profile", "nix"]).0.starts_with("extra-substituters = s3://b?"));
    for url in [&["https://other"][..], &["--to", "https://other"]] {
        let (stdout, _) = machine.run(0, &[&["use"], url].concat());
        assert!(stdout.starts_with("extra-substituters = https://other\n"), "{stdout}");
    }

    configure("");
    let (_, stderr) = machine.run(1, &["use"]);
    assert!(stderr.contains("No public key is known") && stderr.contains("--public-key NAME:BASE64"), "{stderr}");
    // Who says all of it needs no loft.toml, not even a right one.
    fs::write(machine.at("loft.toml"), "[[[").unwrap();
    machine.run(0, &["use", URL, "--public-key", KEY]);
    machine.run(1, &["use", URL]);
    // The secret half is not taken for the public one, and not repeated.
    let secret = fs::read_to_string(machine.at("key")).unwrap();
    let (_, stderr) = machine.run(1, &["use", URL, "--public-key", secret.trim()]);
    assert!(stderr.contains("looks like a secret key"), "{stderr}");
}

#[test]
fn each_user_has_a_file_of_their_own() {
    let machine = Machine::new();
    fs::create_dir_all(machine.at("system")).unwrap();
    let mut command = machine.command(&["use", "--json", "--write", URL, "--public-key", KEY]);
    let output = command.env("NIX_CONF_DIR", machine.at("system")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let is_root = rustix::process::geteuid().is_root();
    let file = if is_root { machine.at("system/nix.conf") } else { machine.at(".config/nix/nix.conf") };
    assert_eq!(told["file"], file.display().to_string());
    assert_eq!((&told["changed"], &told["backup"]), (&true.into(), &serde_json::Value::Null));
    assert!(fs::read_to_string(file).unwrap().contains(KEY));
}

#[test]
fn trusted_users_are_told_by_name_group_and_star() {
    let trusted = |text: &str, user: &str, groups: &[&str]| {
        let said = NixConf::parse(text).said(Setting::TrustedUsers, Path::new("/etc/nix/nix.conf"));
        is_trusted(&said, user, &groups.iter().map(|&group| group.to_owned()).collect::<Vec<_>>())
    };
    assert!(trusted("", "root", &[]) && !trusted("", "me", &["wheel"]));
    assert!(trusted("trusted-users = root me", "me", &[]) && !trusted("trusted-users = me", "root", &[]));
    assert!(trusted("extra-trusted-users = @wheel", "me", &["me", "wheel"]));
    assert!(trusted("extra-trusted-users = @wheel", "root", &[]));
    assert!(trusted("trusted-users = *", "me", &[]) && !trusted("# trusted-users = *", "me", &[]));
}

#[test]
fn a_daemon_is_restarted_only_where_that_is_asked_for() {
    let machine = Machine::new();
    // Whoever runs this test keeps the daemon as it is: nothing but this is on the PATH.
    fs::create_dir(machine.at("bin")).unwrap();
    let manager = if cfg!(target_os = "macos") { "launchctl" } else { "systemctl" };
    fs::write(machine.at("bin").join(manager), "#!/bin/sh\necho \"$@\" >>asked\n").unwrap();
    fs::set_permissions(machine.at("bin").join(manager), Permissions::from_mode(0o755)).unwrap();
    fs::write(machine.at("socket"), "").unwrap();
    let write = format!("--write={}", machine.conf().display());
    let run = |socket: &str, more: &[&str]| {
        let mut command = machine.command(&[&["use", &write, URL, "--public-key", KEY], more].concat());
        command.env("PATH", machine.at("bin")).env("NIX_DAEMON_SOCKET_PATH", machine.at(socket));
        let output = command.output().unwrap();
        assert!(output.status.success());
        (String::from_utf8(output.stderr).unwrap(), fs::read_to_string(machine.at("asked")).unwrap_or_default())
    };
    // No daemon, nothing to restart and nothing to tell.
    let (stderr, asked) = run("no-socket", &["--restart"]);
    assert!(asked.is_empty() && !stderr.contains("daemon"), "{stderr}");
    fs::remove_file(machine.conf()).unwrap();
    let (stderr, asked) = run("socket", &[]);
    assert!(asked.is_empty(), "restarted without having been asked to");
    assert_eq!(stderr.contains("systemctl restart nix-daemon"), rustix::process::geteuid().is_root(), "{stderr}");
    let (stderr, asked) = run("socket", &["--restart"]);
    if cfg!(target_os = "macos") || Path::new("/run/systemd/system").exists() {
        assert!(asked.contains("nix-daemon") && stderr.contains("was restarted"), "{asked}\n{stderr}");
    } else {
        assert!(asked.is_empty() && stderr.contains("restart it yourself"), "{stderr}");
    }
}
