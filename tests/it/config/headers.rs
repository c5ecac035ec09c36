//! Extra headers: where they come from, and which win.

use super::{Setup, s3, to};
use loft::config::Origin;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

#[test]
fn headers_of_a_file_win_over_the_table_and_variables_over_both() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("headers");
    let write = |text: &str| fs::write(&file, text).unwrap();
    let table = "[s3.extra_headers]\nX-A = \"table\"\nX-B = \"table\"\nX-C = \"table\"\n";
    let setup = Setup::new(&format!("[s3]\nbucket = \"b\"\nextra_headers_file = {file:?}\n{table}"))
        .variable("LOFT_EXTRA_HEADER_X_C", "variable");
    write(
        "# as in HTTP\nx-b: file=1\nX-Colons : a:b \n\n; as in a file of variables\r\nLOFT_EXTRA_HEADER_X_C=file\n\
         LOFT_EXTRA_HEADER_X_QUOTED=\"a: b\"\nLOFT_EXTRA_HEADER_X_SINGLE='s'\nAWS_SECRET_ACCESS_KEY=hunter2: x\n",
    );
    let loaded = setup.load().unwrap();
    let headers: BTreeMap<_, _> =
        s3(&loaded).extra_headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    let expected = [
        ("x-a", "table"),
        ("x-b", "file=1"),
        ("x-c", "variable"),
        ("x-colons", "a:b"),
        ("x-quoted", "a: b"),
        ("x-single", "s"),
    ];
    assert_eq!(headers, BTreeMap::from(expected));
    assert_eq!(setup.shown("s3.extra_headers.x-b").1, format!("{}:2:1", file.display()));
    let [warning] = loaded.warnings.as_slice() else { panic!("{:?}", loaded.warnings) };
    let warning = warning.to_string();
    assert!(warning.contains("headers:9:1") && warning.contains("LOFT_EXTRA_HEADER_NAME=value"), "{warning}");
    // What seems to be a variable's name may be a secret with padding.
    assert!(!warning.contains("AWS_SECRET") && !warning.contains("hunter2"), "{warning}");

    let refused = |text: &str, expected: &str| {
        write(text);
        let error = setup.load().unwrap_err();
        assert_eq!(error.problems.len(), 1, "{error}");
        let told = error.to_string();
        assert!(told.contains(expected) && !told.contains("hunter2"), "{text}: {told}");
    };
    refused("X-Token: ok\nhunter2\n", "headers:2:1");
    refused("hunter2 = x", "`Name: value`");
    // A secret that has a colon, or something like it, is no header.
    for secret in [
        "hunter2:x",
        "user:hunter2",
        "user:hunter2: x",
        "eyJhbGciOiJIUzI1NiJ9.hunter2.x:abc",
        "eyJhbGciOiJIUzI1NiJ9: hunter2",
        "AKIAIOSFODNN7EXAMPLE:hunter2",
        "GK31c2f218a2e44f485b94239e: hunter2",
        "hunter2/abc: x",
        "f50e8400-e29b-41d4-a716-446655440000: hunter2",
        "2f-hunter2: x",
        "Basic hunter2: x",
        "LOFT_EXTRA_HEADER_X hunter2=x",
        "https://user:hunter2@proxy",
        ": hunter2",
    ] {
        refused(secret, "write `Name: value`");
    }
    refused("X-Amz-Date: hunter2", "x-amz-");
    for header in ["CF-Access-Client-Secret:x", "Cookie: x=y", "X-B3-TraceId: x", "X_Key : x", "Sec-WebSocket-Key1:\tx"]
    {
        write(header);
        assert!(setup.load().is_ok(), "{header}");
    }
    refused(&"X-Token: hunter2\n".repeat(10_000), "longer than any server takes");
    write("");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o602)).unwrap();
    assert!(setup.load().unwrap_err().to_string().contains("others may write it"));
    fs::remove_file(&file).unwrap();
    assert!(setup.load().unwrap_err().to_string().contains("No such file"));
    // Another server is told nothing of it.
    let elsewhere = setup.flags(to("s3://b?endpoint=http://other:1"));
    assert!(elsewhere.load().unwrap().warnings[0].to_string().contains("extra_headers_file"));
}

