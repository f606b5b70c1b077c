//! What can go wrong with a store. No `Other`, and never a bound value in the text.

use std::fmt;
use std::io::ErrorKind;

use sqlx::postgres::PgDatabaseError;

use super::{postgres, sqlite};

/// A failure of the store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Something unique is taken.
    #[error("{0} is taken")]
    Conflict(Unique),
    /// The database does not answer, or refuses to write for now. Trying again may help.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// No room is left on the disk of the database. Nothing is written until there is; reading goes on.
    #[error("the store's disk is full: {0}")]
    Full(String),
    /// Another writer holds what is needed, or came first. Trying again helps.
    #[error("the store is busy: {0}")]
    Busy(String),
    /// Who asked lacks a right, or may write nothing. Trying again is no use until somebody has changed that.
    #[error("the store refuses: {0}")]
    Denied(String),
    /// The database is damaged, gone, or another one now. It does not get well by itself.
    #[error("the store is lost: {0}")]
    Lost(String),
    /// It is known that the database is away, and why; it was not even asked.
    #[error("the store is out of reach: {0}")]
    Away(String),
    /// A pooler lost a prepared statement, or refuses what only a server of its own would take.
    #[error(
        "a transaction-mode pooler stands before Postgres (SQLSTATE {code}): add ?pgbouncer=true to the database URL"
    )]
    Pooler {
        /// What shows it.
        code: String,
    },
    /// What is in the database could not have been written by this program.
    #[error("the store is corrupt: column {column} of {table}")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
    },
    /// There is no store where one was to be; the text says where, and how to make one.
    #[error("{0}")]
    Missing(String),
    /// The database was migrated by a newer version of this program.
    #[error(
        "the database's schema is at version {found}, and this program knows versions up to {known}: \
         run a newer sophic-auth"
    )]
    SchemaTooNew {
        /// The database's version.
        found: i64,
        /// The newest that this program knows.
        known: i64,
    },
    /// The database was not migrated to what this program needs.
    #[error(
        "the database's schema is at version {found}, and this program needs version {needed}: \
         run `sophic-auth migrate`"
    )]
    SchemaTooOld {
        /// The database's version.
        found: i64,
        /// What this program needs.
        needed: i64,
    },
    /// The database cannot be used as it is; the text says what to change.
    #[error("{0}")]
    Unusable(String),
    /// What was given as the name of a store or of a file cannot be one: a URL, a path, a database that is not there.
    #[error("{0}")]
    Misnamed(String),
    /// A statement touched another number of rows than it must.
    #[error("a statement touched {actual} rows where it must touch {expected}")]
    RowsAffected {
        /// As many as it must.
        expected: u64,
        /// As many as it did.
        actual: u64,
    },
    /// The database refused a statement: a fault of this program.
    #[error("the database refused a statement (code {code})")]
    Refused {
        /// The database's own code.
        code: String,
    },
}

impl StoreError {
    /// Whether it is the database that is at fault for now, and nobody can tell what it would have said.
    pub const fn is_outage(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Away(_) | Self::Pooler { .. })
    }

    /// Whether it shows that a pooler stands before the database, of which nobody said anything.
    pub const fn is_pooler(&self) -> bool {
        matches!(self, Self::Pooler { .. })
    }

    /// What happened, without a word about whom it happened to.
    pub fn cause(&self) -> String {
        match self {
            Self::Unavailable(text)
            | Self::Away(text)
            | Self::Denied(text)
            | Self::Unusable(text)
            | Self::Misnamed(text) => text.clone(),
            error => error.to_string(),
        }
    }
}

/// A primary key or unique index that what a caller asks for can violate. Of the others a violation is a fault of this
/// program: [`StoreError::Refused`].
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
    /// All of them.
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

    /// Its table and column, `table.column`: the same in both databases.
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
            sqlx::Error::Io(error) => of_io(&error),
            sqlx::Error::Tls(error) => Self::Unavailable(format!("TLS: {error}")),
            sqlx::Error::PoolTimedOut => {
                let text = "all connections of its pool are in use, and none came free in time";
                Self::Unavailable(text.to_owned())
            }
            sqlx::Error::PoolClosed => Self::Unavailable("it has been closed".to_owned()),
            sqlx::Error::WorkerCrashed | sqlx::Error::Protocol(_) | sqlx::Error::BeginFailed => {
                Self::Unavailable("the connection broke".to_owned())
            }
            sqlx::Error::Configuration(_) => {
                Self::Misnamed("the database URL cannot be read".to_owned())
            }
            // What is left is about decoding and binding. Their texts can hold values, so none is passed on.
            _ => Self::Refused { code: "sqlx".to_owned() },
        }
    }
}

/// What the network, or the operating system, says.
fn of_io(error: &std::io::Error) -> StoreError {
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
        // The standard library has no kind for it, and makes this text whatever the resolver says.
        _ if text.contains("failed to lookup address") => {
            format!("the name of its host cannot be resolved: {text}")
        }
        _ => text,
    })
}

/// Refuses a statement that touched another number of rows than it must.
pub(super) const fn expect_rows(expected: u64, actual: u64) -> Result<(), StoreError> {
    if actual == expected { Ok(()) } else { Err(StoreError::RowsAffected { expected, actual }) }
}
