//! Text from standard input that is to be a token: as people paste it.

use std::io::Read as _;

use anyhow::Context as _;
use zeroize::Zeroizing;

/// Bytes of standard input that are read as a token; no token is near as long.
const STDIN_BYTES_MAX: u64 = 4 * 1024;

/// A token from standard input, without what was pasted around it.
pub(super) fn read_token() -> anyhow::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    std::io::stdin()
        .take(STDIN_BYTES_MAX)
        .read_to_string(&mut text)
        .context("standard input must be a token, in UTF-8")?;
    Ok(Zeroizing::new(bare(&text).to_owned()))
}

/// The token alone: without white space around it, and without the words of the header that it was copied with.
fn bare(text: &str) -> &str {
    let text = trimmed(text);
    let text = after(text, "authorization:").map_or(text, trimmed);
    match after(text, "bearer") {
        Some(rest) if rest.starts_with(char::is_whitespace) => trimmed(rest),
        _ => text,
    }
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
    use super::bare;

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
        ];
        for text in pasted {
            assert_eq!(bare(text), "token", "{text:?}");
        }
        for text in ["bearertoken", "to ken", "Bearer", ""] {
            assert_eq!(bare(text), text);
        }
    }
}
