//! Reads records from CSV, JSON lines or a JSON array.

use std::io::{BufRead, ErrorKind, Read as _};

use super::elements::Elements;
use super::lines::{Line, Lines};
use super::names::{ColumnError, ColumnOptions, unknown_columns};
use super::record::Record;
use super::strict_csv::{BOM, MalformedInput, StrictCsv};
use super::{Column, TransferError, TransferFormat, json};
use crate::model::Invalid;
use crate::model::limits::IMPORT_LINE_BYTES_MAX;

/// How databases write a null value in CSV.
const NULL: &[u8] = b"\\N";

/// Reads records.
pub(super) struct RecordReader<R: BufRead> {
    source: Source<R>,
    columns: ColumnOptions,
}

enum Source<R: BufRead> {
    Csv(Box<CsvRecords<Input<R>>>),
    Lines(Lines<Input<R>>),
    /// The array, and the number of elements read.
    Array(Elements<Input<R>>, u64),
}

/// The bytes read to detect the format, followed by the rest of the input.
type Input<R> = std::io::Chain<std::io::Cursor<Vec<u8>>, R>;

/// The number of the line or array element, and the record or why it is invalid.
pub(super) type NumberedRecord = (u64, Result<Record, Invalid>);

impl<R: BufRead> RecordReader<R> {
    /// Detects the format of the input and reads the CSV header.
    pub(super) fn new(
        mut input: R,
        format: TransferFormat,
        columns: ColumnOptions,
    ) -> Result<Self, TransferError> {
        // Everything up to and including the first byte that is not white space.
        let mut seen = Vec::new();
        let first = loop {
            let mut byte = [0];
            match input.read(&mut byte) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(TransferError::input(error)),
                Ok(0) => return Err(TransferError::Empty),
                Ok(_) => seen.push(byte[0]),
            }
            let is_bom = BOM.starts_with(&seen);
            if seen.len() > IMPORT_LINE_BYTES_MAX || !(byte[0].is_ascii_whitespace() || is_bom) {
                break byte[0];
            }
        };
        let lines_before = seen.split(|byte| *byte == b'\n').skip(1).count() as u64;
        let is_array = format == TransferFormat::Jsonl && first == b'[';
        let kept = if is_array { vec![first] } else { seen };
        let input = std::io::Cursor::new(kept).chain(input);
        let source = match format {
            TransferFormat::Csv => Source::Csv(Box::new(CsvRecords::new(input, &columns)?)),
            TransferFormat::Jsonl if is_array => {
                Source::Array(Elements::new(input, lines_before + 1), 0)
            }
            TransferFormat::Jsonl => Source::Lines(Lines::new(input)),
        };
        Ok(Self { source, columns })
    }

    /// Returns the number of bytes read so far.
    pub(super) fn bytes(&self) -> u64 {
        match &self.source {
            Source::Csv(table) => table.reader.get_ref().bytes(),
            Source::Lines(lines) => lines.bytes(),
            Source::Array(elements, _) => elements.bytes(),
        }
    }

    /// Returns the unit of the record numbers.
    pub(super) const fn unit(&self) -> &'static str {
        match &self.source {
            Source::Csv(_) | Source::Lines(_) => "line",
            Source::Array(..) => "element",
        }
    }

    /// Returns the next record, or `None` at the end. Skips empty lines.
    pub(super) fn next(&mut self) -> Result<Option<NumberedRecord>, TransferError> {
        let read = match &mut self.source {
            Source::Csv(table) => table.next()?,
            Source::Lines(lines) => loop {
                match lines.next().map_err(into_transfer_error)? {
                    Some((_, Line::Text(text))) if text.trim_ascii().is_empty() => {}
                    line => {
                        break line.map(|(number, line)| (number, parse_line(line, &self.columns)));
                    }
                }
            },
            Source::Array(elements, count) => {
                *count += 1;
                let element = elements.next().map_err(into_transfer_error)?;
                element.map(|(_, element)| (*count, parse_line(element, &self.columns)))
            }
        };
        Ok(read.map(|(number, record)| {
            let preset = |mut record: Record| record.preset(&self.columns.preset).map(|()| record);
            (number, record.and_then(preset))
        }))
    }
}

fn parse_line(line: Line<'_>, columns: &ColumnOptions) -> Result<Record, Invalid> {
    match line {
        Line::Text(text) => json::parse(text, columns),
        Line::TooLong => Err(too_long()),
        Line::NotUtf8 => Err(Invalid::new("it is not UTF-8")),
    }
}

