//! Answers that are wrong are errors with the right remedy; those that are only odd are understood.

use super::{body, client, key, told, xml};
use crate::support::wire_faults::{Canned, reply};
use loft::bucket::{Bucket, BucketError, Headers, Part, Prefix, S3, S3Settings, Secret, Upload, list_all};
use loft::remedy::Remedy;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Get,
    Range,
    Head,
    List,
    Put,
    Start,
    PutPart,
    Finish,
    ListParts,
    ListUploads,
    Copy,
    Delete,
}

/// `Ok` with what the call made of the answer.
async fn call(bucket: &S3, call: Call) -> Result<String, BucketError> {
    let upload = Upload { key: key("nar/x"), id: "id".into() };
    let part = Part { number: 1, etag: "\"e\"".into(), size: 1 };
    let x = &key("nar/x");
    Ok(match call {
        Call::Get => format!("{:?}", bucket.get(x, 100).await?),
        Call::Range => format!("{:?}", bucket.get_range(x, 10, 10).await?),
        Call::Head => format!("{:?}", bucket.head(x).await?),
        Call::List => format!("{:?}", list_all(bucket, &Prefix::nars()).await?),
        Call::Put => format!("{:?}", bucket.put(x, body("x"), Headers::default()).await?),
        Call::Start => format!("{:?}", bucket.start_upload(x, Headers::default()).await?),
        Call::PutPart => format!("{:?}", bucket.put_part(&upload, 1, body("x")).await?),
        Call::Finish => format!("{:?}", bucket.finish_upload(&upload, &[part]).await?),
        Call::ListParts => format!("{:?}", bucket.list_parts(&upload).await?),
        Call::ListUploads => format!("{:?}", bucket.list_uploads(&Prefix::nars()).await?),
        Call::Copy => format!("{:?}", bucket.copy(x, &key("nar/y"), Headers::default()).await?),
        Call::Delete => format!("{:?}", bucket.delete(x).await?),
    })
}

fn listing(rest: &str) -> String {
    xml(200, &format!("<ListBucketResult>{rest}</ListBucketResult>"))
}

fn listed(key: &str) -> String {
    format!("<Contents><Key>{key}</Key><LastModified>2026-11-22T10:00:00Z</LastModified><Size>1</Size></Contents>")
}

