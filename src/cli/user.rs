//! `user put|list|delete`.

use super::args::{Global, UserCommand};
use super::progress::write_pending_ends;
use super::{all_pages, flag, open_service, operator, output, refuse_token_output};
use crate::model::{DisplayName, UserId};
use crate::service::{PutUser, view};

pub(super) async fn run(global: &Global, command: UserCommand) -> anyhow::Result<()> {
    refuse_token_output(global)?;
    match command {
        UserCommand::Put { id, name, switch } => {
            let id = flag("the id", UserId::parse(&id))?;
            let name = name.map(|name| flag("--name", DisplayName::parse(&name))).transpose()?;
            let service = open_service(global).await?;
            let display_name = match name {
                Some(name) => Some(name),
                None if service.find_user(&id).await?.is_some() => None,
                None => Some(flag("the id", DisplayName::parse(id.as_str()))?),
            };
            let put = PutUser { id, display_name, disabled: switch.disabled() };
            let user = service.put_user(operator(), put).await?;
            output::item(global.output, &view::user(&user))?;
            service.close().await;
        }
        UserCommand::List => {
            let service = open_service(global).await?;
            let users = all_pages(async |page| service.list_users(&page).await).await?;
            let users: Vec<_> = users.iter().map(view::user).collect();
            output::list(
                global.output,
                "users",
                &["id", "display_name", "disabled", "create_time"],
                &users,
            )?;
            service.close().await;
        }
        UserCommand::Delete { id } => {
            let id = flag("the id", UserId::parse(&id))?;
            let service = open_service(global).await?;
            service.delete_user(operator(), id, false).await?;
            write_pending_ends(&service).await?;
            service.close().await;
        }
    }
    Ok(())
}
