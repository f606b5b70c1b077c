//! `key` and `pat`: `create|list|revoke`.

use std::collections::BTreeMap;

use super::args::{Global, KeyCommand, NewCredential, PatCommand, RevokeArgs};
use super::{
    Usage, every, flag, open, open_with, operator, output, read_token, refuse_token_output,
};
use crate::model::{CredentialId, CredentialKind, Role, Timestamp, UserId, WorkspaceName};
use crate::service::{
    CreateCredential, Expiration, ListCredentials, NewOwner, Options, RevokeTarget, view,
};

pub(super) async fn run_key(global: &Global, command: KeyCommand) -> anyhow::Result<()> {
    match command {
        KeyCommand::Create { workspace, new } => {
            let workspace = flag("--workspace", WorkspaceName::parse(&workspace))?;
            create(global, NewOwner::Workspace(workspace), new).await
        }
        KeyCommand::List { workspace } => {
            let workspace = workspace.map(|name| flag("--workspace", WorkspaceName::parse(&name)));
            let request = ListCredentials {
                workspace: workspace.transpose()?,
                kind: Some(CredentialKind::Key),
                ..ListCredentials::default()
            };
            list(global, request, "workspace_id").await
        }
        KeyCommand::Revoke(args) => revoke(global, args, CredentialKind::Key).await,
    }
}

pub(super) async fn run_pat(global: &Global, command: PatCommand) -> anyhow::Result<()> {
    match command {
        PatCommand::Create { user, max_role, new } => {
            let user = flag("--user", UserId::parse(&user))?;
            create(global, NewOwner::User(user, max_role.unwrap_or(Role::Owner)), new).await
        }
        PatCommand::List { user } => {
            let user = user.map(|id| flag("--user", UserId::parse(&id))).transpose()?;
            let kind = Some(CredentialKind::Pat);
            list(global, ListCredentials { user, kind, ..ListCredentials::default() }, "user_id")
                .await
        }
        PatCommand::Revoke(args) => revoke(global, args, CredentialKind::Pat).await,
    }
}

async fn create(global: &Global, owner: NewOwner, new: NewCredential) -> anyhow::Result<()> {
    let expire_time = new.expire_time.map(|time| flag("--expire-time", Timestamp::parse(&time)));
    let expiration = match (expire_time.transpose()?, new.ttl) {
        (Some(time), _) => Some(Expiration::At(time)),
        (None, ttl) => ttl.map(Expiration::After),
    };
    let request = CreateCredential {
        owner,
        name: new.name,
        scopes: new.scopes.into_iter().collect(),
        expiration,
        ip_allowlist: new.ip_allowlist,
        annotations: annotations(&new.annotations)?,
        acting_user: String::new(),
    };
    let service = open(global).await?;
    let created = service.create_credential(operator(), request).await?;
    let view = view::credential(&created.credential, service.clock.now());
    output::created(global.output, "credential", view, Some(created.token.expose()));
    service.store.close().await;
    Ok(())
}

fn annotations(entries: &[String]) -> anyhow::Result<BTreeMap<String, String>> {
    let entries = entries.iter().map(|entry| {
        let (key, value) = entry
            .split_once('=')
            .ok_or_else(|| Usage("--annotation must be KEY=VALUE, as team=search".to_owned()))?;
        Ok((key.to_owned(), value.to_owned()))
    });
    entries.collect()
}

async fn list(global: &Global, request: ListCredentials, owner: &str) -> anyhow::Result<()> {
    refuse_token_output(global)?;
    let service = open(global).await?;
    let context = operator();
    let credentials = every(async |page| {
        service.list_credentials(&context, &ListCredentials { page, ..request.clone() }).await
    });
    let now = service.clock.now();
    let credentials: Vec<_> =
        credentials.await?.iter().map(|credential| view::credential(credential, now)).collect();
    let columns =
        ["id", owner, "name", "hint", "scopes", "max_role", "state", "create_time", "expire_time"];
    let columns: Vec<_> =
        columns.into_iter().filter(|column| *column != "max_role" || owner == "user_id").collect();
    output::list(global.output, "credentials", &columns, &credentials);
    service.store.close().await;
    Ok(())
}

async fn revoke(global: &Global, args: RevokeArgs, kind: CredentialKind) -> anyhow::Result<()> {
    refuse_token_output(global)?;
    let target = if args.credential == "-" {
        RevokeTarget::Token(read_token()?)
    } else {
        let id = flag("the credential", CredentialId::parse(&args.credential))?;
        RevokeTarget::Id(id, Some(kind))
    };
    let accept_imported_tokens = args.accept_imported_tokens;
    let options = Options { accept_imported_tokens, ..Options::default() };
    let service = open_with(global, options).await?;
    let revoked = service.revoke(operator(), target, "", &args.reason).await?;
    match revoked.credential {
        Some(credential) => {
            output::item(global.output, &view::credential(&credential, service.clock.now()));
        }
        // As RFC 7009 has it: whoever wants it dead has what they want.
        None => output::item(global.output, &serde_json::json!({"credential": null})),
    }
    service.store.close().await;
    Ok(())
}
