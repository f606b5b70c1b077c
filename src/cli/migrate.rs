//! `migrate`: make the store, bring its schema up to date, and say from where to where.

use super::args::{Global, MigrateArgs};
use super::{asked, output, refuse_token_output};
use crate::store;

pub(super) async fn run(global: &Global, args: &MigrateArgs) -> anyhow::Result<()> {
    refuse_token_output(global)?;
    let url = asked::url(global);
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
    if let Some(place) = asked::place() {
        shown["store"] = place.into();
    }
    output::item(global.output, &shown)?;
    Ok(())
}
