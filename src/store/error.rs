//! Errors of the store. There is no catch-all variant, and no text contains a bound value.

use std::fmt;
use std::io::ErrorKind;

use sqlx::postgres::PgDatabaseError;

use super::{postgres, sqlite};

/// How the text of [`StoreError::Denied`] begins if nothing may be written there at all, whatever rights the user has.
const READ_ONLY: &str = "the database is read-only";

/// Error of the store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// A unique value is taken.
    #[error("{0} is taken")]
    Conflict(Unique),
    /// The database does not answer, or temporarily refuses to write. A retry may help.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// The disk of the database is full. Writes fail until there is room; reads continue.
    #[error("the store's disk is full: {0}")]
    DiskFull(String),
    /// Another writer holds the lock, or committed first. A retry helps.
    #[error("the store is busy: {0}")]
    Busy(String),
    /// The database user lacks a right, or may not write. A retry does not help until an operator changes that.
    #[error("the store refuses: {0}")]
    Denied(String),
    /// The database is damaged, missing, or was replaced by another one. It does not recover by itself.
    #[error("the store is lost: {0}")]
    Lost(String),
    /// The database is known to be unreachable, so the request was not sent. The text is the reason.
    #[error("the store is unreachable: {0}")]
    Unreachable(String),
    /// A pooler lost a prepared statement, or refused something that only a direct connection allows.
    #[error(
        "there is a transaction-mode pooler before Postgres (SQLSTATE {code}): add ?pgbouncer=true to the database URL"
    )]
    Pooler {
        /// SQLSTATE by which the pooler was detected.
        code: String,
    },
    /// A value in the database could not have been written by this program.
    #[error("the store is corrupt: column {column} of {table}")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
    },
    /// There is no store at this location. The text names the location and says how to create a store.
    #[error("{0}")]
    Missing(String),
    /// A newer version of this program migrated the database.
    #[error(
        "the database's schema is at version {found}, and this program knows versions up to {known}: \
         run a newer sophic-auth"
    )]
    SchemaTooNew {
        /// Version of the schema in the database.
        found: i64,
        /// Newest version that this program knows.
        known: i64,
    },
    /// The database's schema is older than this program needs.
    #[error(
        "the database's schema is at version {found}, and this program needs version {needed}: \
         run `sophic-auth migrate`"
    )]
    SchemaTooOld {
        /// Version of the schema in the database.
        found: i64,
        /// Version that this program needs.
        needed: i64,
    },
    /// The database is configured in a way that does not work. The text says what to change.
    #[error("{0}")]
    Unusable(String),
    /// The location of a store or a file is invalid: a malformed URL, an unusable path, or a database that does not
    /// exist.
    #[error("{0}")]
    InvalidLocation(String),
    /// A statement touched an unexpected number of rows.
    #[error("a statement touched {actual} rows where it must touch {expected}")]
    RowsAffected {
        /// Number of rows that it must touch.
        expected: u64,
        /// Number of rows that it touched.
        actual: u64,
    },
    /// The database refused a statement. This is a bug in this program.
    #[error("the database refused a statement (code {code})")]
    Refused {
        /// Error code of the database.
        code: String,
    },
}

impl StoreError {
    /// Returns whether the database is temporarily unreachable, so that its answer is unknown.
    pub const fn is_outage(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Unreachable(_) | Self::Pooler { .. })
    }

    /// A refusal of a database that nobody can write to at present. `text` says what it refused.
    pub(super) fn read_only(text: &str) -> Self {
        Self::Denied(format!("{READ_ONLY}: {text}"))
    }

    /// Returns whether `why`, the text of [`Self::Denied`], says that the database is read-only. No right helps then.
    pub fn is_read_only(why: &str) -> bool {
        why.starts_with(READ_ONLY)
    }

    /// Returns whether the error reveals a pooler that the URL does not mention.
    pub const fn is_pooler(&self) -> bool {
        matches!(self, Self::Pooler { .. })
    }

    /// Returns the reason without the introductory words about the store.
    pub fn cause(&self) -> String {
        match self {
            Self::Unavailable(text)
            | Self::Unreachable(text)
            | Self::Denied(text)
            | Self::Unusable(text)
            | Self::InvalidLocation(text) => text.clone(),
            error => error.to_string(),
        }
    }
}

