//! NARs that are gone, damaged, bombs, or another's.

use super::case::{case, run};
use super::ground::Ground;
use super::{DATA, zstd};
use crate::support::checking::{bytes, field, nar_key, narinfo_key, text};
use loft::check::Kind;

/// A NAR of one file whose contents are `len` zeros.
fn zeros(len: u64) -> impl std::io::Read {
    use std::io::Read as _;
    let token = |text: &[u8]| {
        let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
        bytes.extend(text);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    };
    let start: Vec<u8> =
        [&b"nix-archive-1"[..], b"(", b"type", b"regular", b"contents"].iter().flat_map(|t| token(t)).collect();
    let start = [start, len.to_le_bytes().to_vec()].concat();
    std::io::Cursor::new(start).chain(std::io::repeat(0).take(len)).chain(std::io::Cursor::new(token(b")")))
}

#[tokio::test]
async fn garbled_nars() {
    run(vec![
        case("absent", &[Kind::NarMissing], |ground| ground.world.bucket.lose(&nar_key(&ground.world, &ground.lib))),
        case("absent at the bottom", &[Kind::NarMissing], |ground| {
            ground.world.bucket.lose(&nar_key(&ground.world, &ground.base));
        }),
        case("absent at the top", &[Kind::NarMissing], |ground| {
            ground.world.bucket.lose(&nar_key(&ground.world, &ground.app));
        }),
        case("all absent", &[Kind::NarMissing], |ground| {
            ground.world.keys("nar/").iter().for_each(|key| ground.world.bucket.lose(key));
        }),
        case("absent for two", &[Kind::NarMissing], |ground| {
            ground.world.bucket.lose(&nar_key(&ground.world, &ground.twins[0]));
        }),
        case("empty", &[Kind::NarSize], |ground| ground.nar(&ground.lib, |_| Vec::new())),
        case("a byte short", &[Kind::NarSize], |ground| {
            ground.nar(&ground.lib, |mut nar| {
                nar.pop();
                nar
            });
        }),
        case("half", &[Kind::NarSize], |ground| ground.nar(&ground.lib, |nar| nar[..nar.len() / 2].to_vec())),
        case("a byte more", &[Kind::NarSize], |ground| ground.nar(&ground.lib, |nar| [nar, vec![0]].concat())),
        case("twice", &[Kind::NarSize], |ground| ground.nar(&ground.lib, |nar| [nar.clone(), nar].concat())),
        case("of another path", &[Kind::NarSize], |ground| {
            let other = bytes(&ground.world, &nar_key(&ground.world, &ground.twins[0]));
            ground.nar(&ground.lib, |_| other);
        }),
        case("of another path, by the narinfo", DATA, |ground| {
            let narinfo = text(&ground.world, &narinfo_key(&ground.twins[0]));
            for name in ["URL", "FileHash", "FileSize"] {
                ground.set(&ground.lib, name, field(&narinfo, name));
            }
        }),
        case("the first bit flipped", DATA, |ground| flip(ground, 0)),
        case("a bit in the head flipped", DATA, |ground| flip(ground, 5)),
        case("a bit in the middle flipped", DATA, |ground| flip(ground, 10_000)),
        case("a bit near the end flipped", DATA, |ground| flip(ground, 20_000)),
        case("a bit of two flipped", DATA, |ground| {
            ground.nar(&ground.twins[1], |mut nar| {
                nar[1500] ^= 8;
                nar
            });
        }),
        case("zeros of that length", DATA, |ground| ground.nar(&ground.lib, |nar| vec![0; nar.len()])),
        case("text of that length", DATA, |ground| ground.nar(&ground.lib, |nar| vec![b'a'; nar.len()])),
        case("a bomb", DATA, |ground| ground.replace_nar(&ground.lib, zstd(zeros(1 << 27)), "zstd")),
        case("a bomb that is no NAR", DATA, |ground| {
            use std::io::Read as _;
            ground.replace_nar(&ground.lib, zstd(std::io::repeat(b'x').take(1 << 27)), "zstd");
        }),
        case("a bomb by xz", DATA, |ground| {
            use std::io::Read as _;
            let mut stored = Vec::new();
            let input = std::io::repeat(0).take(64 << 20);
            liblzma::read::XzEncoder::new(input, 1).read_to_end(&mut stored).unwrap();
            ground.replace_nar(&ground.lib, stored, "xz");
        }),
        case("a file of huge length in it", DATA, |ground| {
            let mut nar = Vec::new();
            std::io::Read::read_to_end(&mut zeros(8), &mut nar).unwrap();
            let at = nar.len() - 32;
            nar[at..at + 8].copy_from_slice(&u64::MAX.to_le_bytes());
            ground.replace_nar(&ground.lib, zstd(&nar[..]), "zstd");
        }),
        case("something after its end", DATA, |ground| {
            let nar = [ground.world.store.nar(&ground.lib), b"more".to_vec()].concat();
            ground.replace_nar(&ground.lib, zstd(&nar[..]), "zstd");
        }),
        case("not compressed at all", DATA, |ground| {
            ground.replace_nar(&ground.lib, ground.world.store.nar(&ground.lib), "zstd");
        }),
        case("of other contents", DATA, |ground| {
            ground.replace_nar(&ground.lib, zstd(&ground.world.store.nar(&ground.twins[0])[..]), "zstd");
        }),
        // Stored in another way, but sound.
        case("by another compressor", &[], |ground| {
            ground.replace_nar(&ground.lib, ground.world.store.nar(&ground.lib), "none");
        }),
        case("by one that is not read", &[Kind::DataUnsupported], |ground| {
            ground.set(&ground.lib, "Compression", "bzip2");
        }),
    ])
    .await;
}

fn flip(ground: &Ground, at: usize) {
    ground.nar(&ground.lib, |mut nar| {
        let at = at.min(nar.len() - 2);
        nar[at] ^= 4;
        nar
    });
}
