//! The few XML documents of S3, read leniently (unknown elements are skipped) and within the bounds
//! that the caller has set on their size.

use crate::bucket::Part;
use serde::Deserialize;

/// `Error`; also inside answers of status 200.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct ErrorBody {
    pub code: String,
    pub message: String,
    /// The right one, in `AuthorizationHeaderMalformed`.
    pub region: Option<String>,
    /// The right one, in `PermanentRedirect`.
    pub endpoint: Option<String>,
}

/// `ListBucketResult` of ListObjectsV2.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Listing {
    #[serde(default)]
    pub encoding_type: Option<String>,
    /// Required: an answer without it does not say whether it is complete.
    pub is_truncated: bool,
    #[serde(default)]
    pub next_continuation_token: Option<String>,
    #[serde(default)]
    pub contents: Vec<ListedObject>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListedObject {
    pub key: String,
    pub last_modified: String,
    pub size: u64,
    #[serde(rename = "ETag", default)]
    pub etag: String,
}

/// `ListMultipartUploadsResult`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Uploads {
    #[serde(default)]
    pub encoding_type: Option<String>,
    pub is_truncated: bool,
    #[serde(default)]
    pub next_key_marker: Option<String>,
    #[serde(default)]
    pub next_upload_id_marker: Option<String>,
    #[serde(default, rename = "Upload")]
    pub uploads: Vec<ListedUpload>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListedUpload {
    pub key: String,
    pub upload_id: String,
    pub initiated: String,
}

/// `ListPartsResult`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Parts {
    pub is_truncated: bool,
    #[serde(default, rename = "Part")]
    pub parts: Vec<ListedPart>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListedPart {
    pub part_number: u32,
    #[serde(rename = "ETag")]
    pub etag: String,
    pub size: u64,
}

/// `ListAllMyBucketsResult`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct AllBuckets {
    pub buckets: Buckets,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Buckets {
    #[serde(default, rename = "Bucket")]
    pub buckets: Vec<ListedBucket>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListedBucket {
    pub name: String,
}

/// `InitiateMultipartUploadResult`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Started {
    pub upload_id: String,
}

/// `CopyPartResult`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct CopiedPart {
    #[serde(rename = "ETag")]
    pub etag: String,
}

