//! Narinfos in topological order: a path is [`Ready`] once its NAR and all its references landed.

use super::publish::Published;
use super::upload::Uploaded;
use crate::nix::StorePath;
use crate::plan::Plan;
use std::collections::HashMap;

/// A path whose narinfo may be written now. Only `Order` makes one, so a narinfo cannot come early.
pub struct Ready {
    /// Index into the plan's paths.
    pub path: usize,
    pub uploaded: Uploaded,
    _sealed: (),
}

/// What is known of one path of the plan.
enum State {
    /// Not part of this push, or settled.
    Settled,
    Waiting {
        /// References among the uploads that have not landed.
        references: usize,
        uploaded: Option<Uploaded>,
    },
    /// Its narinfo is on its way.
    Publishing,
}

/// The graph of the paths that this push uploads.
pub struct Order {
    states: Vec<State>,
    /// For each path, who waits for it.
    referrers: Vec<Vec<usize>>,
}

impl Order {
    /// Reads the plan's uploads; references that are not uploaded have landed by the plan's word.
    pub fn new(plan: &Plan) -> Self {
        let uploads: HashMap<&StorePath, usize> = plan
            .paths
            .iter()
            .enumerate()
            .filter(|(_, planned)| planned.is_upload())
            .map(|(index, planned)| (&planned.info.path, index))
            .collect();
        let mut referrers = vec![Vec::new(); plan.paths.len()];
        let mut states: Vec<State> = plan.paths.iter().map(|_| State::Settled).collect();
        for (path, index) in &uploads {
            let references = plan.paths[*index].info.references.iter().filter(|reference| reference != path);
            let awaited: Vec<usize> = references.filter_map(|reference| uploads.get(reference).copied()).collect();
            states[*index] = State::Waiting { references: awaited.len(), uploaded: None };
            for reference in awaited {
                referrers[reference].push(*index);
            }
        }
        Self { states, referrers }
    }

    pub fn is_settled(&self, path: usize) -> bool {
        matches!(self.states[path], State::Settled)
    }

    /// The NAR of `path` landed.
    pub fn uploaded(&mut self, path: usize, nar: Uploaded) -> Option<Ready> {
        if let State::Waiting { uploaded, .. } = &mut self.states[path] {
            *uploaded = Some(nar);
        }
        self.ready(path)
    }

    /// The narinfo of `path` landed; the answer is who may follow now.
    pub fn published(&mut self, path: usize, _proof: &Published) -> Vec<Ready> {
        self.settle(path);
        let referrers = std::mem::take(&mut self.referrers[path]);
        referrers
            .into_iter()
            .filter_map(|referrer| {
                if let State::Waiting { references, .. } = &mut self.states[referrer] {
                    *references -= 1;
                }
                self.ready(referrer)
            })
            .collect()
    }

    /// `path` will not land; the answer is who can't either: all its referrers, near and far.
    pub fn failed(&mut self, path: usize) -> Vec<usize> {
        self.settle(path);
        let mut blocked = Vec::new();
        let mut stack = std::mem::take(&mut self.referrers[path]);
        while let Some(referrer) = stack.pop() {
            if !self.is_settled(referrer) {
                self.settle(referrer);
                blocked.push(referrer);
                stack.append(&mut self.referrers[referrer]);
            }
        }
        blocked
    }

    /// Paths that nothing has become of yet.
    pub fn unsettled(&self) -> Vec<usize> {
        (0..self.states.len()).filter(|path| !self.is_settled(*path)).collect()
    }

    fn settle(&mut self, path: usize) {
        self.states[path] = State::Settled;
    }

    fn ready(&mut self, path: usize) -> Option<Ready> {
        match &mut self.states[path] {
            State::Waiting { references: 0, uploaded } => {
                let uploaded = uploaded.take()?;
                self.states[path] = State::Publishing;
                Some(Ready { path, uploaded, _sealed: () })
            }
            _ => None,
        }
    }
}
