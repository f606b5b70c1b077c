//! Every RPC that changes something: its effect on answers, and a call of it on fixtures made for that call.

use std::sync::Arc;

use sophic_auth::grpc::pb::{
    self, BulkRevokeRequest, CreateCallerRequest, CreateKeyRequest, CreatePatRequest,
    DeleteMembershipRequest, DeleteUserRequest, DeleteWorkspaceRequest, DisableRequest,
    EnableRequest, LeakedToken, PutMembershipRequest, PutUserRequest, PutWorkspaceRequest,
    RevokeCallerRequest, RevokeLeakedRequest, RevokeRequest, Role, RotateCallerRequest,
    RotateRequest, Scope, UpdateCallerRequest, UpdateCredentialRequest, revoke_request,
};
use tonic::{Request, Status};

use crate::harness::{Actor, Harness};

/// Effect of a call on answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// It may narrow answers, so it always waits for the barrier.
    Narrows,
    /// The same, but it has a token to show, so it succeeds as pending when its wait times out.
    Rotates,
    /// It only widens answers or affects none, so it does not wait.
    Gives,
}

/// Each RPC that changes something, by name.
pub(super) const TABLE: [(&str, Effect); 22] = [
    ("CreateKey", Effect::Gives),
    ("CreatePat", Effect::Gives),
    ("UpdateCredential", Effect::Narrows),
    ("Revoke", Effect::Narrows),
    ("Rotate", Effect::Rotates),
    ("Disable", Effect::Narrows),
    ("Enable", Effect::Gives),
    ("BulkRevoke", Effect::Narrows),
    ("RevokeLeaked", Effect::Narrows),
    ("BarPat", Effect::Narrows),
    ("UnbarPat", Effect::Gives),
    ("PutWorkspace", Effect::Narrows),
    ("BatchPutWorkspaces", Effect::Narrows),
    ("DeleteWorkspace", Effect::Narrows),
    ("PutUser", Effect::Narrows),
    ("DeleteUser", Effect::Narrows),
    ("PutMembership", Effect::Narrows),
    ("DeleteMembership", Effect::Narrows),
    ("CreateCaller", Effect::Gives),
    ("RevokeCaller", Effect::Narrows),
    ("UpdateCaller", Effect::Narrows),
    ("RotateCaller", Effect::Rotates),
];

/// Whether the response says that the end is pending.
pub(super) type Changed = Result<bool, Status>;

/// A well-formed id that does not exist.
pub(super) const NOBODY: &str = "0195f2d4-7c1e-7b3a-9d58-0242ac120002";

/// Fixtures for each call to change.
#[derive(Clone)]
pub(super) struct Stage(Arc<Things>);

struct Things {
    /// Ids and tokens of keys, by the RPC that changes them.
    keys: Vec<(&'static str, String, String)>,
}

fn workspace(slug: &str, disabled: bool) -> PutWorkspaceRequest {
    let (id, display_name) = (format!("id-of-{slug}"), slug.to_owned());
    let slug = slug.to_owned();
    let workspace =
        pb::Workspace { id, slug, display_name, disabled: Some(disabled), ..Default::default() };
    PutWorkspaceRequest { workspace: Some(workspace) }
}

fn user(id: &str, disabled: bool) -> PutUserRequest {
    let (id, display_name) = (id.to_owned(), id.to_owned());
    let user = pb::User { id, display_name, disabled: Some(disabled), ..Default::default() };
    PutUserRequest { user: Some(user) }
}

fn revoke(credential: revoke_request::Credential) -> Request<RevokeRequest> {
    Request::new(RevokeRequest { credential: Some(credential), ..Default::default() })
}

/// A well-formed key token that does not exist.
fn nobodys_token() -> String {
    use sophic_auth::token::{OsRandom, Token, TokenKind};
    Token::mint(TokenKind::Key, &OsRandom).expect("randomness").expose().to_owned()
}

impl Stage {
    /// Creates all fixtures.
    pub(super) async fn set(h: &Harness, root: &Actor) -> Self {
        for slug in ["acme", "put", "deleted"] {
            root.put_workspace(slug).await;
        }
        for id in ["ada", "put", "deleted"] {
            root.put_user(id).await;
            root.put_membership("acme", id, Role::Admin).await;
        }
        root.put_membership("put", "ada", Role::Admin).await;
        let mut keys = Vec::new();
        let with_keys = [
            "UpdateCredential",
            "Revoke",
            "Rotate",
            "Disable",
            "Enable",
            "BulkRevoke",
            "RevokeLeaked",
        ];
        for rpc in with_keys {
            let made = root.create_key("acme", &[Scope::Read, Scope::Capture]).await;
            keys.push((rpc, made.credential.expect("it is given").id, made.token));
        }
        for rpc in ["BarPat", "UnbarPat"] {
            let made = root.create_pat("put", &[Scope::Read], Role::Owner).await;
            assert!(root.introspect(&made.token, "acme", &[Scope::Read]).await.allowed);
            keys.push((rpc, made.credential.expect("it is given").id, made.token));
        }
        h.running.service.flush_last_uses().await;
        for name in ["revoked", "updated", "rotated"] {
            let request = CreateCallerRequest {
                name: name.to_owned(),
                permissions: vec!["introspect".to_owned(), "audit.read".to_owned()],
                certificate_san: String::new(),
                ..Default::default()
            };
            root.admin().create_caller(request).await.expect("it is made");
        }
        Self(Arc::new(Things { keys }))
    }

