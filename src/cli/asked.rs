//! Which store a command asks: said where the answer could be that of another store.

use std::sync::OnceLock;
use std::time::Duration;

use super::args::Global;
use super::output;
use crate::server::StartError;
use crate::service::{Reason, ServiceError};
use crate::store::{self, Location, StoreError};

/// Where the store is when nobody says.
const DEFAULT_DATABASE_URL: &str = "sqlite:sophic-auth.db";

/// How long a store that denies something may take to say what a user lacks.
const LACKING_TIMEOUT: Duration = Duration::from_secs(5);

/// Where it stands which rights are needed.
const PAGE: &str = "docs/postgres-roles.md has the rights that are needed";

/// One process asks one store.
static ASKED: OnceLock<String> = OnceLock::new();
/// What it may not do there.
static LACKING: OnceLock<String> = OnceLock::new();

/// The URL of the store that the command is about, which errors and empty answers name from now on.
pub(super) fn url(global: &Global) -> &str {
    let url = url_unasked(global);
    // What cannot be read is said, without it, by whatever opens it.
    if let Ok(place) = store::place(url) {
        // The first is the one.
        let _ = ASKED.set(place);
    }
    url
}

/// The same, of a command that may be about none.
pub(super) fn url_unasked(global: &Global) -> &str {
    global.database_url.as_deref().unwrap_or(DEFAULT_DATABASE_URL)
}

/// The store, without a password, if one was asked.
pub(super) fn place() -> Option<&'static str> {
    ASKED.get().map(String::as_str)
}

/// Where a right is missing: asks which, for [`lacking`].
pub(super) async fn look_for_rights(url: &str, error: &anyhow::Error) {
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
    let lacking = tokio::time::timeout(LACKING_TIMEOUT, store::lacking(url)).await;
    let lacking = lacking.ok().and_then(Result::ok).flatten();
    let postgres = matches!(Location::parse(url), Ok(Location::Postgres(_)));
    let page = postgres.then(|| PAGE.to_owned());
    let text = lacking.into_iter().chain(page).collect::<Vec<_>>().join("; ");
    if !text.is_empty() {
        let _ = LACKING.set(text);
    }
}

/// Which rights are missing, and where to read on, where an error is about that.
pub(super) fn lacking() -> Option<&'static str> {
    LACKING.get().map(String::as_str)
}

/// Says on standard error what was not found, and where it was looked for.
pub(super) fn note(what: &str) {
    if let Some(place) = place() {
        output::note(&format!("{what} in {place}"));
    }
}
