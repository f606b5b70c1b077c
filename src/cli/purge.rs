//! `purge`: runs the server's hourly purge now.

use super::args::Global;
use super::args::record::PurgeArgs;
use super::progress::counter;
use super::{open_service, operator, output, refuse_token_output};

pub(super) async fn run(global: &Global, args: PurgeArgs) -> anyhow::Result<()> {
    refuse_token_output(global)?;
    let service = open_service(global).await?;
    let credentials = if args.dead_after.is_zero() {
        0
    } else {
        let (shown, progress) = counter("purged");
        let cutoff = service.ago(args.dead_after);
        let purged = service.purge_dead(operator(), cutoff, progress).await;
        shown.lock().finish();
        purged?
    };
    let changes = if args.changes_after.is_zero() {
        0
    } else {
        service.purge_changes(service.ago(args.changes_after)).await?
    };
    service.release_rules().await?;
    let purged =
        serde_json::json!({"purged_credential_count": credentials, "purged_change_count": changes});
    output::item(global.output, &purged)?;
    service.close().await;
    Ok(())
}
