//! The status page, as the configuration has it.

use crate::failure::Failure;
use loft::config::Loaded;
use loft::nix::SecretKey;
use loft::page::Page;

/// Nothing where nobody asked for one.
pub fn wanted(loaded: &Loaded) -> Result<Option<Page>, Failure> {
    if !loaded.settings.status_page {
        return Ok(None);
    }
    // Whoever prunes need not sign: then the page does not say whom to trust.
    let keys = loaded.signing_keys()?.keys.iter().map(SecretKey::public).collect();
    Ok(Some(Page::new(loaded.bucket()?, loaded.settings.public_url.as_deref(), keys)))
}
