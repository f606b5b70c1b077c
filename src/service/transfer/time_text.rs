//! Spellings of times in other systems.

use crate::model::{Invalid, Timestamp};

/// Description of the accepted spellings.
const MUST_BE: &str = "must be a time: RFC 3339 (2027-01-31T12:00:00Z), the output of Postgres (2027-01-31 12:00:00.5+00; UTC without \
     a zone), a date (its first moment in UTC), or seconds, milliseconds or microseconds since 1970 with 10, 13 or 16 \
     digits";

/// Parses a time.
pub(super) fn parse(text: &str) -> Result<Timestamp, Invalid> {
    let invalid = || Invalid::new(MUST_BE);
    if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return since_epoch(text).ok_or_else(invalid);
    }
    Timestamp::parse(&rfc3339(text).ok_or_else(invalid)?).map_err(|_| invalid())
}

/// Parses a number. Its unit follows from the number of digits: from 2001 to 2286 seconds have 10, and milliseconds and
/// microseconds three and six more.
fn since_epoch(text: &str) -> Option<Timestamp> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let number: i64 = whole.parse().ok()?;
    let per = match whole.len() {
        9 | 10 => 1_000_000,
        12 | 13 => 1_000,
        15 | 16 => 1,
        _ => return None,
    };
    if fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // Digits beyond microseconds are cut off.
    let micros: i64 = format!("{fraction:0<6.6}").parse().ok()?;
    let part = if per == 1 { 0 } else { micros * per / 1_000_000 };
    Timestamp::from_unix_micros(number.checked_mul(per)?.checked_add(part)?)
}

/// Turns a date, or a date and time with or without a zone, into RFC 3339.
fn rfc3339(text: &str) -> Option<String> {
    let date = text.get(..10)?;
    let rest = &text[10..];
    if rest.is_empty() {
        return Some(format!("{date}T00:00:00Z"));
    }
    let rest = rest.strip_prefix([' ', 'T', 't'])?;
    let zone = rest.find(['Z', 'z', '+', '-', ' ']).unwrap_or(rest.len());
    let (time, zone) = rest.split_at(zone);
    // The seconds may be absent.
    let time = if time.len() == 5 { format!("{time}:00") } else { time.to_owned() };
    let zone = zone.trim_start();
    let digits = zone.get(1..).unwrap_or_default();
    let zone = match (zone, digits.len()) {
        ("" | "UTC" | "Z" | "z", _) => "Z".to_owned(),
        (zone, 2) => format!("{zone}:00"),
        (zone, 4) => format!("{}:{}", zone.get(..3)?, zone.get(3..)?),
        (zone, _) => zone.to_owned(),
    };
    Some(format!("{date}T{time}{zone}"))
}
