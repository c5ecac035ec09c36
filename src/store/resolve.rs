//! What a user typed, as a store path: full paths, paths inside of one, `./result`, base names.
//!
//! Symlinks are followed one at a time instead of by `canonicalize`, for two reasons: a store path may itself be a
//! symlink and must not be followed out of the store; and in a chroot store links name
//! logical paths (`/nix/store/…`), which on this machine lie elsewhere or nowhere.

use super::{Location, StoreError};
use crate::nix::StorePath;
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Component, Path, PathBuf};

/// As Linux.
const MOST_LINKS: usize = 40;

/// What a user typed (a store path, a path inside one, a symlink such as `./result`, a base name
/// `<hash>-<name>`) as a store path. Its files exist; whether it is valid only the store can tell.
pub fn resolve(location: &Location, typed: &Path) -> Result<StorePath, StoreError> {
    if let Some(path) = typed.to_str().and_then(|text| StorePath::parse(text).ok()) {
        return present(location, typed, path);
    }
    let looking = |source| StoreError::Look { at: typed.to_owned(), source };
    match walk(location, typed, &std::path::absolute(typed).map_err(looking)?) {
        Err(StoreError::NotFound { .. } | StoreError::NotAStorePath { .. }) if is_installable(typed) => {
            Err(StoreError::Installable { typed: typed.display().to_string() })
        }
        result => result,
    }
}

fn walk(location: &Location, typed: &Path, absolute: &Path) -> Result<StorePath, StoreError> {
    let logical = Path::new(location.store_dir.as_str());
    // A link may name the real store directory by its own real name. Where that cannot be told, the other
    // names are left.
    let canonical = location.real_store_dir.canonicalize().ok();
    let is_store =
        |at: &Path| at == logical || at == location.real_store_dir || canonical.as_deref().is_some_and(|c| at == c);

    let mut todo = names(absolute);
    let mut at = PathBuf::from("/");
    let mut links = 0;
    while let Some(name) = todo.pop_front() {
        if name == ".." {
            at.pop();
            continue;
        }
        if is_store(&at) {
            let refused = |source| StoreError::NotAStorePath { typed: typed.to_owned(), source };
            let path = StorePath::parse(&name.to_string_lossy()).map_err(refused)?;
            return present(location, typed, path);
        }
        let next = at.join(&name);
        if logical.starts_with(&next) {
            // Perhaps not on this machine.
            at = next;
            continue;
        }
        match std::fs::symlink_metadata(&next) {
            Ok(metadata) if metadata.is_symlink() => {
                links += 1;
                if links > MOST_LINKS {
                    return Err(StoreError::Links { typed: typed.to_owned() });
                }
                let target =
                    std::fs::read_link(&next).map_err(|source| StoreError::Look { at: next.clone(), source })?;
                if target.is_absolute() {
                    at = PathBuf::from("/");
                }
                for name in names(&target).into_iter().rev() {
                    todo.push_front(name);
                }
            }
            Ok(_) => at = next,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Err(StoreError::NotFound { typed: typed.to_owned() });
            }
            Err(source) => return Err(StoreError::Look { at: next, source }),
        }
    }
    match is_store(&at) {
        true => Err(StoreError::WholeStore { typed: typed.to_owned() }),
        false => {
            let (typed, store_dir) = (typed.to_owned(), location.store_dir.to_string());
            Err(StoreError::Outside { typed, reached: at, store_dir })
        }
    }
}

fn names(path: &Path) -> VecDeque<OsString> {
    let name = |component: Component<'_>| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().filter_map(name).collect()
}

fn present(location: &Location, typed: &Path, path: StorePath) -> Result<StorePath, StoreError> {
    let real = location.real_path(&path);
    match std::fs::symlink_metadata(&real) {
        Ok(_) => Ok(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(StoreError::Gone { typed: typed.to_owned(), path })
        }
        Err(source) => Err(StoreError::Look { at: real, source }),
    }
}

