//! Every variable of the environment that means something to loft, or to a library beneath it; the reference lists
//! them from here, and a test looks for others in the source.

/// Name and meaning, in Markdown; the star stands for any ending.
pub const VARIABLES: &[(&str, &str)] = &[
    ("LOFT_CONFIG", "The configuration file, where `--config` does not name one. It must exist."),
    (
        "LOFT_CACHE",
        "Where the cache is: `s3://BUCKET?endpoint=…&region=…` or `file:///DIRECTORY`. Wins over `[s3]` of the \
         file, key by key; `--to` wins over it.",
    ),
    (
        "LOFT_EXTRA_HEADER_*",
        "A header for every request: `LOFT_EXTRA_HEADER_CF_ACCESS_CLIENT_ID` sends `CF-ACCESS-CLIENT-ID`. Wins \
         over the file for one name.",
    ),
    ("AWS_ACCESS_KEY_ID", "Access key, where the configuration names none."),
    ("AWS_SECRET_ACCESS_KEY", "Secret key, likewise."),
    ("AWS_SESSION_TOKEN", "Token of temporary credentials, beside those two."),
    ("AWS_PROFILE", "Profile of the shared configuration, where `profile` does not name one."),
    ("AWS_CONFIG_FILE", "The shared configuration, instead of `~/.aws/config`."),
    ("AWS_SHARED_CREDENTIALS_FILE", "The shared credentials, instead of `~/.aws/credentials`."),
    ("AWS_SSO_ENDPOINT", "Where to ask for credentials of single sign-on, instead of the region's own server."),
    ("AWS_REGION", "Region, where neither the file nor a URL names one."),
    ("AWS_DEFAULT_REGION", "Likewise, after `AWS_REGION`."),
    ("AWS_ENDPOINT_URL_S3", "Endpoint, where neither the file nor a URL names one."),
    ("AWS_ENDPOINT_URL", "Likewise, after `AWS_ENDPOINT_URL_S3`."),
    ("AWS_WEB_IDENTITY_TOKEN_FILE", "Token of a web identity (OIDC), exchanged for credentials of `AWS_ROLE_ARN`."),
    ("AWS_ROLE_ARN", "The role to assume with that token."),
    ("AWS_ROLE_SESSION_NAME", "What such a session is called in the server's logs."),
    ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "Where a container asks for credentials; set by ECS."),
    ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "Likewise; set by EKS."),
    ("AWS_EC2_METADATA_DISABLED", "`true`: the instance's metadata service is not asked for credentials."),
    (
        "CREDENTIALS_DIRECTORY",
        "Directory of a service's credentials; set by systemd. Each stands in the place of the key that names \
         such a file.",
    ),
    ("NIX_REMOTE", "The Nix store, where neither `store` nor `--store` names one; as Nix reads it."),
    (
        "NIX_CONFIG",
        "Settings of Nix beside those of its files: `loft doctor` looks whether this machine reads from the cache.",
    ),
    ("NIX_CONF_DIR", "Where `loft use --write` finds `nix.conf`, instead of `/etc/nix`; as Nix reads it."),
    (
        "NIX_USER_CONF_FILES",
        "Files of Nix's settings for a user, as Nix reads it: `loft use --write` writes to the first.",
    ),
    (
        "XDG_CONFIG_HOME",
        "Where `loft init` keeps keys and `loft use` finds the user's `nix.conf`, instead of `~/.config`.",
    ),
    ("NIX_STORE", "The directory of store paths, as Nix reads it."),
    ("NIX_STORE_DIR", "Likewise; wins over `NIX_STORE`."),
    ("NIX_STATE_DIR", "Where Nix has its database, instead of `/nix/var/nix`."),
    ("NIX_LOG_DIR", "Where Nix keeps what builds printed, instead of `/nix/var/log/nix`."),
    ("NIX_DAEMON_SOCKET_PATH", "The Nix daemon's socket."),
    ("OUT_PATHS", "Store paths that were built, for `loft hook`; set by Nix."),
    ("HOME", "Where `.aws`, `.cache/loft` and a user's own Nix store are looked for."),
    ("XDG_CACHE_HOME", "Instead of `~/.cache`, for the ledger."),
    ("XDG_DATA_HOME", "Instead of `~/.local/share`, for a user's own Nix store."),
    ("HTTPS_PROXY", "Proxy for `https://` endpoints; `https_proxy` as well."),
    ("HTTP_PROXY", "Proxy for `http://` endpoints; `http_proxy` as well."),
    ("ALL_PROXY", "Proxy for both."),
    ("NO_PROXY", "Hosts that are asked without a proxy."),
    ("SSL_CERT_FILE", "PEM certificates to trust instead of the system's."),
    ("SSL_CERT_DIR", "Directory of such certificates."),
    ("NO_COLOR", "Anything: no colours, unless `--color always`."),
    ("LC_ALL", "Whether the terminal's characters are UTF-8, for charts; before `LC_CTYPE` and `LANG`."),
    ("LC_CTYPE", "Likewise."),
    ("LANG", "Likewise."),
    ("USER", "Who pushes, as recorded in the bucket with the machine's name."),
    ("LOGNAME", "Likewise, where `USER` is not set."),
    ("JOURNAL_STREAM", "Whether stderr is the journal, and lines need no times; set by systemd."),
    ("NOTIFY_SOCKET", "Where the service tells that it is ready and alive; set by systemd."),
    ("WATCHDOG_USEC", "How often it must tell so; set by systemd."),
    ("MALLOC_MMAP_THRESHOLD_", "glibc's; the service sets it for itself where it is not set."),
];
