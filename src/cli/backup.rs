//! `backup`, and `new-epoch` for after one was restored.

use std::path::Path;

use super::args::Global;
use super::{Usage, asked, open, operator, output, refuse_token_output};
use crate::store;

pub(super) async fn run(global: &Global, file: &Path) -> anyhow::Result<()> {
    refuse_token_output(global)?;
    let url = asked::url(global);
    if url.starts_with("postgres") {
        anyhow::bail!(Usage(
            "backup is for SQLite: use pg_dump, or your server's own continuous archiving; after a restore, run \
             `sophic-auth new-epoch`"
                .to_owned()
        ));
    }
    store::backup(url, file).await?;
    let bytes = file.metadata().map_or(0, |metadata| metadata.len());
    let file = file.display().to_string();
    output::item(global.output, &serde_json::json!({"file": file, "bytes": bytes}));
    Ok(())
}

pub(super) async fn new_epoch(global: &Global) -> anyhow::Result<()> {
    refuse_token_output(global)?;
    let service = open(global).await?;
    let epoch = service.renew_epoch(operator()).await?;
    output::item(global.output, &serde_json::json!({"epoch": epoch.to_string()}));
    service.store.close().await;
    Ok(())
}
