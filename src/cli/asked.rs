//! Which store a command asks: said where the answer could be that of another store.

use std::sync::OnceLock;
use std::time::Duration;

use super::args::Global;
use super::output;
use crate::server::StartError;
use crate::service::{Reason, ServiceError};
use crate::store::{self, StoreError};

/// Where the store is when nobody says.
const DEFAULT_DATABASE_URL: &str = "sqlite:sophic-auth.db";

/// How long a store that denies something may take to say what a user lacks.
const LACKING_TIMEOUT: Duration = Duration::from_secs(5);

/// One process asks one store.
static ASKED: OnceLock<String> = OnceLock::new();

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

/// The error; of one that is about a missing right, with what whoever works here lacks, and where to read on.
pub(super) async fn explained(url: &str, error: anyhow::Error) -> anyhow::Error {
    let service = error.downcast_ref::<ServiceError>();
    let store = error.downcast_ref().or(match error.downcast_ref() {
        Some(StartError::Store(store)) => Some(store),
        _ => None,
    });
    let denied = service.is_some_and(|error| error.reason == Reason::StoreDenied)
        || matches!(store, Some(StoreError::Denied(_)));
    if !denied {
        return error;
    }
    let lacking = tokio::time::timeout(LACKING_TIMEOUT, store::lacking(url)).await;
    let lacking = lacking.ok().and_then(Result::ok).flatten();
    let page = "docs/postgres-roles.md has what is needed";
    match (lacking, url.starts_with("postgres")) {
        (Some(lacking), true) => error.context(format!("{lacking}; {page}")),
        (Some(lacking), false) => error.context(lacking),
        (None, true) => error.context(page),
        (None, false) => error,
    }
}

/// Says on standard error what was not found, and where it was looked for.
pub(super) fn note(what: &str) {
    if let Some(place) = place() {
        output::note(&format!("{what} in {place}"));
    }
}
