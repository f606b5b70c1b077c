//! Mapping of the columns of a file to ours. Columns may be renamed or ignored. Some names show that the file cannot be
//! imported, because its digests cannot be computed from the tokens.

use super::Column;
use crate::model::Invalid;
use crate::model::limits::IMPORTED_TOKEN_BYTES_MIN;

/// Options for reading the columns of a file.
#[derive(Debug, Clone, Default)]
pub struct ColumnOptions {
    /// Names in the file, each with our column.
    pub renamed: Vec<(String, Column)>,
    /// Values for columns that a record leaves empty.
    pub preset: Vec<(Column, String)>,
    /// Names in the file to ignore. Overrides the other options.
    pub ignored: Vec<String>,
    /// Whether to ignore all unknown names.
    pub ignore_unknown: bool,
    /// Whether tokens that look like digests are accepted as tokens.
    pub tokens_look_like_digests: bool,
}

/// Columns of systems whose digests depend on more than the token.
const SALTED: [(&str, &str); 4] = [
    (
        "token_digest",
        "is the column of GitLab, which hashes the token with a secret of its server, so no token can match it. Create \
         new tokens. If the digest is a SHA-256 of the token alone, rename the column in the file",
    ),
    (
        "token_salt",
        "means that each digest is salted, as in Gitea, so no token can match it. Create new tokens",
    ),
    ("salt", "means that each digest is salted, so no token can match it. Create new tokens"),
    (
        "hashed_key",
        "is the column of django-rest-framework API keys, a password hash (PBKDF2, SHA-512) and not a SHA-256, so no \
         token can match it. Create new tokens. If the digest is a SHA-256 of the token alone, rename the column in the \
         file",
    ),
];

impl ColumnOptions {
    /// Returns the column for a name in the file. `None` if it is ignored.
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

    /// Returns the name of a column for messages, with its name in the file if that differs.
    pub(super) fn shown(&self, column: &str) -> String {
        let from = self.renamed.iter().find(|(_, renamed)| renamed.as_str() == column);
        from.map_or_else(|| column.to_owned(), |(from, _)| format!("{column} ({from})"))
    }
}

/// Why a name in the file has no column.
pub(super) enum ColumnError {
    /// The format has no such column.
    Unknown,
    /// The column shows that the digests are salted.
    Salted(Invalid),
}

/// Builds the message for unknown names and their positions.
pub(super) fn unknown_columns(names: &[(usize, &str)]) -> String {
    let shown =
        names.iter().map(|(place, name)| show_name(*place, name)).collect::<Vec<_>>().join(", ");
    format!(
        "not columns of the format: {shown}. Use --rename FROM=TO to map a column, or --ignore-columns to ignore it. \
         `import --help` describes the format"
    )
}

/// Shows the name, unless it may be a token: without a header, the first line is a record.
fn show_name(place: usize, name: &str) -> String {
    let digits = name.bytes().filter(u8::is_ascii_digit).count();
    let is_word =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | ' ' | '.' | ':' | '/');
    let is_name = name.len() <= 64
        && digits <= 3
        && name.chars().all(is_word)
        && (name.len() < IMPORTED_TOKEN_BYTES_MIN || name.contains(['_', '-', ' ', '.']));
    if name.is_empty() {
        format!("column {place}, which has no name: does the line end with a comma?")
    } else if is_name {
        name.to_owned()
    } else {
        format!("column {place} (not shown: is the header missing?)")
    }
}
