//! Reading a Bearer credential out of the value of an `Authorization` header (RFC 6750 §2.1, RFC 9110 §11).

/// What stands behind `Bearer ` in a header's value, to the byte; `None` if the value is of another scheme.
///
/// The scheme is taken in any case and is followed by exactly one space: what stands behind that is never trimmed.
pub fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, credential) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(credential)
}
