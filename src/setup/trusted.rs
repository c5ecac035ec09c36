//! Whether the Nix daemon heeds what a user's own `nix.conf` says of caches.

use super::nix_conf::Said;

/// By `trusted-users`, whose default is root. `groups` are the names of the user's groups.
pub fn is_trusted(said: &Said, user: &str, groups: &[String]) -> bool {
    let (is_replaced, mut names) = said.values();
    if !is_replaced {
        names.push("root");
    }
    names.into_iter().any(|name| match name.strip_prefix('@') {
        Some(group) => groups.iter().any(|own| own == group),
        None => name == "*" || name == user,
    })
}
