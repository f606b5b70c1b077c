//! Reading a credential out of the value of an `Authorization` header (RFC 9110 §11.4, RFC 6750 §2.1, RFC 7617 §2).

/// What stands behind `Bearer` and its spaces in a header's value, to the byte; `None` if the value is of another scheme.
pub fn bearer(value: &[u8]) -> Option<&[u8]> {
    credentials(value, b"bearer")
}

/// What stands behind a scheme, which is taken in any case, and one space or more (`1*SP`). No tab is a space, and nothing is
/// trimmed at the end.
pub fn credentials<'a>(value: &'a [u8], scheme: &[u8]) -> Option<&'a [u8]> {
    let (named, rest) = value.split_at_checked(scheme.len())?;
    let spaces = rest.iter().take_while(|byte| **byte == b' ').count();
    (spaces > 0 && named.eq_ignore_ascii_case(scheme)).then(|| &rest[spaces..])
}
