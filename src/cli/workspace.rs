//! `workspace put|swap-slugs|list|pats|bar-pat|unbar-pat|delete`.

use super::args::policy::BarArgs;
use super::args::{Global, Output, WorkspaceCommand, WorkspacePut};
use super::progress::write_pending_ends;
use super::{all_pages, flag, open_service, operator, output, refuse_token_output};
use crate::model::{CredentialId, DisplayName, PatPolicy, Slug, WorkspaceId, WorkspaceName};
use crate::service::{BarPat, ListWorkspacePats, PutWorkspace, Service, view};
use crate::token::{OsRandom, random_array};

pub(super) async fn run(global: &Global, command: WorkspaceCommand) -> anyhow::Result<()> {
    refuse_token_output(global)?;
    match command {
        WorkspaceCommand::Put(command) => put(global, command).await?,
        WorkspaceCommand::SwapSlugs { workspace, other } => {
            swap_slugs(global, &workspace, &other).await?;
        }
        WorkspaceCommand::List => list(global).await?,
        WorkspaceCommand::Pats { workspace } => list_pats(global, &workspace).await?,
        WorkspaceCommand::BarPat(args) => set_bar(global, args, true).await?,
        WorkspaceCommand::UnbarPat(args) => set_bar(global, args, false).await?,
        WorkspaceCommand::Delete { workspace } => {
            let name = flag("the workspace", WorkspaceName::parse(&workspace))?;
            let service = open_service(global).await?;
            service.delete_workspace(operator(), name, false).await?;
            write_pending_ends(&service).await?;
            service.close().await;
        }
    }
    Ok(())
}

async fn list(global: &Global) -> anyhow::Result<()> {
    let service = open_service(global).await?;
    let workspaces = all_pages(async |page| service.list_workspaces(&page).await).await?;
    let policies = service.policies_of(&workspaces).await?;
    let views = workspaces.iter().zip(policies).map(|(workspace, policy)| {
        let mut view = view::with_policy(view::workspace(workspace), policy.as_ref());
        if global.output == Output::Table {
            view["pat_policy"] = rules(&workspace.pat_policy).into();
        }
        view
    });
    let views: Vec<_> = views.collect();
    let columns = ["id", "slug", "display_name", "disabled", "create_time", "pat_policy"];
    output::list(global.output, "workspaces", &columns, &views)?;
    service.close().await;
    Ok(())
}

/// Returns the rules of a workspace for personal access tokens in few words, for a table: as the flags that set them.
fn rules(policy: &PatPolicy) -> String {
    let flags = [(policy.forbidden, "forbidden"), (policy.expiry_required, "expiry-required")];
    let flags = flags.into_iter().filter(|(set, _)| *set).map(|(_, name)| name.to_owned());
    let most = policy.lifetime_max.map(|most| {
        let (days, rest) = (most.as_secs() / 86_400, most.as_secs_f64() % 86_400.0);
        let shown =
            if rest == 0.0 { format!("{days}d") } else { format!("{}s", most.as_secs_f64()) };
        format!("lifetime-max={shown}")
    });
    flags.chain(most).collect::<Vec<_>>().join(",")
}

async fn list_pats(global: &Global, workspace: &str) -> anyhow::Result<()> {
    let workspace = flag("the workspace", WorkspaceName::parse(workspace))?;
    let service = open_service(global).await?;
    let context = operator();
    let pats = all_pages(async |page| {
        let (workspace, acting_user) = (workspace.clone(), String::new());
        let request = ListWorkspacePats { workspace, acting_user, page: page.clone() };
        service.list_workspace_pats(&context, &request).await
    });
    let pats: Vec<_> = pats.await?.iter().map(view::workspace_pat).collect();
    let columns = ["credential_id", "user_id", "hint", "state", "role", "barred", "last_use_time"];
    output::list(global.output, "pats", &columns, &pats)?;
    service.close().await;
    Ok(())
}

async fn set_bar(global: &Global, args: BarArgs, bar: bool) -> anyhow::Result<()> {
    let workspace = flag("the workspace", WorkspaceName::parse(&args.workspace))?;
    let id = flag("the id", CredentialId::parse(&args.id))?;
    let request = BarPat { workspace, id, acting_user: String::new(), reason: args.reason };
    let service = open_service(global).await?;
    let pat = if bar {
        service.bar_pat(operator(), request).await?
    } else {
        service.unbar_pat(operator(), request).await?
    };
    output::item(global.output, &view::workspace_pat(&pat))?;
    service.close().await;
    Ok(())
}

async fn swap_slugs(global: &Global, workspace: &str, other: &str) -> anyhow::Result<()> {
    let named = |text: &str| flag("the workspace", WorkspaceName::parse(text));
    let (one, other) = (named(workspace)?, named(other)?);
    let service = open_service(global).await?;
    let one = service.get_workspace(&one).await?;
    let other = service.get_workspace(&other).await?;
    let puts = [(one.id, other.slug), (other.id, one.slug)].map(|(id, slug)| {
        let slug = Some(slug);
        PutWorkspace {
            id,
            slug,
            display_name: None,
            disabled: None,
            policy: None,
            pat_policy: None,
        }
    });
    let put = service.put_workspaces(operator(), puts.into()).await?;
    let put: Vec<_> = put.iter().map(view::workspace).collect();
    let columns = ["id", "slug", "display_name"];
    output::list(global.output, "workspaces", &columns, &put)?;
    service.close().await;
    Ok(())
}

/// Creates or updates a workspace.
async fn put(global: &Global, command: WorkspacePut) -> anyhow::Result<()> {
    let WorkspacePut { slug, name, id, switch, policy, pat_policy } = command;
    let (policy, pat_policy) = (policy.policy(), pat_policy.policy());
    let slug = flag("the slug", Slug::parse(&slug))?;
    let name = name.map(|name| flag("--name", DisplayName::parse(&name))).transpose()?;
    let id = id.map(|id| flag("--id", WorkspaceId::parse(&id))).transpose()?;
    let service = open_service(global).await?;
    let existing = existing_id(&service, id.as_ref(), &slug).await?;
    let display_name = match name {
        Some(name) => Some(name),
        None if existing.is_some() => None,
        None => Some(flag("the slug", DisplayName::parse(slug.as_str()))?),
    };
    let id = match id.or(existing) {
        Some(id) => id,
        None => new_id()?,
    };
    let (slug, disabled) = (Some(slug), switch.disabled());
    let put = PutWorkspace { id, slug, display_name, disabled, policy, pat_policy };
    let workspace = service.put_workspace(operator(), put).await?;
    let policies = service.policies_of(std::slice::from_ref(&workspace)).await?;
    let policy = policies.into_iter().next().flatten();
    let view = view::with_policy(view::workspace(&workspace), policy.as_ref());
    output::item(global.output, &view)?;
    service.close().await;
    Ok(())
}

/// Returns the id of the existing workspace that a `put` updates, by its id or else by its slug.
async fn existing_id(
    service: &Service,
    id: Option<&WorkspaceId>,
    slug: &Slug,
) -> anyhow::Result<Option<WorkspaceId>> {
    let name = id.map_or(slug.as_str(), WorkspaceId::as_str);
    let found = service.find_workspace(name).await?.map(|workspace| workspace.id);
    // The look-up also finds a workspace that has this id as its slug.
    Ok(found.filter(|found| id.is_none_or(|id| id == found)))
}

fn new_id() -> anyhow::Result<WorkspaceId> {
    let random: [u8; 10] = random_array(&OsRandom)?;
    flag("the id", WorkspaceId::parse(&format!("ws_{}", hex::encode(random))))
}
