//! JSON lines. serde's own messages repeat what they have read, so none is passed on; depth, duplicates, numbers and
//! surrogates are its to refuse.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use zeroize::Zeroizing;

use super::Column;
use super::record::{Record, Secret, list};
use crate::model::Invalid;

/// Reads a line.
pub(super) fn parse(line: &str) -> Result<Record, Invalid> {
    serde_json::from_str(line).map_err(|error| explain(&error))
}

/// Reads what stands in a CSV field for annotations.
pub(super) fn annotations(text: &str) -> Result<BTreeMap<String, String>, Invalid> {
    let Strings(entries) = serde_json::from_str(text).map_err(|_| {
        Invalid::new("annotations: must be a JSON object of strings, each key once")
    })?;
    Ok(entries)
}

/// Writes them as such.
pub(super) fn annotations_text(entries: &BTreeMap<String, String>) -> String {
    // A map with strings for keys is always JSON.
    serde_json::to_string(entries).unwrap_or_default()
}

/// Where it went wrong, and what of: never what stands there.
fn explain(error: &serde_json::Error) -> Invalid {
    let text = error.to_string();
    let known = [TWICE, UNKNOWN, MUST_BE_TEXT, MUST_BE_LIST, MUST_BE_OBJECT];
    let what =
        known.into_iter().find(|known| text.starts_with(known)).unwrap_or(match error.classify() {
            serde_json::error::Category::Eof => "the line ends in the middle of its object",
            serde_json::error::Category::Data => "something is of another type than it must be",
            serde_json::error::Category::Syntax | serde_json::error::Category::Io => {
                "it is not one JSON object"
            }
        });
    Invalid::new(format!("{what} (at byte {})", error.column()))
}

const TWICE: &str = "a field stands twice";
const UNKNOWN: &str = "there is a field that is not one of the format's";
const MUST_BE_TEXT: &str = "a field must be a string and is not";
const MUST_BE_LIST: &str = "a field must be an array of strings and is not";
const MUST_BE_OBJECT: &str = "annotations must be an object of strings, each key once";

impl<'de> Deserialize<'de> for Record {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(RecordVisitor)
    }
}

struct RecordVisitor;

impl<'de> Visitor<'de> for RecordVisitor {
    type Value = Record;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Record, A::Error> {
        let mut record = Record::default();
        let mut seen = [false; Column::ALL.len()];
        while let Some(Text(Some(name))) = map.next_key::<Text>()? {
            let Some(column) = Column::parse(&name) else { return Err(A::Error::custom(UNKNOWN)) };
            if std::mem::replace(&mut seen[column as usize], true) {
                return Err(A::Error::custom(TWICE));
            }
            match column {
                Column::Scopes => record.scopes = map.next_value::<Texts>()?.0,
                Column::IpAllowlist => record.ip_allowlist = map.next_value::<Texts>()?.0,
                Column::Annotations => record.annotations = map.next_value::<Strings>()?.0,
                Column::Token => {
                    let Text(token) = map.next_value()?;
                    record.token = token.map(|text| Secret(Zeroizing::new(text)));
                }
                _ => {
                    let Text(text) = map.next_value()?;
                    if let Some(place) = record.plain(column) {
                        *place = text;
                    }
                }
            }
        }
        Ok(record)
    }
}

/// A string; `null` and the empty one are none.
struct Text(Option<String>);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Text, E> {
        Ok(Text(Some(text.to_owned()).filter(|text| !text.is_empty())))
    }

    fn visit_unit<E: Error>(self) -> Result<Text, E> {
        Ok(Text(None))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Text, E> {
        Err(E::custom(MUST_BE_TEXT))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Text, E> {
        Err(E::custom(MUST_BE_TEXT))
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Text, E> {
        Err(E::custom(MUST_BE_TEXT))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Text, E> {
        Err(E::custom(MUST_BE_TEXT))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<Text, A::Error> {
        Err(A::Error::custom(MUST_BE_TEXT))
    }

    fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<Text, A::Error> {
        Err(A::Error::custom(MUST_BE_TEXT))
    }
}

/// An array of strings, or a string of several; `null` is none.
struct Texts(Vec<String>);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextsVisitor)
    }
}

struct TextsVisitor;

impl<'de> Visitor<'de> for TextsVisitor {
    type Value = Texts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of strings")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Texts, E> {
        Ok(Texts(list(text)))
    }

    fn visit_unit<E: Error>(self) -> Result<Texts, E> {
        Ok(Texts(Vec::new()))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Texts, E> {
        Err(E::custom(MUST_BE_LIST))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Texts, E> {
        Err(E::custom(MUST_BE_LIST))
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Texts, E> {
        Err(E::custom(MUST_BE_LIST))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Texts, E> {
        Err(E::custom(MUST_BE_LIST))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Texts, A::Error> {
        let mut texts = Vec::new();
        while let Some(Text(text)) = seq.next_element()? {
            texts.push(text.ok_or_else(|| A::Error::custom(MUST_BE_LIST))?);
        }
        Ok(Texts(texts))
    }

    fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<Texts, A::Error> {
        Err(A::Error::custom(MUST_BE_LIST))
    }
}

/// An object of strings; `null` is none.
struct Strings(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Strings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StringsVisitor)
    }
}

struct StringsVisitor;

impl<'de> Visitor<'de> for StringsVisitor {
    type Value = Strings;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of strings")
    }

    fn visit_unit<E: Error>(self) -> Result<Strings, E> {
        Ok(Strings(BTreeMap::new()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Strings, A::Error> {
        let mut entries = BTreeMap::new();
        while let Some((key, value)) = map.next_entry::<String, String>()? {
            if entries.insert(key, value).is_some() {
                return Err(A::Error::custom(MUST_BE_OBJECT));
            }
        }
        Ok(Strings(entries))
    }
}
