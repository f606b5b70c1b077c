//! A test server, and actors: callers with the permissions of their roles.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use hyper_util::rt::TokioIo;
use sophic_auth::grpc::pb::{
    self, CreateKeyRequest, CreateKeyResponse, CreatePatRequest, CreatePatResponse,
    IntrospectRequest, IntrospectResponse, PutMembershipRequest, PutUserRequest,
    PutWorkspaceRequest, Role, Scope,
};
use sophic_auth::model::Permission;
use sophic_auth::server::{self, Config, Running};
use sophic_auth::service::{Context, CreateCaller};
use sophic_auth_client::pb::admin_service_client::AdminServiceClient;
use sophic_auth_client::pb::auth_service_client::AuthServiceClient;
use sophic_auth_client::pb::directory_service_client::DirectoryServiceClient;
use tokio::net::TcpStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::stores::{Database, Fixture};
use crate::waits::{PATIENCE, within};

/// A running server and a channel to it.
pub(crate) struct Harness {
    /// Its database.
    pub(crate) database: Arc<Database>,
    /// The server.
    pub(crate) running: Running,
    channel: Channel,
}

impl Fixture for Harness {
    async fn set_up(database: Arc<Database>) -> Self {
        Self::start(database, |_| {}).await
    }

    async fn tear_down(_: &Database) {}
}

impl Harness {
    /// Starts a server on this database, with these changes to the default configuration.
    pub(crate) async fn start(database: Arc<Database>, change: impl FnOnce(&mut Config)) -> Self {
        let loopback = "127.0.0.1:0".parse().expect("an address");
        let mut config = Config::new(database.location(), loopback, loopback);
        change(&mut config);
        let running = server::start(config).await.expect("the server starts");
        let channel = endpoint(&running).connect().await.expect("the server accepts");
        Self { database, running, channel }
    }

    /// Starts another server on the same database.
    pub(crate) async fn another(&self, change: impl FnOnce(&mut Config)) -> Self {
        Self::start(Arc::clone(&self.database), change).await
    }

    /// Creates a caller with these permissions, and returns an actor with its token.
    pub(crate) async fn caller(&self, name: &str, permissions: &[Permission]) -> Actor {
        let request = CreateCaller {
            name: name.to_owned(),
            permissions: permissions.iter().map(ToString::to_string).collect(),
            certificate_san: String::new(),
            ..CreateCaller::default()
        };
        let operator = Context::operator("harness");
        let made = self.running.service.create_caller(operator, request).await;
        let (_, token) = made.expect("a caller is made");
        self.with_token(token.expect("it has a token").expose())
    }

    /// Creates a gateway, which introspects.
    pub(crate) async fn gateway(&self) -> Actor {
        self.caller("gateway", &[Permission::Introspect]).await
    }

    /// Creates the dashboard's backend, which manages credentials for acting users.
    pub(crate) async fn dashboard(&self) -> Actor {
        self.caller("dashboard", &[Permission::CredentialsRead, Permission::CredentialsWrite]).await
    }

    /// Creates a caller with every permission.
    pub(crate) async fn root(&self) -> Actor {
        self.caller("root", &Permission::ALL).await
    }

    /// Returns the channel, for generated clients that no actor has.
    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Returns a channel, and a counter of the connections that it makes.
    pub(crate) async fn counting_channel(&self) -> (Channel, Arc<AtomicU32>) {
        let (connections, address) = (Arc::new(AtomicU32::new(0)), self.running.grpc);
        let counted = Arc::clone(&connections);
        let connector = tower::service_fn(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            async move { TcpStream::connect(address).await.map(TokioIo::new) }
        });
        let channel = endpoint(&self.running).connect_with_connector(connector).await;
        (channel.expect("the server accepts"), connections)
    }

    /// Returns an actor without a token.
    pub(crate) fn anonymous(&self) -> Actor {
        Actor { channel: self.channel.clone(), credential: Credential(None) }
    }

    /// Returns the same caller on a new connection.
    pub(crate) async fn reconnected(&self, actor: &Actor) -> Actor {
        let channel = endpoint(&self.running).connect().await.expect("the server accepts");
        Actor { channel, credential: actor.credential.clone() }
    }

    /// Waits until another server has read everything that this one has committed.
    pub(crate) async fn wait_until_read_by(&self, other: &Self) {
        let revision = self.running.service.revision().await.expect("a revision");
        let has_read = other.running.service.wait_until_read(revision);
        within("the other server has applied it", has_read).await.expect("the server runs");
    }

    /// Returns an actor with this service token.
    pub(crate) fn with_token(&self, token: &str) -> Actor {
        let value = format!("Bearer {token}").parse().expect("a header");
        Actor { channel: self.channel.clone(), credential: Credential(Some(value)) }
    }
}

/// Returns the endpoint of a server. A call without an answer fails after the time limit of all waits in the tests.
fn endpoint(running: &Running) -> Endpoint {
    Endpoint::from_shared(running.grpc_url()).expect("a URL").timeout(PATIENCE)
}

/// A caller with a channel.
#[derive(Clone)]
pub(crate) struct Actor {
    channel: Channel,
    credential: Credential,
}

/// Adds the service token to each request.
#[derive(Clone)]
pub(crate) struct Credential(Option<MetadataValue<Ascii>>);

