//! `migrate`: create the store, or migrate its schema to the current version.

use super::args::{Global, MigrateArgs};
use super::{output, refuse_token_output, store_url};
use crate::store;

pub(super) async fn run(global: &Global, args: &MigrateArgs) -> anyhow::Result<()> {
    refuse_token_output(global)?;
    let location = store_url::select(global)?;
    let (name, migrated) = if args.dry_run {
        ("pending", store::pending_migrations(&location).await?)
    } else {
        ("applied", store::migrate(&location).await?)
    };
    let mut shown = serde_json::json!({
        "from_version": migrated.from,
        "to_version": migrated.to,
        name: migrated.names,
    });
    if let Some(url) = store_url::selected() {
        shown["store"] = url.into();
    }
    output::item(global.output, &shown)?;
    Ok(())
}
