//! Multipart uploads, and copies, which need them above 5 GiB.

use super::client::Request;
use super::{Body, Cause, Headers, Key, Part, RequestKind, S3, Upload, xml};
use bytes::Bytes;
use http::{Method, header};
use std::time::Duration;

/// Complete and Copy work before they answer: AWS says "several minutes".
const SERVER_WORKS: Duration = Duration::from_secs(600);

/// 10 000 parts' worth of `ListParts` in pages of 1000.
const PARTS_LIMIT: u64 = 2 * 1024 * 1024;

/// The most that one CopyObject takes on AWS.
const COPY_AT_ONCE: u64 = 5 << 30;

/// Of larger copies; 10 000 of them reach S3's largest object.
const COPY_PART: u64 = 1 << 30;

impl S3 {
    pub(super) async fn create_upload(&self, key: &Key, headers: Headers) -> Result<Upload, Cause> {
        let mut request = self.request(RequestKind::CreateUpload, Method::POST, key, &[("uploads", "")])?;
        request.headers = self.stored(headers);
        let answer = self.client.send_ok(request).await?;
        let started: xml::Started = xml::read("InitiateMultipartUploadResult", &answer.body).map_err(Cause::Garbled)?;
        if started.upload_id.is_empty() {
            return Err(Cause::Garbled("an upload without an id".to_owned()));
        }
        Ok(Upload { key: key.clone(), id: started.upload_id })
    }

    pub(super) async fn upload_part(&self, upload: &Upload, number: u32, body: Body) -> Result<Part, Cause> {
        let size = body.size();
        let mut request = self.part_request(RequestKind::UploadPart, upload, number)?;
        request.body = body;
        let answer = self.client.send_ok(request).await?;
        match answer.header(header::ETAG) {
            Some(etag) if !etag.is_empty() => Ok(Part { number, etag: etag.to_owned(), size }),
            _ => Err(Cause::Garbled("a part without an ETag".to_owned())),
        }
    }

    pub(super) async fn complete_upload(&self, upload: &Upload, parts: &[Part]) -> Result<(), Cause> {
        let query = [("uploadId", upload.id.as_str())];
        let mut request = self.request(RequestKind::CompleteUpload, Method::POST, &upload.key, &query)?;
        request.headers.push(("content-type", "application/xml".to_owned()));
        request.body = Bytes::from(xml::complete(parts)).into();
        request.patience = SERVER_WORKS;
        let answer = self.client.send_ok(request).await?;
        // The status comes before the work is done, so failures stand in the body.
        expect_root(&answer, "CompleteMultipartUploadResult")
    }

    pub(super) async fn abort_upload(&self, upload: &Upload) -> Result<(), Cause> {
        let query = [("uploadId", upload.id.as_str())];
        let request = self.request(RequestKind::AbortUpload, Method::DELETE, &upload.key, &query)?;
        match self.client.send_ok(request).await {
            Ok(_) | Err(Cause::NoUpload) => Ok(()),
            Err(cause) => Err(cause),
        }
    }

    pub(super) async fn list_parts(&self, upload: &Upload) -> Result<Option<Vec<Part>>, Cause> {
        let mut parts: Vec<Part> = Vec::new();
        loop {
            let marker = parts.last().map_or(0, |part| part.number).to_string();
            let query =
                [("uploadId", upload.id.as_str()), ("max-parts", "1000"), ("part-number-marker", marker.as_str())];
            let mut request = self.request(RequestKind::ListParts, Method::GET, &upload.key, &query)?;
            request.limit = PARTS_LIMIT;
            let answer = match self.client.send_ok(request).await {
                Ok(answer) => answer,
                Err(Cause::NoUpload) => return Ok(None),
                Err(cause) => return Err(cause),
            };
            let page: xml::Parts = xml::read("ListPartsResult", &answer.body).map_err(Cause::Garbled)?;
            let before = parts.len();
            for part in page.parts {
                if parts.last().is_some_and(|last| last.number >= part.part_number) {
                    return Err(Cause::Garbled("the parts of an upload are not in order".to_owned()));
                }
                parts.push(Part { number: part.part_number, etag: part.etag, size: part.size });
            }
            if !page.is_truncated {
                return Ok(Some(parts));
            }
            if parts.len() == before {
                return Err(Cause::Garbled("the listing of parts does not advance".to_owned()));
            }
        }
    }

    pub(super) async fn copy_object(&self, from: &Key, to: &Key, headers: Headers) -> Result<bool, Cause> {
        let mut request = self.request(RequestKind::Copy, Method::PUT, to, &[])?;
        request.headers = self.stored(headers);
        request.headers.push(("x-amz-copy-source", self.client.address.copy_source(from.as_str())?));
        request.headers.push(("x-amz-metadata-directive", "REPLACE".to_owned()));
        request.patience = SERVER_WORKS;
        let answer = self.client.send(request).await?;
        if answer.code().as_deref() == Some("NoSuchKey") {
            return Ok(false);
        }
        if answer.status.is_success() {
            return expect_root(&answer, "CopyObjectResult").map(|()| true);
        }
        match (answer.cause(), self.head(from).await?) {
            (Cause::Refused(_), Some(source)) if source.size > COPY_AT_ONCE => {
                self.copy_in_parts(from, source.size, to, headers).await.map(|()| true)
            }
            (cause, _) => Err(cause),
        }
    }

    async fn copy_in_parts(&self, from: &Key, size: u64, to: &Key, headers: Headers) -> Result<(), Cause> {
        let upload = self.create_upload(to, headers).await?;
        let copied = async {
            let mut parts = Vec::new();
            let mut offset = 0;
            for number in 1.. {
                let length = COPY_PART.min(size - offset);
                let mut request = self.part_request(RequestKind::Copy, &upload, number)?;
                request.headers.push(("x-amz-copy-source", self.client.address.copy_source(from.as_str())?));
                request.headers.push(("x-amz-copy-source-range", format!("bytes={offset}-{}", offset + length - 1)));
                request.patience = SERVER_WORKS;
                let answer = self.client.send_ok(request).await?;
                if answer.code().is_some() {
                    return Err(answer.cause());
                }
                let part: xml::CopiedPart = xml::read("CopyPartResult", &answer.body).map_err(Cause::Garbled)?;
                parts.push(Part { number, etag: part.etag, size: length });
                offset += length;
                if offset == size {
                    break;
                }
            }
            self.complete_upload(&upload, &parts).await
        };
        let result = copied.await;
        if result.is_err() {
            // Best effort: what stays behind, prune aborts.
            let _ = S3::abort_upload(self, &upload).await;
        }
        result
    }

    fn part_request(&self, kind: RequestKind, upload: &Upload, number: u32) -> Result<Request, Cause> {
        let number = number.to_string();
        self.request(kind, Method::PUT, &upload.key, &[("partNumber", &number), ("uploadId", &upload.id)])
    }
}

fn expect_root(answer: &super::Answer, root: &str) -> Result<(), Cause> {
    match std::str::from_utf8(&answer.body).ok().and_then(xml::root_name) {
        Some(found) if found == root => Ok(()),
        _ => Err(answer.cause()),
    }
}
