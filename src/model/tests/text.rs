//! Names, reasons and annotations: every script is allowed, deceptive characters are not.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::*;

/// An emoji of a family of four: one visible character, 25 bytes, three joiners.
const FAMILY: &str = "\u{1F468}\u{200D}\u{1F469}\u{200D}\u{1F467}\u{200D}\u{1F466}";

/// Whether the text is a valid name. Also checks that it is stored exactly as given.
fn is_name(text: &str) -> bool {
    match DisplayName::parse(text) {
        Ok(name) => {
            assert_eq!(name.as_str(), text);
            assert_eq!(name.to_string(), text);
            true
        }
        Err(_) => false,
    }
}

/// Characters that no free text may contain.
const DECEPTIVE: [(&str, &str); 33] = [
    ("NUL", "a\0b"),
    ("NUL alone", "\0"),
    ("an ANSI colour", "\u{1b}[31mred\u{1b}[0m"),
    ("an ANSI title", "a\u{1b}]0;title\u{7}b"),
    ("the one-byte CSI", "a\u{9b}31mb"),
    ("backspace", "a\u{8}b"),
    ("bell", "a\u{7}b"),
    ("tab", "a\tb"),
    ("line feed", "a\nb"),
    ("carriage return", "a\rb"),
    ("a forged log line", "a\r\n2027-01-01 INFO all is well"),
    ("next line", "a\u{85}b"),
    ("delete", "a\u{7f}b"),
    ("line separator", "a\u{2028}b"),
    ("paragraph separator", "a\u{2029}b"),
    ("right-to-left override", "invoice\u{202E}fdp.exe"),
    ("left-to-right override", "a\u{202D}b"),
    ("right-to-left embedding", "a\u{202B}b"),
    ("pop directional formatting", "a\u{202C}b"),
    ("right-to-left isolate", "a\u{2067}b\u{2069}c"),
    ("first strong isolate", "a\u{2068}b"),
    ("right-to-left mark", "a\u{200F}b"),
    ("Arabic letter mark", "a\u{61C}b"),
    ("zero width space", "pay\u{200B}pal"),
    ("word joiner", "pay\u{2060}pal"),
    ("byte order mark", "pay\u{FEFF}pal"),
    ("soft hyphen", "pay\u{AD}pal"),
    ("invisible separator", "a\u{2063}b"),
    ("interlinear annotation", "a\u{FFF9}b"),
    ("joiner between ASCII", "pay\u{200D}pal"),
    ("non-joiner between ASCII", "pay\u{200C}pal"),
    ("language tag", "a\u{E0001}b"),
    ("text hidden in tags", "a\u{E0062}\u{E0079}\u{E0065}b"),
];

#[test]
fn a_name_is_1_to_256_characters_as_a_reader_counts_them() {
    for (character, bytes) in [("a", 1), ("e\u{301}", 3), ("漢", 3), (FAMILY, 25), ("🇳🇱", 8)]
    {
        assert_eq!(character.len(), bytes);
        assert!(is_name(character), "{character}");
        assert!(is_name(&character.repeat(256)), "256 of {character}");
        assert!(!is_name(&character.repeat(257)), "257 of {character}");
    }
    assert!(!is_name(""));
}

#[test]
fn a_name_is_at_most_8192_bytes_however_few_its_characters() {
    let longest = format!("é{}", "\u{301}".repeat(4_095));
    assert_eq!(longest.len(), 8_192);
    assert!(is_name(&longest));
    assert!(!is_name(&format!("{longest}a")));
    assert!(!is_name(&"a".repeat(10_000_000)));
}

#[test]
fn a_name_neither_begins_nor_ends_with_white_space() {
    for space in [" ", "\u{A0}", "\u{3000}", "\u{2003}", "\u{1680}", "\t", "\n"] {
        for bad in [space.to_owned(), format!("{space}a"), format!("a{space}")] {
            assert!(!is_name(&bad), "{bad:?}");
        }
    }
    assert!(is_name("a b\u{A0}c\u{3000}d"));
}

#[test]
fn a_name_is_of_any_script() {
    for good in [
        "Ada's laptop",
        "Zoë / 東京 – prod #1",
        "Ελληνικά",
        "мой ключ",
        "مفتاح الإنتاج",
        "מפתח",
        "क्षत्रिय",
        "ไทย",
        "한국어",
        "👩🏽‍💻 deploy",
        "❤️‍🔥",
        "1️⃣",
        "🏳️‍🌈 👍🏿",
        // The flag of England, which is spelled with tags.
        "\u{1F3F4}\u{E0067}\u{E0062}\u{E0065}\u{E006E}\u{E0067}\u{E007F}",
        "Robert'); DROP TABLE credentials;--",
        "100%_\\",
        "<b>\"&amp;\"</b>",
        "${jndi:ldap://x}",
    ] {
        assert!(is_name(good), "{good:?}");
    }
}

