//! Records of JSON. serde's own messages repeat what they have read, so none is passed on; depth, duplicates, numbers and
//! surrogates are its to refuse.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use zeroize::Zeroizing;

use super::Column;
use super::names::{Reading, Unknown, unknown};
use super::record::{Record, Secret, list};
use crate::model::Invalid;

/// Reads an object.
pub(super) fn parse(text: &str, reading: &Reading) -> Result<Record, Invalid> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let record = Object(reading).deserialize(&mut deserializer);
    let record = record.and_then(|record| deserializer.end().map(|()| record));
    record.map_err(|error| explain(&error))
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

/// Stands about a message of ours, to tell it from the library's. It stands in no name.
const OURS: char = '\u{2}';

fn ours<E: Error>(message: impl fmt::Display) -> E {
    E::custom(format_args!("{OURS}{message}{OURS}"))
}

/// Where it went wrong, and what of: never what stands there.
fn explain(error: &serde_json::Error) -> Invalid {
    let text = error.to_string();
    let what = text.split(OURS).nth(1).unwrap_or(match error.classify() {
        serde_json::error::Category::Eof => "it ends in the middle of its object",
        serde_json::error::Category::Data => "it is not one JSON object with each field once",
        serde_json::error::Category::Syntax | serde_json::error::Category::Io => {
            "it is not one JSON object"
        }
    });
    Invalid::new(format!("{what} (at byte {})", error.column()))
}

struct Object<'r>(&'r Reading);

impl<'de> DeserializeSeed<'de> for Object<'_> {
    type Value = Record;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Record, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = Record;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Record, A::Error> {
        let mut record = Record::default();
        let mut seen = [false; Column::ALL.len()];
        let mut strange = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            let column = match self.0.column(&name) {
                Ok(Some(column)) => column,
                Ok(None) => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
                Err(Unknown::Salted(Invalid(why))) => return Err(ours(why)),
                Err(Unknown::Name) => {
                    map.next_value::<IgnoredAny>()?;
                    strange.push(name);
                    continue;
                }
            };
            let shown = || self.0.shown(column.as_str());
            if std::mem::replace(&mut seen[column as usize], true) {
                return Err(ours(format_args!("{}: stands twice", shown())));
            }
            // What is wrong with the spelling is the library's to say, and where.
            let named = |error: A::Error| {
                let of_type = error.to_string().starts_with("invalid type");
                if of_type { ours(format_args!("{}: {}", shown(), must_be(column))) } else { error }
            };
            match column {
                Column::Scopes => record.scopes = map.next_value::<Texts>().map_err(named)?.0,
                Column::IpAllowlist => {
                    record.ip_allowlist = map.next_value::<Texts>().map_err(named)?.0;
                }
                Column::Annotations => {
                    record.annotations = map.next_value::<Strings>().map_err(named)?.0;
                }
                Column::Token => {
                    let token = map.next_value_seed(Text(column)).map_err(named)?;
                    record.token = token.map(|text| Secret(Zeroizing::new(text)));
                }
                _ => {
                    let text = map.next_value_seed(Text(column)).map_err(named)?;
                    if let Some(place) = record.plain(column) {
                        *place = text;
                    }
                }
            }
        }
        if strange.is_empty() {
            return Ok(record);
        }
        let strange: Vec<_> = strange.iter().map(|name| (seen.len(), name.as_str())).collect();
        Err(ours(unknown(&strange).replace(OURS, "")))
    }
}

const fn must_be(column: Column) -> &'static str {
    match column {
        Column::Scopes | Column::IpAllowlist => "must be an array of strings, or a string",
        Column::Annotations => "must be an object of strings, each key once",
        _ if column.takes_booleans() => "must be true or false",
        _ if column.takes_numbers() => "must be a string or a number",
        _ => "must be a string",
    }
}

/// A string, or what else may stand in the column; `null` and the empty one are none.
struct Text(Column);

impl<'de> DeserializeSeed<'de> for Text {
    type Value = Option<String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Text {
    fn number<E: Error>(&self, number: impl fmt::Display) -> Result<Option<String>, E> {
        if self.0.takes_numbers() { Ok(Some(number.to_string())) } else { Err(wrong_type()) }
    }
}

/// As the library says it, since a visitor that takes everything has to say it itself.
fn wrong_type<E: Error>() -> E {
    E::custom("invalid type")
}

impl<'de> Visitor<'de> for Text {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Some(text.to_owned()).filter(|text| !text.is_empty()))
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
        if self.0.takes_booleans() { Ok(Some(value.to_string())) } else { Err(wrong_type()) }
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
        self.number(number)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        self.number(number)
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Self::Value, E> {
        self.number(number)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<Self::Value, A::Error> {
        Err(wrong_type())
    }

    fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<Self::Value, A::Error> {
        Err(wrong_type())
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

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Texts, A::Error> {
        let mut texts = Vec::new();
        while let Some(text) = seq.next_element::<String>()? {
            texts.push(text);
        }
        Ok(Texts(texts))
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
                return Err(A::Error::custom("invalid type: a key that stands twice"));
            }
        }
        Ok(Strings(entries))
    }
}
