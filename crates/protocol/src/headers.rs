//! Reads the token and the workspace from a request's headers (RFC 9110 §11.4, RFC 6750 §2.1, RFC 7617 §2).
//!
//! Proxies and servers differ on which of two equal headers counts. A request with two, or with a value that may be two
//! joined by a comma, is therefore malformed.

/// Header that names the workspace of a request, by slug or id.
pub const WORKSPACE_HEADER: &str = "x-sophic-workspace";

/// Explanation for people of a header that [`workspace`] refuses.
pub const WORKSPACE_MALFORMED: &str = "x-sophic-workspace must be sent once, with a slug or id";
/// Challenge of a request whose header [`workspace`] refuses.
pub const WORKSPACE_MALFORMED_CHALLENGE: &str = crate::challenge::WORKSPACE_MALFORMED;

/// Returns the bytes after `Bearer` and its spaces in a header value. `None` for another scheme.
pub fn bearer(value: &[u8]) -> Option<&[u8]> {
    after_scheme(value, b"bearer")
}

/// Returns the bytes after a scheme, in any case, and one or more spaces (`1*SP`). A tab does not count as a space, and
/// the end is not trimmed.
pub fn after_scheme<'a>(value: &'a [u8], scheme: &[u8]) -> Option<&'a [u8]> {
    let (named, rest) = value.split_at_checked(scheme.len())?;
    let spaces = rest.iter().take_while(|byte| **byte == b' ').count();
    (spaces > 0 && named.eq_ignore_ascii_case(scheme)).then(|| &rest[spaces..])
}

/// Content of a request's `Authorization` header.
#[derive(Debug, PartialEq, Eq)]
pub enum Bearer<'a> {
    /// No Bearer token: no header, or another scheme (RFC 6750 §3.1).
    Missing,
    /// A malformed header, or two of them.
    Malformed,
    /// A Bearer token.
    Token(&'a str),
}

impl<'a> Bearer<'a> {
    /// Reads all values of the header. A value is the scheme in any case (RFC 9110 §11.1), one or more spaces, and a
    /// token of the characters of RFC 6750 §2.1. This excludes lists, tabs, and text before or after the token.
    pub fn from_headers(values: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut values = values.into_iter();
        let value = match (values.next(), values.next()) {
            (None, _) => return Self::Missing,
            (Some(value), None) => value,
            (Some(_), Some(_)) => return Self::Malformed,
        };
        let scheme = value.split(|byte| !byte.is_ascii_graphic()).next().unwrap_or_default();
        if !scheme.eq_ignore_ascii_case(b"bearer") {
            // A first word that is not ASCII is not a scheme.
            let is_scheme = scheme.len() == value.len() || value.get(scheme.len()) == Some(&b' ');
            return if is_scheme && !scheme.is_empty() { Self::Missing } else { Self::Malformed };
        }
        let spelled = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(byte);
        let token = bearer(value).filter(|token| !token.is_empty() && token.iter().all(spelled));
        match token.map(std::str::from_utf8) {
            Some(Ok(token)) => Self::Token(token),
            Some(Err(_)) | None => Self::Malformed,
        }
    }
}

/// Returns the workspace named by the values of [`WORKSPACE_HEADER`]: empty if there are none, `None` if there are two
/// or the value is malformed.
pub fn workspace<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Option<&'a str> {
    let mut values = values.into_iter();
    match (values.next(), values.next()) {
        (None, _) => Some(""),
        (Some(value), None) => {
            // A comma may have joined two headers.
            let visible = |byte: &u8| matches!(byte, b' '..=b'~' | b'\t') && *byte != b',';
            let text = std::str::from_utf8(value).ok();
            text.filter(|text| !text.is_empty() && text.as_bytes().iter().all(visible))
        }
        (Some(_), Some(_)) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&'static [u8]]) -> Bearer<'static> {
        Bearer::from_headers(values.iter().copied())
    }

    #[test]
    fn the_scheme_is_read_in_any_case() {
        for value in ["Bearer abc", "bearer abc", "BEARER abc", "Bearer   abc"] {
            assert_eq!(of(&[value.as_bytes()]), Bearer::Token("abc"));
        }
    }

    #[test]
    fn no_header_and_another_scheme_present_nothing() {
        assert_eq!(of(&[]), Bearer::Missing);
        for value in ["Basic YTpi", "Digest x=1, y=2", "sophic_key_abc", "Bearerabc"] {
            assert_eq!(of(&[value.as_bytes()]), Bearer::Missing, "{value}");
        }
    }

    #[test]
    fn ambiguous_headers_are_malformed() {
        let values: [&[u8]; 12] = [
            b"Bearer",
            b"Bearer ",
            b"Bearer  ",
            b"Bearer\tabc",
            b"Bearer \tabc",
            b"Bearer abc def",
            b"Bearer abc,def",
            b"Bearer abc, Bearer def",
            b"Bearer abc\t",
            b"Bearer ab\xffc",
            b"\xef\xbb\xbfBearer abc",
            b"",
        ];
        for value in values {
            assert_eq!(of(&[value]), Bearer::Malformed, "{}", value.escape_ascii());
        }
        assert_eq!(of(&[b"Bearer abc", b"Bearer abc"]), Bearer::Malformed);
        assert_eq!(of(&[b"Basic abc", b"Bearer abc"]), Bearer::Malformed);
    }

    #[test]
    fn a_workspace_is_named_once_or_not_at_all() {
        let named =
            |values: &[&'static str]| workspace(values.iter().map(|value| value.as_bytes()));
        assert_eq!(named(&[]), Some(""));
        assert_eq!(named(&["acme"]), Some("acme"));
        assert_eq!(named(&[""]), None);
        assert_eq!(named(&["acme, other"]), None);
        assert_eq!(named(&["acme", "acme"]), None);
        assert_eq!(named(&["acme", "other"]), None);
        for bad in [&b"acme,globex"[..], b"\xff", b"a\x7f"] {
            assert_eq!(workspace([bad]), None);
        }
    }
}
