//! Which pages may use what a browser sends along by itself (RFC 6454).

/// Whether a request may be served that says it comes from a page of this origin.
///
/// Browsers name the origin of the page in every request that could do harm, and other clients name none: those pass.
/// A page passes if it was served by this host, or its origin is in the list, spelled as `https://chat.example.org` or
/// with a port. The origin `null` of sandboxed pages and files never does.
#[must_use]
pub fn origin_allowed(origin: Option<&str>, host: Option<&str>, allowed: &[String]) -> bool {
    let Some(origin) = origin else { return true };
    if origin == "null" {
        return false;
    }
    if allowed.iter().any(|allowed| allowed.trim_end_matches('/').eq_ignore_ascii_case(origin)) {
        return true;
    }
    let (Some(host), Some((scheme, authority))) = (host, origin.split_once("://")) else { return false };
    // A browser leaves the scheme's own port out of the origin, where the host may name it.
    let port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => return false,
    };
    let strip = |authority: &str| authority.strip_suffix(port).unwrap_or(authority).to_ascii_lowercase();
    !authority.is_empty() && strip(authority) == strip(host)
}
