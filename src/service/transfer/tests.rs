//! Tests that need no store: lines, fields, digests and times.

use std::io::BufReader;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};

use super::elements::Elements;
use super::line_set::LineSet;
use super::lines::{Line, Lines};
use super::names::ColumnOptions;
use super::strict_csv::StrictCsv;
use super::{Column, digest_text, json, time_text};
use crate::model::Digest;
use crate::token::{OsRandom, Token, TokenKind};

/// Returns the rows of a CSV file, each with its first line, or the error.
fn rows(text: &str) -> Result<Vec<(u64, Vec<String>)>, String> {
    // A small buffer, so that records span several reads.
    let input = StrictCsv::new(BufReader::with_capacity(3, text.as_bytes()));
    let mut builder = csv::ReaderBuilder::new();
    let mut reader = builder.has_headers(false).flexible(true).from_reader(input);
    let (mut rows, mut row) = (Vec::new(), csv::StringRecord::new());
    while reader.read_record(&mut row).map_err(|error| error.to_string())? {
        let line = reader.get_mut().next_start();
        rows.push((line, row.iter().map(str::to_owned).collect()));
    }
    Ok(rows)
}

#[test]
fn rows_are_split_by_rfc_4180_and_numbered_by_the_line_on_which_they_begin() {
    for (text, wanted) in [
        ("", &[][..]),
        ("a", &[(1, &["a"][..])]),
        ("a,,b\n", &[(1, &["a", "", "b"])]),
        ("\u{feff}\"a,b\",c\r\nd", &[(1, &["a,b", "c"]), (2, &["d"])]),
        ("\n\r\na\n\n\nb\n\n", &[(3, &["a"]), (6, &["b"])]),
        ("\"a\nb\r\n\rc\",\"\"\nd", &[(1, &["a\nb\r\n\rc", ""]), (4, &["d"])]),
        ("\"say \"\"hi\"\"\",\"\"\n", &[(1, &["say \"hi\"", ""])]),
        (" a , b \n,", &[(1, &[" a ", " b "]), (2, &["", ""])]),
    ] {
        let rows = rows(text).expect(text);
        let rows: Vec<(u64, Vec<&str>)> = rows
            .iter()
            .map(|(line, row)| (*line, row.iter().map(String::as_str).collect()))
            .collect();
        let wanted: Vec<(u64, Vec<&str>)> =
            wanted.iter().map(|(line, row)| (*line, row.to_vec())).collect();
        assert_eq!(rows, wanted, "{text:?}");
    }
}

#[test]
fn a_file_that_is_not_csv_is_refused_with_the_line_on_which_the_bad_record_begins() {
    for (text, line, what) in [
        ("a\n\"b\nc\nd\n", 2, "never closed"),
        ("a\n\n\"", 3, "never closed"),
        ("\"\"\"", 1, "never closed"),
        ("\"a\"b\n", 1, "text between"),
        ("a,\"b\" \n", 1, "text between"),
        ("a\nb\"c\n", 2, "must be in quotes"),
        ("a\rb\n", 1, "carriage return"),
        ("a\r", 1, "carriage return"),
    ] {
        let refused = rows(text).expect_err(text);
        assert!(refused.contains(&format!("line {line}: ")) && refused.contains(what), "{refused}");
    }
    let endless = format!("a\n\"{}", "b\n".repeat(1024 * 1024));
    assert!(rows(&endless).expect_err("too long").contains("line 2: this record is too long"));
}

#[test]
fn a_time_is_read_however_it_is_spelled() {
    for (text, wanted) in [
        ("2024-01-01T12:00:00Z", "2024-01-01T12:00:00Z"),
        ("2024-01-01 12:00:00+00", "2024-01-01T12:00:00Z"),
        ("2024-01-01 12:00:00.123456-03:30", "2024-01-01T15:30:00.123456Z"),
        ("2024-01-01 12:00:00.5+0200", "2024-01-01T10:00:00.5Z"),
        ("2024-01-01 12:00:00", "2024-01-01T12:00:00Z"),
        ("2024-01-01T12:00:00.000", "2024-01-01T12:00:00Z"),
        ("2024-01-01 12:00 UTC", "2024-01-01T12:00:00Z"),
        ("2024-01-01", "2024-01-01T00:00:00Z"),
        ("1704110400", "2024-01-01T12:00:00Z"),
        ("1704110400.25", "2024-01-01T12:00:00.25Z"),
        ("1704110400123", "2024-01-01T12:00:00.123Z"),
        ("1704110400123.5", "2024-01-01T12:00:00.1235Z"),
        ("1704110400123456", "2024-01-01T12:00:00.123456Z"),
    ] {
        assert_eq!(time_text::parse(text).expect(text).to_string(), wanted, "{text}");
    }
    for text in [
        "",
        "0",
        "1",
        "17041104001",
        "1704110400123456789",
        "2024-13-01",
        "2024-01-01 25:00:00",
        "01/02/2024",
        "2024-01-01 12:00:00+é",
        "2024-01-01 12:00:00+00 BC",
        "now",
        ".5",
        "1704110400.",
        "2024-01-01 12:00:00 Europe/Berlin",
        "-infinity",
    ] {
        time_text::parse(text).expect_err(text);
    }
}

