//! Mistakes are told with their place and with what to do.

use super::Setup;
use loft::config::{Origin, Sources, load};

/// Text; line, column and part of the message of each problem, in order.
type Broken = (&'static str, &'static [(usize, usize, &'static str)]);

const BROKEN: &[Broken] = &[
    // Syntax.
    ("[s3\nbucket = \"b\"", &[(1, 4, "Not valid TOML")]),
    ("[s3]\nbucket = b", &[(2, 10, "Not valid TOML")]),
    ("[s3]\nbucket = \"b", &[(2, 12, "Not valid TOML")]),
    ("[s3]\nbucket = \"a\"\nbucket = \"b\"", &[(3, 1, "duplicate key")]),
    ("[loft]\nupload_threads = 12x\nscan_on_startup = tru", &[(2, 18, "Not valid"), (3, 19, "Not valid")]),
    // Types.
    ("s3 = 3", &[(1, 1, "`s3` must be a section")]),
    ("[s3]\nbucket = 3", &[(2, 10, "`bucket` is 3, but must be the bucket's name")]),
    ("[loft]\nupload_threads = \"12\"", &[(2, 18, "`upload_threads` is \"12\", but must be a whole number")]),
    ("[loft]\nupload_threads = 1.5", &[(2, 18, "a fraction")]),
    ("[loft]\nscan_on_startup = \"yes\"", &[(2, 19, "must be true or false, without quotes")]),
    ("[loft]\nprune_schedule = 00:00", &[(2, 18, "a date or time without quotes")]),
    ("[loft]\nsigning_key_paths = \"/k\"", &[(2, 21, "for example [\"/k\"]")]),
    ("[loft]\nexclude = [\"a\", 3]", &[(2, 17, "An item of `exclude` is 3")]),
    ("[loft]\ncache = 3", &[(2, 9, "`cache` is 3, but must be a URL in quotes")]),
    ("[loft]\npublic_url = \"cache.example.org\"", &[(2, 14, "but must be the web address that clients read")]),
    ("[loft]\npublic_url = \"https://u:p@h\"", &[(2, 14, "`public_url` is a text with `@`")]),
    ("[s3]\nextra_headers = \"X: y\"", &[(2, 17, "[s3.extra_headers]")]),
    ("[s3.extra_headers]\nX-Foo = 3", &[(2, 9, "\"X-Foo\"")]),
    ("[s3]\nextra_header_files = \"/run/h\"", &[(2, 22, "[s3.extra_header_files]")]),
    ("[s3.extra_header_files]\nX-Foo = 3", &[(2, 9, "\"X-Foo\"")]),
    ("[s3.extra_header_files]\nX-Foo = \"\"", &[(2, 9, "\"X-Foo\"")]),
    ("[loft]\ncompression = [\"zstd\"]", &[(2, 15, "`compression` is a list")]),
    ("[loft]\nupload_threads = 99999999999999999999", &[(2, 18, "beyond 64 bits")]),
    // Values.
    ("[loft]\nupload_threads = 0", &[(2, 18, "from 1 to 512")]),
    ("[loft]\nupload_threads = -1", &[(2, 18, "is -1")]),
    ("[loft]\nprune_target_percentage = 101", &[(2, 27, "from 1 to 100")]),
    ("[loft]\nprune_retention_days = 0", &[(2, 24, "from 1 to")]),
    ("[loft]\nprune_max_size_gb = 0", &[(2, 21, "from 1,")]),
    ("[loft]\nprune_schedule = \"daily\"", &[(2, 18, "\"90m\", \"24h\", \"7d\"")]),
    ("[loft]\nprune_schedule = \"25:00\"", &[(2, 18, "`prune_schedule` is \"25:00\"")]),
    ("[loft]\nprune_schedule = \"5s\"", &[(2, 18, "from a minute to a year")]),
    ("[loft]\nprune_schedule = \"99999d\"", &[(2, 18, "from a minute to a year")]),
    ("[loft]\nprune_schedule = \"24\"", &[(2, 18, "`prune_schedule` is \"24\"")]),
    ("[loft]\ncompression = \"brotli\"", &[(2, 15, "\"zstd\", \"xz\" or \"none\"")]),
    ("[loft]\ncompression_level = 23", &[(2, 21, "from 1 to 22")]),
    ("[loft]\ncompression = \"xz\"\ncompression_level = 10", &[(3, 21, "from 0 to 9")]),
    ("[loft]\ncompression = \"none\"\ncompression_level = 3", &[(3, 21, "no levels")]),
    ("[loft]\nmemory_limit = \"1MiB\"", &[(2, 16, "at least 32 MiB")]),
    ("[loft]\nmemory_limit = \"lots\"", &[(2, 16, "`memory_limit` is \"lots\"")]),
    ("[loft]\nmetrics_address = \":9100\"", &[(2, 19, "an IP address and a port")]),
    ("[loft]\nsigning_key_path = \"k\"\nsigning_key_name = \"a b\"", &[(3, 20, "no key name")]),
    ("[loft]\nskip_signed_by_keys = [\"ok-1\", \"a:b\"]", &[(2, 32, "neither a key's name nor a public key")]),
    ("[loft]\nexclude = [\"/nix/store/*\"]", &[(2, 12, "not over paths")]),
    ("[loft]\nupstreams = [\"cache.nixos.org\"]", &[(2, 14, "https://cache.nixos.org")]),
    ("[loft]\nupstreams = [\"https://u:pw@h\"]", &[(2, 14, "user name or password")]),
    ("[s3]\nbucket = \"s3://b\"", &[(2, 10, "the bucket's name alone")]),
    ("[s3]\nbucket = \"\"", &[(2, 10, "`bucket` is \"\"")]),
    ("[s3]\nprefix = \"a/../b\"", &[(2, 10, "`prefix`")]),
    ("[s3]\naddressing_style = \"dns\"", &[(2, 20, "\"auto\", \"path\" or \"virtual\"")]),
    ("[s3]\nendpoint = \"localhost:3900\"", &[(2, 12, "http:// or https://")]),
    ("[s3]\nendpoint = \"ftp://h\"", &[(2, 12, "neither an http://")]),
    ("[s3]\nendpoint = \"http://h/bucket\"", &[(2, 12, "has a path")]),
    ("[s3]\nendpoint = \"http://u:pw@h\"", &[(2, 12, "user name or password")]),
    ("[s3]\nendpoint = \"http://h:99999\"", &[(2, 12, "port")]),
    ("[s3]\nendpoint = \"http://\"", &[(2, 12, "host name")]),
    ("[s3]\naccess_key = \"GK0123456789\"", &[(2, 14, "no secret key")]),
    ("[s3]\nsecret_key_file = \"/f\"", &[(2, 19, "no access key")]),
    ("[s3]\naccess_key = \"a\"\naccess_key_file = \"/f\"\nsecret_key = \"s\"", &[(3, 19, "both set")]),
    ("[s3.extra_headers]\nx-amz-meta-a = \"b\"", &[(2, 16, "x-amz-")]),
    ("[s3.extra_headers]\nHost = \"b\"", &[(2, 8, "Host")]),
    ("[s3.extra_headers]\nAuthorization = \"b\"", &[(2, 17, "Authorization")]),
    ("[s3.extra_headers]\n\"a b\" = \"c\"", &[(2, 9, "\"a b\"")]),
    // All in one go, in the file's order, whatever the sections' order.
    (
        "[loft]\nupload_threads = 0\ncompression = 3\n[s3]\nendpoint = \"x\"\n",
        &[(2, 18, "upload_threads"), (3, 15, "compression"), (5, 12, "endpoint")],
    ),
    ("# ünïcödé\n[loft] # é\nexclude = [\"é\", \"ok\", \"b c\"]", &[(3, 12, "'é'"), (3, 23, "' '")]),
    ("[loft]\r\nupload_threads = 0\r\n", &[(2, 18, "upload_threads")]),
];

#[test]
fn tells_every_problem_with_its_place() {
    assert!(BROKEN.len() >= 25);
    for (text, expected) in BROKEN {
        let setup = Setup::new(text);
        let error = setup.load().expect_err(text);
        let told = error.to_string();
        assert_eq!(error.problems.len(), expected.len(), "{text}\n{told}");
        for (problem, (line, column, part)) in error.problems.iter().zip(*expected) {
            let Origin::File(place) = &problem.origin else { panic!("{text}\n{problem}") };
            assert_eq!((place.line, place.column), (*line, *column), "{text}\n{told}");
            assert_eq!(Some(&*place.file), setup.sources.file.as_deref());
            assert!(problem.to_string().contains(part), "{text}\n{problem}\nlacks {part}");
        }
    }
}

#[test]
fn shows_the_line_with_a_mark_and_what_to_do() {
    let setup = Setup::new("[s3]\nendpoint = \"localhost:3900\"\n");
    let told = setup.load().unwrap_err().to_string().replace(&format!("{}/", setup.folder().display()), "");
    assert_eq!(
        told,
        "loft.toml:2:12: `endpoint` does not say whether it is http:// or https://\n  \
         2 | endpoint = \"localhost:3900\"\n    \
         |            ^^^^^^^^^^^^^^^^\n  \
         hint: write http://HOST:PORT or https://HOST"
    );
}

#[test]
fn unknown_keys_warn_and_strictly_are_errors() {
    let cases = [
        ("[loft]\nuplod_threads = 3", 2, "Unknown key `uplod_threads` in [loft]", "did you mean `upload_threads`?"),
        ("[loft]\nbucket = \"b\"", 2, "Unknown key `bucket` in [loft]", "`bucket` belongs in [s3]"),
        ("bucket = \"b\"", 1, "Unknown key `bucket`", "`bucket` belongs in [s3]"),
        ("[lotf]\ncompression = \"xz\"", 1, "Unknown section [lotf]", "did you mean [loft]?"),
        ("[extra_headers]\nX-A = \"b\"", 1, "Unknown section [extra_headers]", "`extra_headers` belongs in [s3]"),
        ("\n[s3]\nacces_key = \"b\"", 3, "Unknown key `acces_key` in [s3]", "did you mean `access_key`?"),
    ];
    for (text, line, message, help) in cases {
        let setup = Setup::new(text);
        let loaded = setup.load().unwrap();
        let [warning] = &loaded.warnings[..] else { panic!("{text}: {:?}", loaded.warnings) };
        assert!(matches!(&warning.origin, Origin::File(place) if place.line == line), "{text}: {warning}");
        assert_eq!((warning.message.as_str(), warning.help.as_deref()), (message, Some(help)));
        let error = load(&Sources { strict: true, ..setup.sources.clone() }).unwrap_err();
        assert_eq!(error.problems, loaded.warnings);
    }
    // Beside an error they are told too: they may be its cause.
    let error = Setup::new("[s3]\nacces_key = \"a\"\nsecret_key = \"s\"").load().unwrap_err();
    assert_eq!((error.problems.len(), error.warnings.len()), (1, 1));
}

#[test]
fn keys_of_the_original_that_lost_their_meaning_are_no_errors() {
    let setup = Setup::new("[loft]\nuse_disk_for_large_nars = true\nlarge_nar_threshold_mb = 100\n");
    assert_eq!(setup.load().unwrap().warnings.len(), 2);
    assert!(load(&Sources { strict: true, ..setup.sources.clone() }).is_ok());
}
