//! What was asked for, as candidates from the store. Blocks: call it off the async threads.

use super::Candidates;
use crate::nix::{PathInfo, StorePath};
use crate::store::{self, Protection, Store, StoreError};
use std::collections::BTreeSet;

/// Which paths to push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// These, and all that they refer to.
    Closures(Vec<StorePath>),
    /// These alone; what they refer to must be in the cache or upstream.
    Only(Vec<StorePath>),
    /// All valid paths but derivations.
    WholeStore,
}

impl Request {
    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Closures(paths) | Self::Only(paths) => paths.is_empty(),
            Self::WholeStore => false,
        }
    }
}

/// Candidates, and how well the roots are guarded against the store's garbage collector.
#[derive(Debug)]
pub struct Gathered {
    pub candidates: Candidates,
    /// The valid ones among the paths asked for.
    pub roots: Vec<StorePath>,
    /// Why some root is not protected, if so; told once.
    pub unprotected: Option<String>,
}

/// A collector that deletes between each two of our looks is one to wait for.
const MAX_LOOKS: u32 = 5;

/// Protects the roots first and only then asks whether they are valid: the other way round, the
/// collector could come between.
pub fn gather(store: &dyn Store, request: &Request) -> Result<Gathered, StoreError> {
    let mut looks = 1;
    loop {
        match gather_once(store, request) {
            // The collector came between the list of all paths and a look at one of them.
            Err(StoreError::NotValid { .. }) if *request == Request::WholeStore && looks < MAX_LOOKS => looks += 1,
            gathered => return gathered,
        }
    }
}

fn gather_once(store: &dyn Store, request: &Request) -> Result<Gathered, StoreError> {
    let (asked, closed) = match request {
        Request::Closures(roots) => (roots.clone(), true),
        Request::Only(paths) => (paths.clone(), false),
        Request::WholeStore => {
            (store.all_valid_paths()?.into_iter().filter(|path| !path.is_derivation()).collect(), true)
        }
    };
    let asked: Vec<StorePath> = asked.into_iter().collect::<BTreeSet<_>>().into_iter().collect();

    // For the whole store only what is to be uploaded is protected, once that is known.
    let unprotected = if *request == Request::WholeStore { None } else { protect(store, &asked)? };

    let mut valid = Vec::with_capacity(asked.len());
    let mut invalid = Vec::new();
    for (path, info) in asked.iter().zip(store.path_infos(&asked)?) {
        match info {
            Some(info) => valid.push(info),
            // Collected since it was listed: nobody asked for this very path.
            None if *request == Request::WholeStore => {}
            None => invalid.push(path.clone()),
        }
    }
    let roots: Vec<StorePath> = valid.iter().map(|info| info.path.clone()).collect();

    let candidates = if closed {
        Candidates { paths: store::closure(store, &roots)?.infos, neighbours: Vec::new(), invalid }
    } else {
        let neighbours = neighbours(store, &valid)?;
        Candidates { paths: store::references_first(valid)?, neighbours, invalid }
    };
    Ok(Gathered { candidates, roots, unprotected })
}

/// Guards `paths`; the answer is why one could not be guarded.
pub fn protect<'a>(
    store: &dyn Store,
    paths: impl IntoIterator<Item = &'a StorePath>,
) -> Result<Option<String>, StoreError> {
    let mut unprotected = None;
    for path in paths {
        if let Protection::Unheld(why) = store.protect(path)? {
            unprotected.get_or_insert(why);
        }
    }
    Ok(unprotected)
}

fn neighbours(store: &dyn Store, paths: &[PathInfo]) -> Result<Vec<PathInfo>, StoreError> {
    let own: BTreeSet<&StorePath> = paths.iter().map(|info| &info.path).collect();
    let referenced: BTreeSet<&StorePath> =
        paths.iter().flat_map(|info| &info.references).filter(|path| !own.contains(path)).collect();
    let referenced: Vec<StorePath> = referenced.into_iter().cloned().collect();
    Ok(store.path_infos(&referenced)?.into_iter().flatten().collect())
}
