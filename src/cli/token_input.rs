//! Reading a token that a person has pasted into standard input or a file.

use std::io::Read;

use zeroize::Zeroizing;

use super::UsageError;

/// Maximum number of bytes to read. Tokens are much shorter.
const BYTES_MAX: u64 = 4 * 1024;

/// Reads a token from standard input, and strips what was pasted around it.
pub(super) fn read_token_from_stdin() -> Result<Zeroizing<String>, UsageError> {
    read_token_from(std::io::stdin())
}

/// Reads a token from `input`, and strips what was pasted around it.
pub(super) fn read_token_from(input: impl Read) -> Result<Zeroizing<String>, UsageError> {
    let mut bytes = Zeroizing::new(Vec::new());
    let read = input.take(BYTES_MAX).read_to_end(&mut bytes);
    read.map_err(|error| UsageError(format!("the token cannot be read: {error}")))?;
    if let Some(what) = super::files::binary_format(&bytes) {
        return Err(UsageError(format!("the input must be a token in UTF-8, but it is {what}")));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| {
        UsageError("the input must be a token in UTF-8, but it is not UTF-8".to_owned())
    })?;
    Ok(Zeroizing::new(strip_wrapping(text).to_owned()))
}

/// Strips white space, quotes, and the words of an `Authorization` header from around a token.
fn strip_wrapping(text: &str) -> &str {
    let text = unquoted(trimmed(text));
    let text = strip_prefix_ignoring_case(text, "authorization:").map_or(text, trimmed);
    match strip_prefix_ignoring_case(text, "bearer") {
        Some(rest) if rest.starts_with(char::is_whitespace) => unquoted(trimmed(rest)),
        _ => text,
    }
}

/// Strips one pair of quotes.
fn unquoted(text: &str) -> &str {
    let inner = |quote| text.strip_prefix(quote).and_then(|text| text.strip_suffix(quote));
    ['"', '\'', '`'].into_iter().find_map(inner).map_or(text, trimmed)
}

/// Strips white space and the byte order mark that some editors write.
fn trimmed(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}')
}

/// Returns the text after a prefix, which is compared without case.
fn strip_prefix_ignoring_case<'t>(text: &'t str, word: &str) -> Option<&'t str> {
    let (head, rest) = text.split_at_checked(word.len())?;
    head.eq_ignore_ascii_case(word).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::strip_wrapping;

    #[test]
    fn text_pasted_around_a_token_is_stripped() {
        let pasted = [
            "token",
            "token\n",
            "token\r\n",
            " \t token \n\n",
            "\u{feff}token",
            "\u{a0}token",
            "Bearer token",
            "bearer  token",
            "BEARER\ttoken\n",
            "Authorization: Bearer token",
            "authorization:bearer token\r\n",
            "Authorization: token",
            "\"token\"\n",
            "'token'",
            "`token`",
            "'Authorization: Bearer token'\n",
            "Authorization: Bearer \"token\"",
        ];
        for text in pasted {
            assert_eq!(strip_wrapping(text), "token", "{text:?}");
        }
        for text in ["bearertoken", "to ken", "Bearer", "", "\"", "'token\""] {
            assert_eq!(strip_wrapping(text), text);
        }
    }
}
