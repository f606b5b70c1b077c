//! `key`, `pat`, `credentials` and `leaked`.

mod bulk_revoke;
pub(super) mod leaked;
mod leaked_input;
mod list;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::args::Global;
use super::args::credential::{
    CredentialsCommand, ExpirationArgs, KeyCommand, LifecycleCommand, NewCredential, PatCommand,
    RevokeArgs, RotateArgs, SwitchArgs, UpdateArgs,
};
use super::{
    Outcome, UsageError, flag, open_service, operator, operator_for_rotation, output,
    read_token_from_stdin, refuse_token_output, unprinted_token, wait_for_replicas,
};
use crate::model::{
    Credential, CredentialId, CredentialKind, Role, Timestamp, UserId, WorkspaceName,
};
use crate::service::{
    CreateCredential, CredentialChoice, Expiration, ListCredentials, NewOwner, Reason,
    RevokeTarget, Rotate, Service, ServiceError, SwitchCredential, UpdateCredential, view,
};
use crate::token::{TOKEN_START, why_not_a_token};

pub(super) async fn run_key(global: &Global, command: KeyCommand) -> anyhow::Result<()> {
    match command {
        KeyCommand::Create { workspace, new } => {
            let workspace = flag("--workspace", WorkspaceName::parse(&workspace))?;
            create(global, NewOwner::Workspace(workspace), &[], new).await
        }
        KeyCommand::List { workspace, filter } => {
            let workspace = workspace.map(|name| flag("--workspace", WorkspaceName::parse(&name)));
            let workspace = workspace.transpose()?;
            let kind = Some(CredentialKind::Key);
            let owner = ListCredentials { workspace, kind, ..ListCredentials::default() };
            list::list(global, owner, filter).await
        }
        KeyCommand::Lifecycle(command) => run_lifecycle(global, command, CredentialKind::Key).await,
    }
}

pub(super) async fn run_pat(global: &Global, command: PatCommand) -> anyhow::Result<()> {
    match command {
        PatCommand::Create { user, max_role, workspaces, new } => {
            let user = flag("--user", UserId::parse(&user))?;
            let owner = NewOwner::User(user, max_role.unwrap_or(Role::Owner));
            create(global, owner, &workspaces, new).await
        }
        PatCommand::List { user, filter } => {
            let user = user.map(|id| flag("--user", UserId::parse(&id))).transpose()?;
            let kind = Some(CredentialKind::Pat);
            let owner = ListCredentials { user, kind, ..ListCredentials::default() };
            list::list(global, owner, filter).await
        }
        PatCommand::Lifecycle(command) => run_lifecycle(global, command, CredentialKind::Pat).await,
    }
}

pub(super) async fn run_credentials(
    global: &Global,
    command: CredentialsCommand,
) -> anyhow::Result<Outcome> {
    match command {
        CredentialsCommand::List { owner, filter } => {
            list::list(global, list::owner_filter(owner)?, filter).await?;
        }
        CredentialsCommand::Expiring { within, owner } => {
            return list::expiring(global, within, owner).await;
        }
        CredentialsCommand::Revoke(args) => bulk_revoke::run(global, args).await?,
    }
    Ok(Outcome::Done)
}

async fn run_lifecycle(
    global: &Global,
    command: LifecycleCommand,
    kind: CredentialKind,
) -> anyhow::Result<()> {
    match command {
        LifecycleCommand::Rotate(args) => rotate(global, args, kind).await,
        LifecycleCommand::Revoke(args) => revoke(global, args, kind).await,
        LifecycleCommand::Show { id } => show(global, &id, kind).await,
        LifecycleCommand::Update(args) => update(global, args, kind).await,
        LifecycleCommand::Disable(args) => {
            refuse_token_output(global)?;
            let switch = switch(args, kind)?;
            let service = open_service(global).await?;
            let credential = service.disable(operator(), switch).await?;
            finish(global, service, &credential).await
        }
        LifecycleCommand::Enable(args) => {
            refuse_token_output(global)?;
            let switch = switch(args, kind)?;
            let service = open_service(global).await?;
            let credential = service.enable(operator(), switch).await?;
            finish(global, service, &credential).await
        }
    }
}

