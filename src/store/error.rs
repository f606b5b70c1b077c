//! What can go wrong with a store. No `Other`, and never a bound value in the text.

use std::io::ErrorKind;

use sqlx::error::DatabaseError;
use sqlx::postgres::PgDatabaseError;

/// A failure of the store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Something unique is taken.
    #[error("{what} is taken")]
    Conflict {
        /// The constraint.
        what: &'static str,
    },
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

/// How the text of a failure of SQLite's disk begins.
pub(super) const DISK_FAILS: &str = "its disk fails";

/// What is unique, by the name of the constraint or index in Postgres, and as SQLite calls it: `table.column`.
const UNIQUE: [(&str, &str); 10] = [
    ("workspaces_pkey", "workspaces.id"),
    ("workspaces_slug", "workspaces.slug"),
    ("users_pkey", "users.id"),
    ("credentials_pkey", "credentials.id"),
    ("credentials_digest_key", "credentials.digest"),
    ("callers_pkey", "callers.id"),
    ("callers_name", "callers.name"),
    ("callers_digest_key", "callers.digest"),
    ("callers_previous_digest", "callers.previous_digest"),
    ("callers_certificate_san", "callers.certificate_san"),
];

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(error) => {
                if let Some(error) = error.try_downcast_ref::<PgDatabaseError>() {
                    of_postgres(error)
                } else {
                    of_sqlite(&*error)
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

/// By SQLSTATE. Of the error only its message is looked at, and that only where it is about the server: the detail of
/// a violated constraint holds the whole row.
fn of_postgres(error: &PgDatabaseError) -> StoreError {
    let code = error.code();
    let message = error.message();
    let text = || format!("{message} (SQLSTATE {code})");
    match (code.get(..2).unwrap_or(code), code) {
        (_, "23505") => UNIQUE
            .iter()
            .find(|(constraint, _)| error.constraint() == Some(constraint))
            .map_or_else(
                || StoreError::Refused { code: code.to_owned() },
                |(_, what)| StoreError::Conflict { what },
            ),
        // A name is taken, or not there; a pooler says the last of what it would have to pass on at the start.
        (_, "42P05" | "26000") => StoreError::Pooler { code: code.to_owned() },
        (_, "08P01") if message.contains("unsupported startup parameter") => {
            StoreError::Pooler { code: code.to_owned() }
        }
        (_, "53100") => StoreError::Full(text()),
        (_, "55P03") => StoreError::Busy(format!("a lock did not come free in time: {}", text())),
        // A deadlock, and what could not be serialized.
        (_, "40001" | "40P01") => StoreError::Busy(text()),
        (_, "57014") => StoreError::Unavailable(format!("a statement took too long: {}", text())),
        // Pages of a table or of an index that are damaged.
        (_, "XX001" | "XX002") => StoreError::Lost(text()),
        // A table that the role may not touch; or a primary that takes no writes from it. A standby is found out before: it
        // refuses the transaction itself, see `judge_begin`.
        (_, "42501" | "25006") => StoreError::Denied(text()),
        // Broken connections, a lack of resources, shutting down, rollbacks, and trouble with the disk.
        // A database that is closed. The idle or the whole transaction took too long, and the connection is gone.
        ("08" | "53" | "57" | "40" | "58", _) | (_, "55000" | "25P03" | "25P04") => {
            StoreError::Unavailable(text())
        }
        // What a migration makes is there already, and is somebody else's.
        (_, "42P07" | "42710" | "42723") => {
            StoreError::Unusable(format!("the schema cannot be made: {message}"))
        }
        // There is no database of this name.
        ("3D", _) => StoreError::Misnamed(format!("Postgres says: {}", error.message())),
        // Names of roles, which the operator gave.
        ("28", _) => StoreError::Unusable(format!("Postgres says: {}", error.message())),
        _ => StoreError::Refused { code: code.to_owned() },
    }
}

/// By extended result code (<https://sqlite.org/rescode.html>). SQLite's messages name columns, never values.
fn of_sqlite(error: &dyn DatabaseError) -> StoreError {
    let code = error.code().unwrap_or_default().into_owned();
    let number: i32 = code.parse().unwrap_or(0);
    let text = || format!("{} (SQLite code {number})", error.message());
    // The low byte is the primary code.
    match number & 0xff {
        // BUSY and LOCKED.
        5 | 6 => StoreError::Busy(format!(
            "another process or connection holds the file's lock: {}",
            text()
        )),
        13 => StoreError::Full(text()),
        // IOERR.
        10 => StoreError::Unavailable(format!("{DISK_FAILS}: {}", text())),
        // READONLY only because another process has yet to put the log right, or to make it: RECOVERY, CANTLOCK, CANTINIT.
        8 if matches!(number >> 8, 1 | 2 | 5) => StoreError::Unavailable(text()),
        // PERM, READONLY, AUTH.
        3 | 8 | 23 => StoreError::Denied(text()),
        // NOMEM, INTERRUPT, CANTOPEN, PROTOCOL.
        7 | 9 | 14 | 15 => StoreError::Unavailable(text()),
        // CORRUPT and NOTADB.
        11 => StoreError::Lost(
            "the database file reads as damaged: unless its disk fails for a moment, restore a backup".to_owned(),
        ),
        26 => StoreError::Lost("the database file is no SQLite database".to_owned()),
        _ if error.is_unique_violation() => UNIQUE
            .iter()
            .find(|(_, column)| {
                error.message().strip_prefix("UNIQUE constraint failed: ") == Some(column)
            })
            .map_or(StoreError::Refused { code }, |(_, what)| StoreError::Conflict { what }),
        _ => StoreError::Refused { code },
    }
}

/// Refuses a statement that touched another number of rows than it must.
pub(super) const fn expect_rows(expected: u64, actual: u64) -> Result<(), StoreError> {
    if actual == expected { Ok(()) } else { Err(StoreError::RowsAffected { expected, actual }) }
}
