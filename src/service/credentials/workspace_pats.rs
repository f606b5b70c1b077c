//! The personal access tokens that have acted in a workspace, for its owners: they see them, and can bar them from the
//! workspace without ending them.

use std::sync::Arc;

use serde_json::{Value, json};

use super::owner::{lock_access, lock_active_user};
use crate::decision;
use crate::model::{
    AuditAction, AuditEvent, AuditTarget, Credential, CredentialFacts, CredentialId,
    CredentialState, Digest, DisplayName, FoundFacts, Owner, PrincipalFacts, ReasonText, Role,
    Timestamp, UserFacts, UserId, Workspace, WorkspaceEntry, WorkspaceName,
};
use crate::policy;
use crate::service::audit::Entry;
use crate::service::commit::Effect;
use crate::service::grant::{MANAGE, READ};
use crate::service::page::Cursor;
use crate::service::{
    Attempt, Context, Page, PageRequest, Reason, Result, Service, Violations, view,
};
use crate::store::{Lock, UsePosition, UsedPat, WriteTx};

/// A workspace whose personal access tokens are listed.
#[derive(Debug, Clone)]
pub struct ListWorkspacePats {
    /// The workspace, by slug or id.
    pub workspace: WorkspaceName,
    /// User on whose behalf the caller acts. Empty for the system itself.
    pub acting_user: String,
    /// The page to return.
    pub page: PageRequest,
}

/// A personal access token to bar from a workspace, or to admit again.
#[derive(Debug, Clone)]
pub struct BarPat {
    /// The workspace, by slug or id.
    pub workspace: WorkspaceName,
    /// Id of the token.
    pub id: CredentialId,
    /// User on whose behalf the caller acts. Empty for the system itself.
    pub acting_user: String,
    /// Free text for the audit log. May be empty.
    pub reason: String,
}

/// What the owners of a workspace see of a personal access token that has acted in it. They see neither its name nor its
/// scopes nor the other workspaces in which it acts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkspacePat {
    /// Id of the token.
    pub credential_id: CredentialId,
    /// Id of its user.
    pub user_id: UserId,
    /// Display name of its user. `None` if the user was deleted: one who has the same id now is another person.
    pub user_display_name: Option<DisplayName>,
    /// The prefix, and the last four characters of the token's body.
    pub hint: String,
    /// When it was last allowed in the workspace. `None` if it never was.
    pub last_use_time: Option<Timestamp>,
    /// Effective role in the workspace. `None` if no request with it is allowed there.
    pub role: Option<Role>,
    /// Whether it is barred from the workspace.
    pub barred: bool,
    /// State of the token.
    pub state: CredentialState,
}

impl Service {
    /// Returns a page of the personal access tokens that have acted in a workspace, the most recently used there first.
    /// A token that is used between two pages moves to the front, and may be in neither.
    ///
    /// # Errors
    /// [`Reason::RoleTooLow`] for an acting user who is not an owner, [`Reason::WorkspaceNotFound`] for one who is not a
    /// member.
    pub async fn list_workspace_pats(
        &self,
        context: &Context,
        request: &ListWorkspacePats,
    ) -> Result<Page<WorkspacePat>> {
        let acting_user = READ.acting_user(context, &request.acting_user)?;
        if let Some(id) = &acting_user {
            self.require_active(id).await?;
        }
        let (name, access) = (&request.workspace, policy::access_to_workspace_pats);
        let workspace = self.accessible_workspace(name, acting_user.as_ref(), access).await?;
        let (id, generation) = (&workspace.id, workspace.generation);
        let binding = format!("workspace pats {id} {generation} {acting_user:?}");
        let cursor = Cursor::new(&request.page, binding)?;
        let after = cursor.after.as_deref().and_then(parse_position);
        let used = self.store.list_workspace_pats(id, generation, after, cursor.fetch).await?;
        let page = cursor.page(used, position_text);
        let now = self.clock.now();
        let workspace = Arc::new(workspace);
        let items = page.items.into_iter().map(|used| workspace_pat(used, &workspace, now));
        Ok(Page { items: items.collect(), next_token: page.next_token })
    }

