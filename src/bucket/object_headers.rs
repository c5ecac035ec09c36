//! The headers that each kind of object is stored with.

use super::Headers;

impl Headers {
    /// NARs never change, and a proxy must not re-encode them: readers compare FileSize and FileHash.
    pub const NAR: Self = Self {
        content_type: Some("application/x-nix-nar"),
        cache_control: Some("public, max-age=31536000, immutable, no-transform"),
    };
    /// An hour: long enough to help a proxy, short enough that a prune is noticed.
    pub const NAR_INFO: Self = Self { content_type: Some("text/x-nix-narinfo"), cache_control: Some("max-age=3600") };
    /// Of a NAR's contents; lives as long as its narinfo.
    pub const LISTING: Self = Self { content_type: Some("application/json"), cache_control: Some("max-age=3600") };
    /// What `nix store copy-log` gives it; a derivation is rarely built again, and then prints much the same.
    pub const LOG: Self =
        Self { content_type: Some("text/plain; charset=utf-8"), cache_control: Some("public, max-age=31536000") };
    /// An hour: when its path is pushed again it names another NAR.
    pub const DEBUG_INFO: Self = Self { content_type: Some("application/json"), cache_control: Some("max-age=3600") };
    pub const CACHE_INFO: Self =
        Self { content_type: Some("text/x-nix-cache-info"), cache_control: Some("max-age=3600") };
    /// Loft's own records: a stale lease or sweep would be a lie.
    pub const RECORD: Self = Self { content_type: Some("application/json"), cache_control: Some("no-store") };
    /// Written anew after each prune.
    pub const PAGE: Self = Self { content_type: Some("text/html; charset=utf-8"), cache_control: Some("no-cache") };
    /// Leases and sweeps are zstd-compressed.
    pub const COMPRESSED_RECORD: Self =
        Self { content_type: Some("application/zstd"), cache_control: Some("no-store") };
}
