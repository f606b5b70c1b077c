//! `migrate`: create the store, or migrate its schema to the current version.

use super::args::{Global, MigrateArgs};
use super::{output, refuse_token_output, store_url};
use crate::store;

pub(super) async fn run(global: &Global, args: &MigrateArgs) -> anyhow::Result<()> {
    refuse_token_output(global)?;
    let url = store_url::select(global);
    let (name, migrated) = if args.dry_run {
        ("pending", store::pending_migrations(url).await?)
    } else {
        ("applied", store::migrate(url).await?)
    };
    let mut shown = serde_json::json!({
        "from_version": migrated.from,
        "to_version": migrated.to,
        name: migrated.names,
    });
    if let Some(place) = store_url::location() {
        shown["store"] = place.into();
    }
    output::item(global.output, &shown)?;
    Ok(())
}
