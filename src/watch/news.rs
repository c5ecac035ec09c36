//! What became valid since the last look. Blocks: call it off the async threads.

use crate::nix::StorePath;
use crate::store::{Cursor, Store, StoreError};
use std::collections::HashSet;
use std::sync::Arc;

/// How far somebody has looked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Place {
    /// Never.
    #[default]
    Nowhere,
    /// Up to a row of the store's database.
    Cursor(Cursor),
    /// At all paths that a daemon named, where the database cannot be read.
    Inventory(Arc<HashSet<StorePath>>),
}

/// What a look brought.
#[derive(Debug, PartialEq, Eq)]
pub struct News {
    /// Became valid since; some may have been collected already.
    pub appeared: Vec<StorePath>,
    /// No longer valid; told for inventories alone, which would grow for ever without it.
    pub gone: Vec<StorePath>,
    /// Registrations that cannot be read, each as a sentence.
    pub damaged: Vec<String>,
    /// Where to go on.
    pub place: Place,
    /// `appeared` is all that is valid: there was no place, or it is worth nothing in this database.
    pub from_start: bool,
}

/// Looks what became valid since `place`.
pub fn look(store: &dyn Store, place: &Place) -> Result<News, StoreError> {
    let cursor = match place {
        Place::Cursor(cursor) => Some(cursor),
        Place::Nowhere | Place::Inventory(_) => None,
    };
    let Some(registrations) = store.registered_since(cursor)? else { return compare(store, place) };
    let known = match place {
        // The database can be read again; meanwhile all was listed.
        Place::Inventory(known) => Some(known),
        Place::Nowhere | Place::Cursor(_) => None,
    };
    let mut appeared = registrations.paths;
    if let Some(known) = known {
        appeared.retain(|path| !known.contains(path));
    }
    Ok(News {
        appeared,
        gone: Vec::new(),
        damaged: registrations.damaged,
        place: Place::Cursor(registrations.cursor),
        from_start: registrations.from_start && known.is_none(),
    })
}

fn compare(store: &dyn Store, place: &Place) -> Result<News, StoreError> {
    let all: HashSet<StorePath> = store.all_valid_paths()?.into_iter().collect();
    let (appeared, gone, from_start) = match place {
        Place::Inventory(known) => {
            (all.difference(known).cloned().collect(), known.difference(&all).cloned().collect(), false)
        }
        Place::Nowhere | Place::Cursor(_) => (all.iter().cloned().collect(), Vec::new(), true),
    };
    Ok(News { appeared, gone, damaged: Vec::new(), place: Place::Inventory(Arc::new(all)), from_start })
}
