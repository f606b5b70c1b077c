//! What every face is asked about: a server, a caller for the proxies, workspaces, users, and for each row of the
//! decision table (DESIGN §3) a request that comes to it.

use std::sync::Arc;

use sophic_auth::decision::{Denial, Lack};
use sophic_auth::grpc::pb::{
    self, CreateKeyRequest, CreatePatRequest, PutUserRequest, PutWorkspaceRequest, Role, Scope,
    create_key_request,
};
use sophic_auth::model::Permission;
use sophic_auth::service::{Context, CreateCaller};

use crate::harness::{Actor, Harness};
use crate::stores::{Database, Fixture};
use crate::waits::eventually;

/// The server and what there is to ask about.
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
        for user in ["ada", "eve"] {
            root.put_user(user).await;
        }
        root.put_membership("acme", "ada", Role::Member).await;
        root.put_membership("closed", "ada", Role::Owner).await;
        root.put_membership("acme", "eve", Role::Owner).await;
        let caller_token = caller(&h, "proxy", &[Permission::Introspect]).await;
        Self { h, root, caller_token }
    }

    /// On a file of its own.
    pub(crate) async fn on_sqlite() -> Self {
        Self::start(Arc::new(Database::sqlite())).await
    }

    pub(crate) fn http(&self) -> std::net::SocketAddr {
        self.h.running.http
    }

    pub(crate) async fn key(&self, scopes: &[Scope]) -> String {
        self.root.create_key("acme", scopes).await.token
    }

    /// Ada's.
    pub(crate) async fn pat(&self, scopes: &[Scope]) -> String {
        self.root.create_pat("ada", scopes, Role::Owner).await.token
    }

    /// Makes a key that was good and is past its expiry.
    async fn expired_key(&self) -> String {
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

    async fn disabled_key(&self) -> String {
        let made = self.root.create_key("acme", &[Scope::Read]).await;
        let credential_id = made.credential.expect("it is shown").id;
        let request = pb::DisableRequest { credential_id, ..Default::default() };
        self.root.auth().disable(request).await.expect("it is disabled");
        made.token
    }

    async fn revoked_pat(&self) -> String {
        let token = self.pat(&[Scope::Read]).await;
        let credential = Some(pb::revoke_request::Credential::Token(token.clone()));
        let request = pb::RevokeRequest { credential, ..Default::default() };
        self.root.auth().revoke(request).await.expect("it is revoked");
        token
    }

    /// A personal access token that may be used from these addresses only.
    pub(crate) async fn pat_for(&self, network: &str) -> String {
        let request = CreatePatRequest {
            user: "ada".to_owned(),
            name: "office".to_owned(),
            scopes: vec![Scope::Read.into()],
            ip_allowlist: vec![network.to_owned()],
            ..Default::default()
        };
        let response = self.root.auth().create_pat(request).await.expect("a token is made");
        response.into_inner().token
    }
}

/// A caller, whose service token is given back.
pub(crate) async fn caller(h: &Harness, name: &str, permissions: &[Permission]) -> String {
    let request = CreateCaller {
        name: name.to_owned(),
        permissions: permissions.iter().map(ToString::to_string).collect(),
        certificate_san: String::new(),
    };
    let made = h.running.service.create_caller(Context::operator("test"), request).await;
    let (_, token) = made.expect("a caller is made");
    token.expect("it has a token").expose().to_owned()
}

/// A request that a client makes, and what is to come of it.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    /// The token; empty: there is none.
    pub(crate) token: String,
    /// What `x-sophic-workspace` names; empty: it is not there.
    pub(crate) workspace: &'static str,
    /// What the endpoint needs.
    pub(crate) scope: Scope,
    /// Why it is refused, if it is.
    pub(crate) denial: Option<Denial>,
}

impl Row {
    /// What to answer the client with.
    pub(crate) fn status(&self) -> u16 {
        self.denial.map_or(200, Denial::http_status)
    }

    /// What a challenge of row 10 must name.
    pub(crate) fn lack(&self) -> Option<Lack> {
        match self.name {
            "10 the token lacks it" => Some(Lack::Token),
            "10 the role lacks it" => Some(Lack::Role),
            "10 the downscope" => Some(Lack::MaxRole),
            _ => None,
        }
    }

