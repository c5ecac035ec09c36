//! The status page in a real browser: nothing fails, nothing sticks out, in light and dark, wide and narrow.

use crate::support::loft::Loft;
use crate::support::machine::Machine;
use crate::support::process::end_of;
use std::process::Command;

/// Shows a page in a frame of so many pixels, since no window is that narrow, and tells what became of it: its width, how
/// wide the contents are, the background, how many plots there are, and how much it asked for beside itself.
fn framed(page: &str, width: u32) -> String {
    let page = page.replace('&', "&amp;").replace('"', "&quot;");
    format!(
        "<!DOCTYPE html><html><body><iframe style=\"width:{width}px;height:900px;border:0\" srcdoc=\"{page}\"></iframe><script>\
         addEventListener('load', () => {{\
           const shown = document.querySelector('iframe').contentWindow, root = shown.document.documentElement;\
           const background = shown.getComputedStyle(shown.document.body).backgroundColor.replaceAll(' ', '');\
           const plots = root.querySelectorAll('svg, .bar').length;\
           const asked = shown.performance.getEntriesByType('resource').length;\
           document.documentElement.dataset.found = [root.clientWidth, root.scrollWidth, background, plots, asked].join(' ');\
         }});</script></body></html>"
    )
}

/// What [`framed`] tells of a page.
fn look(page: &str, width: u32, is_dark: bool) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("page.html");
    std::fs::write(&file, framed(page, width)).unwrap();
    let mut chromium = Command::new("chromium");
    chromium.args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--hide-scrollbars",
    ]);
    chromium.args(["--disable-background-networking", "--disable-component-update", "--disable-sync", "--dump-dom"]);
    chromium.arg(format!("--user-data-dir={}", folder.path().join("profile").display())).arg("--window-size=1400,1000");
    chromium.arg(format!("--blink-settings=preferredColorScheme={}", if is_dark { 0 } else { 1 }));
    chromium.arg(format!("file://{}", file.display()));
    let ended = end_of(&mut chromium);
    let found = ended.stdout.split("data-found=\"").nth(1).and_then(|rest| rest.split('"').next());
    let found = found.unwrap_or_else(|| panic!("chromium (Debian's package of that name) showed no page: {ended:?}"));
    found.split(' ').map(str::to_owned).collect()
}

#[test]
#[ignore = "needs Chromium: ./test --full"]
fn long_chromium_shows_the_status_page_whole() {
    let (machine, loft) = (Machine::single_user(), Loft::new());
    let cache = loft.home().join("cache");
    let run = |arguments: &[&str]| {
        let mut command = machine.command(loft.command().get_program().to_str().unwrap());
        command.args(arguments).current_dir(loft.home()).env("HOME", loft.home());
        let ended = end_of(&mut command);
        assert_eq!(ended.code, Some(0), "{arguments:?}: {}", ended.stderr);
    };
    run(&["key", "generate", "cache.example.org-1", "--out", "key"]);
    let settings = format!(
        "[loft]\ncache = \"file://{}\"\nlocal_cache_path = \"ledger.db\"\nsigning_key_path = \"key\"\nstatus_page = true\n\
         public_url = \"https://cache.example.org/{}\"\n",
        cache.display(),
        "a-long-name/".repeat(20)
    );
    std::fs::write(loft.home().join("loft.toml"), settings).unwrap();
    let mut paths = machine.build("thing", 0..20);
    paths.push(machine.add(&"a-very-long-name".repeat(12), "contents"));
    run(&[&["push"], paths.iter().map(String::as_str).collect::<Vec<_>>().as_slice()].concat());
    run(&["prune"]);
    let text = std::fs::read_to_string(cache.join("index.html")).unwrap();
    assert!(text.contains("<dd>21</dd>") && text.contains("a-very-long-name"), "{text}");

    let mut backgrounds = Vec::new();
    for is_dark in [false, true] {
        for width in [360, 1280] {
            let found = look(&text, width, is_dark);
            let [inner, contents, background, plots, asked] = &found[..] else { panic!("{found:?}") };
            assert_eq!(*inner, width.to_string(), "{found:?}");
            assert_eq!(contents, inner, "something sticks out: {found:?}");
            assert_eq!((plots.as_str(), asked.as_str()), ("11", "0"), "{found:?}");
            backgrounds.push(background.clone());
        }
    }
    assert_eq!((&backgrounds[0], &backgrounds[2]), (&backgrounds[1], &backgrounds[3]));
    assert_ne!(backgrounds[0], backgrounds[2], "dark is as light as light");
    // What is looked for would be seen.
    let picture = "</h1><img src=\"http://127.0.0.1:1/no-such.png\"><div style=\"width:3000px\">x</div>";
    let found = look(&text.replacen("</h1>", picture, 1), 360, false);
    assert!(found[1] != found[0] && found[4] == "1", "{found:?}");
}
