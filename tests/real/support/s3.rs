//! A bucket seen by a client that is not loft: `curl`, which signs by itself.

use super::process::{end_of, stdout_of};
use super::time::Time;
use reqsign_core::time::Timestamp;
use std::io::Write;
use std::process::Command;
use std::time::SystemTime;

/// One bucket of a server on loopback, and the key that may do everything with it.
#[derive(Debug, Clone)]
pub struct Bucket {
    /// `http://127.0.0.1:PORT`
    pub endpoint: String,
    pub region: String,
    pub name: String,
    pub access_key: String,
    pub secret_key: String,
    /// The time that the server lives in, where it is not the machine's.
    pub time: Option<Time>,
}

impl Bucket {
    /// The URL that loft and Nix take.
    pub fn url(&self) -> String {
        format!("s3://{}?endpoint={}&region={}", self.name, self.endpoint, self.region)
    }

    /// The variables that carry the key.
    pub fn environment(&self) -> [(&'static str, &str); 2] {
        [("AWS_ACCESS_KEY_ID", &self.access_key), ("AWS_SECRET_ACCESS_KEY", &self.secret_key)]
    }

    /// Makes the bucket, or says that the server is not ready to: some listen before they can store.
    pub fn can_be_made(&self) -> bool {
        let probe = format!("/{}", "ready-for-tests");
        let made = end_of(self.curl("").args(["-X", "PUT"])).code == Some(0);
        made && end_of(self.curl(&probe).args(["--fail", "-X", "PUT", "-d", "yes"])).code == Some(0)
            && end_of(self.curl(&probe).args(["--fail", "-X", "DELETE"])).code == Some(0)
    }

    /// Every key.
    pub fn keys(&self) -> Vec<String> {
        self.keys_below("")
    }

    /// Every key that begins with `prefix`, in the server's order.
    pub fn keys_below(&self, prefix: &str) -> Vec<String> {
        let mut keys = Vec::new();
        let mut after = String::new();
        loop {
            // curl signs the query as it stands: names sorted, values encoded.
            let mut query = format!("?list-type=2&max-keys=1000&prefix={}", encode(prefix));
            if !after.is_empty() {
                query.push_str(&format!("&start-after={}", encode(&after)));
            }
            let page = stdout_of(self.curl(&query).arg("--fail"));
            let (found, truncated) = read_listing(&page);
            assert!(!truncated || !found.is_empty(), "a truncated listing without keys: {page}");
            keys.extend(found);
            match keys.last() {
                Some(last) if truncated => after.clone_from(last),
                _ => return keys,
            }
        }
    }

    /// An object's bytes, or nothing when the server says that there is none.
    pub fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.get_all(&[key]).pop().flatten()
    }

    /// As `get`, over one connection for many keys.
    pub fn get_all(&self, keys: &[&str]) -> Vec<Option<Vec<u8>>> {
        let mut objects = Vec::new();
        for keys in keys.chunks(300) {
            let folder = tempfile::tempdir().expect("temporary folder");
            let Some((first, rest)) = keys.split_first() else { continue };
            let mut request = self.curl(&format!("/{}", encode_path(first)));
            request.arg("-o").arg(folder.path().join("0"));
            for (number, key) in rest.iter().enumerate() {
                request.arg(self.address(&format!("/{}", encode_path(key))));
                request.arg("-o").arg(folder.path().join((number + 1).to_string()));
            }
            let codes = stdout_of(request.args(["-w", "%{http_code}\n"]));
            assert_eq!(codes.lines().count(), keys.len(), "curl told {codes:?}");
            for (number, code) in codes.lines().enumerate() {
                // curl leaves out the file of an empty object.
                let bytes = || std::fs::read(folder.path().join(number.to_string())).unwrap_or_default();
                match code {
                    "200" => objects.push(Some(bytes())),
                    "404" => objects.push(None),
                    other => panic!("GET {} answered {other}", keys[number]),
                }
            }
        }
        objects
    }