    pub(crate) fn denial(&self) -> &'static str {
        self.denial.map_or("", Denial::as_str)
    }
}

impl Scene {
    /// Every row of the table, most in more than one way. The client is at 127.0.0.1.
    pub(crate) async fn rows(&self) -> Vec<Row> {
        use Scope::{Admin, Capture, Read};
        let key = self.key(&[Read, Capture]).await;
        let pat = self.pat(&[Read, Capture, Admin]).await;
        let viewer = self.root.create_pat("ada", &[Read, Capture], Role::Viewer).await.token;
        let unknown = sophic_auth::token::Token::mint(
            sophic_auth::token::TokenKind::Key,
            &sophic_auth::token::OsRandom,
        );
        let unknown = unknown.expect("a token").expose().to_owned();
        let bad_check = format!("{}{}", &key[..48], if key.ends_with('0') { '1' } else { '0' });
        let of_disabled_user = self.root.create_pat("eve", &[Read], Role::Owner).await.token;
        let of_disabled_workspace = self.root.create_key("closed", &[Read]).await.token;
        let (here, elsewhere) =
            (self.pat_for("127.0.0.0/8").await, self.pat_for("203.0.113.0/24").await);
        let revoked = self.revoked_pat().await;
        let expired = self.expired_key().await;
        let disabled = self.disabled_key().await;
        self.close().await;
        let row = |name, token: &str, workspace, scope, denial| Row {
            name,
            token: token.to_owned(),
            workspace,
            scope,
            denial,
        };
        vec![
            row("1 no token", "", "acme", Read, Some(Denial::TokenMissing)),
            row("2 malformed", "rubbish", "acme", Read, Some(Denial::TokenUnknown)),
            row("2 bad check", &bad_check, "acme", Read, Some(Denial::TokenUnknown)),
            row("2 unknown", &unknown, "acme", Read, Some(Denial::TokenUnknown)),
            row("2 a caller's", &self.caller_token, "", Read, Some(Denial::TokenUnknown)),
            row("3 revoked", &revoked, "acme", Read, Some(Denial::TokenRevoked)),
            row("3 expired", &expired, "acme", Read, Some(Denial::TokenExpired)),
            row("3 disabled", &disabled, "acme", Read, Some(Denial::TokenDisabled)),
            row("4 user", &of_disabled_user, "acme", Read, Some(Denial::PrincipalDisabled)),
            row("4 workspace", &of_disabled_workspace, "", Read, Some(Denial::PrincipalDisabled)),
            row("5 elsewhere", &elsewhere, "acme", Read, Some(Denial::IpNotAllowed)),
            row("6 slug", &key, "globex", Read, Some(Denial::WorkspaceMismatch)),
            row("6 id", &key, "id-of-globex", Read, Some(Denial::WorkspaceMismatch)),
            row("6 no workspace's name", &key, "no such", Read, Some(Denial::WorkspaceMismatch)),
            row("7 none named", &pat, "", Read, Some(Denial::WorkspaceRequired)),
            row("8 no member", &pat, "globex", Read, Some(Denial::NotAMember)),
            row("8 disabled", &pat, "closed", Read, Some(Denial::NotAMember)),
            row("8 unknown", &pat, "nowhere", Read, Some(Denial::NotAMember)),
            row("9 capture", &key, "acme", Capture, Some(Denial::UserCredentialRequired)),
            row("10 the token lacks it", &key, "acme", Admin, Some(Denial::InsufficientScope)),
            row("10 the role lacks it", &pat, "acme", Admin, Some(Denial::InsufficientScope)),
            row("10 the downscope", &viewer, "acme", Capture, Some(Denial::InsufficientScope)),
            row("11 key", &key, "", Read, None),
            row("11 key, by slug", &key, "acme", Read, None),
            row("11 key, by id", &key, "id-of-acme", Read, None),
            row("11 pat", &pat, "acme", Read, None),
            row("11 pat, by id", &pat, "id-of-acme", Capture, None),
            row("11 pat, downscoped", &viewer, "acme", Read, None),
            row("11 from here", &here, "acme", Read, None),
        ]
    }

    /// Disables Eve, and the workspace `closed`.
    async fn close(&self) {
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