#[test]
fn joiners_are_allowed_where_scripts_need_them() {
    for good in [
        // Hindi, an explicit half form; Sinhala, the name of the island; Persian, "I want".
        "\u{915}\u{94D}\u{200D}\u{937}",
        "\u{DC1}\u{DCA}\u{200D}\u{DBB}\u{DD3}",
        "\u{645}\u{6CC}\u{200C}\u{62E}\u{648}\u{627}\u{647}\u{645}",
        // Malayalam ends words with a joiner after a virama, and a space or a digit may follow.
        "\u{D30}\u{D3E}\u{D1C}\u{D28}\u{D4D}\u{200D}",
        "\u{D1E}\u{D3E}\u{D28}\u{D4D}\u{200D} \u{D35}",
        "\u{D28}\u{D4D}\u{200D}2",
    ] {
        assert!(is_name(good), "{good:?}");
    }
    for bad in
        ["\u{200D}", "\u{200C}a", "a\u{200D}", "é\u{200D}", "\u{200D}é", "é\u{200D}a", "1\u{200D}é"]
    {
        assert!(!is_name(bad), "{bad:?}");
    }
}

#[test]
fn names_reasons_and_annotations_refuse_deceptive_characters() {
    for (what, text) in DECEPTIVE {
        assert!(!is_name(text), "{what}");
        assert!(ReasonText::parse(text).is_err(), "{what}");
        assert!(annotated(&[("key", text)]).is_err(), "{what}");
        assert!(annotated(&[(text, "value")]).is_err(), "{what}");
    }
}

#[test]
fn tags_that_do_not_follow_a_flag_are_refused() {
    for bad in ["\u{E0067}", "🏁\u{E0067}\u{E007F}", "\u{1F3F4}a\u{E0067}", "\u{1F3F4}\u{E0001}"]
    {
        assert!(!is_name(bad), "{bad:?}");
    }
}

#[test]
fn a_reason_may_be_empty_and_has_at_most_256_characters() {
    for good in [String::new(), "leaked in CI".to_owned(), "é".repeat(256), FAMILY.repeat(256)] {
        assert_eq!(ReasonText::parse(&good).expect("a good reason").as_str(), good);
    }
    assert!(ReasonText::parse(&"é".repeat(257)).is_err());
    assert!(ReasonText::parse(&"a".repeat(10_000_000)).is_err());
}

fn annotated(entries: &[(&str, &str)]) -> Result<Annotations, Invalid> {
    let owned = entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    Annotations::parse(owned.collect())
}

#[test]
fn annotations_are_stored_unchanged() {
    let entries = [("sophic.so/team", "data — 東京"), ("empty", ""), ("a_b-c.d/0", " spaced ")];
    let annotations = annotated(&entries).expect("good annotations");
    let kept: Vec<_> =
        annotations.entries().iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(kept, [entries[2], entries[1], entries[0]]);
    assert_eq!(Annotations::parse(BTreeMap::new()), Ok(Annotations::default()));
}

#[test]
fn an_annotations_key_is_1_to_63_of_its_alphabet() {
    assert!(annotated(&[(&"k".repeat(63), "v")]).is_ok());
    let too_long = "k".repeat(64);
    for bad in ["", "Key", "a b", "a:b", "a=b", "é", "a\0", "k\n", too_long.as_str()] {
        assert!(annotated(&[(bad, "v")]).is_err(), "{bad:?}");
    }
}

#[test]
fn an_annotations_value_is_at_most_1024_bytes() {
    assert!(annotated(&[("k", &"v".repeat(1_024))]).is_ok());
    assert!(annotated(&[("k", &"é".repeat(512))]).is_ok());
    assert!(annotated(&[("k", &"v".repeat(1_025))]).is_err());
    assert!(annotated(&[("k", &format!("{}v", "é".repeat(512)))]).is_err());
}

#[test]
fn there_are_at_most_32_annotations() {
    let many = |n: usize| (0..n).map(|i| (format!("k{i}"), String::new())).collect();
    assert!(Annotations::parse(many(32)).is_ok());
    assert!(Annotations::parse(many(33)).is_err());
    assert!(Annotations::parse(many(10_000)).is_err());
}

#[test]
fn an_error_text_never_repeats_the_value() {
    let secret = "hunter2\u{202E}";
    for wrong in [
        DisplayName::parse(secret).map(|_| ()),
        ReasonText::parse(secret).map(|_| ()),
        annotated(&[("k", secret)]).map(|_| ()),
        annotated(&[(secret, "v")]).map(|_| ()),
        Slug::parse(secret).map(|_| ()),
        WorkspaceId::parse(secret).map(|_| ()),
        CredentialId::parse(secret).map(|_| ()),
        CallerName::parse(secret).map(|_| ()),
        CertificateSan::parse(secret).map(|_| ()),
        IpAllowlist::parse([secret]).map(|_| ()),
        parse_client_ip(secret).map(|_| ()),
        Timestamp::parse(secret).map(|_| ()),
        secret.parse::<Role>().map(|_| ()),
        secret.parse::<Scope>().map(|_| ()),
        secret.parse::<Permission>().map(|_| ()),
    ] {
        let Err(wrong) = wrong else { panic!("accepted") };
        assert!(!wrong.to_string().contains("hunter2"), "{wrong}");
        assert!(wrong.to_string().starts_with("must "), "{wrong}");
    }
}

proptest! {
    #[test]
    fn no_name_holds_a_control_character(text in "\\PC{0,6}\\p{Cc}\\PC{0,6}") {
        prop_assert!(!is_name(&text));
    }

    #[test]
    fn printable_ascii_is_a_name(text in "[!-~]([ -~]{0,254}[!-~])?") {
        prop_assert!(is_name(&text));
    }
}
