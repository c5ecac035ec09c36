//! How this server treats conditions, and which rules delete in this bucket.

use super::client::Request;
use super::{Body, Cause, Headers, Key, RequestKind, S3, xml};
use crate::bucket::quirks::{Lifecycle, LifecycleRule, Quirks};
use crate::remedy::chain;
use bytes::Bytes;
use http::{Method, StatusCode};

/// A thousand rules at most, each with a few filters.
const LIMIT: u64 = 2 << 20;

impl S3 {
    /// Writes `scratch` and removes it.
    pub(super) async fn quirks(&self, scratch: &Key) -> Result<Quirks, Cause> {
        let lifecycle = match self.lifecycle().await {
            Ok(rules) => Lifecycle::Rules(rules),
            Err(cause) => Lifecycle::Unknown(chain(&cause)),
        };
        let conditional_writes = match self.try_condition(scratch).await {
            // Who may not write cannot try.
            Err(Cause::Denied { .. }) => None,
            tried => tried?,
        };
        Ok(Quirks { conditional_writes, lifecycle })
    }

    async fn try_condition(&self, scratch: &Key) -> Result<Option<bool>, Cause> {
        let body = || Body::from(Bytes::from_static(b"{}"));
        self.put(scratch, body(), Headers::RECORD).await?;
        let refused = self.refuses_second_put(scratch, body()).await;
        self.delete(scratch, None).await?;
        refused
    }

    async fn refuses_second_put(&self, key: &Key, body: Body) -> Result<Option<bool>, Cause> {
        let mut request = self.request(RequestKind::Put, Method::PUT, key, &[])?;
        request.headers = self.stored(Headers::RECORD);
        request.headers.push(("if-none-match", "*".to_owned()));
        request.body = body;
        let answer = self.client.send(request).await?;
        match answer.status {
            StatusCode::PRECONDITION_FAILED => Ok(Some(true)),
            status if status.is_success() => Ok(Some(false)),
            // Some refuse what they do not know.
            StatusCode::NOT_IMPLEMENTED | StatusCode::BAD_REQUEST => Ok(None),
            _ => Err(answer.cause()),
        }
    }

    async fn lifecycle(&self) -> Result<Vec<LifecycleRule>, Cause> {
        let url = self.client.address.bucket(&[("lifecycle", "")]);
        let mut request = Request::new(RequestKind::Get, Method::GET, url);
        request.limit = LIMIT;
        let answer = self.client.send(request).await?;
        if answer.code().as_deref() == Some("NoSuchLifecycleConfiguration") {
            return Ok(Vec::new());
        }
        if !answer.status.is_success() || answer.code().is_some() {
            return Err(answer.cause());
        }
        let found: xml::LifecycleRules = xml::read("LifecycleConfiguration", &answer.body).map_err(Cause::Garbled)?;
        let own = &self.client.address.prefix;
        let concerns = |rule: &LifecycleRule| rule.prefix.starts_with(own.as_str()) || own.starts_with(&rule.prefix);
        Ok(found.rules.into_iter().filter_map(rule).filter(concerns).collect())
    }
}

