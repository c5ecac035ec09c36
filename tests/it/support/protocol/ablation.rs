//! The protocol with one of its parts taken out: something between a process and its bucket that lies.
//!
//! The processes stay what they are. A search that finds no broken promise with one of these in between
//! would prove nothing without it.

use super::actors::Wrap;
use super::port::Port;
use async_trait::async_trait;
use bytes::Bytes;
use loft::bucket::{Body, Bucket, BucketError, Headers, Key, Kind, ObjectInfo, Page, Part, Prefix, Upload};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What is taken out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ablation {
    /// Pushers write no leases.
    NoLeases,
    /// Pushers see no sweeps.
    SweepsIgnored,
    /// Pruners believe that nothing has changed since they planned.
    NoSecondLook,
    /// At the second look, narinfos are listed before leases and records.
    NarInfosFirst,
    /// At the second look, push records are listed before leases.
    RecordsFirst,
    /// Requests have no time limit.
    NoTimeLimit,
    /// NARs are named after their contents alone.
    KeysReused,
    /// NARs are sent after the narinfos that point at them.
    NarInfoBeforeNar,
    /// What comes back points at the NAR that it had.
    OldNarAgain,
    /// Pruners believe that logs, listings and links are as old as they were.
    NoLastLook,
    /// Links to debug information stay as they are.
    LinksStay,
    /// Pruners see nothing but dates.
    AgeAlone,
    /// These two go in the other order.
    Swapped(Key, Key),
}

impl Ablation {
    pub fn wrap(self) -> Wrap {
        Arc::new(move |port| Arc::new(Ablated { port, without: self.clone(), memory: Mutex::default() }))
    }
}

struct Ablated {
    port: Arc<Port>,
    without: Ablation,
    memory: Mutex<Memory>,
}

/// What it has to remember for its lies.
#[derive(Default)]
struct Memory {
    listings: HashMap<String, Page>,
    is_sweeping: bool,
    /// Held back.
    nars: HashMap<String, Body>,
    /// Copies that were not made: by the new key, the old one.
    copies: Vec<(String, String)>,
}

impl Ablated {
    fn is(&self, without: &Ablation) -> bool {
        self.without == *without
    }

    /// A listing that is taken right after the sweep was announced, to be told later.
    fn taken_early(&self) -> Option<Prefix> {
        match self.without {
            Ablation::NarInfosFirst => Some(Prefix::all()),
            Ablation::RecordsFirst => Some(Prefix::pushes()),
            _ => None,
        }
    }

    /// The key or text without the ULIDs that make NARs' keys unique.
    fn without_ids(&self, text: &str) -> String {
        let Some(at) = text.find("nar/").filter(|_| self.is(&Ablation::KeysReused)) else { return text.to_owned() };
        let (before, url) = text.split_at(at);
        match (url.find('-'), url.find(".nar")) {
            (Some(dash), Some(end)) if dash < end => format!("{before}{}{}", &url[..dash], &url[end..]),
            _ => text.to_owned(),
        }
    }

    async fn put_it(
        &self,
        key: &Key,
        body: Body,
        headers: Headers,
        within: Option<Duration>,
    ) -> Result<(), BucketError> {
        let within = within.filter(|_| !self.is(&Ablation::NoTimeLimit));
        match within {
            Some(within) => self.port.put_before(key, body, headers, within).await,
            None => self.port.put(key, body, headers).await,
        }
    }

    async fn changed_put(
        &self,
        key: &Key,
        body: Body,
        headers: Headers,
        within: Option<Duration>,
    ) -> Result<(), BucketError> {
        match (&self.without, key.kind()) {
            (Ablation::NoLeases, Kind::Lease) => Ok(()),
            (Ablation::KeysReused, Kind::Nar) => {
                self.put_it(&Key::listed(self.without_ids(key.as_str())), body, headers, within).await
            }
            (Ablation::KeysReused, Kind::NarInfo(_)) => {
                let text = self.without_ids(std::str::from_utf8(&body.bytes).unwrap());
                self.put_it(key, Bytes::from(text).into(), headers, within).await
            }
            (Ablation::NarInfoBeforeNar, Kind::Nar) => {
                self.memory.lock().unwrap().nars.insert(key.as_str().to_owned(), body);
                // The encoder is done, as far as the port knows.
                self.port.nar_is_held_back(key);
                Ok(())
            }
            (Ablation::NarInfoBeforeNar, Kind::NarInfo(_)) => {
                let text = String::from_utf8(body.bytes.to_vec()).unwrap();
                self.put_it(key, body, headers, within).await?;
                let held: Vec<(String, Body)> = {
                    let nars = &mut self.memory.lock().unwrap().nars;
                    nars.extract_if(|url, _| text.contains(url.as_str())).collect()
                };
                for (url, nar) in held {
                    self.port.put(&Key::listed(url), nar, Headers::NAR).await?;
                }
                Ok(())
            }
            (Ablation::OldNarAgain, Kind::NarInfo(_)) => {
                let mut text = String::from_utf8(body.bytes.to_vec()).unwrap();
                for (new, old) in &self.memory.lock().unwrap().copies {
                    text = text.replace(new, old);
                }
                self.put_it(key, Bytes::from(text).into(), headers, within).await
            }
            (Ablation::LinksStay, Kind::DebugInfo) => Ok(()),
            (_, Kind::Sweep) => {
                self.put_it(key, body, headers, within).await?;
                self.memory.lock().unwrap().is_sweeping = true;
                if let Some(prefix) = self.taken_early() {
                    let page = self.port.list(&prefix, None).await?;
                    self.memory.lock().unwrap().listings.insert(prefix.as_str().to_owned(), page);
                }
                Ok(())
            }
            _ => self.put_it(key, body, headers, within).await,
        }
    }

