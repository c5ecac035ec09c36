//! An S3 server in this process, over the bucket in memory.
//!
//! It checks what it is sent as a real one does: the signature, computed here from the bytes on the
//! wire, the payload's hash, the expiry of query-signed requests. And it keeps what it saw.

use super::memory::{Memory, Profile};
use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use loft::bucket::{
    Body, Bucket, BucketError, Cause, Headers, Key, ObjectInfo, Part, Prefix, S3Settings, Secret, Upload,
};
use loft::clock::Clock;
use loft::nix::Sha256;
use reqsign_core::hash::{hex_hmac_sha256, hmac_sha256};
use reqsign_core::time::Timestamp;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub const ACCESS_KEY: &str = "GK0123456789";
pub const SECRET_KEY: &str = "s3cr3t-of-the-test";
pub const REGION: &str = "garage";
pub const BUCKET: &str = "nix-cache";

/// A request as it came over the wire.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: Method,
    /// Still percent-encoded.
    pub path: String,
    pub query: String,
    pub headers: HeaderMap,
    pub signed_headers: Vec<String>,
    pub body: Bytes,
}

pub struct S3Server {
    pub endpoint: String,
    pub memory: Arc<Memory>,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl S3Server {
    pub async fn start(memory: Memory) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let memory = Arc::new(memory);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (state, log) = (memory.clone(), seen.clone());
        let task = tokio::spawn(async move {
            let mut connections = FuturesUnordered::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let Ok((stream, _)) = accepted else { continue };
                        let (memory, log) = (state.clone(), log.clone());
                        let service = hyper::service::service_fn(move |request| answer(memory.clone(), log.clone(), request));
                        connections.push(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
                    }
                    Some(_) = connections.next() => {}
                }
            }
        });
        Self { endpoint, memory, seen, task }
    }

    /// How a client reaches it.
    pub fn settings(&self) -> S3Settings {
        let mut settings = S3Settings::new(BUCKET);
        settings.endpoint = Some(self.endpoint.clone());
        settings.region = Some(REGION.to_owned());
        settings.access_key = Some(Secret::new(ACCESS_KEY));
        settings.secret_key = Some(Secret::new(SECRET_KEY));
        settings
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub fn forget(&self) {
        self.seen.lock().unwrap().clear();
    }
}

type Answer = Response<Full<Bytes>>;

async fn answer(
    memory: Arc<Memory>,
    log: Arc<Mutex<Vec<Seen>>>,
    request: Request<Incoming>,
) -> Result<Answer, Infallible> {
    let (parts, body) = request.into_parts();
    let is_head = parts.method == Method::HEAD;
    let Ok(body) = body.collect().await.map(|body| body.to_bytes()) else {
        return Ok(refuse(400, "IncompleteBody", "the body ended early"));
    };
    let mut seen = Seen {
        method: parts.method,
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        headers: parts.headers,
        signed_headers: Vec::new(),
        body,
    };
    let is_signed = seen.headers.contains_key("authorization") || seen.query.contains("X-Amz-Signature");
    let checked = match !is_signed && seen.method == Method::GET && memory.own.lock().unwrap().is_website {
        true => Ok(()),
        false => check_signature(&mut seen, memory.clock.wall()),
    };
    log.lock().unwrap().push(seen.clone());
    let mut answer = match checked {
        Err((status, code, message)) => refuse(status, code, &message),
        Ok(()) => match carry_out(&memory, &seen).await {
            Ok(answer) => answer,
            Err(error) => refusal_of(&error),
        },
    };
    let headers = answer.headers_mut();
    headers.insert("date", http_date(memory.clock.wall()).parse().unwrap());
    if is_head && !answer.status().is_success() {
        *answer.body_mut() = Full::default();
    }
    Ok(answer)
}

fn refuse(status: u16, code: &str, message: &str) -> Answer {
    let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>{message}</Message></Error>");
    Response::builder().status(status).body(body.into()).unwrap()
}

fn refusal_of(error: &BucketError) -> Answer {
    match &error.cause {
        Cause::NoUpload => refuse(404, "NoSuchUpload", "no such upload"),
        Cause::Expired => refuse(403, "AccessDenied", "Request has expired"),
        Cause::Denied { refusal, .. } | Cause::Refused(refusal) => refuse(refusal.status, &refusal.code, "no"),
        Cause::Unavailable(refusal) => {
            let mut answer = refuse(refusal.status, &refusal.code, "later");
            if let Some(wait) = refusal.retry_after {
                answer.headers_mut().insert("retry-after", wait.as_secs().into());
            }
            answer
        }
        other => refuse(500, "InternalError", &format!("{other:?}").replace(['<', '&'], "")),
    }
}

