//! Free text for people: names, annotations, reasons.

use std::collections::BTreeMap;
use std::fmt;

use unicode_segmentation::UnicodeSegmentation as _;

use super::Invalid;
use super::limits::{
    ANNOTATION_KEY_BYTES_MAX, ANNOTATION_VALUE_BYTES_MAX, ANNOTATIONS_MAX, NAME_BYTES_MAX,
    NAME_CHARACTERS_MAX, REASON_CHARACTERS_MAX,
};

/// A display name: 1 to 256 characters, stored exactly as given.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DisplayName(Box<str>);

impl DisplayName {
    /// Checks the length, and refuses characters that could deceive a reader.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if text.is_empty() {
            return Err(Invalid::new("must not be empty"));
        }
        if text.trim() != text {
            return Err(Invalid::new("must not begin or end with white space"));
        }
        // The number of bytes is checked first, since counting the characters of a long text is expensive.
        if text.len() > NAME_BYTES_MAX || text.graphemes(true).count() > NAME_CHARACTERS_MAX {
            return Err(Invalid::new(format!(
                "must be at most {NAME_CHARACTERS_MAX} characters and {NAME_BYTES_MAX} bytes"
            )));
        }
        check_readable(text)?;
        Ok(Self(text.into()))
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DisplayName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The reason that a person gives for an action: up to 256 characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReasonText(Box<str>);

impl ReasonText {
    /// Checks the length, and refuses characters that could deceive a reader.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if text.len() > NAME_BYTES_MAX || text.graphemes(true).count() > REASON_CHARACTERS_MAX {
            return Err(Invalid::new(format!(
                "must be at most {REASON_CHARACTERS_MAX} characters"
            )));
        }
        check_readable(text)?;
        Ok(Self(text.into()))
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Free text by key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Annotations(BTreeMap<String, String>);

impl Annotations {
    /// Checks the number of entries, each key and each value.
    pub fn parse(entries: BTreeMap<String, String>) -> Result<Self, Invalid> {
        if entries.len() > ANNOTATIONS_MAX {
            return Err(Invalid::new(format!("must have at most {ANNOTATIONS_MAX} entries")));
        }
        for (key, value) in &entries {
            let allowed =
                |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._/-".contains(&b);
            if !(1..=ANNOTATION_KEY_BYTES_MAX).contains(&key.len()) || !key.bytes().all(allowed) {
                return Err(Invalid::new(format!(
                    "must have keys of 1 to {ANNOTATION_KEY_BYTES_MAX} of a-z, 0-9, '.', '_', '/' and '-'"
                )));
            }
            if value.len() > ANNOTATION_VALUE_BYTES_MAX {
                return Err(Invalid::new(format!(
                    "must have values of at most {ANNOTATION_VALUE_BYTES_MAX} bytes"
                )));
            }
            check_readable(value)?;
        }
        Ok(Self(entries))
    }

    /// Returns the entries.
    pub const fn entries(&self) -> &BTreeMap<String, String> {
        &self.0
    }
}

/// Refuses control characters, and invisible characters that reorder or hide text. Joiners are allowed between
/// characters outside ASCII, because emoji sequences and several scripts need them. They are also allowed after a
/// virama (RFC 5892, A.1 and A.2), with which Indic words may end. Tags are allowed only after the black flag, where
/// they spell the flags of regions.
fn check_readable(text: &str) -> Result<(), Invalid> {
    let mut previous = ' ';
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let deceives = match character {
            '\u{200C}' | '\u{200D}' => {
                let ascii_beside =
                    previous.is_ascii() || characters.peek().is_none_or(char::is_ascii);
                ascii_beside && !is_virama(previous)
            }
            '\u{E0020}'..='\u{E007F}' => {
                !matches!(previous, '\u{1F3F4}' | '\u{E0020}'..='\u{E007E}')
            }
            '\u{00AD}'
            | '\u{061C}'
            | '\u{180E}'
            | '\u{200B}'
            | '\u{200E}'
            | '\u{200F}'
            | '\u{2028}'..='\u{202E}'
            | '\u{2060}'..='\u{206F}'
            | '\u{FEFF}'
            | '\u{FFF9}'..='\u{FFFB}'
            | '\u{E0000}'..='\u{E001F}' => true,
            _ => character.is_control(),
        };
        if deceives {
            return Err(Invalid::new(
                "must have no control characters, and no invisible ones that reorder or hide text",
            ));
        }
        previous = character;
    }
    Ok(())
}

/// Whether this is a virama, the sign that removes a consonant's vowel, of a script whose words may end in one with a
/// joiner.
const fn is_virama(character: char) -> bool {
    matches!(
        character,
        '\u{94D}'
            | '\u{9CD}'
            | '\u{A4D}'
            | '\u{ACD}'
            | '\u{B4D}'
            | '\u{BCD}'
            | '\u{C4D}'
            | '\u{CCD}'
            | '\u{D4D}'
            | '\u{DCA}'
    )
}
