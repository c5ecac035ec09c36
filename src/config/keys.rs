//! Every key of `loft.toml`, with all that the reference says of it: docs/reference/configuration.md is made from this
//! table, and tests hold the table to what the readers of these keys do.

use super::schema::Secrecy;

/// A key of `loft.toml`. Texts are Markdown.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    pub section: &'static str,
    pub name: &'static str,
    pub secrecy: Secrecy,
    /// What may stand there, as errors say it: "must be …".
    pub takes: &'static str,
    /// The value where nobody sets one.
    pub fallback: Fallback,
    /// Variables of the environment that set it too.
    pub variables: &'static [&'static str],
    pub flag: Option<&'static str>,
    /// Of the URL that `--to` and `LOFT_CACHE` take.
    pub parameter: Option<&'static str>,
    /// The systemd credential that stands in its place.
    pub credential: Option<&'static str>,
    pub meaning: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallback {
    /// A value, as `loft config show` prints it.
    Value(&'static str),
    /// None, and what happens then.
    Unset(&'static str),
}

impl Key {
    const fn new(section: &'static str, name: &'static str) -> Self {
        Self {
            section,
            name,
            secrecy: Secrecy::Public,
            takes: "",
            fallback: Fallback::Unset(""),
            variables: &[],
            flag: None,
            parameter: None,
            credential: None,
            meaning: "",
        }
    }

    const fn secrecy(self, secrecy: Secrecy) -> Self {
        Self { secrecy, ..self }
    }

    const fn takes(self, takes: &'static str) -> Self {
        Self { takes, ..self }
    }

    const fn default(self, value: &'static str) -> Self {
        Self { fallback: Fallback::Value(value), ..self }
    }

    const fn unset(self, then: &'static str) -> Self {
        Self { fallback: Fallback::Unset(then), ..self }
    }

    const fn variables(self, variables: &'static [&'static str]) -> Self {
        Self { variables, ..self }
    }

    const fn flag(self, flag: &'static str) -> Self {
        Self { flag: Some(flag), ..self }
    }

    const fn parameter(self, parameter: &'static str) -> Self {
        Self { parameter: Some(parameter), ..self }
    }

    const fn credential(self, credential: &'static str) -> Self {
        Self { credential: Some(credential), ..self }
    }

    const fn means(self, meaning: &'static str) -> Self {
        Self { meaning, ..self }
    }
}

const fn s3(name: &'static str) -> Key {
    Key::new("s3", name)
}

const fn loft(name: &'static str) -> Key {
    Key::new("loft", name)
}

/// In the order in which they are shown.
pub const KEYS: &[Key] = &[
    s3("bucket")
        .takes("the bucket's name alone, such as \"nix-cache\"")
        .unset("none; it must be named somewhere")
        .variables(&["LOFT_CACHE"])
        .flag("--to")
        .means("The bucket that is the cache."),
    s3("prefix").takes("keys' beginning, such as \"nix/x86\"").unset("none").means(
        "Stands before every key, so that one bucket can hold several caches, or other things as well. The \
             path of an `s3://` URL sets it too.",
    ),
    s3("region")
        .takes("a region's name, such as \"us-east-1\" or \"garage\"")
        .default("us-east-1")
        .variables(&["AWS_REGION", "AWS_DEFAULT_REGION"])
        .parameter("region")
        .means(
            "Part of every signature: what the server calls its region. Garage says `garage` unless told \
             otherwise.",
        ),
    s3("endpoint")
        .takes("a URL such as \"http://localhost:3900\"")
        .unset("AWS in the region")
        .variables(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"])
        .parameter("endpoint")
        .means("The server: scheme, host and port, without a path."),
    s3("addressing_style")
        .takes("\"auto\", \"path\" or \"virtual\"")
        .default("auto")
        .parameter("addressing-style")
        .means(
            "Whether requests name the bucket in the path (`HOST/BUCKET`) or in the host (`BUCKET.HOST`). \
             `auto` is `path` where an endpoint is set, else `virtual`.",
        ),
    s3("access_key")
        .secrecy(Secrecy::Partly)
        .takes("a text in quotes, not empty")
        .unset("looked for elsewhere")
        .variables(&["AWS_ACCESS_KEY_ID"])
        .means(
            "The access key itself. Better in the environment or in a file; see [where credentials come \
             from](../configuration.md#credentials).",
        ),
    s3("secret_key")
        .secrecy(Secrecy::Secret)
        .takes("a text in quotes, not empty")
        .unset("looked for elsewhere")
        .variables(&["AWS_SECRET_ACCESS_KEY"])
        .means("The secret key itself; as for `access_key`."),
    s3("access_key_file")
        .takes("the path of a file, in quotes")
        .unset("none")
        .credential("loft.access-key")
        .means("File that holds the access key and nothing else."),
    s3("secret_key_file").takes("the path of a file, in quotes").unset("none").credential("loft.secret-key").means(
        "File that holds the secret key and nothing else. Refused where other users may write to it, or \
             where it stands in the Nix store.",
    ),
    s3("profile")
        .takes("a profile's name in quotes")
        .unset("that of `AWS_PROFILE`, else `default`")
        .parameter("profile")
        .means(
            "Profile of `~/.aws/config` and `~/.aws/credentials` that has the credentials, also one that \
             assumes a role or runs a program.",
        ),
    s3("ca_file")
        .takes("the path of a file, in quotes")
        .unset("the system's alone")
        .means("PEM certificates to trust besides the system's."),
    s3("storage_class")
        .takes("a storage class, such as \"STANDARD_IA\"")
        .unset("the bucket's own")
        .parameter("storage-class")
        .means("Sent with every new object."),
    s3("extra_headers")
        .secrecy(Secrecy::Secret)
        .takes("a table: [s3.extra_headers]")
        .unset("none")
        .variables(&["LOFT_EXTRA_HEADER_NAME"])
        .means(
            "Headers for every request, for an authenticating proxy before the bucket: name and value. Added \
             after the request is signed, and never logged; see [extra \
             headers](../configuration.md#extra-headers).",
        ),
    s3("extra_headers_file")
        .takes("the path of a file, in quotes")
        .unset("none")
        .credential("loft.extra-headers")
        .means("File with such headers, on lines `Name: value` or `LOFT_EXTRA_HEADER_NAME=value`."),
    s3("extra_header_files")
        .takes("a table: [s3.extra_header_files]")
        .unset("none")
        .credential("loft.extra-header.NAME")
        .means("For each header the file that holds its value and nothing else."),
    loft("cache")
        .takes("a URL in quotes: \"s3://BUCKET?endpoint=…\" or \"file:///DIRECTORY\"")
        .unset("none, then `[s3]` says where")
        .means(
            "Where the cache is, as a URL in the form that `--to` and `LOFT_CACHE` take, instead of `[s3]`; they win over it. \
             A directory can be named in no other way.",
        ),
    loft("public_url")
        .takes("the web address that clients read, such as \"https://cache.example.org\"")
        .unset("none")
        .means("The web address at which everybody may read the bucket; `loft use` hands it to readers."),
    loft("status_page").takes("true or false, without quotes").default("false").means(
        "Whether `loft prune` and the service's prunes write `index.html` into the bucket: what is in it and how to \
         use it, for browsers. An `index.html` that loft did not write stays as it is.",
    ),
    loft("store")
        .takes("a Nix store such as \"auto\", \"daemon\" or \"local\"")
        .unset("as Nix decides")
        .variables(&["NIX_REMOTE"])
        .flag("--store")
        .means(
            "The Nix store to read: `auto`, `daemon`, `local`, `unix://SOCKET`, `local?root=DIR`, or a \
             chroot store's directory.",
        ),
    loft("upload_threads")
        .takes("a whole number from 1 to 512, without quotes")
        .default("12")
        .flag("--jobs")
        .means("Paths that are worked on at once. Compression uses no more threads than there are cores."),
    loft("memory_limit")
        .takes("a size of at least 32 MiB, such as \"256MiB\" or a number of bytes")
        .default("64MiB")
        .means("Bytes that all NARs in flight may take together; beside it loft needs some 80 MiB."),
    loft("compression").takes("\"zstd\", \"xz\" or \"none\"").default("zstd").parameter("compression").means(
        "How NARs are compressed. `xz` is smaller and many times slower; `none` suits file systems that \
             compress by themselves.",
    ),
    loft("compression_level")
        .takes("a whole number from 1 to 22, without quotes")
        .unset("3 for zstd, 6 for xz")
        .flag("--level")
        .parameter("compression-level")
        .means("How hard: 1 to 22 for zstd, 0 to 9 for xz; higher is smaller and slower."),
    loft("signing_key_path")
        .takes("the path of a file, in quotes")
        .unset("unsigned, with a warning")
        .credential("loft.signing-key")
        .means(
            "File with the secret key that signs what is pushed, as `loft key generate` makes it. Refused \
             where other users may write to it, or where it stands in the Nix store.",
        ),
    loft("signing_key_paths")
        .takes("a list of paths in quotes")
        .default("[]")
        .flag("--signing-key")
        .parameter("secret-key")
        .credential("loft.signing-key.ANY")
        .means("Files with more secret keys; each signs every path."),
    loft("signing_key_name")
        .takes("a key's name in quotes, such as \"cache.example.org-1\"")
        .unset("the file's")
        .means("Name to sign as, where it differs from the one in the file of `signing_key_path`."),
    loft("skip_signed_by_keys").takes("a list of key names in quotes").default("[]").means(
        "What these keys have signed is left to the caches that serve it: `\"cache.nixos.org-1\"` believes \
             the name, `\"NAME:BASE64\"` verifies the signature.",
    ),
    loft("upstreams").takes("a list of URLs in quotes").default("[]").means(
        "Those caches' URLs. They are recorded in the bucket, so that `loft check` knows where a \
             reference may be.",
    ),
    loft("exclude").takes("a list of patterns in quotes").default("[]").means(
        "Patterns over whole names, such as `\"*-source\"`. What matches is never pushed, nor what refers \
             to it.",
    ),
    loft("priority").takes("a whole number from 0 to 1000000, without quotes").default("41").means(
        "Written into `nix-cache-info` where the bucket has none yet. Clients ask caches with lower \
             numbers first; cache.nixos.org has 40.",
    ),
    loft("nar_listings")
        .takes("true or false, without quotes")
        .default("false")
        .parameter("write-nar-listing")
        .means(
            "Whether pushes write `<hash>.ls` beside each path, which nix-index reads: its files, their sizes, and where \
             they are in the NAR.",
        ),
    loft("build_logs")
        .takes("true or false, without quotes")
        .default("false")
        .means(
            "Whether pushes write `log/<derivation>`, which `nix log` reads: what this machine's build of the path printed, \
             readable by all who may read the cache.",
        ),
    loft("debug_info")
        .takes("true or false, without quotes")
        .default("false")
        .parameter("index-debug-info")
        .means(
            "Whether pushes write `debuginfo/<build id>`, which dwarffs and nixseparatedebuginfod2 read: which NAR has the \
             debug information of a program. Found in paths with `lib/debug/.build-id`.",
        ),
    loft("local_cache_path")
        .takes("the path of a file, in quotes")
        .unset("`/var/lib/loft/cache.db` where that can be written, else `~/.cache/loft/cache.db`")
        .variables(&["XDG_CACHE_HOME"])
        .means(
            "The ledger: loft's memory of what the bucket has, and the service's place and queue. Deleting \
             it costs requests, never correctness.",
        ),
    loft("scan_on_startup")
        .takes("true or false, without quotes")
        .default("false")
        .means("Whether the service pushes once what the store had before its first start."),
    loft("populate_cache_on_startup")
        .takes("true or false, without quotes")
        .default("false")
        .means("Whether the service fills the ledger from a listing of the bucket at every start."),
    loft("metrics_address")
        .takes("an IP address and a port, such as \"127.0.0.1:9100\" or \"[::]:9100\"")
        .unset("nowhere")
        .means(
            "Where the service answers Prometheus, with [these metrics](metrics.md). A change needs a \
             restart.",
        ),
    loft("prune_enabled").takes("true or false, without quotes").default("false").means(
        "Whether the service prunes by its schedule. `loft prune` heeds the keys below whatever this \
             says.",
    ),
    loft("prune_retention_days")
        .takes("a whole number from 1 to 36500, without quotes")
        .default("30")
        .flag("--retention")
        .means("What was pushed within so many days stays, with all that it refers to."),
    loft("prune_max_size_gb")
        .takes("a whole number from 1, without quotes")
        .unset("no limit")
        .flag("--max-size")
        .means("Above so many times 1024³ bytes of NARs, what was pushed longest ago goes too."),
    loft("prune_target_percentage")
        .takes("a whole number from 1 to 100, without quotes")
        .default("80")
        .means("Until so much of `prune_max_size_gb` is left."),
    loft("prune_schedule")
        .takes("in quotes, an interval from a minute to a year (\"90m\", \"24h\", \"7d\") or a time of day (\"00:00\")")
        .default("24h")
        .means("When the service prunes; times of day are on the machine's clock."),
];

/// Keys of the original loft that have no effect any more, and why.
pub const OBSOLETE: &[(&str, &str, &str)] = &[
    ("loft", "use_disk_for_large_nars", "NARs are streamed, so that none needs the disk"),
    ("loft", "large_nar_threshold_mb", "NARs are streamed, and memory_limit bounds the memory for all of them"),
];
