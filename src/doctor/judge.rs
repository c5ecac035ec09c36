//! What permissions and rules of a bucket mean for loft.

use super::finding::{Check, Code, Notes};
use crate::bucket::permissions::{Action, Oddity, Permissions, Verdict, Why};
use crate::bucket::{Lifecycle, Quirks};
use std::path::Path;

/// Days in which an upload that was cut short can be gone on with.
const UPLOAD_LIFE: u32 = 2;

/// Who is to be allowed what is missing.
pub enum Owner<'a> {
    Key {
        bucket: &'a str,
        /// Its id, by which a server knows it.
        key: &'a str,
    },
    /// Of a directory.
    User(&'a Path),
}

impl Owner<'_> {
    /// `right`: `read` or `write`.
    fn allow(&self, right: &str) -> String {
        match self {
            Self::Key { bucket, key } => format!(
                "let this key {right} the bucket, on Garage: garage bucket allow --{right} {bucket} --key {key}"
            ),
            Self::User(root) => format!("let this user {right} {}", root.display()),
        }
    }
}

/// `prunes`: this machine is to delete what retention no longer covers.
pub fn permissions(found: &Permissions, owner: &Owner<'_>, prunes: bool, notes: &mut Notes) {
    let before = notes.0.len();
    let fails = |actions: &[Action]| -> Vec<Action> {
        let failed = |action: &Action| matches!(found.verdicts.get(action), Some(Verdict::Failed { .. }));
        actions.iter().copied().filter(failed).collect()
    };
    let says = |actions: &[Action]| -> String {
        let names: Vec<String> = actions.iter().map(ToString::to_string).collect();
        let words = actions.first().and_then(|action| found.verdicts.get(action)?.words()).unwrap_or_default();
        format!("these credentials may not {} ({words})", names.join(", "))
    };
    let is_denied = |actions: &[Action]| {
        found.failures().filter(|(action, ..)| actions.contains(action)).all(|(_, why, _)| why == Why::Denied)
    };
    let mut tell = |code: Code, actions: &[Action], way_out: &str| {
        let grants: std::collections::BTreeSet<&str> = actions.iter().map(|action| action.grant()).collect();
        let grants = grants.into_iter().collect::<Vec<_>>().join(", ");
        if is_denied(actions) {
            notes.fault(code, says(actions), format!("{way_out} (in policies: {grants})"));
        } else {
            let says = says(actions).replacen("these credentials may not", "could not", 1);
            notes.fault(Code::RequestFails, says, "look at the server's log, and at proxies in front of it");
        }
    };
    let reading = fails(&[Action::Get, Action::Head]);
    let listing = fails(&[Action::List]);
    if !reading.is_empty() {
        let both: Vec<Action> = reading.iter().chain(&listing).copied().collect();
        tell(Code::MayNotRead, &both, &owner.allow("read"));
    } else if !listing.is_empty() {
        tell(
            Code::MayNotList,
            &listing,
            "let this key list the bucket: without it, absent and forbidden look the same",
        );
    }
    let writing = fails(&[Action::Put]);
    let uploading = fails(&[Action::StartUpload, Action::PutPart, Action::FinishUpload]);
    let timed = fails(&[Action::TimedPut]);
    if !writing.is_empty() {
        let all: Vec<Action> = writing.iter().chain(&timed).chain(&uploading).copied().collect();
        tell(Code::MayNotWrite, &all, &owner.allow("write"));
    } else if !uploading.is_empty() {
        tell(Code::MayNotUpload, &uploading, "allow multipart uploads: larger NARs go up in parts");
    }
    let mut tidying = fails(&[Action::AbortUpload, Action::ListUploads, Action::ListParts]);
    if !listing.is_empty() {
        // Who may list nothing may not list these either: told already.
        tidying.retain(|action| *action == Action::AbortUpload);
    }
    if !tidying.is_empty() && uploading.is_empty() {
        tell(Code::MayNotTidy, &tidying, "allow it: uploads that were cut short are gone on with, or else aborted");
    }
    let (deleting, leases) = (fails(&[Action::Delete]), fails(&[Action::EndLease]));
    let timed_delete = fails(&[Action::TimedDelete]);
    // Who may not write a thing is not a pusher, nor a pruner.
    if writing.is_empty() {
        if !deleting.is_empty() && prunes {
            tell(
                Code::MayNotDelete,
                &deleting,
                "let this key delete, or set prune_enabled = false and prune elsewhere",
            );
        } else if !leases.is_empty() {
            tell(
                Code::MayNotEndLeases,
                &leases,
                "allow deletion below loft/v1/lease/: prunes wait for what stays there",
            );
        }
        let presigned: Vec<Action> =
            timed.into_iter().chain(timed_delete.into_iter().filter(|_| deleting.is_empty())).collect();
        if !presigned.is_empty() {
            let way_out = "requests signed in their URL must pass: look for a proxy that changes or drops the query";
            tell(Code::PresignedRefused, &presigned, way_out);
        }
    }
    if notes.0.len() > before {
        return;
    }
    notes.fine(
        Check::Permissions,
        match deleting.is_empty() {
            true => "read, list, write, multipart uploads, delete".to_owned(),
            false => "read, list, write, multipart uploads, end leases; not delete, which only prunes need".to_owned(),
        },
    );
}

