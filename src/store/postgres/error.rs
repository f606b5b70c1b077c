//! Classification of Postgres errors.

use sqlx::postgres::PgDatabaseError;

use crate::store::{StoreError, Unique};

/// Classifies an error by its SQLSTATE. Only the message of an error about the server is passed on, because the detail
/// of a violated constraint contains the whole row.
pub(in crate::store) fn failure(error: &PgDatabaseError) -> StoreError {
    let code = error.code();
    let message = error.message();
    let text = || format!("{message} (SQLSTATE {code})");
    match (code.get(..2).unwrap_or(code), code) {
        (_, "23505") => violated(error)
            .map_or_else(|| StoreError::Refused { code: code.to_owned() }, StoreError::Conflict),
        // The name of a prepared statement is taken or unknown, because a pooler switched the server connection. Or the
        // pooler refuses a startup parameter.
        (_, "42P05" | "26000") => StoreError::Pooler { code: code.to_owned() },
        (_, "08P01") if message.contains("unsupported startup parameter") => {
            StoreError::Pooler { code: code.to_owned() }
        }
        (_, "53100") => StoreError::DiskFull(text()),
        (_, "55P03") => StoreError::Busy(format!("a lock did not become free in time: {}", text())),
        // A deadlock or a serialization failure.
        (_, "40001" | "40P01") => StoreError::Busy(text()),
        (_, "57014") => StoreError::Unavailable(format!("a statement took too long: {}", text())),
        // Damaged pages of a table or an index.
        (_, "XX001" | "XX002") => StoreError::Lost(text()),
        (_, "42501") => StoreError::Denied(text()),
        // The primary rejects writes. A standby is detected earlier, because it refuses the transaction itself: see
        // `classify_begin_error`.
        (_, "25006") => StoreError::read_only(&text()),
        // Broken connections, a lack of resources, a shutdown, a rollback, or a disk error; or a closed database. Also
        // a timeout of the idle or the whole transaction, which ended the connection.
        ("08" | "53" | "57" | "40" | "58", _) | (_, "55000" | "25P03" | "25P04") => {
            StoreError::Unavailable(text())
        }
        // Another program has already created an object of this name.
        (_, "42P07" | "42710" | "42723") => {
            StoreError::Unusable(format!("the schema cannot be created: {message}"))
        }
        // The database does not exist.
        ("3D", _) => StoreError::InvalidLocation(format!("Postgres says: {}", error.message())),
        // Authentication failed. The message names only roles, which the operator configured.
        ("28", _) => StoreError::Unusable(format!("Postgres says: {}", error.message())),
        _ => StoreError::Refused { code: code.to_owned() },
    }
}

/// Returns the value that the violated constraint keeps unique.
fn violated(error: &PgDatabaseError) -> Option<Unique> {
    let name = error.constraint()?;
    Unique::ALL.into_iter().find(|unique| constraint(*unique) == name)
}

/// Returns the name of the constraint or index in Postgres.
const fn constraint(unique: Unique) -> &'static str {
    match unique {
        Unique::WorkspaceId => "workspaces_pkey",
        Unique::WorkspaceSlug => "workspaces_slug",
        Unique::UserId => "users_pkey",
        Unique::CredentialId => "credentials_pkey",
        Unique::CredentialDigest => "credentials_digest_key",
        Unique::CallerId => "callers_pkey",
        Unique::CallerName => "callers_name",
        Unique::CallerDigest => "callers_digest_key",
        Unique::CallerPreviousDigest => "callers_previous_digest",
        Unique::CallerCertificateSan => "callers_certificate_san",
    }
}