/// Every answer that is wrong in some way is an error with the right remedy that names the request;
/// none is taken for success or for "absent".
#[tokio::test]
async fn hostile_answers_are_errors() {
    use Call::*;
    use Remedy::*;
    let error_xml = "<Error><Code>InternalError</Code><Message>m</Message></Error>";
    let date = "Last-Modified: Sun, 22 Nov 2026 10:00:00 GMT";
    let table: Vec<(&str, Call, String, Remedy)> = vec![
        ("nothing at all", Get, String::new(), Retry),
        ("not HTTP", Get, "SSH-2.0-OpenSSH_9.9\r\n".into(), Retry),
        ("cut in the headers", Head, "HTTP/1.1 200 OK\r\nContent-Le".into(), Retry),
        ("body shorter than said", Get, format!("HTTP/1.1 200 OK\r\n{date}\r\nContent-Length: 50\r\n\r\nhalf"), Retry),
        (
            "chunks that do not end",
            Get,
            format!("HTTP/1.1 200 OK\r\n{date}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"),
            Retry,
        ),
        ("larger than allowed", Get, format!("HTTP/1.1 200 OK\r\n{date}\r\nContent-Length: 101\r\n\r\n"), GiveUpOnItem),
        (
            "larger than allowed, in chunks",
            Get,
            format!(
                "HTTP/1.1 200 OK\r\n{date}\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{}\r\n0\r\n\r\n",
                "x".repeat(255)
            ),
            GiveUpOnItem,
        ),
        ("a web page that says 404", Get, reply(404, "text/html", "<html>Not found</html>"), FixConfig),
        (
            "a web page that says 404 to HEAD",
            Head,
            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".into(),
            FixConfig,
        ),
        ("the bucket is missing", Get, xml(404, "<Error><Code>NoSuchBucket</Code></Error>"), FixConfig),
        ("404 without a code", Get, xml(404, ""), FixConfig),
        ("no date", Get, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx".into(), Retry),
        (
            "a date that is none",
            Head,
            "HTTP/1.1 200 OK\r\nLast-Modified: yesterday\r\nContent-Length: 1\r\n\r\n".into(),
            Retry,
        ),
        ("a size that is none", Head, format!("HTTP/1.1 200 OK\r\n{date}\r\n\r\n"), Retry),
        (
            "a redirect to a login",
            Head,
            "HTTP/1.1 302 Found\r\nLocation: https://login.example/\r\nContent-Length: 0\r\n\r\n".into(),
            FixConfig,
        ),
        (
            "another region",
            Head,
            "HTTP/1.1 301 Moved\r\nx-amz-bucket-region: eu-west-1\r\nContent-Length: 0\r\n\r\n".into(),
            FixConfig,
        ),
        ("busy", Put, xml(503, "<Error><Code>SlowDown</Code></Error>"), Retry),
        ("busy, says a proxy", Put, reply(502, "text/html", "<html>Bad gateway</html>"), Retry),
        ("a garbled error", Put, xml(500, "<Error><Code>Inter"), Retry),
        ("an endless error", Put, xml(400, &"x".repeat(1 << 20)), FixConfig),
        ("time-out as 400", Put, xml(400, "<Error><Code>RequestTimeout</Code></Error>"), Retry),
        ("refused for good", Put, xml(400, "<Error><Code>EntityTooLarge</Code></Error>"), GiveUpOnItem),
        ("not implemented", ListUploads, xml(501, "<Error><Code>NotImplemented</Code></Error>"), FixConfig),
        (
            "another range",
            Range,
            "HTTP/1.1 206 P\r\nContent-Range: bytes 0-9/20\r\nContent-Length: 10\r\n\r\n0123456789".into(),
            Retry,
        ),
        ("the whole for a range", Range, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789".into(), Retry),
        (
            "more than the range",
            Range,
            "HTTP/1.1 206 P\r\nContent-Range: bytes 10-30/40\r\nContent-Length: 21\r\n\r\n012345678901234567890".into(),
            GiveUpOnItem,
        ),
        ("an empty listing body", List, xml(200, ""), Retry),
        ("a web page as listing", List, reply(200, "text/html", "<html><body>Welcome</body></html>"), Retry),
        ("half a listing", List, xml(200, "<ListBucketResult><IsTruncated>false</IsTruncated>"), Retry),
        ("a listing that does not say whether it ends", List, listing(""), Retry),
        ("a listing with an error inside", List, xml(200, error_xml), Retry),
        ("more, but not where", List, listing("<IsTruncated>true</IsTruncated>"), Retry),
        ("a listing in a circle", List, listing(&format!("<IsTruncated>true</IsTruncated>{}", listed("nar/a"))), Retry),
        (
            "a token in a circle",
            List,
            listing("<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>"),
            Retry,
        ),
        ("another prefix", List, listing(&format!("<IsTruncated>false</IsTruncated>{}", listed("other/a"))), Retry),
        (
            "a negative size",
            List,
            listing(&format!("<IsTruncated>false</IsTruncated>{}", listed("nar/a").replace(">1<", ">-1<"))),
            Retry,
        ),
        (
            "a key that is not UTF-8",
            List,
            listing(&format!("<IsTruncated>false</IsTruncated><EncodingType>url</EncodingType>{}", listed("nar/%ff"))),
            Retry,
        ),
        (
            "an endless listing",
            List,
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 1_u64 << 40),
            GiveUpOnItem,
        ),
        (
            "entities",
            List,
            xml(
                200,
                "<!DOCTYPE a [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]><ListBucketResult><IsTruncated>&b;</IsTruncated></ListBucketResult>",
            ),
            Retry,
        ),
        (
            "an upload without an id",
            Start,
            xml(200, "<InitiateMultipartUploadResult><UploadId></UploadId></InitiateMultipartUploadResult>"),
            Retry,
        ),
        ("a part without an ETag", PutPart, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".into(), Retry),
        ("a Complete that failed after 200", Finish, xml(200, error_xml), Retry),
        ("a Complete that says nothing", Finish, xml(200, ""), Retry),
        (
            "a Complete that was cut",
            Finish,
            "HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n<CompleteMultipart".into(),
            Retry,
        ),
        ("a copy that failed after 200", Copy, xml(200, error_xml), Retry),
        (
            "parts out of order",
            ListParts,
            xml(
                200,
                "<ListPartsResult><IsTruncated>false</IsTruncated><Part><PartNumber>2</PartNumber><ETag>a</ETag><Size>1</Size></Part><Part><PartNumber>1</PartNumber><ETag>a</ETag><Size>1</Size></Part></ListPartsResult>",
            ),
            Retry,
        ),
        (
            "parts without end",
            ListParts,
            xml(200, "<ListPartsResult><IsTruncated>true</IsTruncated></ListPartsResult>"),
            Retry,
        ),
        (
            "uploads without end",
            ListUploads,
            xml(
                200,
                "<ListMultipartUploadsResult><IsTruncated>true</IsTruncated><NextKeyMarker>a</NextKeyMarker></ListMultipartUploadsResult>",
            ),
            Retry,
        ),
        ("forbidden", Delete, xml(403, "<Error><Code>AccessDenied</Code></Error>"), FixConfig),
        ("404 for a deletion, of the bucket", Delete, xml(404, "<Error><Code>NoSuchBucket</Code></Error>"), FixConfig),
    ];
    for (name, what, answer, remedy) in table {
        let server = Canned::start(answer).await;
        let mut settings = S3Settings::new("c");
        settings.endpoint = Some(server.endpoint.clone());
        settings.access_key = Some(Secret::new("a"));
        settings.secret_key = Some(Secret::new("s3cr3t"));
        let error = match call(&client(&settings), what).await {
            Ok(taken) => panic!("{name}: taken for {taken}"),
            Err(error) => error,
        };
        let text = told(&error);
        assert_eq!(error.remedy(), remedy, "{name}: {text}");
        assert!(text.contains("nar/") && text.contains(&server.endpoint), "{name}: {text}");
        assert!(text.len() < 1500 && !text.contains("s3cr3t"), "{name}: {text}");
    }
}

/// What is odd but right must work.
#[tokio::test]
async fn unusual_answers_are_understood() {
    use Call::*;
    let date = "Last-Modified: Sun, 22 Nov 2026 10:00:00 GMT";
    for (name, what, answer, expected) in [
        (
            "in chunks",
            Get,
            format!("HTTP/1.1 200 OK\r\n{date}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
            "size: 5",
        ),
        (
            "absent, in words of a namespace",
            Get,
            xml(404, "<?xml version='1.0'?><Error xmlns='urn:x'><Code>NoSuchKey</Code><Else/></Error>"),
            "None",
        ),
        ("absent for a deletion", Delete, xml(404, "<Error><Code>NoSuchKey</Code></Error>"), "()"),
        ("absent for a copy", Copy, xml(404, "<Error><Code>NoSuchKey</Code></Error>"), "false"),
        ("an empty listing", List, listing("<IsTruncated>false</IsTruncated>"), "[]"),
        (
            "unencoded keys",
            List,
            listing(&format!("<IsTruncated>false</IsTruncated>{}", listed("nar/a%2Bb"))),
            "nar/a%2Bb",
        ),
        ("the upload is gone", ListParts, xml(404, "<Error><Code>NoSuchUpload</Code></Error>"), "None"),
        (
            "a prolog and spaces before Complete's answer",
            Finish,
            xml(200, "<?xml version='1.0'?>\n \n \n<CompleteMultipartUploadResult/>"),
            "()",
        ),
    ] {
        let server = Canned::start(answer).await;
        let mut settings = S3Settings::new("c");
        settings.endpoint = Some(server.endpoint.clone());
        settings.access_key = Some(Secret::new("a"));
        settings.secret_key = Some(Secret::new("b"));
        let taken = call(&client(&settings), what).await.unwrap_or_else(|error| panic!("{name}: {}", told(&error)));
        assert!(taken.contains(expected), "{name}: {taken}");
    }
}
