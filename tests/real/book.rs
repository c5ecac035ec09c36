//! The blocks of code in the book that take real programs: shells run them, Nix and systemd read them, mdBook
//! builds the pages.

use crate::book_blocks::{Class, of};
use crate::support::garage::Garage;
use crate::support::loft::Loft;
use crate::support::machine::Machine;
use crate::support::nix::Nix;
use crate::support::process::{Ended, end_of};
use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Somebody's working directory: `default.nix`, `result` of a build, a key, and a cache in a folder.
struct Desk {
    machine: Machine,
    loft: Loft,
}

const DEFAULT_NIX: &str = r#"
  derivation {
    name = "greeting"; system = builtins.currentSystem; builder = "/bin/sh"; args = [ "-c" "echo hello > $out" ];
  }
"#;

impl Desk {
    fn new() -> Self {
        let desk = Self { machine: Machine::single_user(), loft: Loft::new() };
        let home = desk.loft.home();
        std::fs::write(home.join("default.nix"), DEFAULT_NIX).unwrap();
        std::fs::create_dir(home.join("bin")).unwrap();
        std::fs::create_dir(home.join("tmp")).unwrap();
        symlink(desk.loft.command().get_program(), home.join("bin/loft")).unwrap();
        for prepared in [
            "loft key generate cache.example.org-1 --out old-key",
            "nix-build >/dev/null",
            "loft push --signing-key old-key ./result",
            "printf 'signing_key_path = \"%s\"\\n' \"$PWD/old-key\" >>loft.toml",
        ] {
            let ended = desk.run(prepared);
            assert_eq!(ended.code, Some(0), "{prepared}: {}", ended.stderr);
        }
        desk
    }

    fn run(&self, script: &str) -> Ended {
        let home = self.loft.home();
        let mut bash = self.machine.command("bash");
        bash.args(["-euo", "pipefail", "-c", script]).current_dir(&home).env("HOME", &home);
        bash.env("PATH", format!("{}:{}", home.join("bin").display(), std::env::var("PATH").unwrap()));
        bash.env("LOFT_CACHE", format!("file://{}", home.join("cache").display()));
        end_of(&mut bash)
    }
}

#[test]
#[ignore = "needs Nix: ./test"]
fn every_script_that_can_be_run_runs() {
    let blocks = of(Class::Run);
    assert!(blocks.len() > 6, "{blocks:?}");
    for block in blocks {
        // What blocks call folders of the machine is in the working directory here.
        let desk = Desk::new();
        let home = desk.loft.home().display().to_string();
        let text = block.text.replace("/tmp/", &format!("{home}/tmp/"));
        // Whoever makes a cache has none yet.
        let before = if text.starts_with("loft init") { "rm loft.toml; unset LOFT_CACHE\n" } else { "" };
        let ended = desk.run(&format!("{before}{text}"));
        assert_eq!(ended.code, Some(0), "{}\n{}{}{}", block.place(), block.text, ended.stdout, ended.stderr);
    }
    let ended = Desk::new().run("loft push ./no-such-result\ntrue");
    assert_ne!(ended.code, Some(0), "a script that fails in the middle went unnoticed");
}

#[test]
#[ignore = "starts programs: ./test"]
fn shells_parse_every_script() {
    let parse = |text: &str| end_of(Command::new("bash").args(["-n", "-c", text]));
    let blocks = of(Class::Commands);
    assert!(blocks.len() > 10, "{blocks:?}");
    for block in blocks {
        let ended = parse(&block.text);
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{}", block.place());
    }
    assert_ne!(parse("if true; then").code, Some(0));
}

#[test]
#[ignore = "needs Garage: ./test --full"]
fn commands_of_garage_are_understood_by_garage() {
    let garage = Garage::start();
    let blocks = of(Class::Commands).into_iter().filter(|block| block.page.ends_with("providers.md"));
    let commands: Vec<String> =
        blocks.flat_map(|block| block.text.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    let mut count = 0;
    for command in commands.iter().filter_map(|command| command.strip_prefix("garage ")) {
        let command = command.split(" # ").next().unwrap_or_default().replace("nix-cache", "another");
        garage.admin(&command.split_whitespace().collect::<Vec<_>>());
        count += 1;
    }
    assert!(count > 3, "{commands:?}");
}

#[test]
#[ignore = "needs Nix: ./test"]
fn nix_parses_every_expression() {
    let nix = Nix::installed();
    let parse = |text: &str| {
        // Lines of a module without its braces.
        let whole = if text.trim_start().starts_with(['{', '(']) { text.to_owned() } else { format!("{{\n{text}}}") };
        end_of(nix.command("nix-instantiate").args(["--parse", "--expr", &whole]))
    };
    let blocks = of(Class::Nix);
    assert!(blocks.len() > 3, "{blocks:?}");
    for block in blocks {
        let ended = parse(&block.text);
        assert_eq!(ended.code, Some(0), "{}\n{}", block.place(), ended.stderr);
    }
    assert_ne!(parse("services.loft.enable = true").code, Some(0), "a semicolon is missing");
}

#[test]
#[ignore = "needs Nix: ./test"]
fn nix_knows_every_setting() {
    let nix = Nix::installed();
    let complaints = |text: &str| {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("nix.conf"), format!("experimental-features = nix-command\n{text}")).unwrap();
        let mut show = nix.command("nix");
        show.arg("show-config").env_remove("NIX_CONFIG").env("NIX_CONF_DIR", folder.path());
        let ended = end_of(&mut show);
        let lines: Vec<_> =
            ended.stderr.lines().filter(|line| !line.contains("build-users-group")).map(str::to_owned).collect();
        (ended.code, lines)
    };
    let blocks = of(Class::NixConf);
    assert!(blocks.len() > 1, "{blocks:?}");
    for block in blocks {
        assert_eq!(complaints(&block.text), (Some(0), vec![]), "{}", block.place());
    }
    assert_ne!(complaints("extra-substitutors = https://example.org\n"), (Some(0), vec![]));
}