/// The records of a CSV file.
struct CsvRecords<R> {
    reader: csv::Reader<StrictCsv<R>>,
    /// The columns of the header. `None` for an ignored one.
    columns: Vec<Option<Column>>,
    row: csv::ByteRecord,
    /// Whether this program wrote the file. Then `\N` is text and not a null value.
    is_own_export: bool,
}

impl<R: BufRead> CsvRecords<R> {
    fn new(input: R, columns: &ColumnOptions) -> Result<Self, TransferError> {
        let mut builder = csv::ReaderBuilder::new();
        // The header is read below, and the number of fields is checked for each record.
        builder.has_headers(false).flexible(true);
        let reader = builder.from_reader(StrictCsv::new(input));
        let row = csv::ByteRecord::new();
        let mut table = Self { reader, columns: Vec::new(), row, is_own_export: false };
        let Some(line) = table.advance()? else { return Err(TransferError::Empty) };
        let malformed = |reason| TransferError::Malformed { line, reason };
        let names: Result<Vec<_>, _> = table.row.iter().map(std::str::from_utf8).collect();
        let Ok(names) = names else {
            return Err(malformed("the header must name the columns, in UTF-8".to_owned()));
        };
        if let Some(other) = another_separator(&names) {
            return Err(malformed(format!(
                "the header is one column: its fields seem to be separated by {other}, but must be separated by commas"
            )));
        }
        let mut unknown = Vec::new();
        for (i, name) in names.iter().enumerate() {
            match columns.column(name) {
                Ok(Some(column)) if table.columns.contains(&Some(column)) => {
                    let name = columns.shown(column.as_str());
                    return Err(malformed(format!("the header names {name} twice")));
                }
                Ok(column) => table.columns.push(column),
                Err(ColumnError::Unknown) => unknown.push((i + 1, *name)),
                Err(ColumnError::Salted(Invalid(why))) => return Err(malformed(why)),
            }
        }
        if !unknown.is_empty() {
            return Err(malformed(unknown_columns(&unknown)));
        }
        if let Some((from, _)) =
            columns.renamed.iter().find(|(from, _)| !names.contains(&from.as_str()))
        {
            return Err(malformed(format!("--rename names {from}, but there is no such column")));
        }
        table.is_own_export = table.columns.iter().copied().eq(Column::exported().map(Some));
        Ok(table)
    }

    /// Reads the next row and returns the line on which it begins.
    fn advance(&mut self) -> Result<Option<u64>, TransferError> {
        match self.reader.read_byte_record(&mut self.row) {
            Ok(true) => Ok(Some(self.reader.get_mut().next_start())),
            Ok(false) => Ok(None),
            Err(error) => Err(match error.into_kind() {
                csv::ErrorKind::Io(error) => into_transfer_error(error),
                // The reader is not configured to return any other kind.
                other => into_transfer_error(std::io::Error::other(format!("{other:?}"))),
            }),
        }
    }

    fn next(&mut self) -> Result<Option<NumberedRecord>, TransferError> {
        Ok(self.advance()?.map(|line| (line, self.record())))
    }

    fn record(&self) -> Result<Record, Invalid> {
        if self.row.len() != self.columns.len() {
            return Err(Invalid::new(format!(
                "it has {} fields where the header has {}",
                self.row.len(),
                self.columns.len()
            )));
        }
        if self.row.as_slice().len() > IMPORT_LINE_BYTES_MAX {
            return Err(too_long());
        }
        let mut record = Record::default();
        for (column, field) in self.columns.iter().zip(&self.row) {
            let Some(column) = column else { continue };
            if field == NULL && !self.is_own_export {
                continue;
            }
            let text = std::str::from_utf8(field)
                .map_err(|_| Invalid::new(format!("{}: is not UTF-8", column.as_str())))?;
            record.set(*column, text.to_owned())?;
        }
        Ok(record)
    }
}

/// Returns the separator that the header seems to use instead of commas.
fn another_separator(names: &[&str]) -> Option<&'static str> {
    let [name] = names else { return None };
    let others = [(';', "semicolons"), ('\t', "tabs"), ('|', "vertical bars")];
    others.into_iter().find(|(other, _)| name.contains(*other)).map(|(_, shown)| shown)
}

fn too_long() -> Invalid {
    Invalid::new(format!("it is longer than {IMPORT_LINE_BYTES_MAX} bytes"))
}

/// Turns an error of a reader into one of the transfer.
fn into_transfer_error(error: std::io::Error) -> TransferError {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<MalformedInput>()) {
        Some(MalformedInput { line, reason }) => {
            TransferError::Malformed { line: *line, reason: (*reason).to_owned() }
        }
        None => TransferError::input(error),
    }
}
