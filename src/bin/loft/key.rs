//! `loft key`: makes signing keys and shows their public half.

use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{print, tell};
use loft::config::read_key_file;
use loft::nix::{KeyName, SecretKey};
use loft::setup::write_key;
use std::io;
use std::path::{Path, PathBuf};

pub fn generate(name: &str, out: Option<&Path>) -> Result<Exit, Failure> {
    let name = KeyName::parse(name)
        .map_err(|error| Failure::from(error).hint("for example: loft key generate cache.example.org-1"))?;
    let file = match out {
        Some(file) => file.to_owned(),
        None if name.as_str().contains('/') => {
            return Err(Failure::new(format!("The key name {name} does not do as a file's name"))
                .hint("give one with --out FILE"));
        }
        None => PathBuf::from(format!("{name}.secret")),
    };
    let key = SecretKey::generate(name)?;
    write_key(&file, &key).map_err(|source| {
        let exists = source.kind() == io::ErrorKind::AlreadyExists;
        let failure = Failure::from(WriteError { file: file.clone(), source });
        if exists {
            failure.hint("an existing file is never overwritten; name another with --out FILE")
        } else {
            failure
        }
    })?;
    print(&format!("{}\n", key.public()))?;
    tell(&format!(
        "The secret key is in {} (mode 0600): keep it, nobody can make it again.\n\
         The line above is the public key: it belongs into trusted-public-keys of the clients.\n",
        file.display()
    ));
    Ok(Exit::Done)
}

pub fn show(file: &Path) -> Result<Exit, Failure> {
    let (key, _mode) = read_key_file(file).map_err(|error| {
        let help = error.help();
        Failure::from(error).hint(help)
    })?;
    print(&format!("{}\n", key.public()))?;
    Ok(Exit::Done)
}

#[derive(Debug, thiserror::Error)]
#[error("Could not write the secret key to {}", file.display())]
struct WriteError {
    file: PathBuf,
    source: io::Error,
}
