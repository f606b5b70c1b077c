//! A server whose network to the database is frozen answers as before while its lease holds. Until then no narrowing
//! call succeeds, however often and at whichever server it is retried.

use std::time::Duration;

use sophic_auth::grpc::pb::{
    self, DeleteMembershipRequest, DeleteUserRequest, DeleteWorkspaceRequest, IntrospectRequest,
    PutMembershipRequest, PutUserRequest, PutWorkspaceRequest, RevokeCallerRequest, Role, Scope,
    UpdateCallerRequest,
};
use sophic_auth::model::Permission;
use tokio::task::JoinSet;
use tonic::{Code, Request, Status};

use super::retried::{brief, is_pending};
use crate::harness::{Actor, Harness};
use crate::proxy::{Mode, Proxy};
use crate::stores::{self, Database, location};
use crate::waits::within;

/// Longer than the whole test takes.
const LEASE: Duration = Duration::from_mins(2);

/// The narrowing changes, each on its own fixture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taken {
    RoleLowered,
    UserDisabled,
    UserDeleted,
    WorkspaceDisabled,
    WorkspaceRenamed,
    WorkspaceDeleted,
    MembershipDeleted,
    CallerCut,
    CallerRevoked,
}

const ALL: [Taken; 9] = [
    Taken::RoleLowered,
    Taken::UserDisabled,
    Taken::UserDeleted,
    Taken::WorkspaceDisabled,
    Taken::WorkspaceRenamed,
    Taken::WorkspaceDeleted,
    Taken::MembershipDeleted,
    Taken::CallerCut,
    Taken::CallerRevoked,
];

impl Taken {
    /// The slug, user and caller of this change.
    fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }
}

fn workspace(name: &str, slug: &str, disabled: bool) -> PutWorkspaceRequest {
    let (id, display_name) = (format!("id-of-{name}"), format!("Workspace {name}"));
    let slug = slug.to_owned();
    let workspace =
        pb::Workspace { id, slug, display_name, disabled: Some(disabled), ..Default::default() };
    PutWorkspaceRequest { workspace: Some(workspace) }
}

/// Makes the change.
async fn take(actor: &Actor, taken: Taken) -> Result<(), Status> {
    let (mut directory, mut admin, name) = (actor.directory(), actor.admin(), taken.name());
    match taken {
        Taken::RoleLowered => {
            let (workspace, user) = (name.clone(), name);
            let role = Role::Viewer.into();
            let request = PutMembershipRequest { workspace, user, role };
            directory.put_membership(Request::new(request)).await.map(drop)
        }
        Taken::UserDisabled => {
            let (id, display_name) = (name.clone(), name);
            let user = pb::User { id, display_name, disabled: Some(true), ..Default::default() };
            directory.put_user(Request::new(PutUserRequest { user: Some(user) })).await.map(drop)
        }
        Taken::UserDeleted => {
            let request = DeleteUserRequest { user: name, allow_missing: false };
            directory.delete_user(Request::new(request)).await.map(drop)
        }
        Taken::WorkspaceDisabled => {
            directory.put_workspace(Request::new(workspace(&name, &name, true))).await.map(drop)
        }
        Taken::WorkspaceRenamed => directory
            .put_workspace(Request::new(workspace(&name, "another", false)))
            .await
            .map(drop),
        Taken::WorkspaceDeleted => {
            let request = DeleteWorkspaceRequest { workspace: name, allow_missing: false };
            directory.delete_workspace(Request::new(request)).await.map(drop)
        }
        Taken::MembershipDeleted => {
            let (workspace, user) = (name.clone(), name);
            let request = DeleteMembershipRequest { workspace, user, allow_missing: false };
            directory.delete_membership(Request::new(request)).await.map(drop)
        }
        Taken::CallerCut => {
            let (name, permissions) = (String::new(), vec!["audit.read".to_owned()]);
            let request = UpdateCallerRequest {
                caller: taken.name(),
                name,
                permissions,
                ..Default::default()
            };
            admin.update_caller(Request::new(request)).await.map(drop)
        }
        Taken::CallerRevoked => {
            admin.revoke_caller(Request::new(RevokeCallerRequest { caller: name })).await.map(drop)
        }
    }
}

/// A personal access token and a caller that the change affects.
struct Had {
    taken: Taken,
    pat: String,
    caller: Actor,
}

impl Had {
    async fn new(h: &Harness, root: &Actor, taken: Taken) -> Self {
        let name = taken.name();
        root.put_workspace(&name).await;
        root.put_user(&name).await;
        root.put_membership(&name, &name, Role::Admin).await;
        let pat = root.create_pat(&name, &[Scope::Read, Scope::Capture], Role::Owner).await.token;
        let caller = h.caller(&name, &[Permission::Introspect, Permission::AuditRead]).await;
        Self { taken, pat, caller }
    }

    /// Whether this server answers as before the change.
    async fn is_good(&self, server: &Harness) -> bool {
        let request = IntrospectRequest {
            token: self.pat.clone(),
            workspace: self.taken.name(),
            required_scopes: vec![Scope::Capture.into()],
            ..Default::default()
        };
        let answer = self.caller.via(server).auth().introspect(Request::new(request)).await;
        answer.is_ok_and(|answer| answer.into_inner().allowed)
    }
}

async fn take_all(actor: &Actor) -> Vec<(Taken, Result<(), Status>)> {
    let mut calls = JoinSet::new();
    for taken in ALL {
        let actor = actor.clone();
        calls.spawn(async move { (taken, take(&actor, taken).await) });
    }
    within("every call is answered", calls.join_all()).await
}

async fn no_retry_completes_while_a_frozen_server_answers_as_before(h: Harness) {
    let url = h.database.url();
    let (user, rest) = url.split_once('@').expect("a URL with a user");
    let (address, name) = rest.split_once('/').expect("a URL with a database");
    let proxy = Proxy::start(address.parse().expect("an address")).await;
    let frozen = h
        .another(|config| {
            config.location = location(&format!("{user}@{}/{name}", proxy.address));
            config.cache.lease = LEASE;
        })
        .await;
    let (here, there) = (brief(&h).await, brief(&h).await);
    let root = h.root().await;
    let mut all = Vec::new();
    for taken in ALL {
        all.push(Had::new(&h, &root, taken).await);
    }
    h.wait_until_read_by(&frozen).await;
    for had in &all {
        assert!(had.is_good(&frozen).await, "{:?} is in its memory", had.taken);
    }
    proxy.set(Mode::Stall);
    for server in [&here, &here, &there] {
        for (taken, outcome) in take_all(&root.via(server)).await {
            let status = outcome.expect_err("a server answers as before still");
            assert!(is_pending(&status), "{taken:?}: {status:?}");
        }
        for had in &all {
            assert!(had.is_good(&frozen).await, "{:?}: the frozen server lets it pass", had.taken);
        }
    }
    proxy.set(Mode::Pass);
    for (taken, outcome) in take_all(&root).await {
        let code = outcome.map_or_else(|status| status.code(), |()| Code::Ok);
        assert!([Code::Ok, Code::NotFound].contains(&code), "{taken:?}: {code:?}");
    }
    for had in &all {
        assert!(!had.is_good(&frozen).await, "{:?}: it is gone at every server", had.taken);
    }
}

/// Postgres only: a file has no network to freeze.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_waits_for_a_server_that_is_frozen() {
    let database = Database::postgres().await;
    stores::run(database, no_retry_completes_while_a_frozen_server_answers_as_before).await;
}
