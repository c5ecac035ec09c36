//! What pushes write beside their paths: the listing, the log of the derivation, a link to debug information.
//!
//! Here every path that names its derivation has all three, written right before its narinfo. Derivations have several
//! paths, and a link is about a NAR's content, so paths share them.

use super::actors::Wrap;
use async_trait::async_trait;
use bytes::Bytes;
use loft::bucket::{Body, Bucket, BucketError, Headers, Key, Kind, ObjectInfo, Page, Part, Prefix, Upload};
use loft::nix::{BuildId, DebugLink, NarInfo, StoreDir};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// The keys of what stands beside a path: nothing where it does not name its derivation.
pub fn keys(info: &NarInfo) -> Vec<String> {
    let Some(derivation) = &info.deriver else { return Vec::new() };
    [Key::listing(&info.path.hash_part()), Key::log(derivation), Key::debug_info(&build_id(info))]
        .map(|key| key.to_string())
        .into()
}

fn build_id(info: &NarInfo) -> BuildId {
    BuildId::parse(&info.nar_hash.to_hex()[..40]).unwrap()
}

/// The NAR that a link names.
pub fn nar_of(key: &Key, bytes: &[u8]) -> String {
    DebugLink::parse(&key.build_id().unwrap(), bytes).unwrap().nar.to_string()
}

/// A push that writes them.
pub fn writing(over: Wrap) -> Wrap {
    Arc::new(move |port| Arc::new(Writing(over(port))))
}

struct Writing(Arc<dyn Bucket>);

impl Writing {
    async fn write(&self, key: &Key, body: &Body, within: Duration) -> Result<(), BucketError> {
        if !matches!(key.kind(), Kind::NarInfo(_)) {
            return Ok(());
        }
        let info = NarInfo::parse(&StoreDir::default(), &body.bytes).unwrap();
        let link = DebugLink { nar: info.url.clone(), id: build_id(&info) }.print();
        for (key, text) in keys(&info).into_iter().zip(["{}", "built", &link]) {
            let body = Body::from(Bytes::from(text.to_owned()));
            self.0.put_before(&Key::listed(key), body, Headers::default(), within).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Bucket for Writing {
    fn describe(&self) -> String {
        self.0.describe()
    }
    async fn check_access(&self) -> Result<(), BucketError> {
        self.0.check_access().await
    }
    async fn put(&self, key: &Key, body: Body, headers: Headers) -> Result<(), BucketError> {
        self.0.put(key, body, headers).await
    }
    async fn put_before(&self, key: &Key, body: Body, headers: Headers, within: Duration) -> Result<(), BucketError> {
        self.write(key, &body, within).await?;
        self.0.put_before(key, body, headers, within).await
    }
    async fn get(&self, key: &Key, limit: u64) -> Result<Option<(ObjectInfo, Bytes)>, BucketError> {
        self.0.get(key, limit).await
    }
    async fn get_range(&self, key: &Key, offset: u64, length: u64) -> Result<Option<Bytes>, BucketError> {
        self.0.get_range(key, offset, length).await
    }
    async fn head(&self, key: &Key) -> Result<Option<ObjectInfo>, BucketError> {
        self.0.head(key).await
    }
    async fn list(&self, prefix: &Prefix, after: Option<&str>) -> Result<Page, BucketError> {
        self.0.list(prefix, after).await
    }
    async fn delete(&self, key: &Key) -> Result<(), BucketError> {
        self.0.delete(key).await
    }
    async fn delete_before(&self, key: &Key, within: Duration) -> Result<(), BucketError> {
        self.0.delete_before(key, within).await
    }
    async fn copy(&self, from: &Key, to: &Key, headers: Headers) -> Result<bool, BucketError> {
        self.0.copy(from, to, headers).await
    }
    async fn start_upload(&self, key: &Key, headers: Headers) -> Result<Upload, BucketError> {
        self.0.start_upload(key, headers).await
    }
    async fn put_part(&self, upload: &Upload, number: u32, body: Body) -> Result<Part, BucketError> {
        self.0.put_part(upload, number, body).await
    }
    async fn finish_upload(&self, upload: &Upload, parts: &[Part]) -> Result<(), BucketError> {
        self.0.finish_upload(upload, parts).await
    }
    async fn abort_upload(&self, upload: &Upload) -> Result<(), BucketError> {
        self.0.abort_upload(upload).await
    }
    async fn list_parts(&self, upload: &Upload) -> Result<Option<Vec<Part>>, BucketError> {
        self.0.list_parts(upload).await
    }
    async fn list_uploads(&self, prefix: &Prefix) -> Result<Vec<(Upload, SystemTime)>, BucketError> {
        self.0.list_uploads(prefix).await
    }
    async fn now(&self) -> Result<SystemTime, BucketError> {
        self.0.now().await
    }
}