/// Nothing for a rule that is off, that is about tags (loft's objects have none), or that deletes nothing.
fn rule(rule: xml::LifecycleRule) -> Option<LifecycleRule> {
    if rule.status != "Enabled" {
        return None;
    }
    let filter = rule.filter.unwrap_or_default();
    let both = filter.and.unwrap_or_default();
    if filter.tag.is_some() || !both.tags.is_empty() {
        return None;
    }
    let expires = rule.expiration.and_then(|expiration| match (expiration.days, expiration.date) {
        (Some(days), _) => Some(format!("after {days} days")),
        (None, Some(date)) => Some(format!("on {date}")),
        // It is about markers of deleted versions.
        (None, None) => None,
    });
    let aborts_uploads_after = rule.abort.map(|abort| abort.days_after_initiation);
    // Classes whose objects must be asked for hours before they can be read.
    let archive =
        rule.transitions.into_iter().find(|to| matches!(to.storage_class.as_str(), "GLACIER" | "DEEP_ARCHIVE"));
    let archives = archive.map(|to| match (to.days, to.date) {
        (Some(days), _) => format!("to {} after {days} days", to.storage_class),
        (None, date) => format!("to {} on {}", to.storage_class, date.unwrap_or_default()),
    });
    if expires.is_none() && archives.is_none() && aborts_uploads_after.is_none() {
        return None;
    }
    let prefix = [filter.prefix, both.prefix, rule.prefix].into_iter().flatten().next().unwrap_or_default();
    Some(LifecycleRule { id: rule.id, prefix, expires, archives, aborts_uploads_after })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(inner: &str) -> Vec<LifecycleRule> {
        let text = format!("<LifecycleConfiguration xmlns=\"x\">{inner}</LifecycleConfiguration>");
        let found: xml::LifecycleRules = xml::read("LifecycleConfiguration", text.as_bytes()).unwrap();
        found.rules.into_iter().filter_map(rule).collect()
    }

    #[test]
    fn rules_that_delete_are_told_in_every_form() {
        let expires = "<Expiration><Days>30</Days></Expiration>";
        let on = "<Status>Enabled</Status>";
        for (text, prefix) in [
            (format!("<Rule><ID>a</ID>{on}<Filter/>{expires}</Rule>"), ""),
            (format!("<Rule><ID>a</ID>{on}{expires}</Rule>"), ""),
            (format!("<Rule><ID>a</ID><Prefix>nar/</Prefix>{on}{expires}</Rule>"), "nar/"),
            (format!("<Rule><ID>a</ID>{on}<Filter><Prefix>nar/</Prefix></Filter>{expires}</Rule>"), "nar/"),
            (
                format!(
                    "<Rule>{expires}<Filter><And><Prefix>n</Prefix><ObjectSizeGreaterThan>5</ObjectSizeGreaterThan></And>\
                     </Filter><ID>a</ID>{on}</Rule>"
                ),
                "n",
            ),
        ] {
            let expected = LifecycleRule {
                id: "a".to_owned(),
                prefix: prefix.to_owned(),
                expires: Some("after 30 days".to_owned()),
                archives: None,
                aborts_uploads_after: None,
            };
            assert_eq!(rules(&text), [expected], "{text}");
        }
        let day = format!("<Rule>{on}<Expiration><Date>2027-01-01T00:00:00Z</Date></Expiration></Rule>");
        assert_eq!(rules(&day)[0].expires.as_deref(), Some("on 2027-01-01T00:00:00Z"));
        let moved = "<Transition><Days>10</Days><StorageClass>STANDARD_IA</StorageClass></Transition>\
                     <Transition><Days>60</Days><StorageClass>GLACIER</StorageClass></Transition>";
        let found = rules(&format!("<Rule>{on}{moved}</Rule>"));
        assert_eq!((found[0].archives.as_deref(), &found[0].expires), (Some("to GLACIER after 60 days"), &None));
        let abort = "<AbortIncompleteMultipartUpload><DaysAfterInitiation>1</DaysAfterInitiation></AbortIncompleteMultipartUpload>";
        let found = rules(&format!("<Rule>{on}{abort}</Rule><Rule>{on}{expires}{abort}</Rule>"));
        let told: Vec<_> = found.iter().map(|rule| (rule.expires.is_some(), rule.aborts_uploads_after)).collect();
        assert_eq!(told, [(false, Some(1)), (true, Some(1))]);
    }

    #[test]
    fn rules_that_cannot_concern_a_cache_are_left_out() {
        let expires = "<Expiration><Days>30</Days></Expiration>";
        for text in [
            String::new(),
            format!("<Rule><Status>Disabled</Status>{expires}</Rule>"),
            format!(
                "<Rule><Status>Enabled</Status><Filter><Tag><Key>k</Key><Value>v</Value></Tag></Filter>{expires}</Rule>"
            ),
            format!(
                "<Rule><Status>Enabled</Status><Filter><And><Prefix/><Tag><Key>k</Key></Tag><Tag/></And></Filter>{expires}</Rule>"
            ),
            "<Rule><Status>Enabled</Status><Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker>\
             </Expiration></Rule>"
                .to_owned(),
            "<Rule><Status>Enabled</Status><NoncurrentVersionExpiration><NoncurrentDays>1</NoncurrentDays>\
             </NoncurrentVersionExpiration></Rule>"
                .to_owned(),
        ] {
            assert_eq!(rules(&text), [], "{text}");
        }
    }
}
