//! `audit list|export|purge|redact-user`.

use super::args::Global;
use super::args::record::{AuditCommand, AuditFilterArgs, AuditOrderArg, FollowArgs};
use super::progress::counter;
use super::{UsageError, audit_follow, flag, open_service, operator, output, refuse_token_output};
use crate::model::limits::PAGE_SIZE_MAX;
use crate::model::{AuditAction, Timestamp, UserId, WorkspaceName};
use crate::service::{ListAuditEvents, PageRequest, view};
use crate::store::{AuditFilter, AuditOrder};

/// Columns of a table of events.
pub(super) const COLUMNS: [&str; 8] =
    ["time", "action", "caller", "acting_user", "target_kind", "target_id", "reason", "refusal"];

pub(super) async fn run(global: &Global, command: AuditCommand) -> anyhow::Result<()> {
    refuse_token_output(global)?;
    match command {
        AuditCommand::List { filter, follow, limit } => {
            let request = request(filter, &follow, limit)?;
            if follow.follow {
                audit_follow::run(global, request, follow).await
            } else {
                list(global, request).await
            }
        }
        AuditCommand::Export { filter } => export(global, parse(filter)?).await,
        AuditCommand::RedactUser { user } => {
            let user = flag("the user", UserId::parse(&user))?;
            let service = open_service(global).await?;
            let (shown, progress) = counter("audit events redacted");
            let redacted = service.redact_user(operator(), user.clone(), progress).await;
            shown.lock().finish();
            let redacted = redacted?;
            if !service.forget_erased_texts().await? {
                output::note(
                    "the write-ahead log still has erased texts, because another process is using the store: repeat this command",
                );
            }
            let redacted = serde_json::json!({
                "user": user.as_str(),
                "event_count": redacted.event_count,
                "credential_count": redacted.credential_count,
            });
            output::item(global.output, &redacted)?;
            service.close().await;
            Ok(())
        }
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

/// Reads the flags of `audit list`.
fn request(
    filter: AuditFilterArgs,
    follow: &FollowArgs,
    limit: u16,
) -> anyhow::Result<ListAuditEvents> {
    let mut request = parse(filter)?;
    request.page.size = i32::from(limit);
    request.follows = follow.follow || follow.order == AuditOrderArg::Commit;
    if follow.order == AuditOrderArg::Newest {
        request.filter.order = AuditOrder::NewestFirst;
    }
    request.resume_token = follow.resume_token.clone().unwrap_or_default();
    if !request.resume_token.is_empty() && !request.follows {
        let text = "--resume-token needs --follow or --order commit";
        anyhow::bail!(UsageError(text.to_owned()));
    }
    Ok(request)
}

async fn list(global: &Global, request: ListAuditEvents) -> anyhow::Result<()> {
    let service = open_service(global).await?;
    let mut page = service.list_audit_events(&operator(), &request).await?;
    // A page with large events has fewer of them than asked for.
    let mut next = request.clone();
    while !request.follows && !page.next_token.is_empty() {
        let missing = request.page.size - i32::try_from(page.events.len()).unwrap_or(i32::MAX);
        if missing <= 0 {
            break;
        }
        next.page = PageRequest { size: missing, token: std::mem::take(&mut page.next_token) };
        let more = service.list_audit_events(&operator(), &next).await?;
        page.next_token = more.next_token;
        page.events.extend(more.events);
    }
    let events: Vec<_> = page.events.iter().map(view::audit_event).collect();
    let token = Some(("resume_token", &*page.resume_token)).filter(|_| request.follows);
    output::list_and(global.output, "events", &COLUMNS, &events, token)?;
    if !page.next_token.is_empty() {
        output::note(if request.follows {
            "there are more: give this --resume-token, or --follow"
        } else {
            "there are more: raise --limit, give --since, or use `audit export`"
        });
    }
    service.close().await;
    Ok(())
}

/// Prints all matching events. Holds one page in memory at a time.
async fn export(global: &Global, mut request: ListAuditEvents) -> anyhow::Result<()> {
    let service = open_service(global).await?;
    request.page = PageRequest { size: PAGE_SIZE_MAX.cast_signed(), token: String::new() };
    loop {
        let page = service.list_audit_events(&operator(), &request).await?;
        output::json_lines(page.events.iter().map(view::audit_event))?;
        if page.next_token.is_empty() {
            break;
        }
        request.page.token = page.next_token;
    }
    service.close().await;
    Ok(())
}

fn parse(filter: AuditFilterArgs) -> anyhow::Result<ListAuditEvents> {
    let time = |name: &str, text: Option<String>| {
        text.map(|text| flag(name, Timestamp::parse(&text))).transpose()
    };
    let user =
        |name: &str, id: Option<String>| id.map(|id| flag(name, UserId::parse(&id))).transpose();
    let workspace = filter.workspace.map(|name| flag("--workspace", WorkspaceName::parse(&name)));
    let acting_user = user("--acting-user", filter.acting_user)?;
    if let Some(action) = &filter.action {
        check_action(action)?;
    }
    Ok(ListAuditEvents {
        filter: AuditFilter {
            start_time: time("--since", filter.since)?,
            end_time: time("--until", filter.until)?,
            caller: filter.caller,
            acting_user: user("--filter-acting-user", filter.filter_acting_user)?,
            target_kind: filter.target_kind,
            target_id: filter.target,
            action: filter.action,
            ..AuditFilter::default()
        },
        workspace: workspace.transpose()?,
        acting_user: acting_user.map(|user| user.to_string()).unwrap_or_default(),
        ..ListAuditEvents::default()
    })
}

/// Refuses an action that does not exist, which would find nothing and look like a clean log.
fn check_action(action: &str) -> anyhow::Result<()> {
    if AuditAction::from_name(action).is_some() {
        return Ok(());
    }
    let known: Vec<_> = AuditAction::ALL.iter().map(|action| action.as_str()).collect();
    let text = format!("--action must be one of {}", known.join(", "));
    Err(UsageError(text).into())
}
