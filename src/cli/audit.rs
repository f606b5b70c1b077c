//! `audit list|export|purge`.

use super::args::Global;
use super::args::record::{AuditCommand, AuditFilterArgs};
use super::progress::counter;
use super::{flag, open_service, operator, output, refuse_token_output};
use crate::model::limits::PAGE_SIZE_MAX;
use crate::model::{Timestamp, UserId};
use crate::service::{PageRequest, view};
use crate::store::AuditFilter;

pub(super) async fn run(global: &Global, command: AuditCommand) -> anyhow::Result<()> {
    refuse_token_output(global)?;
    match command {
        AuditCommand::List { filter, limit } => list(global, filter, limit).await,
        AuditCommand::Export { filter } => export(global, filter).await,
        AuditCommand::Purge { older_than } => {
            let service = open_service(global).await?;
            let cutoff = service.ago(older_than);
            let (shown, progress) = counter("purged");
            let count = service.purge_audit(operator(), cutoff, progress).await;
            shown.lock().finish();
            let count = count?;
            let purged = serde_json::json!({"purged_count": count, "cutoff": cutoff.to_string()});
            output::item(global.output, &purged)?;
            service.close().await;
            Ok(())
        }
    }
}

async fn list(global: &Global, filter: AuditFilterArgs, limit: u16) -> anyhow::Result<()> {
    let filter = parse(filter)?;
    let service = open_service(global).await?;
    let page = PageRequest { size: i32::from(limit), token: String::new() };
    let page = service.list_audit_events(&filter, &page).await?;
    let events: Vec<_> = page.items.iter().map(view::audit_event).collect();
    let columns = [
        "time",
        "action",
        "caller",
        "acting_user",
        "target_kind",
        "target_id",
        "reason",
        "refusal",
    ];
    output::list(global.output, "events", &columns, &events)?;
    if !page.next_token.is_empty() {
        output::note("there are more: raise --limit, give --since, or use `audit export`");
    }
    service.close().await;
    Ok(())
}

/// Prints all matching events. Holds one page in memory at a time.
async fn export(global: &Global, filter: AuditFilterArgs) -> anyhow::Result<()> {
    let filter = parse(filter)?;
    let service = open_service(global).await?;
    let mut page = PageRequest { size: PAGE_SIZE_MAX.cast_signed(), token: String::new() };
    loop {
        let events = service.list_audit_events(&filter, &page).await?;
        output::json_lines(events.items.iter().map(view::audit_event))?;
        if events.next_token.is_empty() {
            break;
        }
        page.token = events.next_token;
    }
    service.close().await;
    Ok(())
}

fn parse(filter: AuditFilterArgs) -> anyhow::Result<AuditFilter> {
    let time = |name: &str, text: Option<String>| {
        text.map(|text| flag(name, Timestamp::parse(&text))).transpose()
    };
    Ok(AuditFilter {
        start_time: time("--since", filter.since)?,
        end_time: time("--until", filter.until)?,
        caller: filter.caller,
        acting_user: filter
            .acting_user
            .map(|id| flag("--acting-user", UserId::parse(&id)))
            .transpose()?,
        target_kind: filter.target_kind,
        target_id: filter.target,
        action: filter.action,
    })
}
