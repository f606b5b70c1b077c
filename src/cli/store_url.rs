//! The store that a command uses. Errors and empty results name it, because a wrong URL is a common cause.

use std::sync::OnceLock;
use std::time::Duration;

use super::args::Global;
use super::output;
use crate::server::StartError;
use crate::service::{Reason, ServiceError};
use crate::store::{self, Location, StoreError};

/// URL of the store without `--database-url` and its variable.
const DEFAULT_DATABASE_URL: &str = "sqlite:sophic-auth.db";

/// Time limit for reading which rights the database user lacks.
const RIGHTS_TIMEOUT: Duration = Duration::from_secs(5);

/// Reference to the documentation of rights.
const RIGHTS_PAGE: &str = "docs/postgres-roles.md has the rights that are needed";

/// URL of the store, without a password. A process uses one store.
static SELECTED: OnceLock<String> = OnceLock::new();
/// Description of the rights that the database user lacks.
static MISSING_RIGHTS: OnceLock<String> = OnceLock::new();

/// Returns the location of the store, and remembers it. Errors and empty results name it from now on.
pub(super) fn select(global: &Global) -> Result<Location, StoreError> {
    let location = get(global)?;
    // If the URL is incomplete, opening the store reports that.
    if let Ok(shown) = store::display_url(&location) {
        // Set once per process.
        let _ = SELECTED.set(shown);
    }
    Ok(location)
}

/// Returns the location of the store, for commands that may not use it.
pub(super) fn get(global: &Global) -> Result<Location, StoreError> {
    Location::parse(url(global))
}

/// Returns the URL of the store as it was given.
pub(super) fn url(global: &Global) -> &str {
    global.database_url.as_deref().unwrap_or(DEFAULT_DATABASE_URL)
}

/// Returns the URL of the store, without a password. `None` if the command uses no store.
pub(super) fn selected() -> Option<&'static str> {
    SELECTED.get().map(String::as_str)
}

/// If the store denied a statement, finds out which rights are missing, for [`missing_rights`].
pub(super) async fn find_missing_rights(location: &Location, error: &anyhow::Error) {
    let service = error.downcast_ref::<ServiceError>();
    let store = error.downcast_ref().or(match error.downcast_ref() {
        Some(StartError::Store(store)) => Some(store),
        _ => None,
    });
    let denied = service.is_some_and(|error| error.reason == Reason::StoreDenied)
        || matches!(store, Some(StoreError::Denied(_)));
    if !denied {
        return;
    }
    // No right helps, so none is named.
    let why = service.into_iter().flat_map(|error| &error.metadata);
    let mut why = why.map(|(_, value)| value.as_str()).chain(match store {
        Some(StoreError::Denied(why)) => Some(why.as_str()),
        _ => None,
    });
    if why.any(StoreError::is_read_only) {
        return;
    }
    let missing = tokio::time::timeout(RIGHTS_TIMEOUT, store::missing_rights(location)).await;
    let missing = missing.ok().and_then(Result::ok).flatten();
    let postgres = matches!(location, Location::Postgres(_));
    let page = postgres.then(|| RIGHTS_PAGE.to_owned());
    let text = missing.into_iter().chain(page).collect::<Vec<_>>().join("; ");
    if !text.is_empty() {
        let _ = MISSING_RIGHTS.set(text);
    }
}

/// Returns the missing rights and a reference to the documentation, if the store denied a statement.
pub(super) fn missing_rights() -> Option<&'static str> {
    MISSING_RIGHTS.get().map(String::as_str)
}

/// Prints a note that names the store.
pub(super) fn note(what: &str) {
    if let Some(url) = selected() {
        output::note(&format!("{what} in {url}"));
    }
}
