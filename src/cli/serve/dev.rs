//! `dev`: a server with demo data on a temporary store.

use std::path::Path;
use std::sync::Arc;

use serde_json::json;

use super::{OnHangup, check, open_files, until_stopped};
use crate::cli::args::{DevArgs, Global, Output};
use crate::cli::signals::Signals;
use crate::cli::{
    UsageError, flag, operator, output, refuse_token_output, store_url, unprinted_token,
};
use crate::model::{
    AuditAction, Caller, Credential, DisplayName, Permission, Role, Scope, Slug, UserId,
    WorkspaceId, WorkspaceName,
};
use crate::server::{self, Config, Running};
use crate::service::{
    CreateCaller, CreateCredential, Created, Kind, ListAuditEvents, NewOwner, Options, PageRequest,
    PutUser, PutWorkspace, Rpc, Service,
};
use crate::store::{self, AuditFilter, Location};

const WORKSPACE: &str = "demo";
/// Id of the demo workspace. It marks a store that `dev` has created, because it is written first.
const WORKSPACE_ID: &str = "made-by-sophic-auth-dev";
const USER: &str = "ada";
const CALLER: &str = "dev";
/// Body of the example request to the gateway.
const CAPTURE: &str = r#"{"title":"Hello","text":"My first capture."}"#;

/// The demo data.
struct Demo {
    caller_token: String,
    key: String,
    pat: String,
    caller: Caller,
    credentials: [Credential; 2],
}

pub(in crate::cli) async fn run(global: &Global, args: DevArgs) -> anyhow::Result<()> {
    refuse_token_output(global)?;
    if let Some(wrong) = check::ports(&args.ports).into_iter().next() {
        anyhow::bail!(UsageError(wrong));
    }
    let signals = Signals::listen()?;
    let (url, folder) = if global.database_url_given {
        refuse_foreign_store(&store_url::select(global)?).await?;
        (store_url::url(global).to_owned(), None)
    } else {
        if global.database_url.is_some() {
            output::note(
                "SOPHIC_AUTH_DATABASE_URL is ignored: dev uses a temporary store, or an empty one given by --database-url",
            );
        }
        let folder = tempfile::Builder::new().prefix("sophic-auth-dev-").tempdir()?;
        (format!("sqlite:{}", folder.path().join("store.db").display()), Some(folder))
    };
    let connections_max = open_files::connections_max(None);
    let config = Config::new(Location::parse(&url)?, args.ports.listen, args.ports.http_listen);
    let running = server::start(Config { connections_max, ..config }).await?;
    let demo = demo(&running.service).await?;
    let printed = match global.output {
        Output::Json => output::announce_tokens(
            json!({
                "grpc": running.grpc_url(),
                "http": running.http_url(),
                "workspace": WORKSPACE,
                "user": USER,
                "caller_token": demo.caller_token,
                "key": demo.key,
                "pat": demo.pat,
            })
            .to_string(),
        ),
        Output::Table | Output::Token => {
            output::announce_tokens(welcome(&running, &demo, &url, folder.is_some())?)
        }
    };
    // The tokens in the output cannot be shown again.
    let shown = unprinted_token::revoke_demo_unless_printed(
        &running.service,
        &demo.credentials,
        &demo.caller,
        printed,
    )
    .await;
    if let Err(error) = shown {
        running.stop().await;
        return Err(error);
    }
    until_stopped(running, signals, OnHangup::Stop).await
}

/// Refuses every store that is neither empty nor created by `dev`, before anything in it is changed.
async fn refuse_foreign_store(location: &Location) -> anyhow::Result<()> {
    let pending = store::pending_migrations(location).await?;
    if pending.from == 0 {
        let Some(others) = store::foreign_tables(location).await? else { return Ok(()) };
        anyhow::bail!(UsageError(format!(
            "dev uses only an empty database or one that it has created, but this one has tables of other programs \
            ({others}): give another --database-url, or none"
        )));
    }
    let service = server::open_uncached_service(location, Options::default()).await?;
    let ours = is_empty(&service).await? || was_made_by_dev(&service).await?;
    service.close().await;
    if ours {
        return Ok(());
    }
    anyhow::bail!(UsageError(
        "dev uses only an empty store or one that it has created, and this one is neither: give another --database-url, \
        or none"
            .to_owned()
    ))
}

/// Whether the store has no change, no audit event and no caller.
async fn is_empty(service: &Service) -> anyhow::Result<bool> {
    let page = PageRequest { size: 1, token: String::new() };
    let all = ListAuditEvents { page: page.clone(), ..ListAuditEvents::default() };
    let events = service.list_audit_events(&operator(), &all).await?;
    let callers = service.list_callers(&page).await?;
    let revision = service.revision().await?;
    Ok(revision.0 == 0 && events.events.is_empty() && callers.items.is_empty())
}

/// Whether the store has, or had, the demo workspace, which only `dev` creates with this id.
async fn was_made_by_dev(service: &Service) -> anyhow::Result<bool> {
    let demo = service.find_workspace(WORKSPACE_ID).await?;
    if demo.is_some_and(|demo| demo.id.as_str() == WORKSPACE_ID) {
        return Ok(true);
    }
    let filter = AuditFilter {
        action: Some(AuditAction::WorkspacePut.as_str().to_owned()),
        target_id: Some(WORKSPACE_ID.to_owned()),
        ..AuditFilter::default()
    };
    let page = PageRequest { size: 1, token: String::new() };
    let request = ListAuditEvents { filter, page, ..ListAuditEvents::default() };
    let put = service.list_audit_events(&operator(), &request).await?;
    Ok(put.events.iter().any(|event| event.refusal.is_none()))
}

