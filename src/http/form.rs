//! A strict parser of `application/x-www-form-urlencoded`, which refuses all malformed input instead of guessing.

use zeroize::Zeroizing;

/// Maximum number of fields of one form. More are a mistake or an attack.
const FIELDS_MAX: usize = 32;

/// Why a form is malformed, for its sender. Never repeats any of the form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) &'static str);

/// The fields of a form, in order.
pub(super) struct Form(Vec<(String, Zeroizing<String>)>);

impl Form {
    /// Decodes a request's body or query.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut fields = Vec::new();
        for pair in bytes.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
            if fields.len() == FIELDS_MAX {
                return Err(Malformed("the form has too many fields"));
            }
            let (name, value) = match pair.iter().position(|byte| *byte == b'=') {
                Some(at) => (&pair[..at], &pair[at + 1..]),
                None => (pair, &[][..]),
            };
            fields.push((decode(name)?.to_string(), decode(value)?));
        }
        Ok(Self(fields))
    }

    /// Returns the value of a field that may occur once. `None` if it is absent or empty, which have the same meaning
    /// (RFC 6749 §3.1).
    pub(super) fn single(&self, name: &'static str) -> Result<Option<&str>, Malformed> {
        let mut values = self.values(name);
        match (values.next(), values.next()) {
            (value, None) => Ok(value.filter(|value| !value.is_empty())),
            (_, Some(_)) => Err(Malformed("a field occurs more than once")),
        }
    }

    /// Returns all values of a field.
    pub(super) fn values(&self, name: &'static str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// Whether there is a field with another name than these.
    pub(super) fn has_other_fields_than(&self, names: &[&str]) -> bool {
        self.0.iter().any(|(name, _)| !names.contains(&name.as_str()))
    }
}

/// Decodes one name or value: `+` is a space, `%` precedes two hexadecimal digits, and the result must be UTF-8.
pub(super) fn decode(bytes: &[u8]) -> Result<Zeroizing<String>, Malformed> {
    let mut decoded = Zeroizing::new(Vec::with_capacity(bytes.len()));
    let mut rest = bytes;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut byte = [0];
                let digits = rest
                    .split_at_checked(2)
                    .filter(|(digits, _)| hex::decode_to_slice(digits, &mut byte).is_ok());
                let Some((_, after)) = digits else {
                    return Err(Malformed("a % must be followed by two hexadecimal digits"));
                };
                rest = after;
                byte[0]
            }
            byte if byte.is_ascii_graphic() => *byte,
            _ => return Err(Malformed("the form has a byte that should have been encoded")),
        });
    }
    match std::str::from_utf8(&decoded) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(_) => Err(Malformed("the form is not in UTF-8")),
    }
}

#[cfg(test)]
mod tests {
    use super::{Form, decode};

    #[test]
    fn encoded_text_is_decoded_once() {
        assert_eq!(decode(b"a+b%20c%2B%C3%A9%2525").expect("decodes").as_str(), "a b c+é%25");
        assert_eq!(decode(b"%00").expect("decodes").as_str(), "\0");
    }

    #[test]
    fn malformed_text_is_refused() {
        for bytes in ["%", "%4", "%zz", "%C0%80", "%ff", "a b", "é", "a\r\nb", "%ED%A0%80"] {
            assert!(decode(bytes.as_bytes()).is_err(), "{bytes}");
        }
    }

    #[test]
    fn a_single_field_occurs_at_most_once() {
        let form = Form::decode(b"token=a%3Db=c&empty=&&bare&twice=1&twice=1").expect("decodes");
        assert_eq!(form.single("token"), Ok(Some("a=b=c")));
        assert_eq!(form.single("empty"), Ok(None));
        assert_eq!(form.single("bare"), Ok(None));
        assert_eq!(form.single("missing"), Ok(None));
        assert!(form.single("twice").is_err());
        assert!(form.has_other_fields_than(&["token"]));
    }

    #[test]
    fn a_form_has_a_bounded_number_of_fields() {
        let form = "a=1&".repeat(33);
        assert!(Form::decode(form.as_bytes()).is_err());
        assert!(Form::decode(&form.as_bytes()[4..]).is_ok());
    }
}