#[test]
fn a_header_may_have_a_file_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let file = dir.path().join(name);
        fs::write(&file, text).unwrap();
        file
    };
    let lines = file("lines", "X-B: lines\nX-C: lines\n");
    let [b, c, d] = [file("b", "own: b\n"), file("c", "own"), file("d", "own\r\n")];
    let setup = Setup::new(&format!(
        "[s3]\nbucket = \"b\"\nextra_headers_file = {lines:?}\n\
         [s3.extra_headers]\nX-A = \"table\"\nX-B = \"table\"\nX-D = \"table\"\n\
         [s3.extra_header_files]\nx-b = {b:?}\nX-C = {c:?}\nX-D = {d:?}\n"
    ))
    .variable("LOFT_EXTRA_HEADER_X_C", "variable");
    let headers = |setup: &Setup| -> BTreeMap<String, String> {
        let loaded = setup.load().unwrap();
        assert_eq!(loaded.warnings, []);
        let text = |value: &http::HeaderValue| value.to_str().unwrap().to_owned();
        s3(&loaded).extra_headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
    };
    let map = |pairs: &[(&str, &str)]| pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    let expected: BTreeMap<String, String> =
        map(&[("x-a", "table"), ("x-b", "own: b"), ("x-c", "variable"), ("x-d", "own")]);
    assert_eq!(headers(&setup), expected);
    assert_eq!(setup.shown("s3.extra_headers.x-b").1, format!("{}:1:1", b.display()));
    assert_eq!(setup.shown("s3.extra_header_files.x-b"), (b.display().to_string().into(), "loft.toml:9:7".to_owned()));

    // A credential stands for the file of its header, whatever the name's case, and needs no line in loft.toml.
    let credentials = dir.path().join("credentials");
    fs::create_dir(&credentials).unwrap();
    fs::write(credentials.join("loft.extra-header.X-B"), "credential\n").unwrap();
    fs::write(credentials.join("loft.extra-header.X-E"), "credential").unwrap();
    fs::remove_file(&b).unwrap();
    let setup = setup.variable("CREDENTIALS_DIRECTORY", credentials.to_str().unwrap());
    let expected: BTreeMap<String, String> =
        map(&[("x-a", "table"), ("x-b", "credential"), ("x-c", "variable"), ("x-d", "own"), ("x-e", "credential")]);
    assert_eq!(headers(&setup), expected);
    assert_eq!(setup.shown("s3.extra_header_files.x-e").1, "CREDENTIALS_DIRECTORY");

    let refused = |text: &str, expected: &str| {
        fs::write(&d, text).unwrap();
        let error = setup.load().unwrap_err();
        assert_eq!(error.problems.len(), 1, "{error}");
        let told = error.to_string();
        assert!(told.contains(expected) && told.contains("/d") && !told.contains("hunter2"), "{told}");
    };
    refused("hunter2\nhunter2\n", "X-D");
    // One newline is the editor's; what stands before it is meant, or a mistake.
    refused("hunter2\n\n", "X-D");
    refused("\n", "it is empty");
    fs::write(&d, "x").unwrap();
    fs::set_permissions(&d, fs::Permissions::from_mode(0o602)).unwrap();
    assert!(setup.load().unwrap_err().to_string().contains("others may write it"));
}

#[test]
fn headers_of_the_environment_win_over_the_files() {
    let setup = Setup::new("[s3]\nbucket = \"b\"\n[s3.extra_headers]\nCf-Access-Client-Id = \"file\"\nX-B = \"b\"\n")
        .variable("LOFT_EXTRA_HEADER_CF_ACCESS_CLIENT_ID", "environment");
    let loaded = setup.load().unwrap();
    let headers: BTreeMap<_, _> =
        s3(&loaded).extra_headers.iter().map(|(n, v)| (n.as_str(), v.to_str().unwrap())).collect();
    assert_eq!(headers, BTreeMap::from([("cf-access-client-id", "environment"), ("x-b", "b")]));
    assert_eq!(setup.shown("s3.extra_headers.cf-access-client-id").1, "LOFT_EXTRA_HEADER_CF_ACCESS_CLIENT_ID");
    for (variable, value) in
        [("LOFT_EXTRA_HEADER_HOST", "h"), ("LOFT_EXTRA_HEADER_", "v"), ("LOFT_EXTRA_HEADER_X", "a\nb")]
    {
        let error = Setup::new("").variable(variable, value).load().unwrap_err();
        assert_eq!(error.problems[0].origin, Origin::Environment(variable.to_owned()));
    }
}
