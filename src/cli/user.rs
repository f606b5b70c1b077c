//! `user put|list|delete`.

use super::args::{Global, UserCommand};
use super::progress::tell;
use super::{every, flag, open, operator, output, refuse_token_output};
use crate::model::{DisplayName, UserId};
use crate::service::view;

pub(super) async fn run(global: &Global, command: UserCommand) -> anyhow::Result<()> {
    refuse_token_output(global)?;
    match command {
        UserCommand::Put { id, name, disabled } => {
            let id = flag("the id", UserId::parse(&id))?;
            let name = name.map(|name| flag("--name", DisplayName::parse(&name))).transpose()?;
            let service = open(global).await?;
            let name = match name {
                Some(name) => name,
                None => match service.store.find_user(&id).await? {
                    Some(user) => user.display_name,
                    None => flag("the id", DisplayName::parse(id.as_str()))?,
                },
            };
            let user = service.put_user(operator(), id, name, disabled).await?;
            output::item(global.output, &view::user(&user));
            service.store.close().await;
        }
        UserCommand::List => {
            let service = open(global).await?;
            let users = every(async |page| service.list_users(&page).await).await?;
            let users: Vec<_> = users.iter().map(view::user).collect();
            output::list(
                global.output,
                "users",
                &["id", "display_name", "disabled", "create_time"],
                &users,
            );
            service.store.close().await;
        }
        UserCommand::Delete { id } => {
            let id = flag("the id", UserId::parse(&id))?;
            let service = open(global).await?;
            service.delete_user(operator(), id, false).await?;
            tell(&service).await?;
            service.store.close().await;
        }
    }
    Ok(())
}