    fn other(&self, key: &Key) -> Key {
        match &self.without {
            Ablation::Swapped(a, b) if key == a => b.clone(),
            Ablation::Swapped(a, b) if key == b => a.clone(),
            _ => key.clone(),
        }
    }
}

fn without_references(bytes: &[u8]) -> Bytes {
    let text = std::str::from_utf8(bytes).unwrap();
    let lines = text.lines().map(|line| if line.starts_with("References:") { "References: " } else { line });
    lines.map(|line| format!("{line}\n")).collect::<String>().into()
}

#[async_trait]
impl Bucket for Ablated {
    fn describe(&self) -> String {
        self.port.describe()
    }

    async fn check_access(&self) -> Result<(), BucketError> {
        self.port.check_access().await
    }

    async fn put(&self, key: &Key, body: Body, headers: Headers) -> Result<(), BucketError> {
        self.changed_put(key, body, headers, None).await
    }

    async fn put_before(&self, key: &Key, body: Body, headers: Headers, within: Duration) -> Result<(), BucketError> {
        self.changed_put(key, body, headers, Some(within)).await
    }

    async fn get(&self, key: &Key, limit: u64) -> Result<Option<(ObjectInfo, Bytes)>, BucketError> {
        let found = self.port.get(key, limit).await?;
        let is_stripped = self.is(&Ablation::AgeAlone) && matches!(key.kind(), Kind::NarInfo(_));
        Ok(found.map(|(info, bytes)| (info, if is_stripped { without_references(&bytes) } else { bytes })))
    }

    async fn get_range(&self, key: &Key, offset: u64, length: u64) -> Result<Option<Bytes>, BucketError> {
        self.port.get_range(key, offset, length).await
    }

    async fn head(&self, key: &Key) -> Result<Option<ObjectInfo>, BucketError> {
        let found = self.port.head(key).await?;
        let is_beside = matches!(key.kind(), Kind::Log(_) | Kind::Listing(_) | Kind::DebugInfo);
        let is_aged = is_beside && self.is(&Ablation::NoLastLook);
        Ok(found.map(|info| ObjectInfo { modified: if is_aged { UNIX_EPOCH } else { info.modified }, ..info }))
    }

    async fn list(&self, prefix: &Prefix, after: Option<&str>) -> Result<Page, BucketError> {
        let on = prefix.as_str().to_owned();
        let is_hidden = match self.without {
            Ablation::SweepsIgnored => *prefix == Prefix::sweeps(),
            Ablation::AgeAlone => *prefix == Prefix::leases(),
            _ => false,
        };
        if is_hidden {
            return Ok(Page::default());
        }
        let remembered = {
            let memory = self.memory.lock().unwrap();
            memory.listings.get(&on).filter(|_| memory.is_sweeping).cloned()
        };
        if let Some(page) = remembered {
            return Ok(page);
        }
        let page = self.port.list(prefix, after).await?;
        if self.is(&Ablation::NoSecondLook) {
            self.memory.lock().unwrap().listings.insert(on, page.clone());
        }
        Ok(page)
    }

    async fn delete(&self, key: &Key) -> Result<(), BucketError> {
        if self.is(&Ablation::NoLeases) && key.kind() == Kind::Lease {
            return Ok(());
        }
        self.port.delete(key).await
    }

    async fn delete_before(&self, key: &Key, within: Duration) -> Result<(), BucketError> {
        match self.is(&Ablation::NoTimeLimit) {
            true => self.port.delete(key).await,
            false => self.port.delete_before(&self.other(key), within).await,
        }
    }

    async fn copy(&self, from: &Key, to: &Key, headers: Headers) -> Result<bool, BucketError> {
        if self.is(&Ablation::OldNarAgain) {
            let copy = (to.as_str().to_owned(), from.as_str().to_owned());
            self.memory.lock().unwrap().copies.push(copy);
            return Ok(self.port.head(from).await?.is_some());
        }
        self.port.copy(from, to, headers).await
    }

    async fn start_upload(&self, key: &Key, headers: Headers) -> Result<Upload, BucketError> {
        self.port.start_upload(key, headers).await
    }

    async fn put_part(&self, upload: &Upload, number: u32, body: Body) -> Result<Part, BucketError> {
        self.port.put_part(upload, number, body).await
    }

    async fn finish_upload(&self, upload: &Upload, parts: &[Part]) -> Result<(), BucketError> {
        self.port.finish_upload(upload, parts).await
    }

    async fn abort_upload(&self, upload: &Upload) -> Result<(), BucketError> {
        self.port.abort_upload(upload).await
    }

    async fn list_parts(&self, upload: &Upload) -> Result<Option<Vec<Part>>, BucketError> {
        self.port.list_parts(upload).await
    }

    async fn list_uploads(&self, prefix: &Prefix) -> Result<Vec<(Upload, SystemTime)>, BucketError> {
        self.port.list_uploads(prefix).await
    }

    async fn now(&self) -> Result<SystemTime, BucketError> {
        self.port.now().await
    }
}
