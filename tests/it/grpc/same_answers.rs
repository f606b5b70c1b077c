//! A scripted session gets the same answers from both databases, except for ids, tokens and times.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;

use sophic_auth::grpc::pb::revoke_request::Credential as Which;
use sophic_auth::grpc::pb::{
    CreateCallerRequest, CreateKeyRequest, CreatePatRequest, DeleteMembershipRequest,
    DeleteUserRequest, DeleteWorkspaceRequest, GetCredentialRequest, GetMembershipRequest,
    GetUserRequest, GetWorkspaceRequest, IntrospectRequest, ListCallersRequest,
    ListCredentialsRequest, ListMembershipsRequest, ListUsersRequest, ListWorkspacesRequest,
    PutMembershipRequest, PutUserRequest, PutWorkspaceRequest, RevokeCallerRequest, RevokeRequest,
    User, Workspace,
};
use sophic_auth::token::TokenKind;
use tonic::{Response, Status};

use crate::harness::{Actor, Harness};
use crate::stores::{Database, Fixture as _};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_gets_the_same_answers_from_sqlite_and_from_postgres() {
    let mut transcripts = Vec::new();
    for database in [Database::sqlite(), Database::postgres().await] {
        let database = Arc::new(database);
        let h = Harness::set_up(Arc::clone(&database)).await;
        let mut session =
            Session { root: h.root().await, lines: Vec::new(), known: HashMap::new() };
        directory(&mut session).await;
        credentials(&mut session).await;
        endings(&mut session).await;
        transcripts.push(session.lines);
        h.running.stop().await;
        database.drop_database().await;
    }
    let [sqlite, postgres] = &transcripts[..] else { panic!("two transcripts") };
    assert!(sqlite.len() > 50, "{}", sqlite.len());
    for (left, right) in sqlite.iter().zip(postgres) {
        assert_eq!(left, right);
    }
    assert_eq!(sqlite.len(), postgres.len());
}

/// Requests and answers, with ids, tokens and times numbered in order of appearance.
struct Session {
    root: Actor,
    lines: Vec<String>,
    known: HashMap<String, String>,
}

impl Session {
    /// Records the answer, and returns it.
    fn note<T: Debug>(&mut self, what: &str, outcome: Result<Response<T>, Status>) -> Option<T> {
        let outcome = outcome.map(Response::into_inner);
        let text = match &outcome {
            Ok(message) => format!("{message:?}"),
            Err(status) => {
                use tonic_types::StatusExt as _;
                let details = status.get_error_details();
                // The message has the other details too, in a fixed order.
                let reason = details.error_info().map(|info| info.reason.clone());
                let (fields, retry) = (details.bad_request(), details.retry_info());
                let (code, message) = (status.code(), status.message());
                format!("{code:?} {message} {reason:?} {fields:?} {retry:?}")
            }
        };
        let time = regex::Regex::new(r"\d{4}-\d\d-\d\dT[\d:.]+Z").expect("an expression");
        let text = self.normalized(&time.replace_all(&text, "<…>"));
        self.lines.push(format!("{what}: {text}"));
        outcome.ok()
    }

    fn normalized(&mut self, text: &str) -> String {
        let mut out = String::new();
        let mut rest = text;
        while !rest.is_empty() {
            let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
            let end = rest.find(|c| !word(c)).unwrap_or(rest.len());
            let (found, after) = rest.split_at(end);
            let secret = uuid::Uuid::try_parse(found).is_ok()
                || TokenKind::parse(found).is_some()
                || (found.starts_with("sophic_") && found.contains("..."));
            let time = out.ends_with("seconds: ") && found.len() >= 10 || out.ends_with("nanos: ");
            let page = out.ends_with("next_page_token: \"") && !found.is_empty();
            if secret {
                let number = self.known.len();
                let name = self.known.entry(found.to_owned());
                out.push_str(name.or_insert_with(|| format!("<{number}>")));
            } else if time || page {
                out.push_str("<…>");
            } else {
                out.push_str(found);
            }
            let next = after.chars().next();
            out.extend(next);
            rest = &after[next.map_or(0, char::len_utf8)..];
        }
        out
    }
}

