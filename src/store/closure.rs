//! What a set of paths needs, in an order in which it can be published.
//!
//! There is no closure operation in the worker protocol, so the graph is walked here: in batches, so
//! that a daemon is asked once per level and not once per path. Both walks keep their own stack, since
//! real stores have chains that would overflow the thread's.

use super::{Store, StoreError};
use crate::nix::{PathInfo, StorePath};
use std::collections::{HashMap, HashSet};

/// A set of paths closed over references, references before referrers.
#[derive(Debug, Clone, Default)]
pub struct Closure {
    /// Topological: each path's references (but itself) stand before it.
    pub infos: Vec<PathInfo>,
}

/// Closure of `roots`. A root or reference that is not valid is an error that names it and its referrer.
pub fn closure(store: &dyn Store, roots: &[StorePath]) -> Result<Closure, StoreError> {
    let mut infos = store.reachable(roots)?;
    // The same store must give the same order, whichever back end answered.
    infos.sort_by(|a, b| a.path.cmp(&b.path));
    check_closed(&infos)?;
    Ok(Closure { infos: references_first(infos)? })
}

/// Breadth first through `path_infos`, one batch for each level.
pub(super) fn by_batches<S: Store + ?Sized>(store: &S, roots: &[StorePath]) -> Result<Vec<PathInfo>, StoreError> {
    let mut seen: HashSet<StorePath> = HashSet::new();
    let mut found: Vec<PathInfo> = Vec::new();
    let mut level: Vec<StorePath> = roots.iter().filter(|root| seen.insert((*root).clone())).cloned().collect();
    // `found[..expanded]` have had their references looked at.
    let mut expanded = 0;
    while !level.is_empty() {
        for (path, info) in level.iter().zip(store.path_infos(&level)?) {
            match info {
                Some(info) => found.push(info),
                None => {
                    let refers = |info: &&PathInfo| info.references.binary_search(path).is_ok();
                    let referrer = found.iter().find(refers).map(|info| info.path.clone());
                    return Err(StoreError::NotValid { path: path.clone(), referrer });
                }
            }
        }
        level = found[expanded..]
            .iter()
            .flat_map(|info| &info.references)
            .filter(|reference| seen.insert((*reference).clone()))
            .cloned()
            .collect();
        expanded = found.len();
    }
    Ok(found)
}

/// `infos` are sorted by path.
fn check_closed(infos: &[PathInfo]) -> Result<(), StoreError> {
    for info in infos {
        for reference in &info.references {
            if infos.binary_search_by(|other| other.path.cmp(reference)).is_err() {
                return Err(StoreError::NotValid { path: reference.clone(), referrer: Some(info.path.clone()) });
            }
        }
    }
    Ok(())
}