#[test]
#[ignore = "needs systemd: ./test"]
fn systemd_verifies_every_unit() {
    for block in of(Class::Unit) {
        let folder = tempfile::tempdir().unwrap();
        let unit = folder.path().join("loft.service");
        std::fs::write(
            &unit,
            block.text.replace("/usr/local/bin/loft", "/bin/true").replace("/usr/bin/loft", "/bin/true"),
        )
        .unwrap();
        let ended =
            end_of(Command::new("systemd-analyze").args(["verify", "--man=no", "--recursive-errors=no"]).arg(unit));
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{}", block.place());
    }
}

/// What mdBook makes, by the path below the book.
fn built(mdbook: &Path, source: &Path, to: &Path) -> Ended {
    end_of(Command::new(mdbook).arg("build").arg(source).arg("--dest-dir").arg(to))
}

fn mdbook() -> PathBuf {
    let program = std::env::var_os("LOFT_TEST_MDBOOK").map(PathBuf::from);
    program.expect("LOFT_TEST_MDBOOK names mdbook: tests/tools/mdbook gets it, ./test --full sets it")
}

#[test]
#[ignore = "needs mdbook: ./test --full"]
fn long_the_book_builds_without_warnings_and_dead_links() {
    let (mdbook, to) = (mdbook(), tempfile::tempdir().unwrap());
    let ended = built(&mdbook, Path::new(env!("CARGO_MANIFEST_DIR")), to.path());
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let said = [ended.stdout, ended.stderr].concat();
    assert!(!said.contains("WARN") && !said.contains("ERROR"), "{said}");
    let (dead, count) = dead_links(to.path());
    assert!(dead.is_empty(), "{}", dead.join("\n"));
    assert!(count > 500, "only {count} links were found");
}

#[test]
#[ignore = "needs mdbook: ./test --full"]
fn long_the_book_with_a_mistake_is_noticed() {
    let (mdbook, source, to) = (mdbook(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let write = |name: &str, text: &str| std::fs::write(source.path().join(name), text).unwrap();
    std::fs::create_dir(source.path().join("src")).unwrap();
    write("src/SUMMARY.md", "# Summary\n\n- [A](a.md)\n- [B](b.md)\n");
    write("src/a.md", "# A\n\n[b](b.md#heading) [b](b.md#no) [c](c.md) ![p](p.svg)\n");
    write("src/b.md", "# B\n\n## Heading\n");
    let ended = built(&mdbook, source.path(), to.path());
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let (dead, _) = dead_links(to.path());
    let found: BTreeSet<&str> =
        dead.iter().filter(|link| link.contains("a.html:")).filter_map(|link| link.split(": ").nth(1)).collect();
    assert_eq!(found, ["b.html#no", "c.html", "p.svg"].into(), "{dead:?}");
}

/// Links of the pages below a folder that lead nowhere, and how many were looked at.
fn dead_links(folder: &Path) -> (Vec<String>, usize) {
    let (mut dead, mut count) = (Vec::new(), 0);
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let page = entry.unwrap().path();
            if page.is_dir() {
                folders.push(page);
                continue;
            }
            // Others are not of this book's pages: one page with all of it, whose links mdBook moves, and an error's.
            let is_page = page.extension().is_some_and(|it| it == "html");
            if !is_page || ["print.html", "404.html", "toc.html"].iter().any(|name| page.ends_with(name)) {
                continue;
            }
            let html = std::fs::read_to_string(&page).unwrap();
            let targets = ["href=\"", "src=\""].into_iter().flat_map(|before| html.split(before).skip(1));
            for target in targets.filter_map(|rest| rest.split('"').next()) {
                if target.contains(':') || target.is_empty() {
                    continue;
                }
                count += 1;
                let (file, anchor) = target.split_once('#').map_or((target, None), |(file, it)| (file, Some(it)));
                let file = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
                let text = std::fs::read_to_string(&file).unwrap_or_default();
                let has = anchor.is_none_or(|anchor| anchor.is_empty() || text.contains(&format!("id=\"{anchor}\"")));
                if !file.exists() || !has {
                    dead.push(format!("{}: {target}", page.display()));
                }
            }
        }
    }
    (dead, count)
}
