//! What an answer that is not success means.

use super::xml;
use crate::bucket::error::{Cause, Denial, NOT_BY_S3, Refusal};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use reqsign_core::time::Timestamp;
use std::time::{Duration, SystemTime};

/// More of an error's body is not read.
pub(super) const ERROR_LIMIT: u64 = 64 * 1024;

/// Nobody means a longer `Retry-After`; it guards sums of durations too.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// An answer with its whole body.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn header(&self, name: impl header::AsHeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The code in an `Error` body, whatever the status.
    pub fn code(&self) -> Option<String> {
        self.error_body().map(|body| body.code)
    }

    pub fn date(&self, name: impl header::AsHeaderName) -> Option<SystemTime> {
        http_date(self.header(name)?)
    }

    fn error_body(&self) -> Option<xml::ErrorBody> {
        xml::read("Error", &self.body).ok()
    }

    pub fn refusal(&self) -> Refusal {
        let body = self.error_body().unwrap_or_default();
        Refusal {
            status: self.status.as_u16(),
            code: shorten(&body.code),
            message: shorten(&body.message),
            retry_after: self.retry_after(),
        }
    }

    /// Why this answer is none to the request. Also for status 200 with an `Error` inside.
    pub fn cause(&self) -> Cause {
        let body = self.error_body();
        let refusal = Box::new(self.refusal());
        let code = refusal.code.as_str();
        let status = self.status.as_u16();
        let right_region = || {
            let region = self.header("x-amz-bucket-region").map(str::to_owned);
            region.or_else(|| body.as_ref().and_then(|body| body.region.clone()))
        };
        match (status, code) {
            (_, "NoSuchBucket") => Cause::NoBucket(refusal),
            (_, "NoSuchUpload") => Cause::NoUpload,
            (
                _,
                "PermanentRedirect"
                | "TemporaryRedirect"
                | "AuthorizationHeaderMalformed"
                | "IllegalLocationConstraintException",
            ) => Cause::WrongRegion { right: right_region(), refusal },
            (300..=400, _) if self.headers.contains_key("x-amz-bucket-region") && body.is_none() => {
                Cause::WrongRegion { right: right_region(), refusal }
            }
            (300..=399, _) => {
                Cause::NotS3(format!("{status} redirect to {:?}", self.header(header::LOCATION).unwrap_or_default()))
            }
            // These come with 4xx too: RequestTimeout 400, OperationAborted 409, a body damaged on its way 400.
            (
                _,
                "SlowDown"
                | "InternalError"
                | "RequestTimeout"
                | "ServiceUnavailable"
                | "Throttling"
                | "TooManyRequests"
                | "OperationAborted"
                | "BadDigest"
                | "IncompleteBody"
                | "XAmzContentSHA256Mismatch",
            ) => Cause::Unavailable(refusal),
            (501, _) | (_, "NotImplemented") => Cause::NotImplemented(refusal),
            (505 | 507, _) => Cause::Refused(refusal),
            (408 | 429 | 500..=599, _) => Cause::Unavailable(refusal),
            (400, _) if refusal.denial() == Denial::Clock => Cause::Denied { hint: hint(&refusal, true), refusal },
            (401 | 403, _) => Cause::Denied { hint: hint(&refusal, body.is_some() || self.body.is_empty()), refusal },
            (407, _) => Cause::Setting("The HTTP proxy wants a user name and a password".to_owned()),
            (200..=299, "") => Cause::Garbled(self.excerpt()),
            // Every S3 server says which of bucket, key and upload is missing; only a HEAD cannot.
            (404, "") => Cause::NotS3(format!("404, {}", self.excerpt())),
            (_, "") if !self.body.is_empty() => Cause::NotS3(format!("{status}, {}", self.excerpt())),
            _ => Cause::Refused(refusal),
        }
    }

    /// `Retry-After`, in seconds or as a date.
    fn retry_after(&self) -> Option<Duration> {
        let text = self.header(header::RETRY_AFTER)?.trim();
        let wait = match text.parse() {
            Ok(seconds) => Duration::from_secs(seconds),
            // Both dates are the server's, so its clock does not matter. No date of its own, no sense in the other.
            Err(_) => http_date(text)?.duration_since(self.date(header::DATE)?).unwrap_or_default(),
        };
        Some(wait.min(LONGEST_RETRY_AFTER))
    }

    fn excerpt(&self) -> String {
        let kind = self.header(header::CONTENT_TYPE).unwrap_or("no content type");
        let head = self.body.get(..self.body.len().min(80)).unwrap_or_default();
        format!("{} bytes of {kind:?} that begin {:?}", self.body.len(), String::from_utf8_lossy(head))
    }
}

/// Fits every refusal of access that says no more.
pub(super) const ANY_DENIAL: &str = "check the access key, its secret, and what it may do with the bucket";

