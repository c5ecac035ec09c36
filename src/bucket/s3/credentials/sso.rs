//! SSO (IAM Identity Center): the token that `aws sso login` left, exchanged for a role's credentials.

use super::{Miss, Sources};
use crate::remedy::chain;
use bytes::Bytes;
use reqsign_aws_v4::Credential;
use reqsign_core::HttpSend;
use reqsign_core::hash::hex_sha1;
use reqsign_core::time::Timestamp;
use serde::Deserialize;
use std::path::Path;

pub(super) struct Request<'a> {
    /// `None` for the older form of configuration, where the start URL names the token.
    pub session: Option<&'a str>,
    pub start_url: &'a str,
    pub region: &'a str,
    pub account: &'a str,
    pub role: &'a str,
}

/// `~/.aws/sso/cache/<sha1>.json`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Token {
    access_token: String,
    expires_at: String,
}

/// The answer of GetRoleCredentials.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    role_credentials: RoleCredentials,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RoleCredentials {
    access_key_id: String,
    secret_access_key: String,
    session_token: String,
    /// Milliseconds since 1970.
    expiration: i64,
}

pub(super) async fn credential(request: &Request<'_>, sources: &Sources) -> Result<Credential, Miss> {
    exchange(request, sources).await.map_err(|why| Miss::Broken(format!("SSO: {why}")))
}

async fn exchange(request: &Request<'_>, sources: &Sources) -> Result<Credential, String> {
    let home = sources.set("HOME").ok_or("HOME is not set, so there is no token")?;
    let name = hex_sha1(request.session.unwrap_or(request.start_url).as_bytes());
    let file = Path::new(home).join(".aws/sso/cache").join(format!("{name}.json"));
    let login = "log in with `aws sso login`";
    let json = tokio::fs::read(&file).await.map_err(|error| format!("no token in {file:?} ({error}); {login}"))?;
    let token: Token = serde_json::from_slice(&json).map_err(|_| format!("{file:?} holds no token; {login}"))?;
    // Some versions of the tool write `UTC` for `Z`.
    let expires: Timestamp =
        token.expires_at.replace("UTC", "Z").parse().map_err(|_| format!("{file:?} has no usable date; {login}"))?;
    if expires <= Timestamp::now() {
        return Err(format!("the token has expired; {login}"));
    }

    let default = format!("https://portal.sso.{}.amazonaws.com/federation/credentials", request.region);
    let mut url =
        reqwest::Url::parse(sources.set("AWS_SSO_ENDPOINT").unwrap_or(&default)).map_err(|error| error.to_string())?;
    url.query_pairs_mut().append_pair("role_name", request.role).append_pair("account_id", request.account);
    let asked = http::Request::get(url.as_str())
        .header("x-amz-sso_bearer_token", &token.access_token)
        .body(Bytes::new())
        .map_err(|_| "the token has characters that no header can carry".to_owned())?;
    let answer = sources.web.http_send(asked).await.map_err(|error| chain(&error))?;
    if !answer.status().is_success() {
        return Err(format!("the portal answered {}; {login}", answer.status()));
    }
    let answer: Answer =
        serde_json::from_slice(answer.body()).map_err(|_| "the portal's answer cannot be read".to_owned())?;
    let role = answer.role_credentials;
    Ok(Credential {
        access_key_id: role.access_key_id,
        secret_access_key: role.secret_access_key,
        session_token: Some(role.session_token),
        expires_in: Some(Timestamp::from_millisecond(role.expiration).map_err(|error| chain(&error))?),
    })
}
