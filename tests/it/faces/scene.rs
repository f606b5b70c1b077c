//! The fixture for all faces: a server, a caller for the proxies, workspaces, users, and their tokens.

use std::sync::Arc;

use sophic_auth::grpc::pb::{
    self, CreateKeyRequest, CreatePatRequest, PutUserRequest, PutWorkspaceRequest, Role, Scope,
    create_key_request,
};
use sophic_auth::model::Permission;
use sophic_auth::service::{Context, CreateCaller};

use crate::harness::{Actor, Harness};
use crate::stores::{Database, Fixture};
use crate::waits::eventually;

/// A server with its fixtures.
pub(crate) struct Scene {
    pub(crate) h: Harness,
    pub(crate) root: Actor,
    /// The service token of a caller that may introspect, and nothing else; its name is `proxy`.
    pub(crate) caller_token: String,
}

impl Fixture for Scene {
    async fn set_up(database: Arc<Database>) -> Self {
        Self::start(database).await
    }

    async fn tear_down(_: &Database) {}
}

impl Scene {
    pub(crate) async fn start(database: Arc<Database>) -> Self {
        let h = Harness::set_up(database).await;
        let root = h.root().await;
        for slug in ["acme", "globex", "closed"] {
            root.put_workspace(slug).await;
        }
        for user in ["ada", "eve", "vera", "olga"] {
            root.put_user(user).await;
        }
        root.put_membership("acme", "ada", Role::Member).await;
        root.put_membership("closed", "ada", Role::Owner).await;
        root.put_membership("acme", "eve", Role::Owner).await;
        root.put_membership("acme", "vera", Role::Viewer).await;
        root.put_membership("acme", "olga", Role::Owner).await;
        root.put_membership("globex", "olga", Role::Owner).await;
        let caller_token = caller(&h, "proxy", &[Permission::Introspect]).await;
        Self { h, root, caller_token }
    }

    /// Creates the fixture on a new SQLite file.
    pub(crate) async fn on_sqlite() -> Self {
        Self::start(Arc::new(Database::sqlite())).await
    }

    pub(crate) fn http(&self) -> std::net::SocketAddr {
        self.h.running.http
    }

    pub(crate) async fn key(&self, scopes: &[Scope]) -> String {
        self.root.create_key("acme", scopes).await.token
    }

    /// A personal access token of ada.
    pub(crate) async fn pat(&self, scopes: &[Scope]) -> String {
        self.root.create_pat("ada", scopes, Role::Owner).await.token
    }

    /// Creates a key that has expired.
    pub(super) async fn expired_key(&self) -> String {
        let request = CreateKeyRequest {
            workspace: "acme".to_owned(),
            name: "short".to_owned(),
            scopes: vec![Scope::Read.into()],
            expiration: Some(create_key_request::Expiration::Ttl(prost_types::Duration {
                seconds: 0,
                nanos: 1_000_000,
            })),
            ..Default::default()
        };
        let response = self.root.auth().create_key(request).await.expect("a key is made");
        let token = response.into_inner().token;
        let expired = async || !self.root.introspect(&token, "", &[]).await.active;
        eventually("the key has expired", expired).await;
        token
    }

    pub(super) async fn disabled_key(&self) -> String {
        let made = self.root.create_key("acme", &[Scope::Read]).await;
        let credential_id = made.credential.expect("it is shown").id;
        let request = pb::DisableRequest { credential_id, ..Default::default() };
        self.root.auth().disable(request).await.expect("it is disabled");
        made.token
    }

    pub(super) async fn revoked_pat(&self) -> String {
        let token = self.pat(&[Scope::Read]).await;
        let credential = Some(pb::revoke_request::Credential::Token(token.clone()));
        let request = pb::RevokeRequest { credential, ..Default::default() };
        self.root.auth().revoke(request).await.expect("it is revoked");
        token
    }

    /// A key that may be used from these addresses only.
    pub(super) async fn key_for(&self, networks: &[&str]) -> String {
        let request = CreateKeyRequest {
            workspace: "acme".to_owned(),
            name: "office".to_owned(),
            scopes: vec![Scope::Read.into()],
            ip_allowlist: networks.iter().map(|&network| network.to_owned()).collect(),
            ..Default::default()
        };
        let response = self.root.auth().create_key(request).await.expect("a key is made");
        response.into_inner().token
    }

    /// A personal access token that may be used from these addresses only.
    pub(crate) async fn pat_for(&self, networks: &[&str]) -> String {
        let request = CreatePatRequest {
            user: "ada".to_owned(),
            name: "office".to_owned(),
            scopes: vec![Scope::Read.into()],
            ip_allowlist: networks.iter().map(|&network| network.to_owned()).collect(),
            ..Default::default()
        };
        let response = self.root.auth().create_pat(request).await.expect("a token is made");
        response.into_inner().token
    }
}

/// Creates a caller, and returns its service token.
pub(crate) async fn caller(h: &Harness, name: &str, permissions: &[Permission]) -> String {
    let request = CreateCaller {
        name: name.to_owned(),
        permissions: permissions.iter().map(ToString::to_string).collect(),
        certificate_san: String::new(),
        ..CreateCaller::default()
    };
    let made = h.running.service.create_caller(Context::operator("test"), request).await;
    let (_, token) = made.expect("a caller is made");
    token.expect("it has a token").expose().to_owned()
}

impl Scene {
    /// Disables Eve, and the workspace `closed`.
    pub(super) async fn close(&self) {
        let user = pb::User {
            id: "eve".to_owned(),
            display_name: "Eve".to_owned(),
            disabled: Some(true),
            ..Default::default()
        };
        let request = PutUserRequest { user: Some(user) };
        self.root.directory().put_user(request).await.expect("a user is put");
        let workspace = pb::Workspace {
            id: "id-of-closed".to_owned(),
            slug: "closed".to_owned(),
            display_name: "Closed".to_owned(),
            disabled: Some(true),
            ..Default::default()
        };
        let request = PutWorkspaceRequest { workspace: Some(workspace) };
        self.root.directory().put_workspace(request).await.expect("a workspace is put");
    }
}