    fn key(&self, rpc: &str) -> (String, String) {
        let found = self.0.keys.iter().find(|(of, ..)| *of == rpc).expect("it has a key");
        (found.1.clone(), found.2.clone())
    }

    /// Makes this call, given by the name of the RPC and a variant.
    pub(super) async fn call(&self, actor: &Actor, rpc: &str) -> Changed {
        let name = rpc.split(' ').next().expect("a word");
        let pending = match name {
            "CreateKey" | "CreatePat" | "UpdateCredential" | "Rotate" | "Enable" => {
                self.give(actor, rpc).await?
            }
            "Revoke" | "Disable" | "BulkRevoke" | "RevokeLeaked" => self.end(actor, rpc).await?,
            "PutWorkspace" | "BatchPutWorkspaces" | "PutUser" | "PutMembership" => {
                put(actor, rpc).await?
            }
            "DeleteWorkspace" | "DeleteUser" | "DeleteMembership" => delete(actor, rpc).await?,
            "BarPat" | "UnbarPat" => self.bar(actor, rpc).await?,
            _ => callers(actor, rpc).await?,
        };
        Ok(pending)
    }

    async fn bar(&self, actor: &Actor, rpc: &str) -> Changed {
        let (mut auth, workspace) = (actor.auth(), "acme".to_owned());
        let id = if rpc.contains("unknown") { NOBODY.to_owned() } else { self.key(rpc).0 };
        if rpc.starts_with("BarPat") {
            let bar =
                pb::BarPatRequest { workspace, credential_id: id, ..pb::BarPatRequest::default() };
            drop(auth.bar_pat(Request::new(bar)).await?);
        } else {
            let unbar = pb::UnbarPatRequest {
                workspace,
                credential_id: id,
                ..pb::UnbarPatRequest::default()
            };
            drop(auth.unbar_pat(Request::new(unbar)).await?);
        }
        Ok(false)
    }

    async fn give(&self, actor: &Actor, rpc: &str) -> Changed {
        let mut auth = actor.auth();
        let (name, scopes) = ("ci".to_owned(), vec![Scope::Read.into()]);
        match rpc {
            "CreateKey" => {
                let workspace = "acme".to_owned();
                let key = CreateKeyRequest { workspace, name, scopes, ..Default::default() };
                auth.create_key(Request::new(key)).await?;
            }
            "CreatePat" => {
                let (user, max_role) = ("ada".to_owned(), Role::Owner.into());
                let pat = CreatePatRequest { user, name, scopes, max_role, ..Default::default() };
                auth.create_pat(Request::new(pat)).await?;
            }
            "Enable" => {
                let credential_id = self.key("Enable").0;
                auth.enable(Request::new(EnableRequest { credential_id, ..Default::default() }))
                    .await?;
            }
            "Rotate" | "Rotate an unknown id" => {
                let id = if rpc == "Rotate" { self.key(rpc).0 } else { NOBODY.to_owned() };
                let rotate = RotateRequest { credential_id: id, ..Default::default() };
                return Ok(auth.rotate(Request::new(rotate)).await?.into_inner().end_pending);
            }
            _ => {
                let path = if rpc.ends_with("name") { "name" } else { "scopes" };
                let id = self.key("UpdateCredential").0;
                let credential = pb::Credential { id, name, scopes, ..Default::default() };
                let update_mask = Some(prost_types::FieldMask { paths: vec![path.to_owned()] });
                let update = UpdateCredentialRequest {
                    credential: Some(credential),
                    update_mask,
                    ..Default::default()
                };
                auth.update_credential(Request::new(update)).await?;
            }
        }
        Ok(false)
    }

