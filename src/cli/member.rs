//! `member put|list|delete`.

use super::args::{Global, MemberCommand};
use super::{all_pages, flag, open_service, operator, output, refuse_token_output};
use crate::model::{UserId, WorkspaceName};
use crate::service::view;

pub(super) async fn run(global: &Global, command: MemberCommand) -> anyhow::Result<()> {
    refuse_token_output(global)?;
    let workspace_name = |text: &str| flag("--workspace", WorkspaceName::parse(text));
    let user_id = |text: &str| flag("--user", UserId::parse(text));
    match command {
        MemberCommand::Put { workspace, user, role } => {
            let (workspace, user) = (workspace_name(&workspace)?, user_id(&user)?);
            let service = open_service(global).await?;
            let membership = service.put_membership(operator(), workspace, user, role).await?;
            output::item(global.output, &view::membership(&membership))?;
            service.close().await;
        }
        MemberCommand::List { workspace, user } => {
            let workspace = workspace.as_deref().map(workspace_name).transpose()?;
            let user = user.as_deref().map(user_id).transpose()?;
            let service = open_service(global).await?;
            let memberships = all_pages(async |page| {
                service.list_memberships(workspace.as_ref(), user.as_ref(), &page).await
            });
            let memberships: Vec<_> = memberships.await?.iter().map(view::membership).collect();
            let columns = ["workspace_id", "user_id", "role", "create_time"];
            output::list(global.output, "memberships", &columns, &memberships)?;
            service.close().await;
        }
        MemberCommand::Delete { workspace, user } => {
            let (workspace, user) = (workspace_name(&workspace)?, user_id(&user)?);
            let service = open_service(global).await?;
            service.delete_membership(operator(), workspace, user, false).await?;
            service.close().await;
        }
    }
    Ok(())
}
