//! What the columns of another system's file mean here: some have another name there, some are not needed, and some say
//! plainly that no token can ever be found by what stands in them.

use super::Column;
use crate::model::Invalid;
use crate::model::limits::IMPORTED_TOKEN_BYTES_MIN;

/// How a file's columns are to be read, beside those that are named as here.
#[derive(Debug, Clone, Default)]
pub struct ColumnOptions {
    /// The name there, and the column that it is here.
    pub renamed: Vec<(String, Column)>,
    /// What stands in a column where a record leaves it empty.
    pub preset: Vec<(Column, String)>,
    /// Names there that are passed over, whatever else is said.
    pub ignored: Vec<String>,
    /// Pass over every name that is not known.
    pub ignore_unknown: bool,
    /// That tokens which look like digests are tokens all the same.
    pub tokens_look_like_digests: bool,
}

/// Columns of systems whose digests are of more than the token.
const SALTED: [(&str, &str); 4] = [
    (
        "token_digest",
        "is GitLab's, and made of the token and a secret of that server: no token can ever be found by it. Make new tokens; if \
         the file is another system's and its digest is SHA-256 of the token alone, give the column another name",
    ),
    (
        "token_salt",
        "says that each digest is salted, as Gitea's are: no token can ever be found by it. Make new tokens",
    ),
    ("salt", "says that each digest is salted: no token can ever be found by it. Make new tokens"),
    (
        "hashed_key",
        "is that of django-rest-framework API keys, and has been a password hash (PBKDF2, SHA-512) and no SHA-256: no token can \
         ever be found by it. Make new tokens; if yours is SHA-256 of the token alone, give the column another name",
    ),
];

impl ColumnOptions {
    /// The column that is named so; nothing if it is passed over.
    pub(super) fn column(&self, name: &str) -> Result<Option<Column>, ColumnError> {
        if self.ignored.iter().any(|ignored| ignored == name) {
            return Ok(None);
        }
        if let Some((_, why)) = SALTED.into_iter().find(|(salted, _)| *salted == name) {
            return Err(ColumnError::Salted(Invalid::new(format!("{name}: {why}"))));
        }
        if let Some((_, column)) = self.renamed.iter().find(|(from, _)| from == name) {
            return Ok(Some(*column));
        }
        match Column::parse(name) {
            Some(column) => Ok(Some(column)),
            None if self.ignore_unknown => Ok(None),
            None => Err(ColumnError::Unknown),
        }
    }

    /// How a column is called in messages: as here, and as there where that differs.
    pub(super) fn shown(&self, column: &str) -> String {
        let from = self.renamed.iter().find(|(_, renamed)| renamed.as_str() == column);
        from.map_or_else(|| column.to_owned(), |(from, _)| format!("{column} ({from})"))
    }
}

/// Why a name is none.
pub(super) enum ColumnError {
    /// It is not one of the format's.
    Unknown,
    /// It is known too well.
    Salted(Invalid),
}

/// What to say of names that are none, in their places.
pub(super) fn unknown_columns(names: &[(usize, &str)]) -> String {
    let shown =
        names.iter().map(|(place, name)| show_name(*place, name)).collect::<Vec<_>>().join(", ");
    format!(
        "not columns of the format: {shown}. --rename FROM=TO gives one its name here, --ignore-columns passes over it, and \
         `import --help` has the format"
    )
}

/// The name as it stands there, unless it may be something else: where a header was forgotten, that is a token.
fn show_name(place: usize, name: &str) -> String {
    let digits = name.bytes().filter(u8::is_ascii_digit).count();
    let is_word =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | ' ' | '.' | ':' | '/');
    let is_name = name.len() <= 64
        && digits <= 3
        && name.chars().all(is_word)
        && (name.len() < IMPORTED_TOKEN_BYTES_MIN || name.contains(['_', '-', ' ', '.']));
    if name.is_empty() {
        format!("the {place}., which has no name: does a comma end the line?")
    } else if is_name {
        name.to_owned()
    } else {
        format!("the {place}. (not shown: is the header missing?)")
    }
}