// -- signatures -------------------------------------------------------------------------------------

type Refused = (u16, &'static str, String);

fn check_signature(seen: &mut Seen, now: SystemTime) -> Result<(), Refused> {
    let denied = |why: &str| (403, "AccessDenied", why.to_owned());
    let query = query_of(&seen.query);
    let header = |name: &str| seen.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let (credential, signed, signature, date, payload) = match header("authorization") {
        Some(text) => {
            let text = text.strip_prefix("AWS4-HMAC-SHA256 ").ok_or_else(|| denied("not SigV4"))?.to_owned();
            let field = |name: &str| {
                let found = text.split(", ").find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
                found.map(str::to_owned).ok_or_else(|| denied("a field of Authorization is missing"))
            };
            let payload = header("x-amz-content-sha256").ok_or_else(|| denied("no x-amz-content-sha256"))?;
            let date = header("x-amz-date").ok_or_else(|| denied("no x-amz-date"))?;
            (field("Credential")?, field("SignedHeaders")?, field("Signature")?, date, payload)
        }
        None => {
            let field = |name: &str| query.get(name).cloned().ok_or_else(|| denied("not signed"));
            let date = field("X-Amz-Date")?;
            // Judged by the server's clock.
            let began = UNIX_EPOCH + Duration::from_secs(epoch(&date));
            let expires: u64 = field("X-Amz-Expires")?.parse().map_err(|_| denied("X-Amz-Expires"))?;
            if now > began + Duration::from_secs(expires) {
                return Err((403, "AccessDenied", "Request has expired".to_owned()));
            }
            (
                field("X-Amz-Credential")?,
                field("X-Amz-SignedHeaders")?,
                field("X-Amz-Signature")?,
                date,
                "UNSIGNED-PAYLOAD".to_owned(),
            )
        }
    };
    seen.signed_headers = signed.split(';').map(str::to_owned).collect();
    let day = &date[..8];
    let scope = format!("{day}/{REGION}/s3/aws4_request");
    let Some((key, their_scope)) = credential.split_once('/') else { return Err(denied("Credential")) };
    if key != ACCESS_KEY {
        return Err((403, "InvalidAccessKeyId", "no such key".to_owned()));
    }
    if their_scope != scope {
        return Err((400, "AuthorizationHeaderMalformed", format!("unexpected scope {their_scope}")));
    }
    if !seen.signed_headers.iter().any(|name| name == "host") {
        return Err(denied("host is not signed"));
    }
    if let Some(name) = seen.headers.keys().find(|name| {
        name.as_str().starts_with("x-amz-") && !seen.signed_headers.iter().any(|signed| signed == name.as_str())
    }) {
        return Err(denied(&format!("{name} is not signed")));
    }
    let mut pairs: Vec<(&str, &str)> = seen
        .query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .filter(|(name, _)| *name != "X-Amz-Signature")
        .collect();
    pairs.sort_unstable();
    let canonical_query = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&");
    let headers: String = seen
        .signed_headers
        .iter()
        .map(|name| {
            format!("{name}:{}\n", seen.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().trim())
        })
        .collect();
    let canonical = format!("{}\n{}\n{canonical_query}\n{headers}\n{signed}\n{payload}", seen.method, seen.path);
    let hashed = Sha256::of(canonical.as_bytes()).to_hex();
    let to_sign = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{hashed}");
    let mut secret = format!("AWS4{SECRET_KEY}").into_bytes();
    for step in [day, REGION, "s3", "aws4_request"] {
        secret = hmac_sha256(&secret, step.as_bytes());
    }
    if hex_hmac_sha256(&secret, to_sign.as_bytes()) != signature {
        return Err((403, "SignatureDoesNotMatch", "the signatures differ".to_owned()));
    }
    if payload != "UNSIGNED-PAYLOAD" && payload != Sha256::of(&seen.body).to_hex() {
        return Err((400, "XAmzContentSHA256Mismatch", "the payload's hash differs".to_owned()));
    }
    Ok(())
}

fn epoch(amz_date: &str) -> u64 {
    let d = amz_date;
    let iso = format!("{}-{}-{}T{}:{}:{}Z", &d[..4], &d[4..6], &d[6..8], &d[9..11], &d[11..13], &d[13..15]);
    iso.parse::<Timestamp>().unwrap().as_second() as u64
}

// -- operations -------------------------------------------------------------------------------------

async fn carry_out(memory: &Memory, seen: &Seen) -> Result<Answer, BucketError> {
    let path = decode(&seen.path);
    let query = query_of(&seen.query);
    let has = |name: &str| query.contains_key(name);
    let get = |name: &str| query.get(name).map(String::as_str);
    let Some(rest) = path.strip_prefix('/') else { return Ok(refuse(400, "InvalidURI", "no path")) };
    let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
    let own = *memory.own.lock().unwrap();
    if seen.method == Method::PUT && key.is_empty() && query.is_empty() {
        return Ok(create(memory, bucket));
    }
    if seen.method == Method::GET && rest.is_empty() {
        let mine = (!own.is_missing).then_some(&BUCKET);
        let bucket = |name: &&str| format!("<Bucket><CreationDate>x</CreationDate><Name>{name}</Name></Bucket>");
        let buckets: String = own.siblings.iter().chain(mine).map(bucket).collect();
        let owner = "<Owner><DisplayName>x</DisplayName></Owner>";
        return Ok(xml(format!(
            "<ListAllMyBucketsResult>{owner}<Buckets>{buckets}</Buckets></ListAllMyBucketsResult>"
        )));
    }
    if bucket != BUCKET || own.is_missing {
        return Ok(refuse(404, "NoSuchBucket", "no such bucket"));
    }
    if key.is_empty() {
        return match () {
            () if has("policy") && memory.profile == Profile::Garage => {
                Ok(refuse(501, "NotImplemented", "no policies"))
            }
            () if has("policy") => Ok(refuse(404, "NoSuchBucketPolicy", "none")),
            () if has("website") => Ok(website(memory, seen)),
            () if has("list-type") => list(memory, &query).await,
            () if has("lifecycle") => Ok(lifecycle(memory)),
            () if has("uploads") => list_uploads(memory, get("prefix").unwrap_or_default()).await,
            () => Ok(refuse(501, "NotImplemented", "not here")),
        };
    }
    let key = Key::listed(key);
    let upload = get("uploadId").map(|id| Upload { key: key.clone(), id: id.to_owned() });
    let body = || Body { bytes: seen.body.clone(), sha256: None };
    match (seen.method.as_str(), upload) {
        ("PUT", Some(upload)) => {
            let number = get("partNumber").and_then(|text| text.parse().ok()).unwrap_or(0);
            let part = memory.put_part(&upload, number, body()).await?;
            Ok(Response::builder().header("etag", format!("\"{}\"", part.etag)).body(Full::default()).unwrap())
        }
        ("PUT", None) => match seen.headers.get("x-amz-copy-source") {
            Some(source) => {
                let source = decode(source.to_str().unwrap());
                let source = Key::listed(source.strip_prefix(&format!("/{BUCKET}/")).unwrap_or_default());
                match memory.copy(&source, &key, headers_of(seen)).await? {
                    true => Ok(xml("<CopyObjectResult><ETag>\"x\"</ETag></CopyObjectResult>".to_owned())),
                    false => Ok(refuse(404, "NoSuchKey", "no such key")),
                }
            }
            None if seen.headers.contains_key("if-none-match")
                && memory.profile == Profile::Aws
                && memory.object(key.as_str()).is_some() =>
            {
                Ok(refuse(412, "PreconditionFailed", "something is there"))
            }
            None => {
                memory.put(&key, body(), headers_of(seen)).await?;
                Ok(Response::new(Full::default()))
            }
        },
        ("POST", None) if has("uploads") => {
            let upload = memory.start_upload(&key, headers_of(seen)).await?;
            Ok(xml(format!(
                "<InitiateMultipartUploadResult><UploadId>{}</UploadId></InitiateMultipartUploadResult>",
                upload.id
            )))
        }
        ("POST", Some(upload)) => {
            let parts = parts_of(memory, &upload, &seen.body).await?;
            memory.finish_upload(&upload, &parts).await?;
            // Kept alive while it works, as AWS does.
            Ok(xml("   \n<CompleteMultipartUploadResult><ETag>\"x\"</ETag></CompleteMultipartUploadResult>".to_owned()))
        }
        ("DELETE", Some(upload)) => {
            if memory.list_parts(&upload).await?.is_none() {
                return Ok(refuse(404, "NoSuchUpload", "no such upload"));
            }
            memory.abort_upload(&upload).await?;
            Ok(Response::builder().status(204).body(Full::default()).unwrap())
        }
        ("DELETE", None) => {
            memory.delete(&key).await?;
            Ok(Response::builder().status(204).body(Full::default()).unwrap())
        }
        ("GET", Some(upload)) => match memory.list_parts(&upload).await? {
            None => Ok(refuse(404, "NoSuchUpload", "no such upload")),
            Some(parts) => Ok(list_parts(&parts, &query)),
        },
        ("HEAD", None) => match memory.head(&key).await? {
            None => Ok(refuse(404, "", "")),
            Some(info) => Ok(object(&info).header("content-length", info.size).body(Full::default()).unwrap()),
        },
        ("GET", None) => match memory.get(&key, u64::MAX).await? {
            None => Ok(refuse(404, "NoSuchKey", "no such key")),
            Some((info, bytes)) => Ok(ranged(seen, &info, bytes)),
        },
        _ => Ok(refuse(405, "MethodNotAllowed", "no")),
    }
}

fn object(info: &ObjectInfo) -> http::response::Builder {
    Response::builder().header("etag", format!("\"{}\"", info.etag)).header("last-modified", http_date(info.modified))
}

fn ranged(seen: &Seen, info: &ObjectInfo, bytes: Bytes) -> Answer {
    let whole = object(info);
    let Some(range) = seen.headers.get("range").and_then(|value| value.to_str().ok()?.strip_prefix("bytes=")) else {
        return whole.body(bytes.into()).unwrap();
    };
    let (from, to) = range.split_once('-').unwrap();
    let (from, to): (usize, usize) = (from.parse().unwrap(), to.parse().unwrap());
    if from >= bytes.len() {
        return refuse(416, "InvalidRange", "beyond the end");
    }
    let end = to.saturating_add(1).min(bytes.len());
    whole
        .status(StatusCode::PARTIAL_CONTENT)
        .header("content-range", format!("bytes {from}-{}/{}", end - 1, bytes.len()))
        .body(bytes.slice(from..end).into())
        .unwrap()
}

async fn list(memory: &Memory, query: &BTreeMap<String, String>) -> Result<Answer, BucketError> {
    let prefix = query.get("prefix").cloned().unwrap_or_default();
    let after = query.get("continuation-token").or(query.get("start-after"));
    let page = memory.list(&Prefix::listed(prefix), after.map(String::as_str)).await?;
    let mut body = String::from("<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
    body.push_str(&format!("<IsTruncated>{}</IsTruncated><EncodingType>url</EncodingType>", page.next.is_some()));
    for object in &page.objects {
        body.push_str(&format!(
            "<Contents><Key>{}</Key><LastModified>{}</LastModified><ETag>&quot;{}&quot;</ETag><Size>{}</Size></Contents>",
            encode(object.key.as_str()),
            iso_date(object.modified),
            object.etag,
            object.size
        ));
    }
    if let Some(next) = page.next {
        body.push_str(&format!("<NextContinuationToken>{}</NextContinuationToken>", encode(&next)));
    }
    body.push_str("</ListBucketResult>");
    Ok(xml(body))
}

fn create(memory: &Memory, bucket: &str) -> Answer {
    let mut own = memory.own.lock().unwrap();
    match () {
        () if bucket != BUCKET => refuse(409, "BucketAlreadyExists", "it is somebody else's"),
        () if !own.is_missing => refuse(409, "BucketAlreadyOwnedByYou", "it is yours"),
        () if own.may_not_create => refuse(403, "AccessDenied", "this key is not allowed to create buckets"),
        () => {
            own.is_missing = false;
            Response::new(Full::default())
        }
    }
}

fn website(memory: &Memory, seen: &Seen) -> Answer {
    let mut own = memory.own.lock().unwrap();
    match seen.method.as_str() {
        _ if own.is_not_owner => refuse(403, "AccessDenied", "Operation is not allowed for this key."),
        "PUT" if String::from_utf8_lossy(&seen.body).contains("<Suffix>index.html</Suffix>") => {
            own.is_website = true;
            Response::new(Full::default())
        }
        "GET" if own.is_website => xml("<WebsiteConfiguration/>".to_owned()),
        "GET" => Response::builder().status(204).body(Full::default()).unwrap(),
        _ => refuse(400, "MalformedXML", "no"),
    }
}

fn lifecycle(memory: &Memory) -> Answer {
    if memory.lifecycle.is_empty() {
        return refuse(404, "NoSuchLifecycleConfiguration", "none");
    }
    let mut body = String::from("<LifecycleConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
    for rule in &memory.lifecycle {
        body.push_str(&format!("<Rule><ID>{}</ID><Status>Enabled</Status>", rule.id));
        body.push_str(&format!("<Filter><Prefix>{}</Prefix></Filter>", rule.prefix));
        if let Some(days) = rule.expires.as_deref().and_then(|text| text.split(' ').nth(1)) {
            body.push_str(&format!("<Expiration><Days>{days}</Days></Expiration>"));
        }
        if let Some(days) = rule.archives.as_deref().and_then(|text| text.split(' ').nth(3)) {
            let to = format!("<Days>{days}</Days><StorageClass>GLACIER</StorageClass>");
            body.push_str(&format!("<Transition>{to}</Transition>"));
        }
        if let Some(days) = rule.aborts_uploads_after {
            let after = format!("<DaysAfterInitiation>{days}</DaysAfterInitiation>");
            body.push_str(&format!("<AbortIncompleteMultipartUpload>{after}</AbortIncompleteMultipartUpload>"));
        }
        body.push_str("</Rule>");
    }
    body.push_str("</LifecycleConfiguration>");
    xml(body)
}

async fn list_uploads(memory: &Memory, prefix: &str) -> Result<Answer, BucketError> {
    let mut body =
        String::from("<ListMultipartUploadsResult><IsTruncated>false</IsTruncated><EncodingType>url</EncodingType>");
    for (upload, began) in memory.list_uploads(&Prefix::listed(prefix)).await? {
        body.push_str(&format!(
            "<Upload><Key>{}</Key><UploadId>{}</UploadId><Initiated>{}</Initiated></Upload>",
            encode(upload.key.as_str()),
            upload.id,
            iso_date(began)
        ));
    }
    body.push_str("</ListMultipartUploadsResult>");
    Ok(xml(body))
}

/// In pages of two, so that clients show whether they turn them.
fn list_parts(parts: &[Part], query: &BTreeMap<String, String>) -> Answer {
    let marker: u32 = query.get("part-number-marker").and_then(|text| text.parse().ok()).unwrap_or(0);
    let rest: Vec<&Part> = parts.iter().filter(|part| part.number > marker).collect();
    let mut body = format!("<ListPartsResult><IsTruncated>{}</IsTruncated>", rest.len() > 2);
    for part in rest.iter().take(2) {
        body.push_str(&format!(
            "<Part><PartNumber>{}</PartNumber><ETag>\"{}\"</ETag><Size>{}</Size></Part>",
            part.number, part.etag, part.size
        ));
    }
    body.push_str("</ListPartsResult>");
    xml(body)
}

/// What a Complete names; sizes come from what was sent.
async fn parts_of(memory: &Memory, upload: &Upload, body: &[u8]) -> Result<Vec<Part>, BucketError> {
    let text = String::from_utf8(body.to_vec()).unwrap();
    let sent = memory.list_parts(upload).await?.unwrap_or_default();
    let between = |text: &str, name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        Some(rest.split_once(&format!("</{name}>"))?.0.to_owned())
    };
    Ok(text
        .split("<Part>")
        .skip(1)
        .filter_map(|part| {
            let number = between(part, "PartNumber")?.parse().ok()?;
            let etag = between(part, "ETag")?.replace("&quot;", "");
            let size = sent.iter().find(|part| part.number == number).map_or(0, |part| part.size);
            Some(Part { number, etag, size })
        })
        .collect())
}

fn headers_of(seen: &Seen) -> Headers {
    // The fake keeps `&'static str`; a test's few headers may stay for ever.
    let keep = |name: &str| -> Option<&'static str> {
        let value = seen.headers.get(name)?.to_str().ok()?;
        Some(Box::leak(value.to_owned().into_boxed_str()))
    };
    Headers { content_type: keep("content-type"), cache_control: keep("cache-control") }
}

fn xml(body: String) -> Answer {
    let body = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{body}");
    Response::builder().header("content-type", "application/xml").body(body.into()).unwrap()
}

fn query_of(query: &str) -> BTreeMap<String, String> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).map(|(n, v)| (decode(n), decode(v))).collect()
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((byte, tail)) = rest.split_first() {
        rest = tail;
        if *byte == b'%' {
            bytes.push(u8::from_str_radix(std::str::from_utf8(&tail[..2]).unwrap(), 16).unwrap());
            rest = &tail[2..];
        } else {
            bytes.push(*byte);
        }
    }
    String::from_utf8(bytes).unwrap()
}

fn encode(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(byte);
    text.bytes().map(|byte| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

fn timestamp(time: SystemTime) -> Timestamp {
    let since = time.duration_since(UNIX_EPOCH).unwrap();
    Timestamp::from_millisecond(since.as_millis() as i64).unwrap()
}

fn http_date(time: SystemTime) -> String {
    timestamp(time).format_http_date()
}

fn iso_date(time: SystemTime) -> String {
    timestamp(time).format_rfc3339_zulu()
}