    /// Bars a personal access token, and all of its family, from a workspace.
    ///
    /// # Errors
    /// [`Reason::CredentialNotFound`] for a token that has not acted in the workspace, [`Reason::ReplicaTooOld`] while a
    /// replica runs that would ignore the bar, and as [`Self::list_workspace_pats`].
    pub async fn bar_pat(self: &Arc<Self>, context: Context, bar: BarPat) -> Result<WorkspacePat> {
        self.set_bar(context, bar, true).await
    }

    /// Admits a personal access token, and all of its family, to a workspace from which it was barred.
    ///
    /// # Errors
    /// As [`Self::bar_pat`].
    pub async fn unbar_pat(
        self: &Arc<Self>,
        context: Context,
        bar: BarPat,
    ) -> Result<WorkspacePat> {
        self.set_bar(context, bar, false).await
    }

    async fn set_bar(
        self: &Arc<Self>,
        context: Context,
        request: BarPat,
        bar: bool,
    ) -> Result<WorkspacePat> {
        let action = if bar { AuditAction::PatBar } else { AuditAction::PatUnbar };
        let attempt = Attempt::on(&context, action, &AuditTarget::Credential(request.id))
            .acting_for(&request.acting_user)
            .asking(json!({"workspace": request.workspace.as_str()}));
        let this = Arc::clone(self);
        self.run(attempt, Effect::narrows_if(bar), async move {
            let acting_user = MANAGE.acting_user(&context, &request.acting_user)?;
            let mut violations = Violations::default();
            let why = violations.check("reason", ReasonText::parse(&request.reason));
            violations.finish()?;
            let why = why.as_ref().map(ReasonText::as_str).filter(|why| !why.is_empty());
            let now = this.clock.now();
            let mut tx = this.begin(action.as_str()).await?;
            let workspace =
                lock_governed(&mut *tx, &request.workspace, acting_user.as_ref()).await?;
            let (mut used, family) = lock_family(&mut *tx, &workspace, request.id).await?;
            let changed = changed_bars(&family, &workspace, bar);
            if bar && !changed.is_empty() {
                Self::require_new_rules(&mut *tx).await?;
            }
            let acting_user = acting_user.as_ref();
            let entry = BarEntry { action, acting_user, workspace: &workspace, reason: why };
            let events = changed
                .iter()
                .map(|(before, after)| this.audit_event(&context, entry.of(before, after, now)));
            let mut events = events.collect::<Result<Vec<AuditEvent>>>()?;
            let committed = if let Some(last) = events.pop() {
                let afters: Vec<_> = changed.into_iter().map(|(_, after)| after).collect();
                tx.write_bars(&afters).await?;
                tx.insert_audit_events(&events).await?;
                if let Some(after) = afters.into_iter().find(|after| after.id == request.id) {
                    used.credential = after;
                }
                this.commit(tx, &last).await?
            } else {
                let entry = entry.of(&used.credential, &used.credential, now);
                this.commit_change(&context, tx, false, entry).await?
            };
            Ok(committed.done(workspace_pat(used, &Arc::new(workspace), now)))
        })
        .await
    }
}

/// Locks the workspace, and the acting user with their membership. Fails unless the user is an owner of it.
async fn lock_governed(
    tx: &mut dyn WriteTx,
    name: &WorkspaceName,
    acting_user: Option<&UserId>,
) -> Result<Workspace> {
    let workspace = tx.find_workspace(name.as_str(), Lock::Share).await?;
    if let Some(user) = acting_user {
        lock_active_user(tx, user).await?;
    }
    let workspace = workspace.ok_or(Reason::WorkspaceNotFound)?;
    if let Some(user) = acting_user {
        lock_access(tx, &workspace.id, user, policy::access_to_workspace_pats).await?;
    }
    Ok(workspace)
}

/// Locks the family of a personal access token that has acted in the workspace or is barred from it.
async fn lock_family(
    tx: &mut dyn WriteTx,
    workspace: &Workspace,
    id: CredentialId,
) -> Result<(UsedPat, Vec<Credential>)> {
    // The family of a credential never changes.
    let peeked = tx.peek_credential(id).await?.ok_or(Reason::CredentialNotFound)?;
    let family = tx.find_pat_family(peeked.family_id).await?;
    // Read again, now that it is locked.
    let used = tx.find_workspace_pat(&workspace.id, workspace.generation, id).await?;
    let used = used.filter(|used| {
        used.last_use_time.is_some() || used.credential.barred_workspaces.contains(workspace)
    });
    let used = used.ok_or(Reason::CredentialNotFound)?;
    // An import may give tokens of several users the same family.
    let of_user = |credential: &Credential| matches!(&credential.owner, Owner::User { id, .. } if *id == used.user.id);
    let family = family.into_iter().filter(of_user).collect();
    Ok((used, family))
}