/// `flake#attribute`, `path.drv^out` or the older `path.drv!out`.
fn is_installable(typed: &Path) -> bool {
    let bytes = OsStr::as_encoded_bytes(typed.as_os_str());
    bytes.iter().any(|byte| matches!(byte, b'#' | b'^' | b'!'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nix::StoreDir;
    use std::os::unix::fs::symlink;

    const BASE: &str = "0c0ngrnyz7b7w2hzwzvhyzxqdqz3dnya-hello";
    const LINK: &str = "1c0ngrnyz7b7w2hzwzvhyzxqdqz3dnya-link";

    /// A chroot store whose physical place has nothing to do with its logical name.
    struct Chroot {
        folder: tempfile::TempDir,
        location: Location,
    }

    impl Chroot {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let real = folder.path().join("r/nix/store");
            std::fs::create_dir_all(real.join(BASE).join("bin")).unwrap();
            std::fs::write(real.join(BASE).join("bin/hello"), "").unwrap();
            symlink("/etc", real.join(LINK)).unwrap();
            let location = Location {
                store_dir: StoreDir::parse("/logical/store").unwrap(),
                real_store_dir: real,
                state_dir: folder.path().join("r/nix/var/nix"),
                log_dir: folder.path().join("r/nix/var/log/nix"),
                daemon_socket: folder.path().join("socket"),
            };
            Self { folder, location }
        }

        fn link(&self, name: &str, target: impl AsRef<Path>) -> PathBuf {
            let at = self.folder.path().join(name);
            symlink(target, &at).unwrap();
            at
        }

        fn resolve(&self, typed: impl AsRef<Path>) -> Result<String, StoreError> {
            resolve(&self.location, typed.as_ref()).map(|path| path.to_string())
        }
    }

    #[test]
    fn every_way_to_name_a_path() {
        let chroot = Chroot::new();
        let real = &chroot.location.real_store_dir;
        let logical = format!("/logical/store/{BASE}");
        let result = chroot.link("result", &logical);
        let physical = chroot.link("physical", real.join(BASE));
        let chain = chroot.link("chain", "result");
        let store = chroot.link("store", real);
        let r = chroot.link("r2", "r");
        for typed in [
            PathBuf::from(BASE),
            PathBuf::from(&logical),
            PathBuf::from(format!("{logical}/")),
            PathBuf::from(format!("{logical}/bin/hello")),
            PathBuf::from(format!("{logical}/not/there")),
            PathBuf::from(format!("/logical/../logical/store/./{BASE}")),
            real.join(BASE),
            real.join(BASE).join("bin"),
            result.join("bin/hello"),
            result,
            physical,
            chain.join("bin/.."),
            chain,
            store.join(BASE),
            r.join("nix/store").join(BASE),
        ] {
            assert_eq!(chroot.resolve(&typed).unwrap(), BASE, "{}", typed.display());
        }
        // A store path that is a symlink is itself, not what it points at.
        assert_eq!(chroot.resolve(real.join(LINK)).unwrap(), LINK);
        assert_eq!(chroot.resolve(chroot.link("l", format!("/logical/store/{LINK}"))).unwrap(), LINK);
    }

    #[test]
    fn errors_say_what_is_wrong() {
        let chroot = Chroot::new();
        let gone = BASE.replace("hello", "gone");
        let refused = |typed: &str| chroot.resolve(typed).unwrap_err();
        assert!(matches!(refused("/nonexistent/result"), StoreError::NotFound { .. }));
        assert!(matches!(refused("/etc"), StoreError::Outside { .. }));
        assert!(matches!(refused("/logical"), StoreError::Outside { .. }));
        assert!(matches!(refused("/logical/store"), StoreError::WholeStore { .. }));
        assert!(matches!(refused("/logical/store/.links"), StoreError::NotAStorePath { .. }));
        assert!(matches!(refused(&format!("/logical/store/{gone}")), StoreError::Gone { .. }));
        assert!(matches!(refused(&gone), StoreError::Gone { .. }));
        for installable in
            ["nixpkgs#hello", ".#default", &format!("/logical/store/{BASE}.drv^out"), &format!("{BASE}.drv!out,dev")]
        {
            assert!(matches!(refused(installable), StoreError::Installable { .. }), "{installable}");
        }
        let dangling = chroot.link("dangling", format!("/logical/store/{gone}"));
        let error = chroot.resolve(&dangling).unwrap_err().to_string();
        assert!(error.contains(&gone) && error.contains("dangling"), "{error}");
        let round = chroot.link("round", "round");
        assert!(matches!(chroot.resolve(round).unwrap_err(), StoreError::Links { .. }));
        assert!(chroot.resolve("").is_err());
    }

    #[test]
    fn a_file_with_a_sharp_in_its_name_is_a_file() {
        let chroot = Chroot::new();
        let link = chroot.link("result#1", format!("/logical/store/{BASE}"));
        assert_eq!(chroot.resolve(link).unwrap(), BASE);
    }
}
