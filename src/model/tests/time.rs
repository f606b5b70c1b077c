//! Instants: the years 1 to 9999, microseconds, and the spellings of RFC 3339.

use std::time::Duration;

use proptest::prelude::*;

use super::super::*;
use super::micros;

const FIRST: i64 = -62_135_596_800_000_000;
const LAST: i64 = 253_402_300_799_999_999;
const FIRST_SECOND: i64 = -62_135_596_800;
const LAST_SECOND: i64 = 253_402_300_799;

fn parsed(text: &str) -> i64 {
    Timestamp::parse(text).unwrap_or_else(|wrong| panic!("{text}: {wrong}")).unix_micros()
}

fn unix(seconds: i64, nanos: i32) -> Option<i64> {
    Timestamp::from_unix(seconds, nanos).ok().map(Timestamp::unix_micros)
}

#[test]
fn time_begins_with_the_year_1_and_ends_with_the_year_9999() {
    assert_eq!(micros(FIRST).to_string(), "0001-01-01T00:00:00Z");
    assert_eq!(micros(LAST).to_string(), "9999-12-31T23:59:59.999999Z");
    for beyond in [FIRST - 1, LAST + 1, i64::MIN, i64::MAX] {
        assert_eq!(Timestamp::from_unix_micros(beyond), None, "{beyond}");
    }
}

#[test]
fn a_protobuf_timestamp_outside_its_documented_range_is_refused() {
    assert_eq!(unix(0, 0), Some(0));
    assert_eq!(unix(FIRST_SECOND, 0), Some(FIRST));
    assert_eq!(unix(LAST_SECOND, 999_999_999), Some(LAST));
    for (seconds, nanos) in [
        (FIRST_SECOND - 1, 0),
        (FIRST_SECOND - 1, 999_999_999),
        (LAST_SECOND + 1, 0),
        (i64::MAX, 0),
        (i64::MAX, 999_999_999),
        (i64::MIN, 0),
        (i64::MIN, 999_999_999),
        (i64::MAX / 1_000_000 + 1, 0),
        (i64::MIN / 1_000_000 - 1, 0),
    ] {
        assert_eq!(unix(seconds, nanos), None, "{seconds} s {nanos} ns");
    }
}

#[test]
fn nanos_are_0_to_999_999_999_and_count_forward_before_1970_too() {
    assert_eq!(unix(1, 500_000_000), Some(1_500_000));
    assert_eq!(unix(-1, 500_000_000), Some(-500_000));
    for nanos in [-1, 1_000_000_000, i32::MIN, i32::MAX] {
        assert_eq!(unix(0, nanos), None, "{nanos} ns");
    }
}

#[test]
fn fractions_of_a_microsecond_are_rounded_down() {
    assert_eq!(unix(0, 999), Some(0));
    assert_eq!(unix(0, 1_999), Some(1));
    assert_eq!(unix(-1, 999_999_999), Some(-1));
    assert_eq!(parsed("1970-01-01T00:00:00.000001999Z"), 1);
    assert_eq!(parsed("1969-12-31T23:59:59.999999999Z"), -1);
}

#[test]
fn an_offset_is_another_spelling_of_the_same_instant() {
    let noon = 1_800_014_400_000_000;
    for same in [
        "2027-01-15T12:00:00Z",
        "2027-01-15T12:00:00+00:00",
        "2027-01-15T12:00:00-00:00",
        "2027-01-15T12:00:00.000Z",
        "2027-01-15T17:30:00+05:30",
        "2027-01-15T04:00:00-08:00",
        "2027-01-16T02:00:00+14:00",
        "2027-01-16T11:59:00+23:59",
        "2027-01-14T12:01:00-23:59",
    ] {
        assert_eq!(parsed(same), noon, "{same}");
    }
}

#[test]
fn an_offset_cannot_lead_outside_the_years_1_to_9999() {
    assert_eq!(parsed("0001-01-01T01:00:00+01:00"), FIRST);
    assert_eq!(parsed("9999-12-31T22:59:59.999999999-01:00"), LAST);
    for beyond in [
        "0000-12-31T23:59:59Z",
        "0001-01-01T00:59:59+01:00",
        "9999-12-31T23:00:00-01:00",
        "9999-12-31T23:59:59.999999999-23:59",
        "10000-01-01T00:00:00Z",
        "-0001-01-01T00:00:00Z",
    ] {
        assert!(Timestamp::parse(beyond).is_err(), "{beyond}");
    }
}