/// Reads which credential is meant: an id, or `-` for the token on standard input.
pub(super) fn credential_choice(text: &str) -> anyhow::Result<CredentialChoice> {
    if text != "-" {
        return credential_id(text).map(CredentialChoice::Id);
    }
    let token = read_token_from_stdin()?;
    if token.is_empty() {
        anyhow::bail!(UsageError("standard input has no token".to_owned()));
    }
    Ok(CredentialChoice::Token(token))
}

async fn show(global: &Global, which: &str, kind: CredentialKind) -> anyhow::Result<()> {
    refuse_token_output(global)?;
    let choice = credential_choice(which)?;
    let service = open_service(global).await?;
    // `key show` must not find a personal access token, or the reverse.
    let found = service.get_credential_and_end(&operator(), &choice, Some(kind), "").await?;
    let (credential, end) = found;
    let mut shown = view::credential(&credential, service.now());
    if let Some(end) = &end {
        view::add_end(&mut shown, end);
    }
    output::item(global.output, &shown)?;
    service.close().await;
    Ok(())
}

async fn create(
    global: &Global,
    owner: NewOwner,
    limit: &[String],
    new: NewCredential,
) -> anyhow::Result<()> {
    let request = CreateCredential {
        owner,
        workspaces: workspaces(limit)?,
        name: new.name,
        scopes: new.scopes.into_iter().collect(),
        expiration: expiration(&new.expiration)?,
        ip_allowlist: new.ip_allowlist,
        annotations: annotations(&new.annotations)?,
        acting_user: String::new(),
        request_id: new.request_id,
    };
    let service = open_service(global).await?;
    let _guard = global.monitor.guard_token();
    let created = service.create_credential(operator(), request).await?;
    let view = view::credential(&created.credential, service.now());
    let printed = output::created(global.output, "credential", view, Some(created.token.expose()));
    unprinted_token::revoke_unless_printed(&service, &created.credential, printed).await?;
    service.close().await;
    Ok(())
}

async fn rotate(global: &Global, args: RotateArgs, kind: CredentialKind) -> anyhow::Result<()> {
    let request = Rotate {
        id: credential_id(&args.id)?,
        kind: Some(kind),
        overlap: args.overlap,
        expiration: expiration(&args.expiration)?,
        acting_user: String::new(),
        request_id: args.request_id,
        etag: quote_etag(args.etag),
    };
    let service = open_service(global).await?;
    let guard = global.monitor.guard_token();
    let rotated = service.rotate(operator_for_rotation(), request).await?;
    let view = view::credential(&rotated.credential, service.now());
    let token = rotated.token.expose();
    let printed = output::rotated(global.output, "credential", view, token, rotated.end_pending);
    unprinted_token::revoke_successor_unless_printed(&service, &rotated, printed).await?;
    global.monitor.set_waiting_command(waiting_command(&rotated.predecessor, kind));
    drop(guard);
    wait_for_replicas(&service, rotated.end_pending).await?;
    service.close().await;
    Ok(())
}

/// Returns the command that changes nothing and waits for the end of a rotated credential. The rotating command, with
/// `--request-id`, would replace the token that it has shown.
fn waiting_command(predecessor: &Credential, kind: CredentialKind) -> String {
    let (kind, id) = (kind.as_str(), predecessor.id);
    match predecessor.expire_time.filter(|_| predecessor.revoke_time.is_none()) {
        Some(time) => format!("sophic-auth {kind} update {id} --expire-time {time}"),
        None => format!("sophic-auth {kind} revoke {id}"),
    }
}

async fn update(global: &Global, args: UpdateArgs, kind: CredentialKind) -> anyhow::Result<()> {
    refuse_token_output(global)?;
    let changes = args.changes;
    let id = credential_id(&args.id)?;
    let expire_time =
        changes.expire_time.map(|time| flag("--expire-time", Timestamp::parse(&time)));
    let mut expire_time = expire_time.transpose()?;
    let service = open_service(global).await?;
    if let Some(ttl) = changes.ttl {
        expire_time = Some(service.now().saturating_add(ttl));
    }
    let named_ips = changes.allow_any_ip || !changes.ip_allowlist.is_empty();
    let named_annotations = changes.no_annotations || !changes.annotations.is_empty();
    let annotations = annotations(&changes.annotations)?;
    let request = UpdateCredential {
        id,
        kind: Some(kind),
        name: changes.name,
        annotations: named_annotations.then_some(annotations),
        ip_allowlist: named_ips.then_some(changes.ip_allowlist),
        scopes: (!changes.scopes.is_empty()).then(|| changes.scopes.into_iter().collect()),
        expire_time,
        granted_workspaces: Some(workspaces(&changes.workspaces)?)
            .filter(|named| !named.is_empty()),
        etag: quote_etag(args.etag),
        acting_user: String::new(),
    };
    let credential = service.update_credential(operator(), request).await?;
    finish(global, service, &credential).await
}

