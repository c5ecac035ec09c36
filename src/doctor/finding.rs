//! What a look at one assumption can end with.

use std::fmt;

/// One sentence about one assumption.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub check: Check,
    pub outcome: Outcome,
    pub says: String,
    pub way_out: Option<String>,
}

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Fine,
    Fault(Code),
    /// Not looked at, and because of which other assumption, where it is one.
    Unlooked(Option<Check>),
}

/// How bad a fault is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Worth knowing; pushes and readers work.
    Warning,
    /// Something that is set up does not work.
    Broken,
}

macro_rules! checks {
    ($($check:ident $name:literal $title:literal;)*) => {
        /// An assumption, in the order in which one would look.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Check { $($check,)* }

        impl Check {
            pub const ALL: &[Self] = &[$(Self::$check),*];

            /// For programs.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$check => $name,)* }
            }
        }

        impl fmt::Display for Check {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(match self { $(Self::$check => $title,)* })
            }
        }
    };
}

macro_rules! codes {
    ($($code:ident $check:ident $severity:ident $name:literal;)*) => {
        /// A fault, in kind. docs/doctor.md tells about each.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code { $($code,)* }

        impl Code {
            pub const ALL: &[Self] = &[$(Self::$code),*];

            pub const fn check(self) -> Check {
                match self { $(Self::$code => Check::$check,)* }
            }

            pub const fn severity(self) -> Severity {
                match self { $(Self::$code => Severity::$severity,)* }
            }

            /// For programs.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$code => $name,)* }
            }
        }
    };
}

checks! {
    Configuration "configuration" "configuration";
    SigningKey "signing-key" "signing key";
    Secrets "systemd-credentials" "systemd credentials";
    Endpoint "endpoint" "endpoint";
    Headers "headers" "extra headers";
    Credentials "credentials" "credentials";
    Region "region" "region";
    Bucket "bucket" "bucket";
    Clock "clock" "clock";
    Permissions "permissions" "permissions";
    Consistency "consistency" "consistency";
    Conditions "conditional-writes" "conditional writes";
    Checksums "checksums" "checksums";
    Lifecycle "lifecycle" "lifecycle rules";
    CacheInfo "cache-info" "nix-cache-info";
    Record "bucket-record" "bucket record";
    Signatures "signatures" "signatures";
    Store "store" "store";
    Daemon "daemon" "daemon";
    Ledger "ledger" "ledger";
    Service "service" "service";
    Disk "disk" "disk space";
    Memory "memory" "memory";
    Descriptors "descriptors" "file descriptors";
    Upstreams "upstreams" "upstream caches";
    NixConf "nix-conf" "nix.conf";
    Substituter "substituter" "substituter";
    Trust "trust" "trusted key";
    Netrc "netrc" "netrc";
    PublicReading "public-reading" "public reading";
}

