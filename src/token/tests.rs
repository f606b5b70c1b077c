//! Minted tokens parse. Tokens with a typing error do not.

use proptest::prelude::*;

use super::*;
use crate::model::{CredentialKind, Digest};

/// A seeded random source, so that a failure can be reproduced.
struct Seeded(std::sync::Mutex<u64>);

impl Random for Seeded {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), RandomError> {
        let mut state = self.0.lock().expect("no holder of this lock panics");
        for byte in bytes {
            // SplitMix64.
            *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = *state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            *byte = (z ^ (z >> 31)).to_le_bytes()[0];
        }
        Ok(())
    }
}

fn minted(kind: TokenKind, seed: u64) -> String {
    let token = Token::mint(kind, &Seeded(seed.into())).expect("this source does not fail");
    token.expose().to_owned()
}

#[test]
fn a_token_of_every_credential_kind_is_looked_up() {
    for kind in CredentialKind::ALL {
        let text = minted(kind.into(), 5);
        assert_eq!(TokenKind::parse(&text), Some(kind.into()), "{kind}");
        assert_eq!(digest_of_presented(&text, false), Some(Digest::of(&text)), "{kind}");
        assert_eq!(why_not_a_token(&text), None, "{kind}");
        assert!(redact_tokens(&text).ends_with("[redacted]"), "{kind}");
    }
}

fn kinds() -> impl Strategy<Value = TokenKind> {
    prop::sample::select(TokenKind::ALL.to_vec())
}

proptest! {
    #[test]
    fn a_minted_token_parses_as_its_kind(kind in kinds(), seed: u64) {
        let text = minted(kind, seed);
        prop_assert_eq!(text.len(), 49);
        prop_assert_eq!(TokenKind::parse(&text), Some(kind));
    }

    #[test]
    fn no_change_of_one_character_parses(kind in kinds(), seed: u64, at in 0..49_usize, to: char) {
        let text = minted(kind, seed);
        let mut characters: Vec<char> = text.chars().collect();
        prop_assume!(characters[at] != to);
        characters[at] = to;
        let changed: String = characters.into_iter().collect();
        prop_assert_eq!(TokenKind::parse(&changed), None);
    }

    #[test]
    fn no_swap_of_neighbours_parses(kind in kinds(), seed: u64, at in 0..48_usize) {
        let mut bytes = minted(kind, seed).into_bytes();
        prop_assume!(bytes[at] != bytes[at + 1]);
        bytes.swap(at, at + 1);
        prop_assert_eq!(TokenKind::parse(std::str::from_utf8(&bytes).expect("still ASCII")), None);
    }

    #[test]
    fn no_truncation_and_no_addition_parses(kind in kinds(), seed: u64, length in 0..49_usize, more: char) {
        let text = minted(kind, seed);
        prop_assert_eq!(TokenKind::parse(&text[..length]), None);
        prop_assert_eq!(TokenKind::parse(&text[length + 1..]), None);
        let longer = format!("{text}{more}");
        prop_assert_eq!(TokenKind::parse(&longer), None);
        let longer = format!("{more}{text}");
        prop_assert_eq!(TokenKind::parse(&longer), None);
    }

    #[test]
    fn any_text_at_all_is_refused_without_a_panic(text: String) {
        prop_assert_eq!(TokenKind::parse(&text), None);
    }
}

#[test]
fn every_single_ascii_change_of_one_token_is_refused() {
    let text = minted(TokenKind::Key, 7);
    for at in 0..text.len() {
        for byte in 0..128_u8 {
            let mut bytes = text.clone().into_bytes();
            if bytes[at] == byte {
                continue;
            }
            bytes[at] = byte;
            let changed = String::from_utf8(bytes).expect("still ASCII");
            assert_eq!(TokenKind::parse(&changed), None, "position {at}, byte {byte}");
        }
    }
}

#[test]
fn other_spellings_are_refused() {
    let text = minted(TokenKind::Pat, 1);
    let spellings = [
        format!(" {text}"),
        format!("{text}\n"),
        format!("\u{feff}{text}"),
        format!("Bearer {text}"),
        text.to_uppercase(),
        text.to_lowercase(),
        text.replace('_', "%5F"),
        text.replace("sophic", "ｓophic"),
        text.replace("pat", "key"),
        text.replace('_', "-"),
    ];
    for spelling in spellings {
        assert_eq!(TokenKind::parse(&spelling), None);
    }
}

#[test]
fn two_tokens_differ() {
    let first = Token::mint(TokenKind::Key, &OsRandom).expect("the machine has randomness");
    let second = Token::mint(TokenKind::Key, &OsRandom).expect("the machine has randomness");
    assert_ne!(first.expose(), second.expose());
}

#[test]
fn a_hint_is_the_prefix_and_the_end_of_the_body() {
    let token = Token::mint(TokenKind::Pat, &OsRandom).expect("the machine has randomness");
    assert_eq!(token.hint(), format!("sophic_pat_...{}", &token.expose()[39..43]));
}

#[test]
fn debug_shows_nothing_of_a_token() {
    let token = Token::mint(TokenKind::Service, &OsRandom).expect("the machine has randomness");
    assert_eq!(format!("{token:?}"), "Token(redacted)");
}

#[test]
fn a_failing_source_makes_no_token() {
    struct Broken;
    impl Random for Broken {
        fn fill(&self, _: &mut [u8]) -> Result<(), RandomError> {
            Err(RandomError)
        }
    }
    assert!(Token::mint(TokenKind::Key, &Broken).is_err());
}

