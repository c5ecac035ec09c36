//! Where debuggers find debug information: `debuginfo/<build id>` names the NAR, and the file in it.
//!
//! The form is that of `index-debug-info` in Nix's `binary-cache-store.cc`; dwarffs and nixseparatedebuginfod2 read it.

use super::NarUrl;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Where packages with `separateDebugInfo` keep it, as the parts of a path.
const DIRECTORY: [&[u8]; 3] = [b"lib", b"debug", b".build-id"];

/// What a linker writes into a program to tell its builds apart: 20 bytes, here as 40 lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BuildId(Box<str>);

/// The object's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DebugLink {
    pub nar: NarUrl,
    pub id: BuildId,
}

/// `archive` is relative to the object itself.
#[derive(Serialize, Deserialize)]
struct Json<'a> {
    archive: std::borrow::Cow<'a, str>,
    member: std::borrow::Cow<'a, str>,
}

impl BuildId {
    pub fn parse(text: &str) -> Option<Self> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        (text.len() == 40 && text.bytes().all(is_digit)).then(|| Self(text.into()))
    }

    /// Of a file in a store path, by the names from the root on: `lib/debug/.build-id/ab/cdef….debug`.
    pub fn of_file(names: &[impl AsRef<[u8]>]) -> Option<Self> {
        let [lib, debug, build_id, first, rest] = names else { return None };
        let is_there = [lib, debug, build_id].into_iter().map(AsRef::as_ref).eq(DIRECTORY);
        let rest = rest.as_ref().strip_suffix(b".debug").filter(|rest| is_there && rest.len() == 38)?;
        Self::parse(std::str::from_utf8(&[first.as_ref(), rest].concat()).ok()?)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn member(&self) -> String {
        format!("lib/debug/.build-id/{}/{}.debug", &self.0[..2], &self.0[2..])
    }
}

impl DebugLink {
    /// Of the object: the longest URL of a NAR, and what stands around it.
    pub const MAX_LEN: u64 = 4096;

    pub fn print(&self) -> String {
        let json = Json { archive: format!("../{}", self.nar).into(), member: self.id.member().into() };
        // Two strings: this cannot fail.
        serde_json::to_string(&json).unwrap_or_default()
    }

    /// Nothing where it is not such a link: it names a place outside of `nar/`, say.
    pub fn parse(id: &BuildId, bytes: &[u8]) -> Option<Self> {
        let json: Json<'_> = serde_json::from_slice(bytes).ok()?;
        let nar = NarUrl::parse(json.archive.strip_prefix("../")?).ok()?;
        (json.member == id.member()).then(|| Self { nar, id: id.clone() })
    }
}

impl fmt::Display for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "07ff23386799818e59ab23df9d6e5da46ac0d251";

    #[test]
    fn prints_what_nix_prints_and_reads_it_back() {
        let id = BuildId::parse(ID).unwrap();
        let link = DebugLink { nar: NarUrl::parse("nar/1h1d.nar.xz").unwrap(), id: id.clone() };
        let text = r#"{"archive":"../nar/1h1d.nar.xz","member":"lib/debug/.build-id/07/ff23386799818e59ab23df9d6e5da46ac0d251.debug"}"#;
        assert_eq!(link.print(), text);
        assert_eq!(DebugLink::parse(&id, text.as_bytes()), Some(link));
        let longest = DebugLink { nar: NarUrl::parse(&format!("nar/{}", "x".repeat(1020))).unwrap(), id: id.clone() };
        assert!(longest.print().len() as u64 <= DebugLink::MAX_LEN);
        let other = text.replace("/07/", "/08/");
        for wrong in ["", "{}", "\u{1}", &text.replace("../", ""), &text.replace("../nar", "../../etc"), &other] {
            assert_eq!(DebugLink::parse(&id, wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn a_build_id_is_known_by_the_place_of_its_file() {
        let names = |path: &str| path.split('/').map(str::to_owned).collect::<Vec<_>>();
        let file = format!("lib/debug/.build-id/{}/{}.debug", &ID[..2], &ID[2..]);
        assert_eq!(BuildId::of_file(&names(&file)).unwrap().as_str(), ID);
        for wrong in [
            file.replace(".debug", ""),
            file.replace("lib/", "lib64/"),
            file.replace("/07/", "/07f/"),
            file.replace("/07/ff", "/07f/f"),
            file.replace("ff23", "FF23"),
            file.replace("ff23", "f23"),
            format!("share/{file}"),
            format!("{file}/more"),
        ] {
            assert_eq!(BuildId::of_file(&names(&wrong)), None, "{wrong}");
        }
    }
}