codes! {
    ConfigUnusable Configuration Broken "config-unusable";
    ConfigWarning Configuration Warning "config-warning";
    NoBucketNamed Configuration Broken "no-bucket-named";
    SkipsOwnKey Configuration Broken "skips-own-key";
    ArchivingClass Configuration Broken "archiving-storage-class";
    CaFileUnused Configuration Warning "ca-file-unused";
    KeyUnusable SigningKey Broken "signing-key-unusable";
    KeyExposed SigningKey Warning "signing-key-exposed";
    Unsigned SigningKey Warning "no-signing-key";
    SecretUnknown Secrets Warning "credential-unknown";
    SecretsUnreadable Secrets Broken "credentials-directory-unreadable";
    EndpointSetting Endpoint Broken "endpoint-setting";
    EndpointName Endpoint Broken "endpoint-name";
    EndpointRefused Endpoint Broken "endpoint-refused";
    EndpointSilent Endpoint Broken "endpoint-silent";
    EndpointCertificate Endpoint Broken "endpoint-certificate";
    EndpointSpeaksHttp Endpoint Broken "endpoint-speaks-http";
    EndpointSpeaksHttps Endpoint Broken "endpoint-speaks-https";
    EndpointNotS3 Endpoint Broken "endpoint-not-s3";
    EndpointUnavailable Endpoint Broken "endpoint-unavailable";
    HeadersMissing Headers Broken "headers-missing";
    HeadersRefused Headers Broken "headers-refused";
    CredentialsMissing Credentials Broken "credentials-missing";
    CredentialsUnknown Credentials Broken "credentials-unknown";
    CredentialsWrongSecret Credentials Broken "credentials-wrong-secret";
    CredentialsExpired Credentials Broken "credentials-expired";
    CredentialsExpiring Credentials Warning "credentials-expiring";
    RegionWrong Region Broken "region-wrong";
    BucketMissing Bucket Broken "bucket-missing";
    DirectoryUnwritable Bucket Broken "directory-unwritable";
    BucketOdd Bucket Broken "bucket-odd-answer";
    ClockWrong Clock Broken "clock-wrong";
    ClockOff Clock Warning "clock-off";
    MayNotRead Permissions Broken "may-not-read";
    MayNotList Permissions Broken "may-not-list";
    MayNotWrite Permissions Broken "may-not-write";
    MayNotUpload Permissions Broken "may-not-upload-parts";
    MayNotTidy Permissions Warning "may-not-tidy-uploads";
    MayNotEndLeases Permissions Warning "may-not-delete-leases";
    MayNotDelete Permissions Broken "may-not-delete";
    PresignedRefused Permissions Broken "presigned-refused";
    RequestFails Permissions Broken "request-fails";
    Inconsistent Consistency Broken "inconsistent";
    DigestsUnchecked Checksums Warning "digests-unchecked";
    BytesChanged Checksums Broken "bytes-changed";
    LifecycleExpires Lifecycle Broken "lifecycle-expires";
    LifecycleArchives Lifecycle Broken "lifecycle-archives";
    LifecycleAborts Lifecycle Warning "lifecycle-aborts-uploads";
    CacheInfoMissing CacheInfo Broken "cache-info-missing";
    CacheInfoMalformed CacheInfo Broken "cache-info-malformed";
    CacheInfoVague CacheInfo Warning "cache-info-vague";
    CacheInfoOtherStore CacheInfo Broken "cache-info-other-store";
    RecordNewer Record Broken "bucket-record-newer";
    RecordUnreadable Record Broken "bucket-record-unreadable";
    SignedByOthers Signatures Warning "signed-by-other-keys";
    KeyDiffers Signatures Broken "signing-key-differs";
    StoreUnreachable Store Broken "store-unreachable";
    StoreUnreadable Store Warning "database-unreadable";
    StoreSchema Store Warning "store-schema";
    DaemonUnreachable Daemon Warning "daemon-unreachable";
    DaemonSilent Daemon Broken "daemon-silent";
    LedgerUnusable Ledger Broken "ledger-unusable";
    ServiceSilent Service Broken "service-silent";
    DiskFull Disk Broken "disk-full";
    DiskLow Disk Warning "disk-low";
    MemoryTooLittle Memory Broken "memory-too-little";
    MemoryTight Memory Warning "memory-tight";
    DescriptorsTooFew Descriptors Broken "descriptors-too-few";
    UpstreamUnreachable Upstreams Warning "upstream-unreachable";
    NixConfUnreadable NixConf Broken "nix-conf-unreadable";
    NotSubstituter Substituter Warning "not-a-substituter";
    KeyUntrusted Trust Broken "key-untrusted";
    TrustedKeyDiffers Trust Broken "trusted-key-differs";
    SignaturesNotRequired Trust Warning "signatures-not-required";
    NetrcMissing Netrc Broken "netrc-missing";
    PublicUrlUnreadable PublicReading Warning "public-url-unreadable";
}

/// What was found so far.
#[derive(Debug, Default)]
pub(super) struct Notes(pub Vec<Finding>);

impl Notes {
    pub fn fine(&mut self, check: Check, says: impl Into<String>) {
        self.0.push(Finding { check, outcome: Outcome::Fine, says: one_line(says.into()), way_out: None });
    }

    pub fn fault(&mut self, code: Code, says: impl Into<String>, way_out: impl Into<String>) {
        let way_out = Some(one_line(way_out.into()));
        self.0.push(Finding {
            check: code.check(),
            outcome: Outcome::Fault(code),
            says: one_line(says.into()),
            way_out,
        });
    }

    /// It could not be looked at, since another assumption failed.
    pub fn skip(&mut self, checks: &[Check], because: Check, why: &str) {
        for check in checks {
            self.unlooked(*check, Some(because), why);
        }
    }

    /// It was not to be looked at, or there is nothing to look at.
    pub fn without(&mut self, check: Check, why: &str) {
        self.unlooked(check, None, why);
    }

    fn unlooked(&mut self, check: Check, because: Option<Check>, why: &str) {
        let outcome = Outcome::Unlooked(because);
        self.0.push(Finding { check, outcome, says: one_line(format!("not looked at, since {why}")), way_out: None });
    }
}

/// Some errors bring an excerpt of a file along.
fn one_line(text: String) -> String {
    if text.contains('\n') { text.split('\n').map(str::trim).collect::<Vec<_>>().join(" ") } else { text }
}

impl Finding {
    pub fn code(&self) -> Option<Code> {
        match self.outcome {
            Outcome::Fault(code) => Some(code),
            _ => None,
        }
    }

    pub fn is_broken(&self) -> bool {
        self.code().is_some_and(|code| code.severity() == Severity::Broken)
    }

    /// For programs: `ok`, `warning`, `broken` or `unlooked`.
    pub fn verdict(&self) -> &'static str {
        match self.outcome {
            Outcome::Fine => "ok",
            Outcome::Unlooked(_) => "unlooked",
            Outcome::Fault(code) => match code.severity() {
                Severity::Warning => "warning",
                Severity::Broken => "broken",
            },
        }
    }
}