/// A primary key or unique index that a request can violate. A violation of any other index is a bug in this program
/// and becomes [`StoreError::Refused`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unique {
    /// The id of a workspace.
    WorkspaceId,
    /// The slug of a workspace, among those not deleted.
    WorkspaceSlug,
    /// The id of a user.
    UserId,
    /// The id of a credential.
    CredentialId,
    /// The digest of a credential's token.
    CredentialDigest,
    /// The id of a caller.
    CallerId,
    /// The name of a caller, among those not revoked.
    CallerName,
    /// The digest of a caller's token.
    CallerDigest,
    /// The digest of the token that a caller had before its last rotation.
    CallerPreviousDigest,
    /// The subject alternative name of a caller's certificate, among those not revoked.
    CallerCertificateSan,
}

impl Unique {
    /// All variants.
    pub const ALL: [Self; 10] = [
        Self::WorkspaceId,
        Self::WorkspaceSlug,
        Self::UserId,
        Self::CredentialId,
        Self::CredentialDigest,
        Self::CallerId,
        Self::CallerName,
        Self::CallerDigest,
        Self::CallerPreviousDigest,
        Self::CallerCertificateSan,
    ];

    /// Returns the table and the column as `table.column`. Both databases use the same names.
    pub const fn column(self) -> &'static str {
        match self {
            Self::WorkspaceId => "workspaces.id",
            Self::WorkspaceSlug => "workspaces.slug",
            Self::UserId => "users.id",
            Self::CredentialId => "credentials.id",
            Self::CredentialDigest => "credentials.digest",
            Self::CallerId => "callers.id",
            Self::CallerName => "callers.name",
            Self::CallerDigest => "callers.digest",
            Self::CallerPreviousDigest => "callers.previous_digest",
            Self::CallerCertificateSan => "callers.certificate_san",
        }
    }
}

impl fmt::Display for Unique {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.column())
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(error) => {
                if let Some(error) = error.try_downcast_ref::<PgDatabaseError>() {
                    postgres::failure(error)
                } else {
                    sqlite::failure(&*error)
                }
            }
            sqlx::Error::Io(error) => io_failure(&error),
            sqlx::Error::Tls(error) => Self::Unavailable(format!("TLS: {error}")),
            sqlx::Error::PoolTimedOut => {
                let text = "all connections of its pool are in use, and none became free in time";
                Self::Unavailable(text.to_owned())
            }
            sqlx::Error::PoolClosed => Self::Unavailable("it has been closed".to_owned()),
            sqlx::Error::WorkerCrashed | sqlx::Error::Protocol(_) | sqlx::Error::BeginFailed => {
                Self::Unavailable("the connection broke".to_owned())
            }
            sqlx::Error::Configuration(_) => {
                Self::InvalidLocation("the database URL cannot be read".to_owned())
            }
            // The other errors are about decoding and binding. Their texts may contain values, so none is passed on.
            _ => Self::Refused { code: "sqlx".to_owned() },
        }
    }
}

/// Explains an I/O error in terms of the database's host.
fn io_failure(error: &std::io::Error) -> StoreError {
    let text = error.to_string();
    StoreError::Unavailable(match error.kind() {
        ErrorKind::ConnectionRefused => format!("nothing listens at its address: {text}"),
        ErrorKind::TimedOut | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
            format!("its host does not answer: {text}")
        }
        ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::BrokenPipe
        | ErrorKind::UnexpectedEof => format!("the connection broke: {text}"),
        // The standard library has no error kind for this, but its message always contains these words.
        _ if text.contains("failed to lookup address") => {
            format!("the name of its host cannot be resolved: {text}")
        }
        _ => text,
    })
}

/// Returns an error if a statement touched an unexpected number of rows.
pub(super) const fn expect_rows(expected: u64, actual: u64) -> Result<(), StoreError> {
    if actual == expected { Ok(()) } else { Err(StoreError::RowsAffected { expected, actual }) }
}
