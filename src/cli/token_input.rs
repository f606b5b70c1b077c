//! Text from standard input, or of a file, that is to be a token: as people paste it.

use std::io::Read;

use zeroize::Zeroizing;

use super::UsageError;

/// Bytes that are read as a token; no token is near as long.
const BYTES_MAX: u64 = 4 * 1024;

/// A token from standard input, without what was pasted around it.
pub(super) fn read_token_from_stdin() -> Result<Zeroizing<String>, UsageError> {
    read_token_from(std::io::stdin())
}

/// The same of a file.
pub(super) fn read_token_from(input: impl Read) -> Result<Zeroizing<String>, UsageError> {
    let mut bytes = Zeroizing::new(Vec::new());
    let read = input.take(BYTES_MAX).read_to_end(&mut bytes);
    read.map_err(|error| UsageError(format!("the token cannot be read: {error}")))?;
    if let Some(what) = super::files::binary_format(&bytes) {
        return Err(UsageError(format!("it must be a token, in UTF-8, and it is {what}")));
    }
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| UsageError("it must be a token, in UTF-8, and it is not".to_owned()))?;
    Ok(Zeroizing::new(strip_wrapping(text).to_owned()))
}

/// The token alone: without white space and quotes around it, and without the words of the header that it was copied with.
fn strip_wrapping(text: &str) -> &str {
    let text = unquoted(trimmed(text));
    let text = after(text, "authorization:").map_or(text, trimmed);
    match after(text, "bearer") {
        Some(rest) if rest.starts_with(char::is_whitespace) => unquoted(trimmed(rest)),
        _ => text,
    }
}

/// Without one pair of quotes, as shells and JSON have them.
fn unquoted(text: &str) -> &str {
    let inner = |quote| text.strip_prefix(quote).and_then(|text| text.strip_suffix(quote));
    ['"', '\'', '`'].into_iter().find_map(inner).map_or(text, trimmed)
}

/// A byte order mark is what some editors begin with.
fn trimmed(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}')
}

/// What comes after this word, in whatever case it is written.
fn after<'t>(text: &'t str, word: &str) -> Option<&'t str> {
    let (head, rest) = text.split_at_checked(word.len())?;
    head.eq_ignore_ascii_case(word).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::strip_wrapping;

    #[test]
    fn what_is_pasted_around_a_token_is_taken_off() {
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
