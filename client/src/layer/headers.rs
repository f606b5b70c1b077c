//! What a request presents. Where proxies and servers read a header differently, it is refused, never guessed at.

use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::refusal::Refusal;

/// Names the workspace that a request is for, by slug or id.
pub const WORKSPACE_HEADER: &str = "x-sophic-workspace";

/// What the `authorization` header holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Bearer<'a> {
    /// No bearer token: no header, or another scheme (RFC 6750 §3.1).
    Missing,
    /// No token can be read from it.
    Malformed,
    /// This.
    Token(&'a str),
}

/// The scheme in any case (RFC 9110 §11.1), one space or more, and a token in the characters of RFC 6750 §2.1: so no list, no
/// tab, nothing before or behind. Of two headers none is believed: proxies differ on which is the first.
pub(super) fn bearer(headers: &HeaderMap) -> Bearer<'_> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = match (values.next(), values.next()) {
        (None, _) => return Bearer::Missing,
        (Some(value), None) => value.as_bytes(),
        (Some(_), Some(_)) => return Bearer::Malformed,
    };
    let scheme = value.split(|byte| !byte.is_ascii_graphic()).next().unwrap_or_default();
    if !scheme.eq_ignore_ascii_case(b"bearer") {
        // A first word that is not ASCII is no scheme at all.
        let is_scheme = scheme.len() == value.len() || value.get(scheme.len()) == Some(&b' ');
        return if is_scheme && !scheme.is_empty() { Bearer::Missing } else { Bearer::Malformed };
    }
    let rest = &value[scheme.len()..];
    let spaces = rest.iter().take_while(|byte| **byte == b' ').count();
    let token = if spaces > 0 { &rest[spaces..] } else { &[] };
    let spelled = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(byte);
    match std::str::from_utf8(token) {
        Ok(token) if !token.is_empty() && token.bytes().all(|byte| spelled(&byte)) => {
            Bearer::Token(token)
        }
        _ => Bearer::Malformed,
    }
}

/// The workspace named; empty: none is.
pub(super) fn workspace(headers: &HeaderMap) -> Result<&str, Refusal> {
    let mut values = headers.get_all(WORKSPACE_HEADER).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(""),
        (Some(value), None) => {
            // A comma may be where somebody joined two.
            let text = value.to_str().ok().filter(|text| !text.is_empty() && !text.contains(','));
            text.ok_or_else(Refusal::bad_workspace_header)
        }
        (Some(_), Some(_)) => Err(Refusal::bad_workspace_header()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&[u8]]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, http::HeaderValue::from_bytes(value).expect("a value"));
        }
        headers
    }

    #[test]
    fn the_scheme_is_read_in_any_case() {
        for value in ["Bearer abc", "bearer abc", "BEARER abc", "Bearer   abc"] {
            assert_eq!(bearer(&of(&[value.as_bytes()])), Bearer::Token("abc"));
        }
    }

    #[test]
    fn no_header_and_another_scheme_present_nothing() {
        assert_eq!(bearer(&of(&[])), Bearer::Missing);
        for value in ["Basic YTpi", "Digest x=1, y=2", "sophic_key_abc", "Bearerabc"] {
            assert_eq!(bearer(&of(&[value.as_bytes()])), Bearer::Missing, "{value}");
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_not_read() {
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
            assert_eq!(bearer(&of(&[value])), Bearer::Malformed, "{}", value.escape_ascii());
        }
        assert_eq!(bearer(&of(&[b"Bearer abc", b"Bearer abc"])), Bearer::Malformed);
        assert_eq!(bearer(&of(&[b"Basic abc", b"Bearer abc"])), Bearer::Malformed);
    }

    #[test]
    fn a_workspace_is_named_once_or_not_at_all() {
        let named = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(WORKSPACE_HEADER, http::HeaderValue::from_static(value));
            }
            workspace(&headers).map(str::to_owned).map_err(|refusal| refusal.status())
        };
        assert_eq!(named(&[]), Ok(String::new()));
        assert_eq!(named(&["acme"]), Ok("acme".to_owned()));
        assert_eq!(named(&[""]), Err(400));
        assert_eq!(named(&["acme, other"]), Err(400));
        assert_eq!(named(&["acme", "acme"]), Err(400));
        assert_eq!(named(&["acme", "other"]), Err(400));
    }
}
