//! Requests in flight and Watches, of which one caller may have at most half.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use http::Request;
use sophic_auth::grpc::pb::{
    BatchIntrospectRequest, ListWorkspacesRequest, RotateCallerRequest, WatchRequest,
};
use sophic_auth::model::Permission;
use sophic_auth::service::RequestLimits;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tonic::{Code, Status};

use super::refusal::reason;
use crate::faces::wire::Call;
use crate::harness::{Actor, Harness};
use crate::stores::on_every_store;
use crate::waits::{eventually, within};

on_every_store! {
    one_caller_may_have_half_of_all_requests_in_flight,
    one_callers_watches_are_limited_and_leave_room_for_others,
    an_unread_response_closes_its_connection_and_an_unread_watch_does_not,
}

const BATCH: &str = "/sophic.auth.v1.AuthService/BatchIntrospect";
const WATCH: &str = "/sophic.auth.v1.AuthService/Watch";
/// Watches of one caller.
const WATCHES_MAX: usize = 2_048;

/// A handwritten HTTP/2 connection.
pub(super) struct Connection {
    client: h2::client::SendRequest<Bytes>,
    driver: JoinHandle<()>,
}

impl Connection {
    /// Opens a connection whose flow-control window is this many bytes of each response.
    pub(super) async fn new(server: &Harness, window: u32) -> Self {
        let stream = TcpStream::connect(server.running.grpc).await.expect("the server accepts");
        let mut builder = h2::client::Builder::new();
        let handshake = builder.initial_window_size(window).handshake(stream).await;
        let (client, connection) = handshake.expect("a handshake");
        let driver = tokio::task::spawn(async move {
            // The connection may end in any way.
            let _ = connection.await;
        });
        Self { client, driver }
    }

