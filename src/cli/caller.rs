//! `caller create|list|update|rotate|revoke`.

use super::args::Global;
use super::args::caller::{CallerChanges, CallerCommand};
use super::args::credential::ExpirationArgs;
use super::{
    all_pages, credential, open_service, operator, operator_for_rotation, output,
    refuse_token_output, unprinted_token, wait_for_replicas,
};
use crate::service::{CreateCaller, ExpiryChange, RotateCaller, UpdateCaller, view};
use crate::token::Token;

pub(super) async fn run(global: &Global, command: CallerCommand) -> anyhow::Result<()> {
    match command {
        CallerCommand::Create { name, permissions, certificate_san, expiration } => {
            let request = CreateCaller {
                name,
                permissions: permissions.iter().map(ToString::to_string).collect(),
                certificate_san: certificate_san.unwrap_or_default(),
                expiration: credential::expiration(&expiration)?,
            };
            create(global, request).await
        }
        CallerCommand::List => list(global).await,
        CallerCommand::Update { caller, changes, etag } => {
            refuse_token_output(global)?;
            let request = update_request(caller, changes, etag)?;
            let service = open_service(global).await?;
            let caller = service.update_caller(operator(), request).await?;
            output::item(global.output, &view::caller_now(&caller, service.now()))?;
            service.close().await;
            Ok(())
        }
        CallerCommand::Rotate { caller, overlap, request_id, etag } => {
            let etag = credential::quote_etag(etag);
            rotate(global, RotateCaller { caller, overlap, request_id, etag }).await
        }
        CallerCommand::Revoke { caller } => {
            refuse_token_output(global)?;
            let service = open_service(global).await?;
            let caller = service.revoke_caller(operator(), caller).await?;
            output::item(global.output, &view::caller_now(&caller, service.now()))?;
            service.close().await;
            Ok(())
        }
    }
}

async fn create(global: &Global, request: CreateCaller) -> anyhow::Result<()> {
    if !request.certificate_san.is_empty() {
        refuse_token_output(global)?;
    }
    let service = open_service(global).await?;
    let _guard = global.monitor.guard_token();
    let (caller, token) = service.create_caller(operator(), request).await?;
    let token = token.as_ref().map(Token::expose);
    let view = view::caller_now(&caller, service.now());
    let printed = output::created(global.output, "caller", view, token);
    unprinted_token::revoke_caller_unless_printed(&service, &caller, printed).await?;
    service.close().await;
    Ok(())
}

async fn list(global: &Global) -> anyhow::Result<()> {
    refuse_token_output(global)?;
    let service = open_service(global).await?;
    let callers = all_pages(async |page| service.list_callers(&page).await).await?;
    let now = service.now();
    let callers: Vec<_> = callers.iter().map(|caller| view::caller_now(caller, now)).collect();
    let columns = [
        "id",
        "name",
        "state",
        "permissions",
        "hint",
        "certificate_san",
        "create_time",
        "expire_time",
        "last_use_time",
        "revoke_time",
    ];
    output::list(global.output, "callers", &columns, &callers)?;
    service.close().await;
    Ok(())
}

fn update_request(
    caller: String,
    changes: CallerChanges,
    etag: String,
) -> anyhow::Result<UpdateCaller> {
    let CallerChanges { ttl, expire_time, .. } = changes;
    let expiration = credential::expiration(&ExpirationArgs { ttl, expire_time })?;
    let expiry = if changes.no_expiry {
        Some(ExpiryChange::Remove)
    } else {
        expiration.map(ExpiryChange::Set)
    };
    Ok(UpdateCaller {
        caller,
        name: changes.name.unwrap_or_default(),
        permissions: changes.permissions.iter().map(ToString::to_string).collect(),
        certificate_san: changes.certificate_san.unwrap_or_default(),
        expiry,
        etag: credential::quote_etag(etag),
    })
}

async fn rotate(global: &Global, request: RotateCaller) -> anyhow::Result<()> {
    let service = open_service(global).await?;
    let guard = global.monitor.guard_token();
    let rotated = service.rotate_caller(operator_for_rotation(), request).await?;
    let (view, token) = (view::caller_now(&rotated.caller, service.now()), rotated.token.expose());
    let printed = output::rotated(global.output, "caller", view, token, rotated.end_pending);
    unprinted_token::undo_caller_rotation_unless_printed(&service, &rotated, printed).await?;
    // The same command would rotate once more.
    let name = &rotated.caller.name;
    global.monitor.set_waiting_command(format!("sophic-auth caller update {name} --name {name}"));
    drop(guard);
    wait_for_replicas(&service, rotated.end_pending).await?;
    service.close().await;
    Ok(())
}
