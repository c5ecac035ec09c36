//! ListObjectsV2 and ListMultipartUploads.
//!
//! A listing that cannot be read whole is an error, never a shorter one: what is missing from it
//! would pass for absent.

use super::client::Request;
use super::{Cause, Key, ObjectInfo, Page, RequestKind, S3, Upload, answer, etag, xml};
use http::Method;
use std::time::SystemTime;

/// A page has at most 1000 keys of 1024 bytes, percent-encoded, with a few hundred bytes each around them.
const PAGE_LIMIT: u64 = 8 * 1024 * 1024;

/// Whoever has more uploads in progress than this has another problem.
const MOST_UPLOADS: usize = 100_000;

impl S3 {
    /// Pages follow each other by their last key rather than by tokens, so that callers can skip ahead.
    pub(super) async fn list_objects(&self, prefix: &str, after: Option<&str>) -> Result<Page, Cause> {
        let own = &self.client.address.prefix;
        let full_prefix = format!("{own}{prefix}");
        let after = after.map(|after| format!("{own}{after}"));
        let mut token: Option<String> = None;
        loop {
            let mut query = vec![("list-type", "2"), ("encoding-type", "url"), ("max-keys", "1000")];
            query.push(("prefix", &full_prefix));
            query.extend(after.as_deref().map(|after| ("start-after", after)));
            query.extend(token.as_deref().map(|token| ("continuation-token", token)));
            let mut request = Request::new(RequestKind::List, Method::GET, self.client.address.bucket(&query));
            request.limit = PAGE_LIMIT;
            let answer = self.client.send_ok(request).await?;
            if answer.code().is_some() {
                return Err(answer.cause());
            }
            let listing: xml::Listing = xml::read("ListBucketResult", &answer.body).map_err(Cause::Garbled)?;
            let is_truncated = listing.is_truncated;
            let next_token = listing.next_continuation_token.clone();
            let mut page = page(listing, own, &full_prefix)?;
            if !is_truncated {
                page.next = None;
                return Ok(page);
            }
            if page.next.is_some() {
                return Ok(page);
            }
            // More to come but nothing yet: only the server's own token leads on.
            if next_token.is_none() || next_token == token {
                return Err(Cause::Garbled("a listing says that there is more, but not where".to_owned()));
            }
            token = next_token;
        }
    }

    pub(super) async fn list_uploads(&self, prefix: &str) -> Result<Vec<(Upload, SystemTime)>, Cause> {
        let full_prefix = format!("{}{prefix}", self.client.address.prefix);
        let mut found = Vec::new();
        let mut after: Option<(String, String)> = None;
        loop {
            let mut query = vec![("uploads", ""), ("encoding-type", "url"), ("prefix", &full_prefix)];
            if let Some((key, id)) = &after {
                query.extend([("key-marker", key.as_str()), ("upload-id-marker", id.as_str())]);
            }
            let mut request = Request::new(RequestKind::ListUploads, Method::GET, self.client.address.bucket(&query));
            request.limit = PAGE_LIMIT;
            let answer = self.client.send_ok(request).await?;
            if answer.code().is_some() {
                return Err(answer.cause());
            }
            let page: xml::Uploads = xml::read("ListMultipartUploadsResult", &answer.body).map_err(Cause::Garbled)?;
            let encoding = page.encoding_type.as_deref();
            for upload in page.uploads {
                let key = xml::decode(&upload.key, encoding).map_err(Cause::Garbled)?;
                // Some servers ignore the prefix here; what is not below ours is not ours to see.
                if !key.starts_with(&full_prefix) {
                    continue;
                }
                let began = answer::iso_date(&upload.initiated)
                    .ok_or_else(|| Cause::Garbled(format!("the upload of {key:?} has no usable date")))?;
                let key = Key::listed(&key[self.client.address.prefix.len()..]);
                found.push((Upload { key, id: upload.upload_id }, began));
            }
            if !page.is_truncated {
                // Garage orders a page by upload id.
                found.sort_by(|(a, _), (b, _)| (&a.key, &a.id).cmp(&(&b.key, &b.id)));
                return Ok(found);
            }
            let key =
                xml::decode(page.next_key_marker.as_deref().unwrap_or_default(), encoding).map_err(Cause::Garbled)?;
            let next = Some((key, page.next_upload_id_marker.unwrap_or_default()));
            if next == after || found.len() > MOST_UPLOADS {
                return Err(Cause::Garbled("the listing of uploads does not end".to_owned()));
            }
            after = next;
        }
    }
}

/// The page's objects, with the last key as its `next`. `own` is our prefix, `full_prefix` what was listed.
fn page(listing: xml::Listing, own: &str, full_prefix: &str) -> Result<Page, Cause> {
    let mut page = Page::default();
    for object in listing.contents {
        let key = xml::decode(&object.key, listing.encoding_type.as_deref()).map_err(Cause::Garbled)?;
        let Some(below) = key.strip_prefix(own).filter(|_| key.starts_with(full_prefix)) else {
            return Err(Cause::Garbled(format!("{key:?} in a listing of {full_prefix:?}")));
        };
        let modified = answer::iso_date(&object.last_modified)
            .ok_or_else(|| Cause::Garbled(format!("{key:?} has no usable LastModified")))?;
        // The prefix's own folder marker, as some consoles make; no key below the prefix can name it.
        if !below.is_empty() {
            let info = ObjectInfo { key: Key::listed(below), size: object.size, modified, etag: etag(&object.etag) };
            page.objects.push(info);
        }
        page.next = Some(below.to_owned());
    }
    Ok(page)
}