    pub fn put(&self, key: &str, bytes: &[u8]) {
        let mut file = tempfile::NamedTempFile::new().expect("temporary file");
        file.write_all(bytes).expect("temporary file");
        stdout_of(self.curl(&format!("/{}", encode_path(key))).arg("--fail").arg("-T").arg(file.path()));
    }

    /// Sets one of the bucket's own documents, such as `lifecycle`.
    pub fn set(&self, document: &str, xml: &str) {
        stdout_of(self.curl(&format!("?{document}=")).args(["--fail", "-X", "PUT", "--data-binary", xml]));
    }

    /// What the server's answers say that the time is.
    pub fn date(&self) -> SystemTime {
        let asked = stdout_of(self.curl("?list-type=2&max-keys=1").args(["-o", "/dev/null", "-w", "%header{date}"]));
        Timestamp::parse_rfc2822(asked.trim()).expect("a date").as_system_time()
    }

    pub fn delete(&self, key: &str) {
        stdout_of(self.curl(&format!("/{}", encode_path(key))).args(["--fail", "-X", "DELETE"]));
    }

    /// How many multipart uploads are open.
    pub fn open_uploads(&self) -> usize {
        stdout_of(self.curl("?uploads=").arg("--fail")).matches("<UploadId>").count()
    }

    /// How many parts the only open multipart upload has.
    pub fn open_parts(&self) -> usize {
        let uploads = stdout_of(self.curl("?uploads=").arg("--fail"));
        let only = |tag: &str| {
            let tag = format!("<{tag}>");
            let mut found = uploads.split(&tag).skip(1).filter_map(|rest| rest.split('<').next());
            let first = found.next().unwrap_or_else(|| panic!("no upload is open: {uploads}"));
            assert_eq!(found.next(), None, "more than one upload is open");
            unescape(first)
        };
        let (key, id) = (only("Key"), only("UploadId"));
        let parts = format!("/{}?max-parts=1000&uploadId={}", encode_path(&key), encode(&id));
        let parts = stdout_of(self.curl(&parts).arg("--fail"));
        assert!(parts.contains("<IsTruncated>false"), "{parts}");
        parts.matches("<PartNumber>").count()
    }

    /// Whether the server answers requests under this key by now.
    pub fn answers(&self) -> bool {
        end_of(self.curl("?list-type=2&max-keys=1").arg("--fail")).code == Some(0)
    }

    fn curl(&self, rest: &str) -> Command {
        let mut command = Command::new("curl");
        command
            .args(["--silent", "--globoff", "--noproxy", "*", "--max-time", "120"])
            .args(["--aws-sigv4", &format!("aws:amz:{}:s3", self.region)])
            .args(["--user", &format!("{}:{}", self.access_key, self.secret_key)])
            .args(["-H", "x-amz-content-sha256: UNSIGNED-PAYLOAD"])
            .arg(self.address(rest));
        if let Some(time) = &self.time {
            time.apply(&mut command);
        }
        command
    }

    fn address(&self, rest: &str) -> String {
        format!("{}/{}{rest}", self.endpoint, self.name)
    }
}

/// The keys on a page of ListObjectsV2, and whether more follow.
fn read_listing(page: &str) -> (Vec<String>, bool) {
    let keys = page.split("<Key>").skip(1).filter_map(|rest| rest.split_once("</Key>")).map(|(key, _)| unescape(key));
    (keys.collect(), page.contains("<IsTruncated>true</IsTruncated>"))
}

fn unescape(text: &str) -> String {
    let named = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&#34;", "\"");
    named.replace("&apos;", "'").replace("&#39;", "'").replace("&amp;", "&")
}

fn encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(byte.into()),
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}

fn encode_path(key: &str) -> String {
    key.split('/').map(encode).collect::<Vec<_>>().join("/")
}
