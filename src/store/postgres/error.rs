//! What a failure of Postgres means.

use sqlx::postgres::PgDatabaseError;

use crate::store::{StoreError, Unique};

/// By SQLSTATE. Of the error only its message is looked at, and that only where it is about the server: the detail of
/// a violated constraint holds the whole row.
pub(in crate::store) fn failure(error: &PgDatabaseError) -> StoreError {
    let code = error.code();
    let message = error.message();
    let text = || format!("{message} (SQLSTATE {code})");
    match (code.get(..2).unwrap_or(code), code) {
        (_, "23505") => violated(error)
            .map_or_else(|| StoreError::Refused { code: code.to_owned() }, StoreError::Conflict),
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

/// What the violated constraint keeps unique.
fn violated(error: &PgDatabaseError) -> Option<Unique> {
    let name = error.constraint()?;
    Unique::ALL.into_iter().find(|unique| constraint(*unique) == name)
}

/// What Postgres calls the constraint or index.
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
