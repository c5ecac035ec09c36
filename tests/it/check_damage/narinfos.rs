//! Narinfos that are damaged as a whole, and field by field.

use super::DATA;
use super::case::{Case, case, run};
use crate::support::checking::{bytes, field, narinfo_key, text};
use loft::check::Kind;
use loft::nix::{KeyName, NarInfo, SecretKey, Sha256, StoreDir};

const MALFORMED: &[Kind] = &[Kind::NarInfoMalformed];
const FORGED: &[Kind] = &[Kind::SignatureInvalid];
const FORGED_AND_WRONG: &[Kind] = &[Kind::SignatureInvalid, Kind::NarData];

fn narinfo_case(name: &'static str, expected: &[Kind], change: impl Fn(String) -> String + 'static) -> Case {
    case(name, expected, move |ground| ground.edit(&ground.lib, &change))
}

fn field_case(name: &'static str, expected: &[Kind], key: &'static str, value: &'static str) -> Case {
    case(name, expected, move |ground| ground.set(&ground.lib, key, value))
}

#[tokio::test]
async fn garbled_narinfos() {
    let without = |key: &'static str| {
        move |text: String| text.lines().filter(|line| !line.starts_with(key)).map(|line| format!("{line}\n")).collect()
    };
    let twice = |key: &'static str| {
        move |text: String| {
            let line = text.lines().find(|line| line.starts_with(key)).unwrap().to_owned();
            format!("{text}{line}\n")
        }
    };
    run(vec![
        narinfo_case("empty", MALFORMED, |_| String::new()),
        narinfo_case("one newline", MALFORMED, |_| "\n".into()),
        narinfo_case("no newline at the end", MALFORMED, |text| text.trim_end().to_owned()),
        narinfo_case("cut in the middle", MALFORMED, |text| text[..text.len() / 2].to_owned()),
        narinfo_case("cut after a line", MALFORMED, |text| {
            text.lines().take(4).map(|line| format!("{line}\n")).collect()
        }),
        narinfo_case("a web page", MALFORMED, |_| "<html><body>502 Bad Gateway</body></html>\n".into()),
        narinfo_case("zeros", MALFORMED, |text| "\0".repeat(text.len())),
        narinfo_case("a NUL in a line", MALFORMED, |text| text.replace("NarSize: ", "NarSize: \0")),
        narinfo_case("an escape sequence", MALFORMED, |text| text.replace("-lib\n", "-lib\u{1b}[2J\n")),
        narinfo_case("carriage returns", MALFORMED, |text| text.replace('\n', "\r\n")),
        narinfo_case("an empty line", MALFORMED, |text| format!("\n{text}")),
        narinfo_case("a line without a colon", MALFORMED, |text| format!("{text}nonsense\n")),
        narinfo_case("no space after a colon", MALFORMED, |text| text.replace("URL: ", "URL:")),
        narinfo_case("upper case", MALFORMED, |text| text.to_uppercase()),
        narinfo_case("no StorePath", MALFORMED, without("StorePath")),
        narinfo_case("no URL", MALFORMED, without("URL")),
        narinfo_case("no NarHash", MALFORMED, without("NarHash")),
        narinfo_case("no NarSize", MALFORMED, without("NarSize")),
        narinfo_case("no References", MALFORMED, without("References")),
        narinfo_case("StorePath twice", MALFORMED, twice("StorePath")),
        narinfo_case("URL twice", MALFORMED, twice("URL")),
        narinfo_case("References twice", MALFORMED, twice("References")),
        narinfo_case("another store directory", MALFORMED, |text| text.replace("/nix/store", "/gnu/store")),
        case("bytes that are no text", MALFORMED, |ground| {
            let key = narinfo_key(&ground.lib);
            let mut damaged = bytes(&ground.world, &key);
            damaged[60] = 0xff;
            ground.world.bucket.plant(&key, damaged);
        }),
        case("larger than any narinfo", MALFORMED, |ground| {
            ground.world.bucket.plant(&narinfo_key(&ground.lib), vec![b'x'; 17 << 20]);
        }),
        case("another path's narinfo", &[Kind::NarInfoOtherPath], |ground| {
            let other = bytes(&ground.world, &narinfo_key(&ground.base));
            ground.world.bucket.plant(&narinfo_key(&ground.lib), other);
        }),
        case("another path's name", &[Kind::NarInfoOtherPath], |ground| {
            let path = format!("/nix/store/{}", ground.base);
            ground.set(&ground.lib, "StorePath", &path);
        }),
    ])
    .await;
}

