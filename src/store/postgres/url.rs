//! The URL of a Postgres database: read strictly, and never repeated in a text, since it may hold a password.

use std::str::FromStr as _;

use sqlx::postgres::PgConnectOptions;

use crate::store::{Result, StoreError};

/// Parameters that sqlx knows. It would log what it does not know with its value, a misspelt password too.
const KNOWN: [&str; 16] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
];

/// What a URL says.
pub(super) struct Parsed {
    pub(super) options: PgConnectOptions,
    /// Whether it says that a transaction-mode pooler stands between: `pgbouncer=true` or `statement_cache_capacity=0`.
    pub(super) pooled: bool,
}

/// Reads a URL.
pub(super) fn parse(url: &str) -> Result<Parsed> {
    let unusable = |text: String| StoreError::Unusable(text);
    let (base, query) = url.split_once('?').unwrap_or((url, ""));
    let mut pooled = false;
    let mut kept = String::new();
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        match parameter.split_once('=').unwrap_or((parameter, "")) {
            ("pgbouncer", "true")
            | ("statement_cache_capacity" | "statement-cache-capacity", "0") => {
                pooled = true;
            }
            ("pgbouncer", "false") => {}
            (key, _) if KNOWN.contains(&key) || key == "options" || key.starts_with("options[") => {
                kept.push(if kept.is_empty() { '?' } else { '&' });
                kept.push_str(parameter);
            }
            _ => {
                return Err(unusable(format!(
                    "the database URL has a parameter that is not known; known are {}, options, pgbouncer=true",
                    KNOWN.join(", ")
                )));
            }
        }
    }
    let options = PgConnectOptions::from_str(&format!("{base}{kept}"))
        .map_err(|_| unusable("the database URL cannot be read".to_owned()))?;
    Ok(Parsed { options, pooled })
}
