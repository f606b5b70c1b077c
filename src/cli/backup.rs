//! `backup`, `restore`, and `new-epoch`, which follows a restore by other means.

use std::path::Path;

use serde_json::json;

use super::args::{Global, Output};
use super::{UsageError, open_service, operator, output, refuse_token_output, store_url};
use crate::model::limits::PAGE_SIZE_MAX;
use crate::model::{AuditAction, Timestamp};
use crate::server;
use crate::service::{Options, view};
use crate::store::{self, AuditFilter, Location};

pub(super) async fn run(global: &Global, file: &Path) -> anyhow::Result<()> {
    refuse_token_output(global)?;
    let location = store_url::select(global)?;
    if matches!(location, Location::Postgres(_)) {
        anyhow::bail!(UsageError(
            "backup is for SQLite: use pg_dump, or the continuous archiving of your server; after a restore, run \
             `sophic-auth new-epoch`"
                .to_owned()
        ));
    }
    store::backup(&location, file).await?;
    let bytes = file.metadata().map_or(0, |metadata| metadata.len());
    let file = file.display().to_string();
    output::item(global.output, &serde_json::json!({"file": file, "bytes": bytes}))?;
    Ok(())
}

/// Maximum number of them to list in a table.
const ENDINGS_SHOWN: usize = 100;

pub(super) async fn restore(global: &Global, file: &Path) -> anyhow::Result<()> {
    refuse_token_output(global)?;
    let location = store_url::select(global)?;
    if matches!(location, Location::Postgres(_)) {
        anyhow::bail!(UsageError(
            "restore is for SQLite: use pg_restore, or the continuous archiving of your server, and then run \
             `sophic-auth new-epoch`"
                .to_owned()
        ));
    }
    let restoring = store::restore(&location, file).await?;
    let copy = server::open_uncached_service(
        &Location::Sqlite(restoring.copy.clone()),
        Options::default(),
    )
    .await?;
    let epoch = copy.renew_epoch(operator()).await?;
    copy.close().await;
    let (until, migrated) = (restoring.until, restoring.migrated.clone());
    let endings = endings_since(restoring.replaced(), until).await;
    let kept = restoring.finish().await?;
    let listed = match (global.output, &endings) {
        (Output::Json, Some(endings)) => json!(endings),
        (_, Some(endings)) => endings.len().into(),
        (_, None) => serde_json::Value::Null,
    };
    output::item(
        global.output,
        &json!({
            "restored": file.display().to_string(),
            "kept": kept.map(|kept| kept.display().to_string()),
            "schema_version": migrated.to,
            "schema_version_of_backup": migrated.from,
            "epoch": epoch.to_string(),
            "last_event": until.map(|until| until.to_string()),
            "ended_since": listed,
        }),
    )?;
    warn(until, endings.as_deref());
    Ok(())
}

/// Returns the events of the replaced store that may have taken access away after the backup was made. `None` if that store cannot be
/// read.
async fn endings_since(
    replaced: Option<&Path>,
    until: Option<Timestamp>,
) -> Option<Vec<serde_json::Value>> {
    let store = store::open_existing(&Location::Sqlite(replaced?.to_owned())).await.ok()?;
    let filter = AuditFilter { start_time: until, ..AuditFilter::default() };
    let (mut endings, mut after) = (Vec::new(), None);
    let complete = loop {
        let Ok(events) = store.list_audit_events(&filter, after, PAGE_SIZE_MAX).await else {
            break false;
        };
        let Some(last) = events.last() else { break true };
        after = Some(last.id);
        // `until` is the time of the last event in the backup.
        let newer = events.iter().filter(|event| {
            event.refusal.is_none() && until.is_none_or(|until| event.time > until)
        });
        endings.extend(
            newer.filter(|event| AuditAction::may_narrow(&event.action)).map(view::audit_event),
        );
    };
    store.close().await;
    complete.then_some(endings)
}

fn warn(until: Option<Timestamp>, endings: Option<&[serde_json::Value]>) {
    let until = until.map_or_else(|| "the beginning".to_owned(), |until| until.to_string());
    output::note(&format!(
        "The store has no change after {until}, the last event in the backup:\n\
         - credentials that were revoked, disabled, deleted or rotated since then are accepted again: end them again\n\
         - keys, tokens, callers, users and workspaces that were created since then are unknown\n\
         - roles, policies and allowlists are as they were then, and later last-use times are lost"
    ));
    match endings {
        None => output::note(
            "The old store could not be read, so this cannot list what was ended since then.",
        ),
        Some([]) => output::note("Nothing in the old store took access away since then."),
        Some(endings) => {
            let count = endings.len();
            output::note(&format!(
                "Changes in the old store since then that may have taken access away ({count}):"
            ));
            for event in endings.iter().take(ENDINGS_SHOWN) {
                let field = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
                let (time, action) = (field("time"), field("action"));
                output::note(&format!(
                    "  {time} {action} {} {}",
                    field("target_kind"),
                    field("target_id")
                ));
            }
            if endings.len() > ENDINGS_SHOWN {
                output::note(
                    "  and more: --output json lists them all, as does `audit list` on the kept store",
                );
            }
        }
    }
}

pub(super) async fn new_epoch(global: &Global) -> anyhow::Result<()> {
    refuse_token_output(global)?;
    let service = open_service(global).await?;
    let epoch = service.renew_epoch(operator()).await?;
    output::item(global.output, &serde_json::json!({"epoch": epoch.to_string()}))?;
    service.close().await;
    Ok(())
}