#[test]
fn a_leap_second_is_the_last_microsecond_before_it_and_stands_only_where_one_can() {
    let before_2017 = 1_483_228_799_999_999;
    assert_eq!(parsed("2016-12-31T23:59:60Z"), before_2017);
    assert_eq!(parsed("2017-01-01T05:29:60+05:30"), before_2017);
    for bad in [
        "2016-12-31T23:59:61Z",
        "2016-12-30T23:59:60Z",
        "2016-12-31T12:00:60Z",
        "2016-12-31T23:60:00Z",
        "2016-12-31T24:00:00Z",
    ] {
        assert!(Timestamp::parse(bad).is_err(), "{bad}");
    }
    // Whether the very last second may be a leap second does not matter. It must not panic.
    let end = Timestamp::parse("9999-12-31T23:59:60Z");
    assert!(end.is_err() || end == Ok(micros(LAST)));
}

#[test]
fn days_are_those_of_the_calendar() {
    assert_eq!(parsed("2028-02-29T00:00:00Z") - parsed("2028-02-28T00:00:00Z"), 86_400_000_000);
    for bad in ["2027-02-29", "1900-02-29", "2027-04-31", "2027-00-10", "2027-13-01", "2027-01-00"]
    {
        assert!(Timestamp::parse(&format!("{bad}T00:00:00Z")).is_err(), "{bad}");
    }
}

#[test]
fn text_that_is_not_rfc_3339_is_refused() {
    for bad in [
        "",
        "now",
        "1800000000",
        "2027-01-15",
        "2027-01-15T12:00:00",
        "2027-01-15T12:00Z",
        "2027-01-15T12:00:00.Z",
        "2027-01-15T12:00:00+24:00",
        "2027-01-15T12:00:00+01:60",
        "2027-01-15T12:00:00+0100",
        "2027-01-15T12:00:00 UTC",
        "2027-1-5T12:00:00Z",
        "27-01-15T12:00:00Z",
        " 2027-01-15T12:00:00Z",
        "2027-01-15T12:00:00Z ",
        "2027-01-15T12:00:00Z\0",
        "２027-01-15T12:00:00Z",
    ] {
        assert!(Timestamp::parse(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn checked_add_is_none_past_the_year_9999() {
    let second = Duration::from_secs(1);
    assert_eq!(micros(0).checked_add(second), Some(micros(1_000_000)));
    assert_eq!(micros(LAST).checked_add(Duration::ZERO), Some(micros(LAST)));
    assert_eq!(micros(LAST).checked_add(Duration::from_micros(1)), None);
    assert_eq!(micros(FIRST).checked_add(Duration::MAX), None);
    assert_eq!(micros(LAST).checked_add(Duration::from_micros(u64::MAX)), None);
    assert_eq!(micros(FIRST).checked_add(Duration::from_micros(i64::MAX as u64)), None);
}

#[test]
fn saturating_since_is_never_negative() {
    assert_eq!(micros(5).saturating_since(micros(2)), Duration::from_micros(3));
    assert_eq!(micros(2).saturating_since(micros(2)), Duration::ZERO);
    assert_eq!(micros(2).saturating_since(micros(5)), Duration::ZERO);
    let all = Duration::from_micros(LAST.abs_diff(FIRST));
    assert_eq!(micros(LAST).saturating_since(micros(FIRST)), all);
}

/// Text in the shape of RFC 3339, with any numbers.
const TIME_LIKE: &str = concat!(
    "[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ]",
    "[0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]{0,12})?",
    "(Z|[+-][0-9]{2}:[0-9]{2})",
);

proptest! {
    #[test]
    fn every_instant_comes_back_from_its_text_and_from_the_databases_types(at in FIRST..=LAST) {
        let instant = micros(at);
        prop_assert_eq!(Timestamp::parse(&instant.to_string()), Ok(instant));
        prop_assert_eq!(Timestamp::from_date_time(instant.date_time()), Some(instant));
        let nanos = i32::try_from(at.rem_euclid(1_000_000) * 1_000).expect("less than a second");
        prop_assert_eq!(Timestamp::from_unix(at.div_euclid(1_000_000), nanos), Ok(instant));
    }

    #[test]
    fn no_protobuf_timestamp_makes_it_panic(seconds: i64, nanos: i32) {
        let accepted = (FIRST_SECOND..=LAST_SECOND).contains(&seconds)
            && (0..1_000_000_000).contains(&nanos);
        prop_assert_eq!(unix(seconds, nanos).is_some(), accepted);
    }

    #[test]
    fn no_text_makes_it_panic(text in TIME_LIKE) {
        if let Ok(instant) = Timestamp::parse(&text) {
            prop_assert_eq!(Timestamp::parse(&instant.to_string()), Ok(instant));
        }
    }
}