    /// Begins a request, with this part of its message.
    pub(super) async fn begin(
        &self,
        actor: &Actor,
        path: &str,
        message: &[u8],
        ends: bool,
    ) -> (h2::client::ResponseFuture, h2::SendStream<Bytes>) {
        let request = Request::post(format!("http://localhost{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("authorization", actor.authorization().expect("a token"));
        let mut client = self.client.clone().ready().await.expect("it is open");
        let request = request.body(()).expect("a request");
        let (response, mut body) = client.send_request(request, false).expect("it is open");
        body.send_data(Bytes::copy_from_slice(message), ends).expect("it is open");
        (response, body)
    }
}

/// The reason, if the request is refused at the limit.
fn overloaded<T>(outcome: Result<T, Status>) -> bool {
    outcome.is_err_and(|status| {
        assert_eq!((status.code(), &*reason(&status)), (Code::ResourceExhausted, "OVERLOADED"));
        true
    })
}

pub(super) async fn asks(actor: &Actor) -> bool {
    // Unlike an introspection from memory, it always takes a permit.
    !overloaded(actor.auth().batch_introspect(BatchIntrospectRequest::default()).await)
}

pub(super) async fn over_http(server: &Harness, actor: &Actor) -> u16 {
    let call = Call::form("/oauth2/introspect", &[("token", "nobody's")]);
    let header = actor.authorization().expect("a token");
    call.header("authorization", &header).send(server.running.http).await.status
}

async fn one_caller_may_have_half_of_all_requests_in_flight(h: Harness) {
    // The requests that are held must not time out, however slow the machine is.
    let limits = RequestLimits { requests_max: 8, request_timeout: Duration::ZERO };
    let server = h.another(|config| config.limits = limits).await;
    let root = server.root().await;
    let holder = server.caller("holder", &[Permission::Introspect]).await;
    let other = server.caller("other", &[Permission::Introspect]).await;
    // A caller that the server does not know yet counts against another quota while it is looked up.
    for actor in [&root, &holder, &other] {
        assert!(asks(actor).await);
    }
    // Each announces a byte that is never sent.
    let (mut asking, mut bodies) = (FuturesUnordered::new(), Vec::new());
    for _ in 0..3 {
        let connection = Connection::new(&server, 65_535).await;
        for _ in 0..3 {
            let started = connection.begin(&holder, BATCH, &[0, 0, 0, 0, 1], false).await;
            asking.push(started.0);
            bodies.push(started.1);
        }
    }
    // Half of the permits are taken, and the next request is refused at once.
    for _ in 0..5 {
        let refused = within("one is refused", asking.next())
            .await
            .expect("there are more")
            .expect("an answer");
        assert_eq!(refused.headers()["grpc-status"], "8");
    }
    // Its requests on another connection, over HTTP, or with its next token are refused too.
    let fresh = server.reconnected(&holder).await;
    assert!(!asks(&fresh).await);
    assert_eq!(over_http(&server, &holder).await, 429);
    let rotated = rotate(&root, "holder").await;
    assert!(!asks(&server.with_token(&rotated)).await);
    // Other callers have permits.
    assert!(asks(&server.reconnected(&other).await).await);
    assert_eq!(over_http(&server, &other).await, 200);
    drop((asking, bodies));
    eventually("what is over is free", async || asks(&holder).await).await;
    server.running.stop().await;
}

async fn rotate(root: &Actor, name: &str) -> String {
    let request = RotateCallerRequest { caller: name.to_owned(), ..Default::default() };
    let rotated = root.admin().rotate_caller(request).await.expect("it is rotated");
    rotated.into_inner().token
}

async fn one_callers_watches_are_limited_and_leave_room_for_others(h: Harness) {
    let server = h.another(|_| {}).await;
    let many = server.caller("many", &[Permission::Introspect]).await;
    let other = server.caller("other", &[Permission::Introspect]).await;
    assert!(asks(&many).await);
    let watch = async |actor: &Actor| actor.auth().watch(WatchRequest::default()).await;
    let mut watches = Vec::new();
    within("there are as many watches as a caller may have", async {
        while watches.len() < WATCHES_MAX {
            let fresh = server.reconnected(&many).await;
            let more = futures::future::join_all((0..128).map(|_| watch(&fresh))).await;
            watches.extend(more.into_iter().map(|watch| watch.expect("a stream")));
        }
    })
    .await;
    assert!(overloaded(watch(&many).await));
    assert!(overloaded(watch(&server.reconnected(&many).await).await));
    assert!(asks(&many).await, "it asks as before");
    drop(watch(&other).await.expect("another has its own"));
    watches.pop();
    eventually("what is over is free", async || !overloaded(watch(&many).await)).await;
    drop(watches);
    server.running.stop().await;
}

async fn an_unread_response_closes_its_connection_and_an_unread_watch_does_not(h: Harness) {
    let server = h
        .another(|config| {
            config.limits.requests_max = 2;
            config.limits.request_timeout = Duration::from_millis(500);
        })
        .await;
    let reader =
        server.caller("reader", &[Permission::Introspect, Permission::DirectoryRead]).await;
    let list = "/sophic.auth.v1.DirectoryService/ListWorkspaces";
    let all = ListWorkspacesRequest::default;
    h.root().await.put_workspace("acme").await;
    let watching = Connection::new(&server, 1).await;
    let (response, _watch) = watching.begin(&reader, WATCH, &[0; 5], true).await;
    let watch = response.await.expect("an answer");
    let unread = Connection::new(&server, 1).await;
    let (response, _body) = unread.begin(&reader, list, &[0; 5], true).await;
    let unread_answer = response.await.expect("an answer");
    // The request in flight is half of the limit.
    assert!(overloaded(reader.directory().list_workspaces(all()).await));
    within("its connection ends", unread.driver).await.expect("it is no panic");
    eventually("what is over is free", async || {
        !overloaded(reader.directory().list_workspaces(all()).await)
    })
    .await;
    assert!(!watching.driver.is_finished(), "a Watch may be read when one likes");
    drop((watch, unread_answer));
    server.running.stop().await;
}
