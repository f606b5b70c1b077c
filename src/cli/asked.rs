//! Which store a command asks: said where the answer could be that of another store.

use std::sync::OnceLock;

use super::args::Global;
use super::output;
use crate::store;

/// Where the store is when nobody says.
const DEFAULT_DATABASE_URL: &str = "sqlite:sophic-auth.db";

/// One process asks one store.
static ASKED: OnceLock<String> = OnceLock::new();

/// The URL of the store that the command is about, which errors and empty answers name from now on.
pub(super) fn url(global: &Global) -> &str {
    let url = global.database_url.as_deref().unwrap_or(DEFAULT_DATABASE_URL);
    // What cannot be read is said, without it, by whatever opens it.
    if let Ok(place) = store::place(url) {
        // The first is the one.
        let _ = ASKED.set(place);
    }
    url
}

/// The store, without a password, if one was asked.
pub(super) fn place() -> Option<&'static str> {
    ASKED.get().map(String::as_str)
}

/// Says on standard error what was not found, and where it was looked for.
pub(super) fn note(what: &str) {
    if let Some(place) = place() {
        output::note(&format!("{what} in {place}"));
    }
}
