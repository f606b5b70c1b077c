//! From lines to records, in either format.

use std::io::BufRead;

use super::lines::{Line, Lines};
use super::record::Record;
use super::{Column, TransferError, TransferFormat, csv, json};
use crate::model::Invalid;
use crate::model::limits::IMPORT_LINE_BYTES_MAX;

/// Reads records.
pub(super) struct Reader<R> {
    lines: Lines<R>,
    format: TransferFormat,
    /// Of CSV, as the header has them.
    columns: Vec<Column>,
    fields: Vec<String>,
}

/// A line's number, and its record or what is wrong with it.
pub(super) type Read = (u64, Result<Record, Invalid>);

impl<R: BufRead> Reader<R> {
    /// Reads the header, if the format has one.
    pub(super) fn new(input: R, format: TransferFormat) -> Result<Self, TransferError> {
        let mut reader =
            Self { lines: Lines::new(input), format, columns: Vec::new(), fields: Vec::new() };
        if format == TransferFormat::Csv {
            reader.read_header()?;
        }
        Ok(reader)
    }

    /// Bytes read so far.
    pub(super) const fn bytes(&self) -> u64 {
        self.lines.bytes()
    }

    /// The next record; nothing at the end. Empty lines are passed over.
    pub(super) fn next(&mut self) -> Result<Option<Read>, TransferError> {
        loop {
            let Some((number, line)) = self.lines.next().map_err(TransferError::input)? else {
                return Ok(None);
            };
            let record = match line {
                Line::Text("") => continue,
                Line::Text(text) => match self.format {
                    TransferFormat::Csv => record(text, &self.columns, &mut self.fields),
                    TransferFormat::Jsonl => json::parse(text),
                },
                Line::TooLong => Err(too_long()),
                Line::NotUtf8 => Err(Invalid::new("it is not UTF-8")),
            };
            return Ok(Some((number, record)));
        }
    }

    fn read_header(&mut self) -> Result<(), TransferError> {
        let (line, text) = loop {
            match self.lines.next().map_err(TransferError::input)? {
                // A file without any line has nothing to import, and no header either.
                None => return Ok(()),
                Some((_, Line::Text(""))) => {}
                Some((line, Line::Text(text))) => break (line, text),
                Some((line, Line::TooLong | Line::NotUtf8)) => {
                    let reason = "it is not a header of names".to_owned();
                    return Err(TransferError::Header { line, reason });
                }
            }
        };
        let refuse = |reason: String| Err(TransferError::Header { line, reason });
        let mut names = Vec::new();
        if let Err(Invalid(reason)) = csv::split(text, &mut names) {
            return refuse(reason);
        }
        for (i, name) in names.iter().enumerate() {
            // The name is not repeated: where a header was forgotten, it is a digest or a token.
            let Some(column) = Column::parse(name) else {
                return refuse(format!(
                    "the first line must name the columns, and in place {} there is no name of one",
                    i + 1
                ));
            };
            if self.columns.contains(&column) {
                return refuse(format!("the header names {} twice", column.as_str()));
            }
            self.columns.push(column);
        }
        Ok(())
    }
}

fn record(text: &str, columns: &[Column], fields: &mut Vec<String>) -> Result<Record, Invalid> {
    csv::split(text, fields)?;
    if fields.len() != columns.len() {
        return Err(Invalid::new(format!(
            "it has {} fields where the header has {}",
            fields.len(),
            columns.len()
        )));
    }
    let mut record = Record::default();
    for (column, field) in columns.iter().zip(fields.drain(..)) {
        record.set(*column, field)?;
    }
    Ok(record)
}

fn too_long() -> Invalid {
    Invalid::new(format!("it is longer than {IMPORT_LINE_BYTES_MAX} bytes"))
}
