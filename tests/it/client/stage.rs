//! Fixture of these tests: two workspaces, a user who is a member of one and a viewer in the other, a key, and a
//! personal access token.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use sophic_auth::grpc::pb::revoke_request::Credential;
use sophic_auth::grpc::pb::{RevokeRequest, Role, Scope};
use sophic_auth::model::Permission;
use sophic_auth::service::{Context, CreateCaller};
use sophic_auth_client::{Builder, Client, Counters, Introspection, Presented, Scopes};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{Actor, Harness};
use crate::stores::{Database, Fixture};
use crate::waits::{eventually, eventually_some, within};

/// A well-formed service token and a well-formed key that do not exist.
pub(super) const STRANGER: &str = "sophic_svc_0123456789ABCDEFGHIJKLMNOPQRSTUV10ECNS";
pub(super) const NOBODYS_KEY: &str = "sophic_key_000000000000000000000000000000000DipdL";

/// A server with this fixture.
pub(super) struct Stage {
    pub(super) h: Harness,
    /// A caller with every permission.
    pub(super) root: Actor,
    /// Token of a caller that may introspect.
    pub(super) caller_token: String,
    /// A key of the workspace acme, with the scope `read`.
    pub(super) key: String,
    pub(super) key_id: String,
    /// A personal access token of Ada, with the scopes `read` and `capture`.
    pub(super) pat: String,
}

impl Fixture for Stage {
    async fn set_up(database: Arc<Database>) -> Self {
        Self::on(Harness::set_up(database).await).await
    }

    async fn tear_down(_: &Database) {}
}

impl Stage {
    pub(super) async fn on(h: Harness) -> Self {
        let root = h.root().await;
        root.put_workspace("acme").await;
        root.put_workspace("globex").await;
        root.put_workspace("initech").await;
        root.put_user("ada").await;
        root.put_membership("acme", "ada", Role::Member).await;
        root.put_membership("globex", "ada", Role::Viewer).await;
        let key = root.create_key("acme", &[Scope::Read]).await;
        let key_id = key.credential.expect("a credential").id;
        let pat = root.create_pat("ada", &[Scope::Read, Scope::Capture], Role::Owner).await.token;
        let caller_token = caller_token(&h, "client", &[Permission::Introspect]).await;
        Self { h, root, caller_token, key: key.token, key_id, pat }
    }

    /// Returns a builder for a client of this server.
    pub(super) fn builder(&self) -> Builder {
        Client::builder(self.h.running.grpc_url()).caller_token(self.caller_token.clone())
    }

    /// Returns a client that follows changes, and its counters.
    pub(super) async fn client(&self) -> (Client, Arc<Counters>) {
        watching(self.builder()).await
    }

    /// Returns the question whether the key may read.
    pub(super) fn reading(&self) -> Presented<'_> {
        Presented::new(&self.key).requiring(Scopes::READ)
    }

    pub(super) async fn revoke_key(&self) {
        revoke(&self.root, Credential::CredentialId(self.key_id.clone())).await;
    }
}

/// Revokes a credential.
pub(super) async fn revoke(actor: &Actor, credential: Credential) {
    let request = RevokeRequest { credential: Some(credential), ..Default::default() };
    actor.auth().revoke(request).await.expect("it is revoked");
}

/// Creates a caller and returns its token.
pub(super) async fn caller_token(h: &Harness, name: &str, permissions: &[Permission]) -> String {
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

/// Returns a client with counters, once it follows changes.
pub(super) async fn watching(builder: Builder) -> (Client, Arc<Counters>) {
    let counters = Arc::new(Counters::default());
    let client = builder.observer(counters.clone()).build().expect("a client");
    eventually("it is watching", async || client.is_watching()).await;
    (client, counters)
}

/// Returns the number of calls so far.
pub(super) fn calls(counters: &Counters) -> u64 {
    counters.calls.load(Ordering::Relaxed)
}

/// Introspects until the cache answers, and returns that answer.
pub(super) async fn remembered(client: &Client, presented: &Presented<'_>) -> Introspection {
    within("an answer from memory", async {
        loop {
            if let Some(answer) = client.introspect_cached(presented) {
                return answer;
            }
            // On a busy machine a short deadline may pass.
            let _ = client.introspect(presented).await;
        }
    })
    .await
}

/// Introspects until there is an answer.
pub(super) async fn answered(client: &Client, presented: &Presented<'_>) -> Introspection {
    eventually_some("an answer", async || client.introspect(presented).await.ok()).await
}

/// Serves an axum application on a free port.
pub(super) async fn serve(app: axum::Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("it has an address");
    let service = app.into_make_service_with_connect_info::<SocketAddr>();
    #[expect(clippy::disallowed_methods, reason = "it ends with the test's runtime")]
    tokio::spawn(async move { axum::serve(listener, service).await });
    address
}

/// An HTTP response.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    head: String,
    pub(super) body: String,
}

impl Answer {
    /// Returns the value of a header. Empty if it is missing.
    pub(super) fn header(&self, name: &str) -> &str {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value)
    }

    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }
}

/// Sends exactly these bytes as a request: its first line, its headers, its body.
pub(super) async fn send(
    to: SocketAddr,
    line: &str,
    headers: &[(&str, &[u8])],
    body: &str,
) -> Answer {
    let mut request =
        format!("{line} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n").into_bytes();
    for (name, value) in headers {
        request.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
    }
    request.extend(format!("content-length: {}\r\n\r\n{body}", body.len()).into_bytes());
    let mut stream = TcpStream::connect(to).await.expect("it accepts");
    stream.write_all(&request).await.expect("it is sent");
    let mut answer = Vec::new();
    within("an answer", stream.read_to_end(&mut answer)).await.expect("it answers");
    let answer = String::from_utf8(answer).expect("UTF-8");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Answer { status: status.expect("a status"), head: head.to_owned(), body: body.to_owned() }
}

/// Returns an `authorization` header with this token.
pub(super) fn bearer(token: &str) -> Vec<u8> {
    format!("Bearer {token}").into_bytes()
}