/// `LifecycleConfiguration`; of rules that delete, what tells whom they concern.
#[derive(Debug, Deserialize)]
pub(super) struct LifecycleRules {
    #[serde(default, rename = "Rule")]
    pub rules: Vec<LifecycleRule>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct LifecycleRule {
    #[serde(default, rename = "ID")]
    pub id: String,
    pub status: String,
    #[serde(default)]
    pub filter: Option<LifecycleFilter>,
    /// In the place of a filter, in old rules.
    #[serde(default)]
    pub prefix: Option<String>,
    #[serde(default)]
    pub expiration: Option<LifecycleExpiration>,
    #[serde(default, rename = "Transition")]
    pub transitions: Vec<LifecycleTransition>,
    #[serde(default, rename = "AbortIncompleteMultipartUpload")]
    pub abort: Option<LifecycleAbort>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct LifecycleFilter {
    pub prefix: Option<String>,
    pub tag: Option<serde::de::IgnoredAny>,
    pub and: Option<LifecycleFilters>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct LifecycleFilters {
    pub prefix: Option<String>,
    #[serde(rename = "Tag")]
    pub tags: Vec<serde::de::IgnoredAny>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct LifecycleExpiration {
    #[serde(default)]
    pub days: Option<u32>,
    #[serde(default)]
    pub date: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct LifecycleTransition {
    #[serde(default)]
    pub days: Option<u32>,
    #[serde(default)]
    pub date: Option<String>,
    #[serde(default)]
    pub storage_class: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct LifecycleAbort {
    pub days_after_initiation: u32,
}

/// Reads a document whose root element is `root`; the error says what is wrong with it.
pub(super) fn read<'a, T: Deserialize<'a>>(root: &str, body: &'a [u8]) -> Result<T, String> {
    let text = std::str::from_utf8(body).map_err(|_| format!("{root} is not UTF-8"))?;
    match root_name(text) {
        Some(found) if found == root => {}
        Some(found) => return Err(format!("an element {found:?} where {root} was expected")),
        None => return Err(format!("no XML where {root} was expected")),
    }
    quick_xml::de::from_str(text).map_err(|error| format!("{root} cannot be read: {error}"))
}

/// The name of a document's root element, without a namespace prefix; `None` when this is no XML.
pub(super) fn root_name(text: &str) -> Option<String> {
    let mut reader = quick_xml::Reader::from_str(text);
    loop {
        match reader.read_event().ok()? {
            quick_xml::events::Event::Start(tag) | quick_xml::events::Event::Empty(tag) => {
                let name = tag.name().into_inner();
                return Some(name.rsplit(':').next().unwrap_or_default().to_owned());
            }
            quick_xml::events::Event::Eof => return None,
            quick_xml::events::Event::Text(text) if !text.trim().is_empty() => return None,
            _ => {}
        }
    }
}

/// The body of CompleteMultipartUpload.
pub(super) fn complete(parts: &[Part]) -> String {
    let mut body = String::from("<CompleteMultipartUpload>");
    for part in parts {
        let etag = quick_xml::escape::escape(part.etag.as_str());
        body.push_str(&format!("<Part><PartNumber>{}</PartNumber><ETag>{etag}</ETag></Part>", part.number));
    }
    body.push_str("</CompleteMultipartUpload>");
    body
}

/// Undoes `encoding-type=url`. A plus stays a plus: servers disagree whether it may stand for a
/// space, and of the two only the plus is ever in keys that loft writes.
pub(super) fn decode(text: &str, encoding: Option<&str>) -> Result<String, String> {
    if encoding != Some("url") {
        return Ok(text.to_owned());
    }
    crate::bucket::url::percent_decode(text).ok_or_else(|| format!("{text:?} is not a URL-encoded key"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_listing_with_namespace_and_unknown_elements() {
        let body = br#"<?xml version="1.0" encoding="UTF-8"?>
            <ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>c</Name><Prefix></Prefix>
            <Contents><Key>a%2Bb</Key><LastModified>2026-11-22T10:00:00.123Z</LastModified>
            <ETag>&quot;0123&quot;</ETag><Size>5</Size><Owner><ID>x</ID></Owner></Contents><New/>
            <Contents><Key>c</Key><LastModified>2026-11-22T10:00:00Z</LastModified><Size>0</Size></Contents>
            <EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>
            <NextContinuationToken>t</NextContinuationToken></ListBucketResult>"#;
        let listing: Listing = read("ListBucketResult", body).unwrap();
        assert!(listing.is_truncated);
        let first = &listing.contents[0];
        assert_eq!((first.etag.as_str(), first.size), ("\"0123\"", 5));
        assert_eq!(decode(&first.key, listing.encoding_type.as_deref()).unwrap(), "a+b");
        assert_eq!(listing.contents.len(), 2);
    }

    #[test]
    fn says_what_is_wrong_and_never_takes_half_a_document() {
        for body in [
            &b""[..],
            b"gateway time-out",
            b"<html><body>It works</body></html>",
            b"\xff\xfe",
            b"<ListBucketResult>",
            b"<ListBucketResult></ListBucketResult>",
            b"<ListBucketResult><IsTruncated>perhaps</IsTruncated></ListBucketResult>",
            b"<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>a</Key></Contents></ListBucketResult>",
            b"<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>a</Key><LastModified>x</LastModified><Size>-1</Size></Contents></ListBucketResult>",
            b"<!DOCTYPE x [<!ENTITY a \"b\">]><ListBucketResult><IsTruncated>&a;</IsTruncated></ListBucketResult>",
        ] {
            assert!(read::<Listing>("ListBucketResult", body).is_err(), "{}", String::from_utf8_lossy(body));
        }
    }

    #[test]
    fn escapes_what_it_sends() {
        let parts = [Part { number: 1, etag: "\"a<b\"".into(), size: 1 }];
        let body = complete(&parts);
        assert!(body.contains("<ETag>&quot;a&lt;b&quot;</ETag>"), "{body}");
    }

    #[test]
    fn decodes_only_what_is_encoded() {
        assert_eq!(decode("a%2B%C3%BC+", Some("url")).unwrap(), "a+ü+");
        assert_eq!(decode("a%2B", None).unwrap(), "a%2B");
        for wrong in ["%", "%2", "%zz", "%ff"] {
            assert!(decode(wrong, Some("url")).is_err(), "{wrong}");
        }
    }
}
