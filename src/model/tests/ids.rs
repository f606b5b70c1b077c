//! Ids, slugs, names of callers, and UUIDs of version 7.

use proptest::prelude::*;
use uuid::Variant;

use super::super::*;
use super::micros;

#[test]
fn an_opaque_id_is_1_to_64_of_its_alphabet() {
    let longest = "x".repeat(64);
    for good in ["a", "Z", "0", "_", "-", "--", "wS_-9", longest.as_str()] {
        let workspace = WorkspaceId::parse(good).expect(good);
        let user = UserId::parse(good).expect(good);
        assert_eq!((workspace.as_str(), user.as_str()), (good, good));
        assert_eq!(workspace.to_string().parse(), Ok(workspace));
    }
    let too_long = "x".repeat(65);
    for bad in ["", " ", "a b", "a.b", "a/b", "a:b", "é", "\u{ff21}", "a\0", "a\n", &too_long] {
        assert!(WorkspaceId::parse(bad).is_err(), "{bad:?}");
        assert!(UserId::parse(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn ids_differ_by_the_case_of_a_letter() {
    assert_ne!(WorkspaceId::parse("Acme"), WorkspaceId::parse("acme"));
}

#[test]
fn a_slug_is_3_to_63_with_hyphens_only_inside_and_single() {
    let longest = "x".repeat(63);
    for good in ["abc", "a-b", "123", "a-b-c-1", longest.as_str()] {
        let slug = Slug::parse(good).expect(good);
        assert_eq!(slug.as_str(), good);
        assert_eq!(slug.to_string().parse(), Ok(slug));
    }
    let too_long = "x".repeat(64);
    for bad in [
        "",
        "a",
        "ab",
        "-ab",
        "ab-",
        "a--b",
        "---",
        "Abc",
        "a_b",
        "a.b",
        "a b",
        "abé",
        "abc\0",
        "abc\n",
        "\u{430}bc",
        &too_long,
    ] {
        assert!(Slug::parse(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn a_callers_name_is_1_to_63_and_begins_and_ends_with_a_letter_or_digit() {
    let longest = "x".repeat(63);
    for good in ["a", "9", "gateway", "web-1.eu", "a.-.b", longest.as_str()] {
        assert_eq!(CallerName::parse(good).expect(good).as_str(), good);
    }
    let too_long = "x".repeat(64);
    for bad in [
        "", "-", ".", "-a", "a-", ".a", "a.", "Gateway", "a_b", "a b", "a:b", "é", "a\0", &too_long,
    ] {
        assert!(CallerName::parse(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn a_certificates_name_is_1_to_255_printable_ascii_characters() {
    let longest = "x".repeat(255);
    for good in ["a", "gateway.sophic.so", "spiffe://sophic.so/ns/prod/sa/gateway", &longest] {
        assert_eq!(CertificateSan::parse(good).expect(good).as_str(), good);
    }
    let too_long = "x".repeat(256);
    for bad in ["", " ", "a b", "a\tb", "a\0", "é.so", "a\u{7f}", &too_long] {
        assert!(CertificateSan::parse(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn a_uuid_has_one_spelling() {
    let text = "0195f2d4-7c1e-7b3a-9d58-0242ac120002";
    let id = CredentialId::parse(text).expect("a UUID");
    assert_eq!(id.to_string(), text);
    assert_eq!(text.parse(), Ok(id));
    for bad in [
        "",
        "0195F2D4-7C1E-7B3A-9D58-0242AC120002",
        "0195f2d47c1e7b3a9d580242ac120002",
        "{0195f2d4-7c1e-7b3a-9d58-0242ac120002}",
        "urn:uuid:0195f2d4-7c1e-7b3a-9d58-0242ac120002",
        " 0195f2d4-7c1e-7b3a-9d58-0242ac120002",
        "0195f2d4-7c1e-7b3a-9d58-0242ac120002\n",
        "0195f2d4-7c1e-7b3a-9d58-0242ac12000",
        "0195f2d4-7c1e-7b3a-9d58-0242ac1200020",
        "0195f2d4-7c1e-7b3a-9d58-0242ac12000g",
        "0195f2d47-c1e-7b3a-9d58-0242ac120002",
        "０195f2d4-7c1e-7b3a-9d58-0242ac120002",
    ] {
        assert!(CredentialId::parse(bad).is_err(), "{bad:?}");
        assert!(CallerId::parse(bad).is_err(), "{bad:?}");
        assert!(EventId::parse(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn an_id_from_before_1970_or_from_the_last_instant_is_valid() {
    let ancient = CredentialId::new(micros(-62_135_596_800_000_000), [0xff; 10]);
    let last = CredentialId::new(micros(253_402_300_799_999_999), [0; 10]);
    assert!(ancient < last);
    assert_eq!((ancient.0.get_version_num(), last.0.get_version_num()), (7, 7));
}

proptest! {
    #[test]
    fn a_new_id_is_a_version_7_uuid_with_its_millisecond(
        millis in 0_i64..=253_402_300_799_999,
        below in 0_i64..1_000,
        random: [u8; 10],
    ) {
        let id = CredentialId::new(micros(millis * 1_000 + below), random);
        prop_assert_eq!(id.0.get_version_num(), 7);
        prop_assert_eq!(id.0.get_variant(), Variant::RFC4122);
        let bits = i64::try_from(id.0.as_u128() >> 80).expect("48 bits");
        prop_assert_eq!(bits, millis);
        prop_assert_eq!(CredentialId::parse(&id.to_string()), Ok(id));
    }

    #[test]
    fn ids_sort_by_the_time_they_were_made_as_text_too(
        millis in 0_i64..253_402_300_799_999,
        later in 1_i64..100_000_000,
        first: [u8; 10],
        second: [u8; 10],
    ) {
        let later = (millis + later).min(253_402_300_799_999);
        let first = EventId::new(micros(millis * 1_000), first);
        let second = EventId::new(micros(later * 1_000), second);
        prop_assert!(first < second);
        prop_assert!(first.to_string() < second.to_string());
    }

    #[test]
    fn the_random_bytes_make_two_ids_of_one_instant_differ(
        first: [u8; 10],
        second: [u8; 10],
    ) {
        // The version and the variant replace 6 of the 80 bits.
        let kept = |bytes: [u8; 10]| {
            let mut bytes = bytes;
            bytes[0] &= 0x0f;
            bytes[2] &= 0x3f;
            bytes
        };
        let made = |random| CallerId::new(micros(1_800_000_000_000_000), random);
        prop_assert_eq!(made(first) == made(second), kept(first) == kept(second));
    }
}