#[tokio::test]
async fn garbled_fields() {
    run(vec![
        field_case("an empty URL", MALFORMED, "URL", ""),
        field_case("a URL elsewhere", MALFORMED, "URL", "https://example.org/nar/x.nar.zst"),
        field_case("an absolute URL", MALFORMED, "URL", "/etc/passwd"),
        field_case("a URL that climbs", MALFORMED, "URL", "nar/../nix-cache-info"),
        field_case("a URL that climbs out", MALFORMED, "URL", "../other/nar/x.nar"),
        field_case("an encoded URL", MALFORMED, "URL", "nar/%2e%2e/x.nar"),
        field_case("a URL with two slashes", MALFORMED, "URL", "nar//x.nar"),
        field_case("a URL with a query", MALFORMED, "URL", "nar/x.nar?versionId=1"),
        field_case("a URL to a record", MALFORMED, "URL", "loft/v1/bucket.json"),
        field_case("a URL to nowhere", &[Kind::NarMissing], "URL", "nar/nowhere.nar.zst"),
        field_case("NarSize 0", MALFORMED, "NarSize", "0"),
        field_case("a negative NarSize", MALFORMED, "NarSize", "-1"),
        field_case("NarSize in octal", MALFORMED, "NarSize", "0112"),
        field_case("a NarSize beyond all", MALFORMED, "NarSize", "99999999999999999999999"),
        field_case("another NarSize", FORGED_AND_WRONG, "NarSize", "112"),
        field_case("the largest NarSize", FORGED_AND_WRONG, "NarSize", "18446744073709551615"),
        field_case("NarHash by MD5", MALFORMED, "NarHash", "md5:d41d8cd98f00b204e9800998ecf8427e"),
        field_case("a NarHash that is none", MALFORMED, "NarHash", "sha256:uuuu"),
        case("another NarHash", FORGED_AND_WRONG, |ground| {
            ground.set(&ground.lib, "NarHash", &Sha256::of(b"other").to_string());
        }),
        field_case("a FileHash that is none", MALFORMED, "FileHash", "sha256:"),
        case("another FileHash", DATA, |ground| {
            ground.set(&ground.lib, "FileHash", &Sha256::of(b"other").to_string());
        }),
        field_case("FileSize 0", MALFORMED, "FileSize", "0"),
        field_case("another FileSize", &[Kind::NarSize], "FileSize", "77"),
        field_case("another compression", DATA, "Compression", "xz"),
        field_case("no compression", DATA, "Compression", "none"),
        field_case("a compression that is none", MALFORMED, "Compression", "lz99"),
        field_case("References that are none", MALFORMED, "References", "a b c"),
        field_case("full paths as References", MALFORMED, "References", "/nix/store/x"),
        field_case("no references", FORGED, "References", ""),
        case("a reference too many", FORGED, |ground| {
            let references = format!("{} {}", ground.base, ground.twins[0]);
            let mut sorted: Vec<&str> = references.split(' ').collect();
            sorted.sort_unstable();
            ground.set(&ground.lib, "References", &sorted.join(" "));
        }),
        field_case("a signature that is none", MALFORMED, "Sig", "x"),
        case("a flipped signature", FORGED, |ground| {
            let sig = field(&text(&ground.world, &narinfo_key(&ground.lib)), "Sig").to_owned();
            let at = sig.len() - 10;
            let other = if &sig[at..=at] == "A" { "B" } else { "A" };
            ground.set(&ground.lib, "Sig", &format!("{}{other}{}", &sig[..at], &sig[at + 1..]));
        }),
        case("a signature by a stranger under our name", FORGED, |ground| {
            let stranger = SecretKey::generate(KeyName::parse("test-1").unwrap()).unwrap();
            let narinfo = bytes(&ground.world, &narinfo_key(&ground.lib));
            let info = NarInfo::parse(&StoreDir::default(), &narinfo).unwrap();
            let forged = stranger.sign(&info.fingerprint(&StoreDir::default()));
            ground.set(&ground.lib, "Sig", &forged.to_string());
        }),
        case("another path's signature", FORGED, |ground| {
            let sig = field(&text(&ground.world, &narinfo_key(&ground.base)), "Sig").to_owned();
            ground.set(&ground.lib, "Sig", &sig);
        }),
        narinfo_case("a deriver that is none", MALFORMED, |text| format!("{text}Deriver: nonsense\n")),
        narinfo_case("a content address that is none", MALFORMED, |text| format!("{text}CA: nonsense\n")),
        // Notes.
        narinfo_case("a key of the future", &[Kind::NarInfoUnusual], |text| format!("{text}New: x\n")),
        narinfo_case("another order", &[Kind::NarInfoUnusual], |text| {
            let mut lines: Vec<&str> = text.lines().collect();
            lines.swap(0, 1);
            lines.iter().map(|line| format!("{line}\n")).collect()
        }),
        narinfo_case("no FileHash", &[Kind::NarInfoUnusual], |text| {
            text.lines().filter(|line| !line.starts_with("File")).map(|line| format!("{line}\n")).collect()
        }),
        narinfo_case("no signature", &[Kind::Unsigned], |text| {
            text.lines().filter(|line| !line.starts_with("Sig")).map(|line| format!("{line}\n")).collect()
        }),
        field_case("a compression of Nix's", &[Kind::NarInfoUnsupported], "Compression", "br"),
    ])
    .await;
}
