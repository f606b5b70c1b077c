//! Lines, fields, numbers: what needs no store.

use std::io::BufReader;

use super::line_set::LineSet;
use super::lines::{Line, Lines};
use super::{Column, csv, json};

fn split(line: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    csv::split(line, &mut fields).map(|()| fields).map_err(|invalid| invalid.to_string())
}

#[test]
fn a_line_of_csv_comes_apart_into_its_fields() {
    for (line, fields) in [
        ("", &[""][..]),
        ("a", &["a"]),
        (",", &["", ""]),
        ("a,,b", &["a", "", "b"]),
        ("\"a,b\",c", &["a,b", "c"]),
        ("\"say \"\"hi\"\"\",\"\"", &["say \"hi\"", ""]),
        (" a , b ", &[" a ", " b "]),
    ] {
        assert_eq!(split(line).expect("fields"), fields, "{line}");
    }
}

#[test]
fn a_line_that_is_no_csv_is_refused() {
    for line in ["\"a", "\"a\"b", "a\"b", "\"", "a,\"b\" ", "\"\"\""] {
        split(line).expect_err(line);
    }
}

#[test]
fn fields_that_were_written_are_read_again() {
    let fields = ["", "a", "a,b", "\"", "\"\"", " a", "a ", "é🔑", "a\"b,\"c"];
    let mut line = String::new();
    for (i, field) in fields.iter().enumerate() {
        if i > 0 {
            line.push(',');
        }
        csv::push(&mut line, field);
    }
    assert_eq!(split(&line).expect("fields"), fields);
}

#[test]
fn lines_are_numbered_and_bounded_however_they_end() {
    let long = "x".repeat(200_000);
    let text = format!("\u{feff}a\r\n\nb\n{long}\nc");
    // A small buffer, so that lines are put together of many reads.
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
    for column in Column::ALL {
        let name = column.as_str();
        assert_eq!(Column::parse(name), Some(column));
        let value = if name == "annotations" { "{}" } else { "\"x\"" };
        json::parse(&format!("{{\"{name}\":{value}}}")).expect(name);
        json::parse(&format!("{{\"{name}\":null}}")).expect(name);
        json::parse(&format!("{{\"{name}\":1}}")).expect_err(name);
    }
}
