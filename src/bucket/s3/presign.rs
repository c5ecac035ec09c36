//! Requests signed in their URL, which lose their force at a set time by the server's clock.
//!
//! `reqsign` signs with this machine's clock alone. Here the time of signing is given, so that the
//! caller can use the server's: a clock that is minutes off would move the deadline by as much.
//!
//! Source: AWS, "Authenticating Requests: Using Query Parameters (AWS Signature Version 4)".

use crate::bucket::error::Cause;
use reqsign_aws_v4::Credential;
use reqsign_core::hash::{hex_hmac_sha256, hex_sha256, hmac_sha256};
use reqsign_core::time::Timestamp;
use reqwest::Url;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// `url` (whose path is encoded, and which has no query) with a signature that `lifetime` after `at` is worthless.
/// Whole seconds count.
pub(super) fn presign(
    method: &http::Method,
    url: &str,
    credential: &Credential,
    region: &str,
    at: SystemTime,
    lifetime: Duration,
) -> Result<String, Cause> {
    let unusable = |why: &str| Cause::Setting(format!("A request cannot be signed: {why}"));
    let parsed = Url::parse(url).map_err(|error| unusable(&error.to_string()))?;
    let host = parsed.host_str().ok_or_else(|| unusable("its URL has no host"))?;
    let host = parsed.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let since = at.duration_since(UNIX_EPOCH).ok().and_then(|since| i64::try_from(since.as_secs()).ok());
    let at =
        since.and_then(|seconds| Timestamp::from_second(seconds).ok()).ok_or_else(|| unusable("the time is off"))?;
    let (date, day) = (at.format_iso8601(), at.format_date());
    let scope = format!("{day}/{region}/s3/aws4_request");

    // In the order of their names, as the canonical form wants them.
    let mut query = vec![
        ("X-Amz-Algorithm", "AWS4-HMAC-SHA256".to_owned()),
        ("X-Amz-Credential", format!("{}/{scope}", credential.access_key_id)),
        ("X-Amz-Date", date.clone()),
        ("X-Amz-Expires", lifetime.as_secs().to_string()),
    ];
    query.extend(credential.session_token.clone().map(|token| ("X-Amz-Security-Token", token)));
    query.push(("X-Amz-SignedHeaders", "host".to_owned()));
    let pairs: Vec<(&str, &str)> = query.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let query = super::address::encode_query(&pairs);
    let query = query.trim_start_matches('?');

    let request = format!("{method}\n{}\n{query}\nhost:{host}\n\nhost\nUNSIGNED-PAYLOAD", parsed.path());
    let to_sign = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hex_sha256(request.as_bytes()));
    let mut key = format!("AWS4{}", credential.secret_access_key).into_bytes();
    for step in [day.as_str(), region, "s3", "aws4_request"] {
        key = hmac_sha256(&key, step.as_bytes());
    }
    Ok(format!("{url}?{query}&X-Amz-Signature={}", hex_hmac_sha256(&key, to_sign.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of AWS's manual.
    #[test]
    fn signs_as_the_manual_does() {
        let credential = Credential {
            access_key_id: "AKIAIOSFODNN7EXAMPLE".into(),
            secret_access_key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into(),
            session_token: None,
            expires_in: None,
        };
        let at = UNIX_EPOCH + Duration::from_secs(1_369_353_600);
        let url = "https://examplebucket.s3.amazonaws.com/test.txt";
        let signed =
            presign(&http::Method::GET, url, &credential, "us-east-1", at, Duration::from_secs(86_400)).unwrap();
        let signature = "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404";
        assert!(signed.ends_with(&format!("&X-Amz-Signature={signature}")), "{signed}");
    }
}
