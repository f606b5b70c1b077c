//! Requests whose headers come first and whose message comes later. The caller may have changed meanwhile.

use bytes::Bytes;
use h2::SendStream;
use h2::client::ResponseFuture;
use sophic_auth::grpc::pb::{
    BatchIntrospectRequest, CreateCallerRequest, IntrospectRequest, ListCallersRequest,
    PutUserRequest, RevokeCallerRequest, Scope, UpdateCallerRequest, User, WatchRequest,
    update_caller_request,
};
use sophic_auth::model::Permission;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::{Code, Status};

use super::refusal::reason;
use super::shares::{Connection, asks};
use super::wire::Frames;
use crate::harness::{Actor, Harness};
use crate::stores::on_every_store;
use crate::waits::{eventually, within};

on_every_store! {
    a_message_that_comes_after_its_caller_was_revoked_has_no_effect,
    a_message_that_comes_after_its_caller_lost_a_permission_has_no_effect,
    a_message_that_comes_after_its_caller_expired_has_no_effect,
    a_form_that_comes_after_its_caller_was_revoked_has_no_effect,
    bytes_after_the_message_are_refused_at_once,
}

/// A request of which the server has the headers.
struct HeldBack {
    path: String,
    message: Vec<u8>,
    answer: ResponseFuture,
    body: SendStream<Bytes>,
}

impl HeldBack {
    /// Sends the message, and returns the status of the answer.
    async fn finish(mut self) -> Status {
        // If the server was slow, it may have authenticated the caller only after the change, and answered already.
        let _ = self.body.send_data(Bytes::from(self.message), true);
        status(&self.path, self.answer).await
    }
}

/// The status of an answer without a message.
async fn status(path: &str, answer: ResponseFuture) -> Status {
    let answer = within(path, answer).await.expect("an answer");
    Status::from_header_map(answer.headers()).unwrap_or_else(|| panic!("{path}: {answer:?}"))
}

fn framed(message: &impl prost::Message) -> Vec<u8> {
    Frames::of(&[&message.encode_to_vec()]).body
}

/// Begins one request of every kind, with its headers only.
async fn hold_back(server: &Harness, actor: &Actor) -> Vec<HeldBack> {
    let name = "backdoor".to_owned();
    let create = CreateCallerRequest {
        name: name.clone(),
        permissions: vec!["introspect".to_owned()],
        ..Default::default()
    };
    let user = User { id: name.clone(), display_name: name.clone(), ..Default::default() };
    let requests = [
        ("AdminService/CreateCaller", framed(&create)),
        ("AdminService/ListCallers", framed(&ListCallersRequest::default())),
        ("DirectoryService/PutUser", framed(&PutUserRequest { user: Some(user) })),
        ("AuthService/Introspect", framed(&IntrospectRequest::default())),
        ("AuthService/BatchIntrospect", framed(&BatchIntrospectRequest::default())),
        ("AuthService/Watch", framed(&WatchRequest::default())),
    ];
    let connection = Connection::new(server, 65_535).await;
    // From now on the server knows the caller, and authenticates it at once.
    assert!(asks(actor).await);
    let mut held = Vec::new();
    for (method, message) in requests {
        let path = format!("/sophic.auth.v1.{method}");
        let (answer, body) = connection.begin(actor, &path, &[], false).await;
        held.push(HeldBack { path, message, answer, body });
    }
    // Answered after the server has begun the others, which came before it on the same connection.
    let batch = framed(&BatchIntrospectRequest::default());
    let path = "/sophic.auth.v1.AuthService/BatchIntrospect";
    let (last, _body) = connection.begin(actor, path, &batch, true).await;
    let answer = within("the last request is answered", last).await.expect("an answer");
    assert!(!answer.headers().contains_key("grpc-status"), "{answer:?}");
    held
}

const ALL: [Permission; 3] =
    [Permission::Introspect, Permission::CallersAdmin, Permission::DirectoryWrite];

async fn has_backdoor(root: &Actor) -> bool {
    let callers = root.admin().list_callers(ListCallersRequest::default()).await;
    callers.expect("a page").into_inner().callers.iter().any(|caller| caller.name == "backdoor")
}

/// Sends the messages, and checks that each request is refused with this reason and has no effect.
async fn all_refused(root: &Actor, held: Vec<HeldBack>, code: Code, expected: &str) {
    for request in held {
        let path = request.path.clone();
        let status = request.finish().await;
        assert_eq!((status.code(), &*reason(&status)), (code, expected), "{path}");
    }
    assert!(!has_backdoor(root).await);
}