/// Returns the tokens whose bar changes, as they are and as they will be.
fn changed_bars(
    family: &[Credential],
    workspace: &Workspace,
    bar: bool,
) -> Vec<(Credential, Credential)> {
    let differing =
        family.iter().filter(|before| before.barred_workspaces.contains(workspace) != bar);
    let changed = differing.map(|before| {
        let (id, generation) = (workspace.id.clone(), workspace.generation);
        let barred_workspaces = if bar {
            before.barred_workspaces.with(WorkspaceEntry { id, generation })
        } else {
            before.barred_workspaces.without(&id)
        };
        let version = before.version + 1;
        (before.clone(), Credential { barred_workspaces, version, ..before.clone() })
    });
    changed.collect()
}

/// The part of the audit entries that all tokens of a family share.
#[derive(Clone, Copy)]
struct BarEntry<'a> {
    action: AuditAction,
    acting_user: Option<&'a UserId>,
    workspace: &'a Workspace,
    reason: Option<&'a str>,
}

impl<'a> BarEntry<'a> {
    /// The entry for one token.
    fn of(self, before: &Credential, after: &Credential, now: Timestamp) -> Entry<'a> {
        Entry {
            action: self.action,
            target: AuditTarget::Credential(after.id),
            acting_user: self.acting_user,
            before: Some(self.view(before, now)),
            after: Some(self.view(after, now)),
            reason: self.reason,
        }
    }

    /// What the entry tells of a token. The owners of the workspace read it, so it has no more than [`WorkspacePat`],
    /// and the creation time, which the id tells too.
    fn view(self, credential: &Credential, now: Timestamp) -> Value {
        let mut view = view::credential(credential, now);
        if let Value::Object(fields) = &mut view {
            fields.retain(|name, _| {
                ["id", "user_id", "hint", "create_time"].contains(&name.as_str())
            });
            fields.insert("workspace_id".to_owned(), self.workspace.id.as_str().into());
            let barred = credential.barred_workspaces.contains(self.workspace);
            fields.insert("barred".to_owned(), barred.into());
        }
        view
    }
}

/// Reduces a token to what the owners of the workspace may see.
fn workspace_pat(used: UsedPat, workspace: &Arc<Workspace>, now: Timestamp) -> WorkspacePat {
    let UsedPat { credential, user, role, last_use_time } = used;
    let roles = role.map(|role| (workspace.id.clone(), role)).into_iter().collect();
    // The digest does not matter to the decision.
    let digest = Digest::from_hash([0; 32]);
    let found = FoundFacts {
        credential: Arc::new(CredentialFacts::new(digest, &credential)),
        principal: PrincipalFacts::User(Arc::new(UserFacts { user: user.clone(), roles })),
        named_workspace: Some(Arc::clone(workspace)),
    };
    let is_present = credential.generation >= user.generation && user.delete_time.is_none();
    WorkspacePat {
        credential_id: credential.id,
        user_id: user.id,
        user_display_name: is_present.then_some(user.display_name),
        last_use_time,
        role: decision::effective_role(&found, now),
        barred: credential.barred_workspaces.contains(workspace),
        state: credential.state(now),
        hint: credential.hint,
    }
}

/// Formats the position of a listed token for a page token: microseconds and the id.
fn position_text(used: &UsedPat) -> String {
    let micros = used.last_use_time.map_or(0, Timestamp::unix_micros);
    format!("{micros}/{}", used.credential.id)
}

fn parse_position(text: &str) -> Option<UsePosition> {
    let (micros, id) = text.split_once('/')?;
    let time = Timestamp::from_unix_micros(micros.parse().ok()?)?;
    Some(UsePosition { time, id: CredentialId::parse(id).ok()? })
}