fn text(text: &str) -> String {
    text.to_owned()
}

async fn directory(session: &mut Session) {
    let mut directory = session.root.directory();
    let puts = [
        ("w1", "acme", false),
        ("W2", "other", false),
        ("w1", "acme", true),
        ("w1", "renamed", false),
        ("w3", "acme", false),
        ("acme", "third", false),
        ("w3", "W2", false),
        ("w-3", "third", false),
        ("", "", false),
    ];
    for (id, slug, disabled) in puts {
        let workspace = Workspace {
            id: text(id),
            slug: text(slug),
            display_name: text("Größe"),
            disabled: Some(disabled),
            ..Default::default()
        };
        let request = PutWorkspaceRequest { workspace: Some(workspace) };
        session.note("put workspace", directory.put_workspace(request).await);
    }
    for id in ["ada", "Bob", "_c", "no user"] {
        let user = User { id: text(id), display_name: text(id), ..Default::default() };
        let request = PutUserRequest { user: Some(user) };
        session.note("put user", directory.put_user(request).await);
    }
    let memberships = [
        ("w1", "ada", 2),
        ("other", "ada", 1),
        ("w1", "Bob", 4),
        ("acme", "ada", 2),
        ("w1", "x", 1),
        ("w1", "ada", 9),
    ];
    for (workspace, user, role) in memberships {
        let request = PutMembershipRequest { workspace: text(workspace), user: text(user), role };
        session.note("put membership", directory.put_membership(request).await);
    }
    for name in ["renamed", "w1", "acme", "W2", "x y"] {
        let request = GetWorkspaceRequest { workspace: text(name) };
        session.note("get workspace", directory.get_workspace(request).await);
        let request = GetMembershipRequest { workspace: text(name), user: text("ada") };
        session.note("get membership", directory.get_membership(request).await);
    }
    session.note("get user", directory.get_user(GetUserRequest { user: text("Bob") }).await);
    session.note("get user", directory.get_user(GetUserRequest { user: text("nobody") }).await);
    let request = ListWorkspacesRequest { page_size: 2, ..Default::default() };
    let page = session.note("list workspaces", directory.list_workspaces(request).await);
    let page_token = page.expect("a page").next_page_token;
    let request = ListWorkspacesRequest { page_size: 2, page_token };
    session.note("list workspaces", directory.list_workspaces(request).await);
    let list = directory.list_users(ListUsersRequest::default()).await;
    session.note("list users", list);
    for (workspace, user) in [("w1", ""), ("", "ada"), ("other", "ada"), ("", ""), ("nowhere", "")]
    {
        let request = ListMembershipsRequest {
            workspace: text(workspace),
            user: text(user),
            ..Default::default()
        };
        session.note("list memberships", directory.list_memberships(request).await);
    }
}

