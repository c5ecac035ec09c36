//! Reads a closure back from a cache in a folder, as a client would: every narinfo's signature is checked
//! against one trusted key, every NAR against its hashes and sizes, and its tree is laid out in a new folder.
//!
//! `cargo run --example read_back -- CACHE PUBLIC-KEY STORE-PATH TARGET`

use loft::nar;
use loft::nix::{NarInfo, PublicKey, StoreDir};
use std::collections::BTreeSet;
use std::error::Error;
use std::fs::File;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [cache, key, root, target] = arguments.as_slice() else {
        return Err("Usage: read_back CACHE PUBLIC-KEY STORE-PATH TARGET".into());
    };
    let (cache, target, key, dir) = (Path::new(cache), Path::new(target), PublicKey::parse(key)?, StoreDir::default());
    std::fs::create_dir_all(target)?;

    let mut open = vec![dir.parse_path(root)?];
    let mut seen = BTreeSet::new();
    while let Some(path) = open.pop() {
        if !seen.insert(path.clone()) {
            continue;
        }
        let narinfo = NarInfo::parse(&dir, &std::fs::read(cache.join(format!("{}.narinfo", path.hash_part())))?)?;
        if narinfo.path != path {
            return Err(format!("The narinfo of {path} is about {}", narinfo.path).into());
        }
        let fingerprint = narinfo.fingerprint(&dir);
        if !narinfo.signatures.iter().any(|signature| key.verifies(&fingerprint, signature)) {
            return Err(format!("{path} has no good signature by {}", key.name()).into());
        }
        let stored = File::open(cache.join(narinfo.url.as_str()))?;
        let read = nar::unpack(stored, narinfo.compression, narinfo.nar_size.get(), &target.join(path.as_str()))?;
        let claimed = (narinfo.nar_hash, narinfo.nar_size.get(), narinfo.file_hash, narinfo.file_size);
        if (read.nar_hash, read.nar_size, Some(read.file_hash), Some(read.file_size)) != claimed {
            return Err(format!("The NAR of {path} is not what its narinfo says").into());
        }
        println!("good  {path}");
        open.extend(narinfo.references);
    }
    Ok(())
}
