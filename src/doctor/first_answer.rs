//! What the server's first answer says of all that comes before it: the endpoint, proxies, credentials, region, bucket.

use super::Patient;
use super::cache::AFTER_ANSWER;
use super::endpoint::Endpoint;
use super::finding::{Check, Code, Notes};
use crate::bucket::permissions::Why;
use crate::bucket::{BucketError, Cause, Denial, S3Settings};
use crate::remedy::chain;

/// Whether the bucket can be looked into; what stands in the way was told.
pub async fn judge(
    patient: &Patient,
    settings: &S3Settings,
    endpoint: &Option<Endpoint>,
    answer: Result<(), BucketError>,
    notes: &mut Notes,
) -> bool {
    let Err(error) = answer else { return true };
    let words = error.cause.refusal().map_or_else(|| chain(&error.cause), ToString::to_string);
    let because = match &error.cause {
        Cause::Denied { refusal, .. } if Why::of(&error.cause) != Why::NotS3 => {
            match refusal.denial() {
                // Which requests exactly is found out next.
                Denial::NotPermitted => return true,
                Denial::UnknownKey => notes.fault(
                    Code::CredentialsUnknown,
                    format!("the server does not know this access key id ({words})"),
                    "check the access key, and that it is one of this server",
                ),
                Denial::WrongSecret => notes.fault(
                    Code::CredentialsWrongSecret,
                    format!("the secret key does not fit the access key ({words})"),
                    "copy the secret key again; if it is right, a proxy on the way changes requests",
                ),
                Denial::ExpiredToken => notes.fault(
                    Code::CredentialsExpired,
                    format!("the session token has expired ({words})"),
                    "get new credentials where these came from",
                ),
                // The clock tells it by itself.
                Denial::Clock => {}
            }
            if refusal.denial() == Denial::Clock { Check::Clock } else { Check::Credentials }
        }
        Cause::NoBucket(_) => {
            notes.fault(
                Code::BucketMissing,
                format!("there is no bucket {} ({words})", settings.bucket),
                "correct bucket in [s3], or create it: `loft init`, or the server's own tool",
            );
            Check::Bucket
        }
        Cause::WrongRegion { right, .. } => {
            let set = settings.region.as_deref().unwrap_or("not set");
            let way_out = match right {
                Some(right) => format!("set region = {right:?} in [s3]"),
                None => "set region in [s3] to the one that the server's words name".to_owned(),
            };
            notes.fault(Code::RegionWrong, format!("region is {set}, and the server has another ({words})"), way_out);
            Check::Region
        }
        Cause::NotS3(_) | Cause::Denied { .. } if is_gate(&error.cause) => gate(settings, &words, notes),
        Cause::Credentials(error) => {
            notes.fault(Code::CredentialsMissing, error.to_string(), "they were there a moment ago: try again");
            Check::Credentials
        }
        Cause::Setting(why) => {
            notes.fault(
                Code::EndpointSetting,
                why.clone(),
                "correct the setting; docs/configuration.md tells about it",
            );
            Check::Endpoint
        }
        Cause::Refused(_) | Cause::NotImplemented(_) => {
            let way_out = "look at the server's log, and whether endpoint, bucket and addressing_style are meant so";
            notes.fault(Code::BucketOdd, format!("the server does not answer as S3 does ({words})"), way_out);
            Check::Bucket
        }
        _ => {
            match endpoint {
                Some(endpoint) => endpoint.blame(patient, &error, notes).await,
                None => notes.fault(Code::EndpointUnavailable, words, "look at the server's log"),
            }
            Check::Endpoint
        }
    };
    let told: Vec<Check> = notes.0.iter().map(|finding| finding.check).collect();
    let verb = if matches!(because, Check::Headers | Check::Credentials) { "stand" } else { "stands" };
    let reason = format!("the {because} {verb} in the way");
    let rest = [Check::Endpoint, Check::Headers, Check::Credentials, Check::Region, Check::Bucket];
    for check in rest.into_iter().filter(|check| !told.contains(check) && *check != because) {
        // What the server's answer shows to be in order.
        match check {
            Check::Endpoint if because != Check::Headers => {
                notes.fine(check, format!("{} answers as S3 does", place(settings)));
            }
            _ => notes.skip(&[check], because, &reason),
        }
    }
    let rest: Vec<Check> = AFTER_ANSWER.into_iter().filter(|check| *check != Check::Clock).collect();
    notes.skip(&rest, because, &reason);
    false
}

fn place(settings: &S3Settings) -> String {
    settings.endpoint.clone().unwrap_or_else(|| "AWS".to_owned())
}

/// A login page or a bare no: somebody stands before the server.
fn is_gate(cause: &Cause) -> bool {
    match cause {
        Cause::NotS3(what) => ["301", "302", "303", "307", "308"].iter().any(|status| what.starts_with(status)),
        Cause::Denied { refusal, .. } => matches!(refusal.status, 401 | 403),
        _ => false,
    }
}

fn gate(settings: &S3Settings, words: &str, notes: &mut Notes) -> Check {
    let names: Vec<&str> = settings.extra_headers.names().collect();
    match names.is_empty() {
        true => notes.fault(
            Code::HeadersMissing,
            format!("a proxy in front of the server does not let requests through ({words})"),
            "put the headers that it wants into [s3.extra_headers], extra_headers_file or LOFT_EXTRA_HEADER_…",
        ),
        false => notes.fault(
            Code::HeadersRefused,
            format!("a proxy in front does not let requests through, with the headers {} ({words})", names.join(", ")),
            "check names and values of the extra headers; the token may have expired",
        ),
    }
    Check::Headers
}
