//! `migrate`: bring the schema up to date, and say from where to where.

use super::args::Global;
use super::{DEFAULT_DATABASE_URL, output, refuse_token_output};
use crate::store;

pub(super) async fn run(global: &Global) -> anyhow::Result<()> {
    refuse_token_output(global)?;
    let url = global.database_url.as_deref().unwrap_or(DEFAULT_DATABASE_URL);
    let migrated = store::migrate(url).await?;
    output::item(
        global.output,
        &serde_json::json!({"from_version": migrated.from, "to_version": migrated.to}),
    )?;
    Ok(())
}