    async fn end(&self, actor: &Actor, rpc: &str) -> Changed {
        use revoke_request::Credential::{CredentialId, Token};
        let mut auth = actor.auth();
        match rpc {
            "Revoke" => drop(auth.revoke(revoke(CredentialId(self.key(rpc).0))).await?),
            "Revoke nobody's token" => drop(auth.revoke(revoke(Token(nobodys_token()))).await?),
            "Revoke what is no token" => drop(auth.revoke(revoke(Token("x".to_owned()))).await?),
            "Revoke an unknown id" => {
                drop(auth.revoke(revoke(CredentialId(NOBODY.to_owned()))).await?);
            }
            "Disable" | "Disable an unknown id" => {
                let id = if rpc == "Disable" { self.key(rpc).0 } else { NOBODY.to_owned() };
                let disable = DisableRequest { credential_id: id, ..Default::default() };
                drop(auth.disable(Request::new(disable)).await?);
            }
            "RevokeLeaked" | "RevokeLeaked nothing" => {
                let token = if rpc == "RevokeLeaked" { self.key(rpc).1 } else { nobodys_token() };
                let tokens = vec![LeakedToken { token, ..Default::default() }];
                drop(auth.revoke_leaked(Request::new(RevokeLeakedRequest { tokens })).await?);
            }
            _ => {
                let id = self.key("BulkRevoke").0;
                let family_id = if rpc == "BulkRevoke nothing" { NOBODY.to_owned() } else { id };
                let dry_run = rpc.ends_with("dry run");
                let bulk = BulkRevokeRequest { family_id, dry_run, ..Default::default() };
                drop(auth.bulk_revoke(Request::new(bulk)).await?);
            }
        }
        Ok(false)
    }
}

async fn put(actor: &Actor, rpc: &str) -> Changed {
    let mut directory = actor.directory();
    let member = |role: Role| PutMembershipRequest {
        workspace: "put".to_owned(),
        user: "ada".to_owned(),
        role: role.into(),
    };
    match rpc {
        "PutWorkspace" => {
            drop(directory.put_workspace(Request::new(workspace("put", true))).await?)
        }
        "BatchPutWorkspaces" => {
            let requests = vec![workspace("put", true)];
            let batch = pb::BatchPutWorkspacesRequest { requests };
            drop(directory.batch_put_workspaces(Request::new(batch)).await?)
        }
        "PutUser" => drop(directory.put_user(Request::new(user("put", true))).await?),
        "PutUser enabled" => drop(directory.put_user(Request::new(user("put", false))).await?),
        "PutMembership" => {
            drop(directory.put_membership(Request::new(member(Role::Viewer))).await?)
        }
        _ => drop(directory.put_membership(Request::new(member(Role::Owner))).await?),
    }
    Ok(false)
}

async fn delete(actor: &Actor, rpc: &str) -> Changed {
    let mut directory = actor.directory();
    let allow_missing = rpc.ends_with("missing");
    let there = !rpc.contains("unknown");
    let named = |name: &str| if there { name.to_owned() } else { "unknown".to_owned() };
    if rpc.starts_with("DeleteWorkspace") {
        let workspace = named("deleted");
        let delete = DeleteWorkspaceRequest { workspace, allow_missing };
        drop(directory.delete_workspace(Request::new(delete)).await?);
    } else if rpc.starts_with("DeleteUser") {
        let delete = DeleteUserRequest { user: named("deleted"), allow_missing };
        drop(directory.delete_user(Request::new(delete)).await?);
    } else {
        let workspace = if rpc.ends_with("unknown workspace") { "unknown" } else { "acme" };
        let (workspace, user) = (workspace.to_owned(), named("ada"));
        let delete = DeleteMembershipRequest { workspace, user, allow_missing };
        drop(directory.delete_membership(Request::new(delete)).await?);
    }
    Ok(false)
}

async fn callers(actor: &Actor, rpc: &str) -> Changed {
    let mut admin = actor.admin();
    let named = |name: &str| if rpc.contains(' ') { "unknown".to_owned() } else { name.to_owned() };
    let permissions = vec!["introspect".to_owned()];
    if rpc == "CreateCaller" {
        let (name, certificate_san) = ("new".to_owned(), String::new());
        let create =
            CreateCallerRequest { name, permissions, certificate_san, ..Default::default() };
        drop(admin.create_caller(Request::new(create)).await?);
    } else if rpc.starts_with("RevokeCaller") {
        let revoke = RevokeCallerRequest { caller: named("revoked") };
        drop(admin.revoke_caller(Request::new(revoke)).await?);
    } else if rpc.starts_with("UpdateCaller") {
        let update = UpdateCallerRequest {
            caller: named("updated"),
            name: String::new(),
            permissions,
            ..Default::default()
        };
        drop(admin.update_caller(Request::new(update)).await?);
    } else if rpc.starts_with("RotateCaller") {
        let rotate = RotateCallerRequest { caller: named("rotated"), ..Default::default() };
        return Ok(admin.rotate_caller(Request::new(rotate)).await?.into_inner().end_pending);
    } else {
        panic!("{rpc} has no call");
    }
    Ok(false)
}
