//! Records in JSON. The messages of serde repeat the input, so they are never passed on.
//!
//! An object is read in two steps: first its fields in their order, then the value of each by its column. A derive
//! cannot do that, because names are mapped to columns at run time and an error for a duplicate field must name it.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;
use serde_json::{Error, Result, from_str};
use zeroize::Zeroizing;

use super::Column;
use super::names::{ColumnError, ColumnOptions, unknown_columns};
use super::record::{Record, Secret, list};
use crate::model::Invalid;

/// Parses a JSON object.
pub(super) fn parse(text: &str, columns: &ColumnOptions) -> std::result::Result<Record, Invalid> {
    let at = |what: &str, byte: usize| Invalid::new(format!("{what} (at byte {byte})"));
    let Pairs(pairs): Pairs<&RawValue> =
        from_str(text).map_err(|error| at(describe_syntax_error(&error), error.column()))?;
    let mut record = Record::default();
    let mut seen = [false; Column::ALL.len()];
    let mut unknown = Vec::new();
    for (i, (name, value)) in pairs.iter().enumerate() {
        let value = value.get();
        let begins = value.as_ptr().addr() - text.as_ptr().addr();
        let column = match columns.column(name) {
            Ok(Some(column)) => column,
            Ok(None) => continue,
            Err(ColumnError::Salted(Invalid(why))) => return Err(at(&why, begins)),
            Err(ColumnError::Unknown) => {
                unknown.push((i + 1, name.as_str()));
                continue;
            }
        };
        let shown = || columns.shown(column.as_str());
        if std::mem::replace(&mut seen[column as usize], true) {
            return Err(at(&format!("{}: is given twice", shown()), begins));
        }
        put(&mut record, column, value).map_err(|error| {
            let byte = begins + error.column();
            match error.classify() {
                Category::Data => at(&format!("{}: {}", shown(), must_be(column)), byte),
                _ => at(describe_syntax_error(&error), byte),
            }
        })?;
    }
    if unknown.is_empty() { Ok(record) } else { Err(at(&unknown_columns(&unknown), text.len())) }
}

/// Parses the annotations in a CSV field.
pub(super) fn annotations(text: &str) -> std::result::Result<BTreeMap<String, String>, Invalid> {
    strings(text).map_err(|_| {
        Invalid::new("annotations: must be a JSON object of strings without duplicate keys")
    })
}

/// Formats annotations for a CSV field.
pub(super) fn annotations_text(entries: &BTreeMap<String, String>) -> String {
    // A map with string keys always serializes.
    serde_json::to_string(entries).unwrap_or_default()
}

/// Describes why the line is not a JSON object, without repeating it.
fn describe_syntax_error(error: &Error) -> &'static str {
    match error.classify() {
        Category::Eof => "it ends in the middle of its object",
        Category::Data => "it is not one JSON object without duplicate fields",
        Category::Syntax | Category::Io => "it is not one JSON object",
    }
}

const fn must_be(column: Column) -> &'static str {
    match column {
        Column::Scopes
        | Column::IpAllowlist
        | Column::GrantedWorkspaces
        | Column::BarredWorkspaces => "must be an array of strings, or a string",
        Column::Annotations => "must be an object of strings without duplicate keys",
        _ if column.takes_booleans() => "must be true or false",
        _ if column.takes_numbers() => "must be a string or a number",
        _ => "must be a string",
    }
}

/// Parses the value of a column. `null` and the empty string leave it empty.
fn put(record: &mut Record, column: Column, value: &str) -> Result<()> {
    if let Some(entries) = record.entries(column) {
        *entries = from_str::<Texts>(value)?.into_list();
        return Ok(());
    }
    match column {
        Column::Annotations => record.annotations = strings(value)?,
        Column::Token => {
            let token = from_str::<Option<String>>(value)?.filter(|text| !text.is_empty());
            record.token = token.map(|text| Secret(Zeroizing::new(text)));
        }
        _ => {
            let text = if column.takes_numbers() {
                from_str::<Scalar>(value)?.into_text(column)?
            } else {
                from_str(value)?
            };
            if let Some(place) = record.plain(column) {
                *place = text.filter(|text: &String| !text.is_empty());
            }
        }
    }
    Ok(())
}

/// Parses an object of strings without duplicate keys. `null` gives an empty map.
fn strings(value: &str) -> Result<BTreeMap<String, String>> {
    let mut entries = BTreeMap::new();
    for (key, value) in from_str::<Option<Pairs<String>>>(value)?.map_or_else(Vec::new, |p| p.0) {
        if entries.insert(key, value).is_some() {
            return Err(Error::custom("a duplicate key"));
        }
    }
    Ok(entries)
}

/// An array of strings, or a string that lists several.
#[derive(Deserialize)]
#[serde(untagged)]
enum Texts {
    None,
    One(String),
    Each(Vec<String>),
}

impl Texts {
    fn into_list(self) -> Vec<String> {
        match self {
            Self::None => Vec::new(),
            Self::One(text) => list(&text),
            Self::Each(texts) => texts,
        }
    }
}

/// A value in a column of times, ids or booleans.
#[derive(Deserialize)]
#[serde(untagged)]
enum Scalar {
    None,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(String),
}

impl Scalar {
    fn into_text(self, column: Column) -> Result<Option<String>> {
        Ok(Some(match self {
            Self::None => return Ok(None),
            Self::Bool(_) if !column.takes_booleans() => return Err(Error::custom("a boolean")),
            Self::Bool(value) => value.to_string(),
            Self::Unsigned(number) => number.to_string(),
            Self::Signed(number) => number.to_string(),
            Self::Float(number) => number.to_string(),
            Self::Text(text) => text,
        }))
    }
}

/// The fields of an object in their order, including duplicates. The maps of serde keep only the last one.
struct Pairs<V>(Vec<(String, V)>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Pairs<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_map(PairsVisitor(PhantomData))
    }
}

struct PairsVisitor<V>(PhantomData<V>);

impl<'de, V: Deserialize<'de>> Visitor<'de> for PairsVisitor<V> {
    type Value = Pairs<V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Pairs<V>, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = map.next_entry()? {
            pairs.push(pair);
        }
        Ok(Pairs(pairs))
    }
}