async fn a_message_that_comes_after_its_caller_was_revoked_has_no_effect(h: Harness) {
    let (root, server) = (h.root().await, h.another(|_| {}).await);
    let victim = server.caller("victim", &ALL).await;
    let held = hold_back(&server, &victim).await;
    let revoke = RevokeCallerRequest { caller: "victim".to_owned() };
    root.admin().revoke_caller(revoke).await.expect("it is revoked");
    all_refused(&root, held, Code::Unauthenticated, "CALLER_UNKNOWN").await;
    server.running.stop().await;
}

async fn a_message_that_comes_after_its_caller_lost_a_permission_has_no_effect(h: Harness) {
    let (root, server) = (h.root().await, h.another(|_| {}).await);
    let victim = server.caller("victim", &ALL).await;
    let held = hold_back(&server, &victim).await;
    let caller = "victim".to_owned();
    let permissions = vec!["audit.read".to_owned()];
    let fewer = UpdateCallerRequest { caller, permissions, ..Default::default() };
    root.admin().update_caller(fewer).await.expect("it has fewer permissions");
    all_refused(&root, held, Code::PermissionDenied, "PERMISSION_MISSING").await;
    server.running.stop().await;
}

async fn a_message_that_comes_after_its_caller_expired_has_no_effect(h: Harness) {
    let (root, server) = (h.root().await, h.another(|_| {}).await);
    let victim = server.caller("victim", &ALL).await;
    let held = hold_back(&server, &victim).await;
    let ttl = prost_types::Duration { seconds: 0, nanos: 1_000_000 };
    let expiry = UpdateCallerRequest {
        caller: "victim".to_owned(),
        expiration: Some(update_caller_request::Expiration::Ttl(ttl)),
        ..Default::default()
    };
    root.admin().update_caller(expiry).await.expect("it expires");
    let batch = BatchIntrospectRequest::default;
    let refused = async || victim.auth().batch_introspect(batch()).await.is_err();
    eventually("it has expired", refused).await;
    all_refused(&root, held, Code::Unauthenticated, "CALLER_EXPIRED").await;
    server.running.stop().await;
}

async fn a_form_that_comes_after_its_caller_was_revoked_has_no_effect(h: Harness) {
    let (root, server) = (h.root().await, h.another(|_| {}).await);
    root.put_workspace("acme").await;
    let victim = server.caller("victim", &[Permission::Introspect]).await;
    let key = root.create_key("acme", &[Scope::Read]).await;
    let (form, authorization) =
        (format!("token={}", key.token), victim.authorization().expect("a token"));
    let mut held = Vec::new();
    for path in ["/oauth2/introspect", "/oauth2/revoke"] {
        let mut stream = TcpStream::connect(server.running.http).await.expect("it is accepted");
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: {authorization}\r\nconnection: close\r\n\
             content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\
             expect: 100-continue\r\n\r\n",
            form.len()
        );
        stream.write_all(head.as_bytes()).await.expect("it is open");
        // The server asks for the form once it has authenticated the caller.
        let mut answer = [0; 25];
        within("100", stream.read_exact(&mut answer)).await.expect("an answer");
        assert!(answer.starts_with(b"HTTP/1.1 100"), "{path}: {answer:?}");
        held.push((path, stream));
    }
    let revoke = RevokeCallerRequest { caller: "victim".to_owned() };
    root.admin().revoke_caller(revoke).await.expect("it is revoked");
    for (path, mut stream) in held {
        stream.write_all(form.as_bytes()).await.expect("it is open");
        let mut answer = String::new();
        within("an answer", stream.read_to_string(&mut answer)).await.expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 401"), "{path}: {answer}");
    }
    assert!(root.introspect(&key.token, "", &[]).await.active, "it was not revoked");
    server.running.stop().await;
}

/// Whatever comes after the message would hold memory that nobody counts.
async fn bytes_after_the_message_are_refused_at_once(h: Harness) {
    let gateway = h.gateway().await;
    let connection = Connection::new(&h, 65_535).await;
    // The beginning of a second message of 1 MiB.
    let second = [0, 0, 0x10, 0, 0, 7, 7, 7];
    let requests = [
        ("AuthService/Introspect", framed(&IntrospectRequest::default())),
        ("AuthService/BatchIntrospect", framed(&BatchIntrospectRequest::default())),
        ("AuthService/Watch", framed(&WatchRequest::default())),
        ("AuthService/Revoke", framed(&WatchRequest::default())),
    ];
    for (method, message) in requests {
        let path = format!("/sophic.auth.v1.{method}");
        let bytes = [message, second.to_vec()].concat();
        let (answer, _body) = connection.begin(&gateway, &path, &bytes, false).await;
        let status = status(&path, answer).await;
        let found = (status.code(), reason(&status));
        assert_eq!(found, (Code::InvalidArgument, "REQUEST_MALFORMED".to_owned()), "{path}");
    }
}