/// Promises of a bucket that were tried on the way.
pub fn oddities(found: &Permissions, notes: &mut Notes) {
    let changed = |odd: &&Oddity| matches!(odd, Oddity::Changed(_));
    let rest: Vec<String> = found.odd.iter().filter(|odd| !changed(odd)).map(ToString::to_string).collect();
    if !rest.is_empty() {
        let way_out = "loft needs a store that shows what was written at once; look for a cache between here and there";
        notes.fault(Code::Inconsistent, rest.join("; "), way_out);
    } else if [Action::Put, Action::Get, Action::Head, Action::List].into_iter().all(|action| found.allows(action)) {
        notes.fine(Check::Consistency, "what was written is read and listed at once, and gone when deleted");
    } else {
        notes.skip(&[Check::Consistency], Check::Permissions, "not all that it takes is allowed");
    }
    if let Some(odd) = found.odd.iter().find(changed) {
        let way_out =
            "something on the way changes bodies (a proxy that compresses, a cache that is stale): take it out";
        notes.fault(Code::BytesChanged, odd.to_string(), way_out);
    }
}

/// `true` where rules were found or ruled out.
pub fn quirks(quirks: &Quirks, notes: &mut Notes) {
    notes.fine(
        Check::Conditions,
        match quirks.conditional_writes {
            Some(true) => "heeded; loft does not need them",
            Some(false) => "ignored; loft does not need them",
            None => "not known here; loft does not need them",
        },
    );
    let rules = match &quirks.lifecycle {
        Lifecycle::Rules(rules) => rules,
        Lifecycle::Unknown(why) => {
            return notes.without(Check::Lifecycle, &format!("the server does not tell its rules: {why}"));
        }
    };
    let before = notes.0.len();
    for rule in rules {
        let name = format!("the rule {:?} for keys that begin with {:?}", rule.id, rule.prefix);
        if let Some(when) = &rule.expires {
            let way_out = "remove it: the store knows nothing of what is needed; `loft prune` deletes by retention";
            notes.fault(Code::LifecycleExpires, format!("{name} deletes objects {when}"), way_out);
        }
        if let Some(archive) = &rule.archives {
            let way_out = "remove it, or choose a class from which objects can be read at once";
            notes.fault(Code::LifecycleArchives, format!("{name} moves objects {archive}"), way_out);
        }
        if let Some(days) = rule.aborts_uploads_after.filter(|days| *days < UPLOAD_LIFE) {
            let way_out = "let it wait for two days at least, so that uploads that were cut short can be gone on with";
            notes.fault(Code::LifecycleAborts, format!("{name} ends uploads after {days} day"), way_out);
        }
    }
    if notes.0.len() == before {
        notes.fine(Check::Lifecycle, "no rule deletes or moves what is in the cache");
    }
}
