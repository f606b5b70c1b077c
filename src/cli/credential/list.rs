//! `credentials list|expiring`, `key list` and `pat list`.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;

use crate::cli::args::credential::{ListArgs, OrderArg, OwnerArgs, StateArg};
use crate::cli::args::{Global, Output};
use crate::cli::introspect::NoAnswer;
use crate::cli::{Outcome, flag, open_service, operator, output, refuse_token_output};
use crate::model::limits::PAGE_SIZE_MAX;
use crate::model::{
    CredentialId, CredentialKind, CredentialState, Timestamp, UserId, WorkspaceName,
};
use crate::service::{ListCredentials, PageRequest, Service, view};
use crate::store::CredentialOrder;

/// Lists the credentials that match the owner and the flags.
pub(super) async fn list(
    global: &Global,
    owner_filter: ListCredentials,
    args: ListArgs,
) -> anyhow::Result<()> {
    refuse_token_output(global)?;
    let limit = args.limit;
    let service = open_service(global).await?;
    let request = filter(owner_filter, args, service.now())?;
    let found = fetch(&service, &request, limit).await?;
    output::list(global.output, "credentials", &columns(request.kind, request.order), &found)?;
    service.close().await;
    Ok(())
}

/// Lists the credentials that expire within this time.
pub(super) async fn expiring(
    global: &Global,
    within: Duration,
    owner: OwnerArgs,
) -> anyhow::Result<Outcome> {
    refuse_token_output(global)?;
    let outcome = list_expiring(global, within, owner).await;
    // Exit code 1 means that some credentials expire, so a failure must not have it.
    outcome.context(NoAnswer)
}

async fn list_expiring(
    global: &Global,
    within: Duration,
    owner: OwnerArgs,
) -> anyhow::Result<Outcome> {
    let request = ListCredentials {
        expiring_within: Some(within),
        order: CredentialOrder::ExpireTime,
        ..owner_filter(owner)?
    };
    let service = open_service(global).await?;
    let found = fetch(&service, &request, None).await?;
    service.close().await;
    let none = found.is_empty();
    match global.output {
        Output::Json => output::line(
            &serde_json::json!({
                "within": humantime::format_duration(within).to_string(),
                "count": found.len(),
                "credentials": found,
            })
            .to_string(),
        )?,
        Output::Table | Output::Token => {
            let columns = columns(request.kind, request.order);
            output::list(global.output, "credentials", &columns, &found)?;
        }
    }
    Ok(if none { Outcome::Done } else { Outcome::Refused })
}

/// Fetches all pages of matching credentials, up to `limit`.
async fn fetch(
    service: &Service,
    request: &ListCredentials,
    limit: Option<usize>,
) -> anyhow::Result<Vec<Value>> {
    let context = operator();
    let limit = limit.unwrap_or(usize::MAX);
    let mut found = Vec::new();
    let mut page = PageRequest {
        size: i32::try_from(limit.min(PAGE_SIZE_MAX as usize))?,
        token: String::new(),
    };
    loop {
        let request = ListCredentials { page: page.clone(), ..request.clone() };
        let listed = service.list_credentials(&context, &request).await?;
        let now = service.now();
        found.extend(listed.items.iter().map(|credential| view::credential(credential, now)));
        if listed.next_token.is_empty() || found.len() >= limit {
            found.truncate(limit);
            return Ok(found);
        }
        page.token = listed.next_token;
    }
}

pub(super) fn owner_filter(owner: OwnerArgs) -> anyhow::Result<ListCredentials> {
    let workspace = owner.workspace.map(|name| flag("--workspace", WorkspaceName::parse(&name)));
    let user = owner.user.map(|id| flag("--user", UserId::parse(&id)));
    Ok(ListCredentials {
        workspace: workspace.transpose()?,
        user: user.transpose()?,
        kind: owner.kind,
        ..ListCredentials::default()
    })
}

fn filter(
    owner_filter: ListCredentials,
    args: ListArgs,
    now: Timestamp,
) -> anyhow::Result<ListCredentials> {
    let time = |name: &str, text: Option<String>| {
        text.map(|text| flag(name, Timestamp::parse(&text))).transpose()
    };
    let unused_for = args.unused_for.map(|unused_for| now.saturating_sub(unused_for));
    let family = args.family.map(|id| flag("--family", CredentialId::parse(&id)));
    Ok(ListCredentials {
        state: args.state.map(|state| match state {
            StateArg::Active => CredentialState::Active,
            StateArg::Disabled => CredentialState::Disabled,
            StateArg::Expired => CredentialState::Expired,
            StateArg::Revoked => CredentialState::Revoked,
        }),
        creator: args.creator,
        scope: args.scope,
        expires_before: time("--expires-before", args.expires_before)?,
        expiring_within: args.expiring_within,
        unused_since: time("--unused-since", args.unused_since)?.or(unused_for),
        name_prefix: args.name_prefix,
        family_id: family.transpose()?,
        order: match args.order {
            OrderArg::Oldest => CredentialOrder::CreateTime,
            OrderArg::Newest => CredentialOrder::CreateTimeDesc,
            OrderArg::LastUse => CredentialOrder::LastUseTime,
            OrderArg::Expiry => CredentialOrder::ExpireTime,
        },
        ..owner_filter
    })
}

/// Returns the columns of a table, which depend on the kind and the order.
fn columns(kind: Option<CredentialKind>, order: CredentialOrder) -> Vec<&'static str> {
    let owner: &[_] = match kind {
        Some(CredentialKind::Key) => &["workspace_id"],
        Some(CredentialKind::Pat) => &["user_id", "max_role"],
        None => &["kind", "workspace_id", "user_id"],
    };
    let last_use = (order == CredentialOrder::LastUseTime).then_some("last_use_time");
    let head = ["id"].into_iter().chain(owner.iter().copied());
    let tail = ["name", "hint", "scopes", "state", "create_time", "expire_time"];
    head.chain(tail).chain(last_use).collect()
}