fn hint(refusal: &Refusal, is_s3: bool) -> &'static str {
    match refusal.denial() {
        Denial::UnknownKey => "the server does not know this access key id",
        Denial::WrongSecret => "the secret key is wrong, or something on the way changes requests",
        Denial::Clock => "this machine's clock and the server's are too far apart; set the one that is wrong",
        Denial::ExpiredToken => "the session token has expired; get a new one",
        Denial::NotPermitted if !is_s3 => NOT_BY_S3,
        Denial::NotPermitted => ANY_DENIAL,
    }
}

/// Servers' texts go into messages; they are cut and kept on one line.
fn shorten(text: &str) -> String {
    text.chars().take(300).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

pub(super) fn http_date(text: &str) -> Option<SystemTime> {
    Timestamp::parse_rfc2822(text).ok().map(Timestamp::as_system_time)
}

pub(super) fn iso_date(text: &str) -> Option<SystemTime> {
    text.parse::<Timestamp>().ok().map(Timestamp::as_system_time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remedy::Remedy;

    fn answer(status: u16, headers: &[(&'static str, &str)], body: &str) -> Answer {
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        Answer { status: StatusCode::from_u16(status).unwrap(), headers, body: Bytes::copy_from_slice(body.as_bytes()) }
    }

    fn error(code: &str) -> String {
        format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>m</Message></Error>")
    }

    #[test]
    fn every_answer_has_its_remedy() {
        for (status, code, remedy) in [
            (503, "SlowDown", Remedy::Retry),
            (200, "InternalError", Remedy::Retry),
            (400, "RequestTimeout", Remedy::Retry),
            (409, "OperationAborted", Remedy::Retry),
            (429, "", Remedy::Retry),
            (502, "", Remedy::Retry),
            (403, "AccessDenied", Remedy::FixConfig),
            (404, "NoSuchBucket", Remedy::FixConfig),
            (301, "PermanentRedirect", Remedy::FixConfig),
            (400, "AuthorizationHeaderMalformed", Remedy::FixConfig),
            (501, "NotImplemented", Remedy::FixConfig),
            (400, "EntityTooLarge", Remedy::GiveUpOnItem),
            (404, "NoSuchUpload", Remedy::GiveUpOnItem),
        ] {
            let body = if code.is_empty() { String::new() } else { error(code) };
            assert_eq!(answer(status, &[], &body).cause().remedy(), remedy, "{status} {code}");
        }
    }

    #[test]
    fn wrong_clock_is_named() {
        let by_aws = error("RequestTimeTooSkewed");
        let by_garage = "<Error><Code>InvalidRequest</Code><Message>Bad request: Date is too old</Message></Error>";
        for answer in [answer(403, &[], &by_aws), answer(400, &[], by_garage)] {
            let (cause, text) = (answer.cause(), answer.cause().to_string());
            assert!(text.contains("this machine's clock and the server's"), "{text}");
            assert_eq!(cause.remedy(), Remedy::FixConfig, "{text}");
        }
    }

    #[test]
    fn web_pages_are_no_s3() {
        let page = "<html><body>Sign in</body></html>";
        assert!(matches!(answer(404, &[], page).cause(), Cause::NotS3(_)));
        assert!(matches!(answer(302, &[("location", "https://login")], page).cause(), Cause::NotS3(_)));
        assert!(matches!(answer(200, &[], page).cause(), Cause::Garbled(_)));
        let text = answer(403, &[], page).cause().to_string();
        assert!(text.contains("extra headers"), "{text}");
    }

    #[test]
    fn retry_after_in_seconds_and_as_a_date_is_capped() {
        let wait = |value: &str| {
            let date = "Sun, 22 Nov 2026 10:00:00 GMT";
            answer(503, &[("retry-after", value), ("date", date)], "").refusal().retry_after
        };
        assert_eq!(wait("7"), Some(Duration::from_secs(7)));
        assert_eq!(wait("Sun, 22 Nov 2026 10:00:09 GMT"), Some(Duration::from_secs(9)));
        assert_eq!(wait("Sun, 22 Nov 2026 09:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(wait("99999999999999"), Some(LONGEST_RETRY_AFTER));
        assert_eq!(wait("99999999999999999999999999"), None);
        assert_eq!(wait("soon"), None);
        assert_eq!(answer(503, &[("retry-after", "Sun, 22 Nov 2026 10:00:09 GMT")], "").refusal().retry_after, None);
    }

    #[test]
    fn names_the_right_region() {
        let body =
            "<Error><Code>AuthorizationHeaderMalformed</Code><Message>m</Message><Region>eu-west-1</Region></Error>";
        for answer in [answer(400, &[], body), answer(301, &[("x-amz-bucket-region", "eu-west-1")], "")] {
            assert!(matches!(answer.cause(), Cause::WrongRegion { right: Some(r), .. } if r == "eu-west-1"));
        }
    }

    #[test]
    fn hostile_text_stays_short_and_on_one_line() {
        let body = format!("<Error><Code>X</Code><Message>a\n{}\u{1b}[2J</Message></Error>", "y".repeat(5000));
        let text = answer(400, &[], &body).cause().to_string();
        assert!(text.len() < 500 && !text.contains('\n') && !text.contains('\u{1b}'), "{text}");
    }
}
