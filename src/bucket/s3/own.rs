//! The bucket itself, rather than its objects: making it, and Garage's switch for public reading.

use super::client::Request;
use super::{Cause, RequestKind, S3, xml};
use crate::bucket::Switch;
use bytes::Bytes;
use http::{Method, StatusCode};

/// Garage wants the names of these pages, whether they exist or not.
const WEBSITE: &str = "<WebsiteConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
    <IndexDocument><Suffix>index.html</Suffix></IndexDocument></WebsiteConfiguration>";

impl S3 {
    /// `false`: it was there, and it is ours.
    pub(super) async fn create(&self) -> Result<bool, Cause> {
        let mut request = Request::new(RequestKind::Put, Method::PUT, self.client.address.bucket(&[]));
        // AWS alone wants to hear the region again, and only where it is not the oldest one.
        if self.client.address.is_aws() && self.client.region != "us-east-1" {
            let body = format!(
                "<CreateBucketConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
                 <LocationConstraint>{}</LocationConstraint></CreateBucketConfiguration>",
                self.client.region
            );
            request.body = Bytes::from(body).into();
        }
        let answer = self.client.send(request).await?;
        match answer.code().as_deref() {
            Some("BucketAlreadyOwnedByYou") => Ok(false),
            None if answer.status.is_success() => Ok(true),
            _ => Err(answer.cause()),
        }
    }

    pub(super) async fn siblings(&self) -> Result<Vec<String>, Cause> {
        let Some(url) = self.client.address.service() else { return Ok(Vec::new()) };
        let answer = self.client.send_ok(Request::new(RequestKind::List, Method::GET, url)).await?;
        let all: xml::AllBuckets = xml::read("ListAllMyBucketsResult", &answer.body).map_err(Cause::Garbled)?;
        Ok(all.buckets.buckets.into_iter().map(|bucket| bucket.name).collect())
    }

    /// Garage has no policies, so that its websites are all there is to public reading. Where policies are known, a
    /// bucket may be closed for reasons that they tell, and nothing is touched.
    pub(super) async fn open_to_all(&self) -> Result<Switch, Cause> {
        match self.ask_of_bucket("policy").await?.cause() {
            Cause::NotImplemented(_) => {}
            _ => return Ok(Switch::None),
        }
        let website = self.ask_of_bucket("website").await?;
        match (website.status, website.code().as_deref()) {
            (StatusCode::OK, None) => return Ok(Switch::WasOn),
            (StatusCode::NO_CONTENT, _) | (_, Some("NoSuchWebsiteConfiguration")) => {}
            _ => return Err(website.cause()),
        }
        let url = self.client.address.bucket(&[("website", "")]);
        let mut request = Request::new(RequestKind::Put, Method::PUT, url);
        request.body = Bytes::from_static(WEBSITE.as_bytes()).into();
        self.client.send_ok(request).await.map(|_| Switch::On)
    }

    async fn ask_of_bucket(&self, what: &str) -> Result<super::Answer, Cause> {
        let url = self.client.address.bucket(&[(what, "")]);
        self.client.send(Request::new(RequestKind::Get, Method::GET, url)).await
    }
}