/// Orders `infos` so that references come before their referrers; references outside of `infos` do not matter.
///
/// Depth first, a path after its references; a path met again while it is still open closes a circle.
pub fn references_first(infos: Vec<PathInfo>) -> Result<Vec<PathInfo>, StoreError> {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        New,
        Open,
        Done,
    }
    let positions: HashMap<&StorePath, usize> = infos.iter().enumerate().map(|(i, info)| (&info.path, i)).collect();
    let mut marks = vec![Mark::New; infos.len()];
    let mut order = Vec::with_capacity(infos.len());
    // (path, how many of its references have been looked at)
    let mut stack: Vec<(usize, usize)> = Vec::new();
    for root in 0..infos.len() {
        if marks[root] == Mark::New {
            marks[root] = Mark::Open;
            stack.push((root, 0));
        }
        while let Some((path, next)) = stack.last_mut() {
            let here = *path;
            let Some(reference) = infos[here].references.get(*next) else {
                marks[here] = Mark::Done;
                order.push(here);
                stack.pop();
                continue;
            };
            *next += 1;
            let Some(there) = positions.get(reference).copied() else { continue };
            match marks[there] {
                Mark::New => {
                    marks[there] = Mark::Open;
                    stack.push((there, 0));
                }
                Mark::Open if there != here => {
                    let circle = stack.iter().map(|(path, _)| *path).skip_while(|path| *path != there);
                    return Err(StoreError::Cycle { paths: circle.map(|path| infos[path].path.clone()).collect() });
                }
                Mark::Open | Mark::Done => {}
            }
        }
    }
    let mut infos: Vec<Option<PathInfo>> = infos.into_iter().map(Some).collect();
    Ok(order.into_iter().filter_map(|position| infos[position].take()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nix::{Sha256, base32};
    use crate::store::{Location, Protection};
    use std::sync::Mutex;

    fn path(i: usize) -> StorePath {
        let mut bytes = [0u8; 20];
        bytes[..8].copy_from_slice(&i.to_le_bytes());
        StorePath::parse(&format!("{}-{i}", base32::encode(&bytes))).unwrap()
    }

    fn info(i: usize, references: &[usize]) -> PathInfo {
        let mut references: Vec<_> = references.iter().copied().map(path).collect();
        references.sort();
        PathInfo {
            path: path(i),
            nar_hash: Sha256::of(b""),
            nar_size: None,
            references,
            deriver: None,
            ultimate: false,
            signatures: Vec::new(),
            ca: None,
        }
    }

    /// A graph that counts how often it was asked.
    struct Graph(HashMap<StorePath, PathInfo>, Mutex<usize>);

    impl Graph {
        fn new(edges: &[&[usize]]) -> Self {
            let infos = edges.iter().enumerate().map(|(i, references)| (path(i), info(i, references)));
            Self(infos.collect(), Mutex::new(0))
        }
    }

    impl Store for Graph {
        fn location(&self) -> &Location {
            unreachable!()
        }
        fn describe(&self) -> String {
            unreachable!()
        }
        fn path_infos(&self, paths: &[StorePath]) -> Result<Vec<Option<PathInfo>>, StoreError> {
            *self.1.lock().unwrap() += 1;
            Ok(paths.iter().map(|path| self.0.get(path).cloned()).collect())
        }
        fn all_valid_paths(&self) -> Result<Vec<StorePath>, StoreError> {
            unreachable!()
        }
        fn protect(&self, _path: &StorePath) -> Result<Protection, StoreError> {
            unreachable!()
        }
    }

    fn order(store: &Graph, roots: &[usize]) -> Vec<StorePath> {
        let roots: Vec<_> = roots.iter().copied().map(path).collect();
        closure(store, &roots).unwrap().infos.into_iter().map(|info| info.path).collect()
    }

    #[test]
    fn references_stand_before_referrers() {
        // 0 → 1, 2; 1 → 3; 2 → 3 and itself; 4 is not reached.
        let store = Graph::new(&[&[1, 2], &[3], &[2, 3], &[], &[0]]);
        assert_eq!(order(&store, &[0, 0, 3]), [path(3), path(1), path(2), path(0)]);
        assert_eq!(*store.1.lock().unwrap(), 2, "one question for each level");
        assert!(order(&store, &[]).is_empty());
    }

    #[test]
    fn names_what_is_missing_and_who_wants_it() {
        let store = Graph::new(&[&[1], &[7]]);
        let error = closure(&store, &[path(0)]).unwrap_err();
        assert!(
            matches!(&error, StoreError::NotValid { path: p, referrer: Some(r) } if *p == path(7) && *r == path(1)),
            "{error}"
        );
        let error = closure(&store, &[path(9)]).unwrap_err();
        assert!(matches!(&error, StoreError::NotValid { path: p, referrer: None } if *p == path(9)), "{error}");
    }

    #[test]
    fn names_a_circle_and_stops() {
        let store = Graph::new(&[&[1], &[2], &[3], &[1]]);
        let Err(StoreError::Cycle { paths }) = closure(&store, &[path(0)]) else { panic!("no cycle seen") };
        let names: HashSet<_> = paths.into_iter().collect();
        assert_eq!(names, HashSet::from([path(1), path(2), path(3)]));
    }

    #[test]
    fn deep_and_wide_graphs_fit_the_stack_and_the_clock() {
        let chain: Vec<_> = (0..100_000).map(|i| if i == 0 { info(0, &[]) } else { info(i, &[i - 1]) }).collect();
        let sorted = references_first(chain.into_iter().rev().collect()).unwrap();
        assert!(sorted.iter().enumerate().all(|(i, info)| info.path == path(i)));
        let star = info(0, &(1..100_000).collect::<Vec<_>>());
        let leaves = (1..100_000).map(|i| info(i, &[]));
        let sorted = references_first(std::iter::once(star).chain(leaves).collect()).unwrap();
        assert_eq!(sorted.last().unwrap().path, path(0));
    }

    proptest::proptest! {
        #[test]
        fn every_order_is_topological(edges in proptest::collection::vec(proptest::collection::vec(0usize..40, 0..5), 1..40)) {
            // Only towards smaller numbers: no circles.
            let edges: Vec<Vec<usize>> =
                edges.iter().enumerate().map(|(i, r)| r.iter().copied().filter(|r| *r <= i).collect()).collect();
            let slices: Vec<&[usize]> = edges.iter().map(Vec::as_slice).collect();
            let store = Graph::new(&slices);
            let sorted = closure(&store, &[path(edges.len() - 1)]).unwrap().infos;
            let mut before = HashSet::new();
            for info in &sorted {
                proptest::prop_assert!(info.references.iter().all(|r| *r == info.path || before.contains(r)));
                proptest::prop_assert!(before.insert(info.path.clone()));
            }
        }
    }
}