#[test]
fn a_digest_is_read_however_it_is_spelled_and_no_token_is_taken_for_one() {
    let digest = Digest::of("a token");
    let bytes = digest.as_bytes();
    let hexadecimal = digest.to_hex();
    for text in [
        hexadecimal.clone(),
        hexadecimal.to_uppercase(),
        format!("\\x{hexadecimal}"),
        STANDARD.encode(bytes),
        STANDARD_NO_PAD.encode(bytes),
        URL_SAFE.encode(bytes),
        URL_SAFE_NO_PAD.encode(bytes),
        format!("sha256:{hexadecimal}"),
        format!("SHA256:{}", STANDARD_NO_PAD.encode(bytes)),
        format!("sha256-{}", STANDARD.encode(bytes)),
        format!("{{SHA256}}{}", STANDARD.encode(bytes)),
        format!("0x{hexadecimal}"),
        format!("b'{hexadecimal}'"),
        bytes.map(|byte| format!("{byte:02X}")).join(":"),
    ] {
        assert!(digest_text::parse(&text).is_some_and(|read| read == digest), "{text}");
        assert!(digest_text::looks_like_digest(&text), "{text}");
    }
    for hash in [
        "pbkdf2_sha256$1$a$b",
        "sha512$$aa",
        "$2b$12$abc",
        "$argon2id$v=19$m=1$a$b",
        "pbkdf2:sha256:1$a$b",
    ] {
        assert!(
            digest_text::is_password_hash(hash) && digest_text::looks_like_digest(hash),
            "{hash}"
        );
    }
    let sha512 = [*bytes, *bytes].concat();
    for other in [STANDARD.encode(&sha512), URL_SAFE_NO_PAD.encode(&sha512), "ab".repeat(64)] {
        assert!(digest_text::parse(&other).is_none(), "{other}");
        assert!(digest_text::looks_like_digest(&other), "{other}");
    }
    let ours = Token::mint(TokenKind::Key, &OsRandom).expect("a token");
    for token in [
        ours.expose(),
        "6f6f1d52-6b6e-4f0c-9d5e-2f8f2c1a7b11",
        "6f6f1d526b6e4f0c9d5e2f8f2c1a7b11",
        "9c41f3e08b2d47a69c41f3e08b2d47a612ab34cd",
        "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
        "glpat-Zx9QwErTyUiOpAsDfGhJ",
        "sk_live_51H8xYzAbCdEfGhIjKlMnOpQrStUvWx",
    ] {
        assert!(!digest_text::looks_like_digest(token), "{token}");
    }
}

/// Returns the elements of an array, or the error.
fn elements(text: &str) -> Result<Vec<(u64, String)>, String> {
    let mut elements = Elements::new(BufReader::with_capacity(3, text.as_bytes()), 1);
    let mut all = Vec::new();
    while let Some((line, element)) = elements.next().map_err(|error| error.to_string())? {
        let Line::Text(text) = element else { panic!("text") };
        all.push((line, text.trim_end().to_owned()));
    }
    Ok(all)
}

#[test]
fn the_elements_of_an_array_come_one_by_one_however_it_is_laid_out() {
    assert_eq!(elements(" [ ]\n"), Ok(vec![]));
    let wanted = [(2, r#"{"a":"],[\"}"}"#), (2, "[1,2]"), (5, "{\n\"b\":{}\n}")];
    let found = elements("[\n{\"a\":\"],[\\\"}\"} ,[1,2],\n\n\n{\n\"b\":{}\n} ]\n\n");
    assert_eq!(found, Ok(wanted.map(|(line, text)| (line, text.to_owned())).to_vec()));
    for text in ["[{}", "[{},", "[{},]", "[,{}]", "[{}] {}", "[{}]]", "[{}][{}]", "[{},,{}]"] {
        elements(text).expect_err(text);
    }
}

#[test]
fn lines_are_numbered_and_bounded_however_they_end() {
    let long = "x".repeat(200_000);
    let text = format!("\u{feff}a\r\n\nb\n{long}\nc");
    // A small buffer, so that lines span several reads.
    let mut lines = Lines::new(BufReader::with_capacity(3, text.as_bytes()));
    let mut seen = Vec::new();
    while let Some((number, line)) = lines.next().expect("it reads") {
        seen.push((
            number,
            match line {
                Line::Text(text) => text.to_owned(),
                Line::TooLong => "too long".to_owned(),
                Line::NotUtf8 => "not UTF-8".to_owned(),
            },
        ));
    }
    let wanted = [(1, "a"), (2, ""), (3, "b"), (4, "too long"), (5, "c")];
    assert_eq!(seen, wanted.map(|(number, text)| (number, text.to_owned())));
    assert_eq!(lines.bytes(), text.len() as u64);
    let mut lines = Lines::new(&b"\xff\n"[..]);
    assert!(matches!(lines.next(), Ok(Some((1, Line::NotUtf8)))));
}

#[test]
fn a_set_of_lines_counts_each_once() {
    let mut lines = LineSet::default();
    for line in [1, 64, 1_000_000, 64] {
        lines.insert(line);
    }
    assert_eq!(lines.len(), 3);
    assert!(lines.contains(64) && !lines.contains(63) && !lines.contains(u64::from(u32::MAX)));
    lines.remove(64);
    lines.remove(65);
    assert_eq!((lines.len(), lines.contains(64)), (2, false));
}

#[test]
fn every_column_is_a_field_of_json_and_is_found_by_its_name() {
    let parse = |text: &str| json::parse(text, &ColumnOptions::default());
    for column in Column::ALL {
        let name = column.as_str();
        assert_eq!(Column::parse(name), Some(column));
        let value = if name == "annotations" { "{}" } else { "\"x\"" };
        parse(&format!("{{\"{name}\":{value}}}")).expect(name);
        parse(&format!("{{\"{name}\":null}}")).expect(name);
        let wrong = if column.takes_numbers() { "[1]" } else { "1" };
        let refused = parse(&format!("{{\"{name}\":{wrong}}}")).expect_err(name).to_string();
        assert!(refused.starts_with(&format!("{name}: must be ")), "{refused}");
    }
}