async fn revoke(global: &Global, args: RevokeArgs, kind: CredentialKind) -> anyhow::Result<()> {
    refuse_token_output(global)?;
    let mut invalid_because = None;
    let target = match credential_choice(&args.credential)? {
        CredentialChoice::Id(id) => RevokeTarget::Id(id, Some(kind)),
        CredentialChoice::Token(text) => {
            // Only the format of our tokens is known. An imported token may look like anything.
            invalid_because = why_not_a_token(&text).filter(|_| text.starts_with(TOKEN_START));
            RevokeTarget::KnownToken(text, kind)
        }
    };
    let by_token = matches!(target, RevokeTarget::KnownToken(..));
    let service = open_service(global).await?;
    let revoked = service.revoke(operator(), target, "", &args.reason).await;
    let revoked = revoked.map_err(|error| {
        let unknown =
            by_token && error.refusal().unwrap_or(error.reason) == Reason::CredentialNotFound;
        let error = anyhow::Error::new(error);
        if unknown { error.context(unknown_token(kind, invalid_because)) } else { error }
    })?;
    // A call by id or by a known token names its credential.
    let credential = revoked.credential.ok_or(ServiceError::from(Reason::CredentialNotFound))?;
    finish(global, service, &credential).await
}

/// Says that no credential of this kind has the token.
fn unknown_token(kind: CredentialKind, invalid_because: Option<String>) -> String {
    let other = match kind {
        CredentialKind::Key => CredentialKind::Pat,
        CredentialKind::Pat => CredentialKind::Key,
    };
    match invalid_because {
        Some(why) => format!(
            "no {kind} has this token, since this cannot be a token: {why}: nothing was revoked"
        ),
        None => format!(
            "no {kind} has this token: nothing was revoked. If it is that of a {other}, use \
             `sophic-auth {other} revoke -`"
        ),
    }
}

/// Prints the credential and closes the store.
async fn finish(
    global: &Global,
    service: Arc<Service>,
    credential: &Credential,
) -> anyhow::Result<()> {
    output::item(global.output, &view::credential(credential, service.now()))?;
    service.close().await;
    Ok(())
}

fn switch(args: SwitchArgs, kind: CredentialKind) -> anyhow::Result<SwitchCredential> {
    let id = credential_id(&args.id)?;
    Ok(SwitchCredential { id, kind: Some(kind), acting_user: String::new(), reason: args.reason })
}

fn credential_id(text: &str) -> anyhow::Result<CredentialId> {
    flag("the credential", CredentialId::parse(text))
}

pub(super) fn expiration(args: &ExpirationArgs) -> anyhow::Result<Option<Expiration>> {
    let time = args.expire_time.as_deref();
    let time = time.map(|time| flag("--expire-time", Timestamp::parse(time))).transpose()?;
    Ok(time.map(Expiration::At).or(args.ttl.map(Expiration::After)))
}

fn workspaces(names: &[String]) -> anyhow::Result<Vec<WorkspaceName>> {
    names.iter().map(|name| flag("--workspace", WorkspaceName::parse(name))).collect()
}

fn annotations(entries: &[String]) -> anyhow::Result<BTreeMap<String, String>> {
    let entries = entries.iter().map(|entry| {
        let (key, value) = entry.split_once('=').ok_or_else(|| {
            UsageError("--annotation must be KEY=VALUE, such as team=search".to_owned())
        })?;
        Ok((key.to_owned(), value.to_owned()))
    });
    entries.collect()
}

/// Adds the quotes of an etag, which shells take away. Empty text stays empty: no etag.
pub(super) fn quote_etag(etag: String) -> String {
    if etag.is_empty() || etag.starts_with('"') { etag } else { format!("\"{etag}\"") }
}