async fn demo(service: &Arc<Service>) -> anyhow::Result<Demo> {
    let slug = flag("the slug", Slug::parse(WORKSPACE))?;
    let name = flag("the workspace", WorkspaceName::parse(WORKSPACE))?;
    let user = flag("the user", UserId::parse(USER))?;
    let id = flag("the workspace", WorkspaceId::parse(WORKSPACE_ID))?;
    let display_name = |text| flag("the name", DisplayName::parse(text));
    let (slug, disabled) = (Some(slug), Some(false));
    let named = Some(display_name("Demo")?);
    let put =
        PutWorkspace { id, slug, display_name: named, disabled, policy: None, pat_policy: None };
    service.put_workspace(operator(), put).await?;
    let named = Some(display_name("Ada Lovelace")?);
    let put = PutUser { id: user.clone(), display_name: named, disabled };
    service.put_user(operator(), put).await?;
    service.put_membership(operator(), name.clone(), user.clone(), Role::Member).await?;
    // On a store from an earlier run, the old caller is replaced.
    match service.revoke_caller(operator(), CALLER.to_owned()).await {
        Err(error) if error.reason.kind() != Kind::NotFound => return Err(error.into()),
        _ => {}
    }
    let request = CreateCaller {
        name: CALLER.to_owned(),
        permissions: Permission::ALL.iter().map(ToString::to_string).collect(),
        ..CreateCaller::default()
    };
    let (caller, caller_token) = service.create_caller(operator(), request).await?;
    let caller_token = caller_token.map(|token| token.expose().to_owned()).unwrap_or_default();
    let made = create(service, NewOwner::Workspace(name), "demo key", &[Scope::Read]).await?;
    let (key, of_key) = (made.token.expose().to_owned(), made.credential);
    let owner = NewOwner::User(user, Role::Owner);
    let made = create(service, owner, "demo laptop", &[Scope::Read, Scope::Capture]).await?;
    let (pat, of_pat) = (made.token.expose().to_owned(), made.credential);
    Ok(Demo { caller_token, key, pat, caller, credentials: [of_key, of_pat] })
}

async fn create(
    service: &Arc<Service>,
    owner: NewOwner,
    name: &str,
    scopes: &[Scope],
) -> anyhow::Result<Created> {
    let request = CreateCredential {
        owner,
        workspaces: Vec::new(),
        name: name.to_owned(),
        scopes: scopes.iter().copied().collect(),
        expiration: None,
        ip_allowlist: Vec::new(),
        annotations: std::collections::BTreeMap::new(),
        acting_user: String::new(),
        request_id: String::new(),
    };
    Ok(service.create_credential(operator(), request).await?)
}

fn welcome(running: &Running, demo: &Demo, url: &str, throwaway: bool) -> anyhow::Result<String> {
    let Demo { caller_token, key, pat, .. } = demo;
    let (grpc, http, address) = (running.grpc_url(), running.http_url(), running.grpc);
    let binary = std::env::current_exe()?;
    let binary = quoted(&binary);
    let introspect = Rpc::Introspect.row().path.trim_start_matches('/');
    let fate = if throwaway { ", thrown away when this ends" } else { "" };
    let key_request =
        json!({"token": key, "workspace": WORKSPACE, "required_scopes": ["SCOPE_READ"]});
    let pat_request =
        json!({"token": pat, "workspace": WORKSPACE, "required_scopes": ["SCOPE_CAPTURE"]});
    Ok(format!(
        "sophic-auth runs, on {url}{fate}. Ctrl-C ends it.

  gRPC          {grpc}
  HTTP          {http}   (/healthz, /readyz)
  workspace     {WORKSPACE}
  user          {USER}, a member of it
  caller token  {caller_token}
  key           {key}   (read)
  pat           {pat}   (read, capture)

To paste into another terminal:

  # whose key is this, and may it read? (grpcurl)
  grpcurl -plaintext -H 'authorization: Bearer {caller_token}' -d '{key_request}' {address} {introspect}

  # whose personal access token is this, and may it capture? (buf: pip install buf-bin)
  buf curl --protocol grpc --http2-prior-knowledge -H 'authorization: Bearer {caller_token}' -d '{pat_request}' {grpc}/{introspect}

  # the same from the command line, on the store itself: a key may never capture
  printf '%s' '{key}' | {binary} --database-url '{url}' introspect --workspace {WORKSPACE} --scope capture

  # a small version of Sophic's endpoints behind this service (in the repository), and the command of the documentation
  SOPHIC_AUTH_ENDPOINT={grpc} SOPHIC_AUTH_CALLER_TOKEN={caller_token} cargo run --release --example gateway -- --listen 127.0.0.1:8090
  curl -H 'Authorization: Bearer {key}' http://127.0.0.1:8090/api/v1/documents
  curl -H 'Authorization: Bearer {pat}' -H 'x-sophic-workspace: {WORKSPACE}' -H 'Content-Type: application/json' -d '{CAPTURE}' http://127.0.0.1:8090/api/ingest/cli

  # end the key, and ask again
  printf '%s' '{key}' | {binary} --database-url '{url}' key revoke -"
    ))
}

/// Quotes a path for a shell.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}