#[test]
fn only_credentials_are_looked_up() {
    let key = minted(TokenKind::Key, 3);
    assert_eq!(digest_of_presented(&key, false), Some(Digest::of(&key)));
    assert_eq!(digest_of_presented(&minted(TokenKind::Service, 3), true), None);
    assert_eq!(digest_of_presented("legacy-token", false), None);
    assert_eq!(digest_of_presented("legacy-token", true), Some(Digest::of("legacy-token")));
    assert_eq!(digest_of_presented("sophic_key_almost", true), None);
    assert_eq!(digest_of_presented(&"x".repeat(513), true), None);
}

#[test]
fn an_imported_token_must_look_random() {
    let fine = "4f9c1e7a2b8d6053c7e1";
    let (digest, hint) = digest_imported(fine, TokenKind::Key).expect("it is taken");
    assert_eq!((digest, hint.as_str()), (Digest::of(fine), "...c7e1"));
    let spelled = format!("sophic_key_{}", "a".repeat(38));
    for text in
        ["", "password", &"ab".repeat(20), &"x1y2z3w4v5".repeat(60), " 4f9c1e7a2b8d6053c7e1"]
    {
        digest_imported(text, TokenKind::Key).expect_err("it is refused");
    }
    for text in [spelled.as_str(), "sophic_key_4f9c1e7a2b8d6053c7e1"] {
        digest_imported(text, TokenKind::Key).expect_err("it is none of ours");
    }
    let ours = Token::mint(TokenKind::Pat, &OsRandom).expect("a token");
    let (digest, hint) = digest_imported(ours.expose(), TokenKind::Pat).expect("it is taken");
    assert_eq!((digest, hint), (ours.digest(), ours.hint()));
    digest_imported(ours.expose(), TokenKind::Key).expect_err("it is of another kind");
}

#[test]
fn a_token_of_ours_is_found_anywhere_in_a_text() {
    let token = format!("sophic_svc_{}", "aB3".repeat(12) + "zz");
    assert!(contains_token(&token));
    assert!(contains_token(&format!("é sophic_ and {token}!")));
    assert!(!contains_token(&token[..token.len() - 1]));
    assert!(!contains_token("sophic_key_ é, and what comes after it is not a token at all, 🔑"));
}

#[test]
fn text_that_is_not_a_digest_may_be_a_token() {
    assert!(may_be_token("glpat-Zx81kQw2_91mKs0LmQ2x"));
    assert!(!may_be_token(&"ab".repeat(32)));
    assert!(!may_be_token(&"AB".repeat(20)), "a SHA-1, or a digest cut short");
    assert!(is_placeholder(&Digest::of("")) && is_placeholder(&Digest::of("null")));
    assert!(!is_placeholder(&Digest::of("4f9c1e7a2b8d6053c7e1")));
}

#[test]
fn tokens_are_redacted_anywhere_in_a_text() {
    let token = Token::mint(TokenKind::Key, &OsRandom).expect("randomness");
    let text =
        format!("https://example.com/?a={0}&b={0}. \"{0}x\" sophic_key_...abcd é", token.expose());
    let redacted = redact_tokens(&text);
    let key = "sophic_key_[redacted]";
    assert_eq!(
        redacted,
        format!("https://example.com/?a={key}&b={key}. \"{key}\" sophic_key_...abcd é")
    );
    assert!(matches!(redact_tokens("sophic_sophic_key_ no token"), std::borrow::Cow::Borrowed(_)));
}

#[test]
fn a_token_is_found_anywhere_and_under_any_escape() {
    let token = Token::mint(TokenKind::Key, &OsRandom).expect("a token");
    let token = token.expose();
    let found = |text: &str| {
        let mut found = Vec::new();
        scan(text.as_bytes(), |text| found.push(text.to_owned()));
        found.dedup();
        found
    };
    let json = serde_json::json!({"a": format!("x\n{token}")}).to_string();
    let twice = serde_json::json!({"b": json}).to_string();
    for text in [
        token.to_owned(),
        format!("file:3: KEY={token}"),
        format!("{{\"Match\":\"KEY\\u003d{token}\\u0022\"}}"),
        format!("https://x.example/?token%3D{token}&y"),
        format!("https://x.example/?next=%2Fa%3Ftoken%253D{token}"),
        format!("b'\\x27\\x3d{token}'"),
        format!("é{token}é"),
        json,
        twice,
        token.replace('_', "\\u005f"),
        // Within a word.
        format!("x{token}"),
        format!("{token}x"),
        format!("MY_{token}_"),
        // Broken over lines, as mail programs and terminals do.
        format!("{}\r\n  {}", &token[..20], &token[20..]),
        format!("{}=\n{}\\\n{}", &token[..3], &token[3..20], &token[20..]),
        serde_json::json!({"a": format!("{}\n{}", &token[..40], &token[40..])}).to_string(),
    ] {
        assert_eq!(found(&text), [token], "{text}");
    }
    // Within a word, only tokens with the right check characters count.
    let end = if token.ends_with('A') { "B" } else { "A" };
    let wrong = format!("x{}{end}", &token[..token.len() - 1]);
    for text in [wrong, token[1..].to_owned(), "\\".to_owned()] {
        assert_eq!(found(&text), Vec::<String>::new(), "{text}");
    }
    assert_eq!(found(&format!("{token},{token}\u{0}{token}")).len(), 1);
}