async fn credentials(session: &mut Session) {
    let mut auth = session.root.auth();
    let mut tokens = Vec::new();
    for (workspace, scopes, acting_user) in [
        ("w1", vec![1], ""),
        ("renamed", vec![1, 2, 3, 1], ""),
        ("acme", vec![1], ""),
        ("w1", vec![1], "Bob"),
        ("w1", vec![1], "ada"),
        ("w1", vec![1], "_c"),
        ("w1", vec![], "Bob"),
    ] {
        let request = CreateKeyRequest {
            workspace: text(workspace),
            name: text("ci 🚀"),
            scopes,
            acting_user: text(acting_user),
            ip_allowlist: vec![text("10.0.0.0/8"), text("::ffff:10.1.2.3")],
            annotations: HashMap::from([(text("team"), text("search"))]),
            ..Default::default()
        };
        let made = session.note("create key", auth.create_key(request).await);
        tokens.extend(made.map(|made| made.token));
    }
    for (user, max_role) in [("ada", 0), ("ada", 1), ("Bob", 4), ("nobody", 1)] {
        let request = CreatePatRequest {
            user: text(user),
            name: text("laptop"),
            scopes: vec![1, 2],
            max_role,
            ..Default::default()
        };
        let made = session.note("create pat", auth.create_pat(request).await);
        tokens.extend(made.map(|made| made.token));
    }
    for token in tokens.iter().map(String::as_str).chain(["", "nonsense"]) {
        for workspace in ["", "renamed", "w1", "other", "acme", "nowhere"] {
            for (client_ip, scopes) in [("10.9.9.9", vec![1]), ("192.0.2.1", vec![2, 3])] {
                let request = IntrospectRequest {
                    token: text(token),
                    workspace: text(workspace),
                    required_scopes: scopes,
                    client_ip: text(client_ip),
                    ..Default::default()
                };
                session.note("introspect", auth.introspect(request).await);
            }
        }
    }
    for (workspace, user, acting_user, page_size) in [
        ("", "", "", 3),
        ("w1", "", "", 0),
        ("", "ada", "", 0),
        ("", "", "Bob", 0),
        ("w1", "", "ada", 0),
    ] {
        let request = ListCredentialsRequest {
            workspace: text(workspace),
            user: text(user),
            acting_user: text(acting_user),
            page_size,
            ..Default::default()
        };
        session.note("list credentials", auth.list_credentials(request).await);
    }
}

async fn endings(session: &mut Session) {
    let (mut auth, mut directory) = (session.root.auth(), session.root.directory());
    let list = auth.list_credentials(ListCredentialsRequest::default()).await;
    let all = session.note("list credentials", list).expect("a page").credentials;
    for (credential, acting_user) in all.iter().zip(["", "", "Bob", "ada", "ada"]) {
        for _ in 0..2 {
            let request = RevokeRequest {
                credential: Some(Which::CredentialId(credential.id.clone())),
                acting_user: text(acting_user),
                reason: text("leaked"),
            };
            session.note("revoke", auth.revoke(request).await);
        }
        let request = GetCredentialRequest {
            credential_id: credential.id.clone(),
            acting_user: text(acting_user),
            ..Default::default()
        };
        session.note("get credential", auth.get_credential(request).await);
    }
    let request =
        RevokeRequest { credential: Some(Which::Token(text("nonsense"))), ..Default::default() };
    session.note("revoke", auth.revoke(request).await);
    for allow_missing in [false, false, true] {
        let request =
            DeleteMembershipRequest { workspace: text("w1"), user: text("ada"), allow_missing };
        session.note("delete membership", directory.delete_membership(request).await);
        let request = DeleteUserRequest { user: text("Bob"), allow_missing };
        session.note("delete user", directory.delete_user(request).await);
        let request = DeleteWorkspaceRequest { workspace: text("w1"), allow_missing };
        session.note("delete workspace", directory.delete_workspace(request).await);
    }
    let list = auth.list_credentials(ListCredentialsRequest::default()).await;
    session.note("list credentials", list);
    let mut admin = session.root.admin();
    for (name, permission, san) in [
        ("a", "introspect", ""),
        ("a", "introspect", ""),
        ("b", "everything", ""),
        ("c", "audit.read", "x.y"),
    ] {
        let request = CreateCallerRequest {
            name: text(name),
            permissions: vec![text(permission)],
            certificate_san: text(san),
            ..Default::default()
        };
        session.note("create caller", admin.create_caller(request).await);
    }
    for name in ["a", "a", "nobody"] {
        let request = RevokeCallerRequest { caller: text(name) };
        session.note("revoke caller", admin.revoke_caller(request).await);
    }
    session.note("list callers", admin.list_callers(ListCallersRequest::default()).await);
}
