//! `backup`, `restore`, and `new-epoch`, which follows a restore by other means.

use std::collections::{BTreeSet, VecDeque};
use std::path::Path;

use serde_json::json;

use super::args::{Global, Output};
use super::{UsageError, open_service, operator, output, refuse_token_output, store_url};
use crate::model::limits::PAGE_SIZE_MAX;
use crate::model::{AuditAction, AuditEvent, EventId, Timestamp};
use crate::server;
use crate::service::{Options, view};
use crate::store::{self, AuditFilter, AuditStore, Location};

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
    // Before the copy gets an event of its own.
    let endings = endings_since(restoring.replaced(), &restoring.copy).await;
    let copy = server::open_uncached_service(
        &Location::Sqlite(restoring.copy.clone()),
        Options::default(),
    )
    .await?;
    let epoch = copy.renew_epoch(operator()).await?;
    copy.close().await;
    let (until, migrated) = (restoring.until, restoring.migrated.clone());
    let kept = restoring.finish().await?;
    let listed = match (global.output, &endings) {
        (Output::Json, Some(endings)) => json!(endings.events),
        (_, Some(endings)) => endings.events.len().into(),
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
            "log_purged_since": endings.as_ref().map(|endings| endings.purged),
            "redacted_since": endings.as_ref().map(|endings| &endings.redacted),
        }),
    )?;
    warn(until, endings.as_ref());
    Ok(())
}

/// What the audit log of the replaced store has beyond that of the backup.
#[derive(Default)]
struct Endings {
    /// The events that may have taken access away.
    events: Vec<serde_json::Value>,
    /// Whether such events may have been purged.
    purged: bool,
    /// Ids of the users that were redacted. The backup still has their texts.
    redacted: BTreeSet<String>,
}

/// Compares the audit logs of the replaced store and of the backup. `None` if the replaced store cannot be read.
async fn endings_since(replaced: Option<&Path>, copy: &Path) -> Option<Endings> {
    let replaced = store::open_existing(&Location::Sqlite(replaced?.to_owned())).await.ok()?;
    let compared = match store::open_existing(&Location::Sqlite(copy.to_owned())).await {
        Ok(copy) => {
            let compared = compare_logs(&*replaced, &*copy).await.ok();
            copy.close().await;
            compared
        }
        Err(_) => None,
    };
    replaced.close().await;
    compared
}

/// An event is new if the backup has none with its id: a redacted event is the same event. Neither times nor ids tell, because a clock may have been set
/// back. Both logs are read by id, a page at a time. If the log was purged since, what the purges deleted is unknown: of
/// several purges the last leaves its event, and may have deleted those of the others.
async fn compare_logs(replaced: &dyn AuditStore, copy: &dyn AuditStore) -> store::Result<Endings> {
    let (mut replaced, mut copy) = (Log::new(replaced), Log::new(copy));
    let mut endings = Endings::default();
    while let Some(event) = replaced.next().await? {
        while copy.peek().await?.is_some_and(|known| known.id < event.id) {
            copy.next().await?;
        }
        if copy.peek().await?.is_some_and(|known| known.id == event.id) {
            copy.next().await?;
            continue;
        }
        if event.refusal.is_some() {
            continue;
        }
        endings.purged |= is_purge(&event);
        if event.action == AuditAction::UserRedact.as_str() {
            endings.redacted.insert(event.target_id.clone());
        }
        if AuditAction::may_narrow(&event.action) {
            endings.events.push(view::audit_event(&event));
        }
    }
    Ok(endings)
}

/// Whether the event is of a purge of the audit log that deleted something.
fn is_purge(event: &AuditEvent) -> bool {
    let after = || serde_json::from_str::<serde_json::Value>(event.after.as_ref()?).ok();
    event.action == AuditAction::AuditPurge.as_str()
        && after().is_none_or(|after| after["purged_count"] != 0)
}

/// Reads an audit log by id.
struct Log<'s> {
    store: &'s dyn AuditStore,
    page: VecDeque<AuditEvent>,
    last: Option<EventId>,
}

impl<'s> Log<'s> {
    const fn new(store: &'s dyn AuditStore) -> Self {
        Self { store, page: VecDeque::new(), last: None }
    }

    async fn peek(&mut self) -> store::Result<Option<&AuditEvent>> {
        if self.page.is_empty() {
            let filter = AuditFilter::default();
            self.page =
                self.store.list_audit_events(&filter, self.last, PAGE_SIZE_MAX).await?.into();
            self.last = self.page.back().map(|event| event.id).or(self.last);
        }
        Ok(self.page.front())
    }

    async fn next(&mut self) -> store::Result<Option<AuditEvent>> {
        self.peek().await?;
        Ok(self.page.pop_front())
    }
}

fn warn(until: Option<Timestamp>, endings: Option<&Endings>) {
    let until = until.map_or_else(|| "the beginning".to_owned(), |until| until.to_string());
    output::note(&format!(
        "The store has no change after {until}, the last event in the backup:\n\
         - credentials that were revoked, disabled, deleted or rotated since then are accepted again: end them again\n\
         - keys, tokens, callers, users and workspaces that were created since then are unknown\n\
         - roles, policies and allowlists are as they were then, and later last-use times are lost"
    ));
    let Some(Endings { events, purged, redacted }) = endings else {
        output::note(
            "The old store could not be read, so this cannot list what was ended since then.",
        );
        return;
    };
    if *purged {
        output::note(
            "The audit log of the old store was purged since then, so what follows may be incomplete.",
        );
    }
    if !redacted.is_empty() {
        let users: Vec<_> = redacted.iter().map(String::as_str).collect();
        output::note(&format!(
            "The backup has the texts of users that were redacted since then. Run `audit redact-user` again, after deleting them \
             if they are back, for: {}",
            users.join(", ")
        ));
    }
    if events.is_empty() {
        output::note(if *purged {
            "The rest of the log of the old store has nothing that took access away since then."
        } else {
            "Nothing in the old store took access away since then."
        });
        return;
    }
    let count = events.len();
    output::note(&format!(
        "Changes in the old store since then that may have taken access away ({count}):"
    ));
    for event in events.iter().take(ENDINGS_SHOWN) {
        let field = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
        let (time, action) = (field("time"), field("action"));
        output::note(&format!("  {time} {action} {} {}", field("target_kind"), field("target_id")));
    }
    if count > ENDINGS_SHOWN {
        output::note(
            "  and more: --output json lists them all, as does `audit list` on the kept store",
        );
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