impl Interceptor for Credential {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

type Authenticated = InterceptedService<Channel, Credential>;

impl Actor {
    /// Creates an actor with this service token on this channel.
    pub(crate) fn new(channel: Channel, token: &str) -> Self {
        let value = format!("Bearer {token}").parse().expect("a header");
        Self { channel, credential: Credential(Some(value)) }
    }

    /// Returns an actor with this service token on the same channel.
    pub(crate) fn with_token(&self, token: &str) -> Self {
        Self::new(self.channel.clone(), token)
    }

    pub(crate) fn auth(&self) -> AuthServiceClient<Authenticated> {
        AuthServiceClient::with_interceptor(self.channel.clone(), self.credential.clone())
    }

    pub(crate) fn directory(&self) -> DirectoryServiceClient<Authenticated> {
        DirectoryServiceClient::with_interceptor(self.channel.clone(), self.credential.clone())
    }

    pub(crate) fn admin(&self) -> AdminServiceClient<Authenticated> {
        AdminServiceClient::with_interceptor(self.channel.clone(), self.credential.clone())
    }

    /// Returns its channel, for calls that no generated client has.
    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Returns its `authorization` header, if it has a token.
    pub(crate) fn authorization(&self) -> Option<String> {
        self.credential.0.as_ref().map(|value| value.to_str().expect("text").to_owned())
    }

    /// Returns the same caller on the channel of another server on the same database.
    pub(crate) fn via(&self, server: &Harness) -> Self {
        self.clone().via_channel(server.channel())
    }

    /// Returns the same caller on this channel.
    pub(crate) fn via_channel(self, channel: Channel) -> Self {
        Self { channel, ..self }
    }

    /// Revokes by token.
    pub(crate) async fn revoke_token(&self, token: &str) -> pb::RevokeResponse {
        let credential = Some(pb::revoke_request::Credential::Token(token.to_owned()));
        let request = pb::RevokeRequest { credential, ..Default::default() };
        self.auth().revoke(request).await.expect("it is revoked").into_inner()
    }

    /// Puts a workspace with the id `id-of-<slug>`.
    pub(crate) async fn put_workspace(&self, slug: &str) -> pb::Workspace {
        let workspace = pb::Workspace {
            id: format!("id-of-{slug}"),
            slug: slug.to_owned(),
            display_name: format!("Workspace {slug}"),
            ..Default::default()
        };
        let request = PutWorkspaceRequest { workspace: Some(workspace) };
        let response = self.directory().put_workspace(request).await.expect("a workspace is put");
        response.into_inner().workspace.expect("it is given back")
    }

    /// Puts this workspace.
    pub(crate) async fn put(&self, workspace: pb::Workspace) {
        let request = PutWorkspaceRequest { workspace: Some(workspace) };
        self.directory().put_workspace(request).await.expect("a workspace is put");
    }

    /// Deletes a workspace.
    pub(crate) async fn delete_workspace(&self, name: &str) {
        let request =
            pb::DeleteWorkspaceRequest { workspace: name.to_owned(), allow_missing: false };
        self.directory().delete_workspace(request).await.expect("a workspace is deleted");
    }

    /// Deletes a user.
    pub(crate) async fn delete_user(&self, id: &str) {
        let request = pb::DeleteUserRequest { user: id.to_owned(), allow_missing: false };
        self.directory().delete_user(request).await.expect("a user is deleted");
    }

    /// Puts a user.
    pub(crate) async fn put_user(&self, id: &str) -> pb::User {
        let user = pb::User {
            id: id.to_owned(),
            display_name: format!("User {id}"),
            ..Default::default()
        };
        let request = PutUserRequest { user: Some(user) };
        let response = self.directory().put_user(request).await.expect("a user is put");
        response.into_inner().user.expect("it is given back")
    }

    /// Puts a membership.
    pub(crate) async fn put_membership(&self, workspace: &str, user: &str, role: Role) {
        let request = PutMembershipRequest {
            workspace: workspace.to_owned(),
            user: user.to_owned(),
            role: role.into(),
        };
        self.directory().put_membership(request).await.expect("a membership is put");
    }

    /// Creates a key without an acting user.
    pub(crate) async fn create_key(&self, workspace: &str, scopes: &[Scope]) -> CreateKeyResponse {
        let request = CreateKeyRequest {
            workspace: workspace.to_owned(),
            name: "ci".to_owned(),
            scopes: scopes.iter().map(|scope| (*scope).into()).collect(),
            ..Default::default()
        };
        self.auth().create_key(request).await.expect("a key is made").into_inner()
    }

    /// Creates a personal access token without an acting user.
    pub(crate) async fn create_pat(
        &self,
        user: &str,
        scopes: &[Scope],
        max_role: Role,
    ) -> CreatePatResponse {
        let request = CreatePatRequest {
            user: user.to_owned(),
            name: "laptop".to_owned(),
            scopes: scopes.iter().map(|scope| (*scope).into()).collect(),
            max_role: max_role.into(),
            ..Default::default()
        };
        self.auth().create_pat(request).await.expect("a token is made").into_inner()
    }

    /// Introspects a token. An empty `workspace` names none.
    pub(crate) async fn introspect(
        &self,
        token: &str,
        workspace: &str,
        scopes: &[Scope],
    ) -> IntrospectResponse {
        let request = IntrospectRequest {
            token: token.to_owned(),
            workspace: workspace.to_owned(),
            required_scopes: scopes.iter().map(|scope| (*scope).into()).collect(),
            ..Default::default()
        };
        self.auth().introspect(request).await.expect("an answer").into_inner()
    }
}
