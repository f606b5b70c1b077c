//! `caller create|list|update|rotate|revoke`.

use super::args::{CallerCommand, Global};
use super::{
    all_pages, open_service, operator, operator_for_rotation, output, refuse_token_output,
    unprinted_token, wait_for_replicas,
};
use crate::service::{CreateCaller, RotateCaller, UpdateCaller, view};
use crate::token::Token;

pub(super) async fn run(global: &Global, command: CallerCommand) -> anyhow::Result<()> {
    match command {
        CallerCommand::Create { name, permissions, certificate_san } => {
            if certificate_san.is_some() {
                refuse_token_output(global)?;
            }
            let service = open_service(global).await?;
            let request = CreateCaller {
                name,
                permissions: permissions.iter().map(ToString::to_string).collect(),
                certificate_san: certificate_san.unwrap_or_default(),
            };
            let _guard = global.monitor.guard_token();
            let (caller, token) = service.create_caller(operator(), request).await?;
            let token = token.as_ref().map(Token::expose);
            let printed = output::created(global.output, "caller", view::caller(&caller), token);
            unprinted_token::revoke_caller_unless_printed(&service, &caller, printed).await?;
            service.close().await;
        }
        CallerCommand::List => {
            refuse_token_output(global)?;
            let service = open_service(global).await?;
            let callers = all_pages(async |page| service.list_callers(&page).await).await?;
            let callers: Vec<_> = callers.iter().map(view::caller).collect();
            let columns = [
                "id",
                "name",
                "permissions",
                "hint",
                "certificate_san",
                "create_time",
                "revoke_time",
            ];
            output::list(global.output, "callers", &columns, &callers)?;
            service.close().await;
        }
        CallerCommand::Update { caller, name, permissions } => {
            refuse_token_output(global)?;
            let service = open_service(global).await?;
            let request = UpdateCaller {
                caller,
                name: name.unwrap_or_default(),
                permissions: permissions.iter().map(ToString::to_string).collect(),
            };
            let caller = service.update_caller(operator(), request).await?;
            output::item(global.output, &view::caller(&caller))?;
            service.close().await;
        }
        CallerCommand::Rotate { caller, overlap, request_id } => {
            rotate(global, RotateCaller { caller, overlap, request_id }).await?;
        }
        CallerCommand::Revoke { caller } => {
            refuse_token_output(global)?;
            let service = open_service(global).await?;
            let caller = service.revoke_caller(operator(), caller).await?;
            output::item(global.output, &view::caller(&caller))?;
            service.close().await;
        }
    }
    Ok(())
}

async fn rotate(global: &Global, request: RotateCaller) -> anyhow::Result<()> {
    let service = open_service(global).await?;
    let guard = global.monitor.guard_token();
    let rotated = service.rotate_caller(operator_for_rotation(), request).await?;
    let (view, token) = (view::caller(&rotated.caller), rotated.token.expose());
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
