//! Explain: the decision row by row, which agrees with what Introspect answers, and tells an acting user only of what
//! they may manage.

use std::sync::Arc;

use sophic_auth::grpc::pb::{
    CreateKeyRequest, Denial, ExplainRequest, ExplainResponse, ExplainedRow, IntrospectRequest,
    IntrospectResponse, Role, RowOutcome, Scope, explain_request,
};
use sophic_auth::model::Permission;
use tonic::{Code, Status};

use super::refusal::{fields, refused};
use crate::harness::{Actor, Harness};
use crate::stores::{Fixture as _, on_every_store};
use crate::transfer::{Over, keys, legacy};

on_every_store! {
    the_first_denied_row_is_the_decision_of_an_introspection,
    a_credential_is_explained_by_its_id_or_its_token,
    an_acting_user_is_told_only_of_what_they_may_manage,
    a_workspace_is_told_only_to_readers_of_the_directory,
    an_imported_token_is_denied_at_row_2_unless_it_is_accepted,
    no_use_of_the_credential_is_noted,
    what_is_wrong_with_the_request_is_named,
}

fn by_token(token: &str, workspace: &str, scope: Scope) -> ExplainRequest {
    ExplainRequest {
        credential: Some(explain_request::Credential::Token(token.to_owned())),
        workspace: workspace.to_owned(),
        required_scopes: vec![scope.into()],
        ..Default::default()
    }
}

async fn explain(actor: &Actor, request: ExplainRequest) -> Result<ExplainResponse, Status> {
    actor.auth().explain(request).await.map(tonic::Response::into_inner)
}

/// The row that denies, if any.
fn denied(explained: &ExplainResponse) -> Option<&ExplainedRow> {
    explained.rows.iter().find(|row| row.outcome() == RowOutcome::Denied)
}

/// The facts of this denial's row, as text.
fn facts(explained: &ExplainResponse, denial: Denial) -> String {
    let row = explained.rows.iter().find(|row| row.denial() == denial).expect("a row");
    let facts = row.facts.iter().map(|fact| format!("{}={}", fact.name, fact.value));
    facts.collect::<Vec<_>>().join(" ")
}

/// Acme with an owner and a member, and a workspace of strangers.
async fn cast(h: &Harness) -> Actor {
    let root = h.root().await;
    root.put_workspace("acme").await;
    root.put_workspace("secret").await;
    for (user, workspace, role) in [
        ("olga", "acme", Role::Owner),
        ("mia", "acme", Role::Member),
        ("otto", "secret", Role::Owner),
    ] {
        root.put_user(user).await;
        root.put_membership(workspace, user, role).await;
    }
    root
}

async fn introspect(root: &Actor, asked: &ExplainRequest, token: &str) -> IntrospectResponse {
    let request = IntrospectRequest {
        token: token.to_owned(),
        workspace: asked.workspace.clone(),
        required_scopes: asked.required_scopes.clone(),
        client_ip: asked.client_ip.clone(),
        fresh: true,
        ..Default::default()
    };
    root.auth().introspect(request).await.expect("an answer").into_inner()
}

async fn the_first_denied_row_is_the_decision_of_an_introspection(h: Harness) {
    let root = cast(&h).await;
    let key = root.create_key("acme", &[Scope::Read, Scope::Capture]).await.token;
    let pat = root.create_pat("mia", &[Scope::Read, Scope::Admin], Role::Owner).await.token;
    let bound = CreateKeyRequest {
        workspace: "acme".to_owned(),
        name: "ci".to_owned(),
        scopes: vec![Scope::Read.into()],
        ip_allowlist: vec!["192.0.2.0/24".to_owned()],
        ..Default::default()
    };
    let bound = root.auth().create_key(bound).await.expect("it is made").into_inner().token;
    let ended = root.create_key("acme", &[Scope::Read]).await.token;
    root.revoke_token(&ended).await;
    let from =
        |client_ip: &str, request| ExplainRequest { client_ip: client_ip.to_owned(), ..request };
    let mut seen = Vec::new();
    for (token, request) in [
        (&key, by_token(&key, "acme", Scope::Read)),
        (&key, by_token(&key, "", Scope::Read)),
        (&key, by_token(&key, "secret", Scope::Read)),
        (&key, by_token(&key, "acme", Scope::Capture)),
        (&key, by_token(&key, "acme", Scope::Admin)),
        (&pat, by_token(&pat, "acme", Scope::Read)),
        (&pat, by_token(&pat, "", Scope::Read)),
        (&pat, by_token(&pat, "secret", Scope::Read)),
        (&pat, by_token(&pat, "not a name", Scope::Read)),
        (&pat, by_token(&pat, "id-of-acme", Scope::Admin)),
        (&bound, from("192.0.2.7", by_token(&bound, "acme", Scope::Read))),
        (&bound, from("198.51.100.7", by_token(&bound, "acme", Scope::Read))),
        (&bound, by_token(&bound, "acme", Scope::Read)),
        (&ended, by_token(&ended, "acme", Scope::Read)),
    ] {
        let expected = introspect(&root, &request, token).await;
        let explained = explain(&root, request.clone()).await.expect("it may");
        let decision = explained.decision.clone().expect("a decision");
        let told = |answer: &IntrospectResponse| IntrospectResponse {
            cache_ttl: None,
            revision: 0,
            ..answer.clone()
        };
        assert_eq!(told(&decision), told(&expected), "{request:?}");
        assert!(decision.revision >= expected.revision);
        let row = denied(&explained).map_or(Denial::Unspecified, ExplainedRow::denial);
        assert_eq!(row, expected.denial(), "{request:?}");
        let last = explained.rows.last().expect("rows");
        let passed = last.outcome() == RowOutcome::Passed;
        assert_eq!((last.denial(), passed), (Denial::Unspecified, expected.allowed));
        seen.push(expected.denial());
    }
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 8, "{seen:?}");
}

async fn a_credential_is_explained_by_its_id_or_its_token(h: Harness) {
    let root = cast(&h).await;
    let key = root.create_key("acme", &[Scope::Read]).await;
    let credential = key.credential.expect("it is given");
    let by_id = ExplainRequest {
        credential: Some(explain_request::Credential::CredentialId(credential.id.clone())),
        ..by_token("", "acme", Scope::Read)
    };
    let reader = h.caller("reader", &[Permission::CredentialsRead]).await;
    for (request, outcome) in [
        (by_token(&key.token, "acme", Scope::Read), RowOutcome::Passed),
        (by_id, RowOutcome::NotApplicable),
    ] {
        let explained = explain(&reader, request).await.expect("it may");
        assert_eq!(explained.credential.as_ref(), Some(&credential));
        let outcomes: Vec<_> = explained.rows.iter().map(ExplainedRow::outcome).collect();
        assert_eq!(outcomes[..2], [outcome; 2]);
        assert!(explained.decision.expect("a decision").allowed);
    }
    let not_found = (Code::NotFound, "CREDENTIAL_NOT_FOUND".to_owned());
    let unknown = by_token("nobody's", "acme", Scope::Read);
    assert_eq!(refused(explain(&reader, unknown).await), not_found);
}

async fn an_acting_user_is_told_only_of_what_they_may_manage(h: Harness) {
    let root = cast(&h).await;
    let dashboard = h.dashboard().await;
    let key = root.create_key("acme", &[Scope::Read]).await.token;
    let pat = root.create_pat("mia", &[Scope::Read], Role::Owner).await.token;
    for (user, sees_key, sees_pat) in
        [("olga", true, false), ("mia", false, true), ("otto", false, false)]
    {
        for (token, sees) in [(&*key, sees_key), (&*pat, sees_pat), ("nobody's", false)] {
            let request = ExplainRequest {
                acting_user: user.to_owned(),
                ..by_token(token, "acme", Scope::Read)
            };
            let outcome = explain(&dashboard, request).await;
            if sees {
                assert!(outcome.expect("they may").decision.expect("a decision").allowed);
            } else {
                let hidden = (Code::NotFound, "CREDENTIAL_NOT_FOUND".to_owned());
                assert_eq!(refused(outcome), hidden, "{user}");
            }
        }
    }
    let writer = h.caller("writer", &[Permission::CredentialsWrite]).await;
    let alone = explain(&writer, by_token(&key, "acme", Scope::Read)).await;
    let required = (Code::PermissionDenied, "ACTING_USER_REQUIRED".to_owned());
    assert_eq!(refused(alone), required);
    let gateway = explain(&h.gateway().await, by_token(&key, "acme", Scope::Read)).await;
    assert_eq!(refused(gateway), (Code::PermissionDenied, "PERMISSION_MISSING".to_owned()));
}

async fn a_workspace_is_told_only_to_readers_of_the_directory(h: Harness) {
    let root = cast(&h).await;
    let dashboard = h.dashboard().await;
    let pat = root.create_pat("mia", &[Scope::Read], Role::Owner).await.token;
    for (workspace, state) in [("secret", "enabled"), ("nowhere", "unknown")] {
        let request = |acting_user: &str| ExplainRequest {
            acting_user: acting_user.to_owned(),
            ..by_token(&pat, workspace, Scope::Read)
        };
        let named = format!("named_workspace={workspace}");
        for (caller, acting_user, tells) in [
            (&dashboard, "mia", false),
            (&dashboard, "", false),
            (&root, "mia", false),
            (&root, "", true),
        ] {
            let explained = explain(caller, request(acting_user)).await.expect("it may");
            let all = format!("{named} workspace_state={state} membership_role=none");
            let expected = if tells { &all } else { &named };
            assert_eq!(&facts(&explained, Denial::NotAMember), expected, "{acting_user}");
        }
    }
}

async fn an_imported_token_is_denied_at_row_2_unless_it_is_accepted(h: Harness) {
    let over = Over::set_up(Arc::clone(&h.database)).await;
    let root = h.root().await;
    over.import_csv(&keys([1])).await;
    let accepting = h.another(|config| config.options.accept_imported_tokens = true).await;
    let request = by_token(&legacy(1), "acme", Scope::Read);
    let here = explain(&root, request.clone()).await.expect("it may");
    assert_eq!(denied(&here).expect("a row").denial(), Denial::TokenUnknown);
    assert!(here.credential.is_some());
    let decision = here.decision.expect("a decision");
    assert_eq!((decision.denial(), decision.active), (Denial::TokenUnknown, false));
    let there = explain(&root.via(&accepting), request).await.expect("it may");
    assert_eq!(denied(&there), None);
}

async fn no_use_of_the_credential_is_noted(h: Harness) {
    let root = cast(&h).await;
    let used = root.create_key("acme", &[Scope::Read]).await.token;
    let explained = root.create_key("acme", &[Scope::Read]).await.token;
    for _ in 0..3 {
        explain(&root, by_token(&explained, "acme", Scope::Read)).await.expect("it may");
    }
    root.introspect(&used, "acme", &[]).await;
    h.running.service.flush_last_uses().await;
    let last_use = async |token: &str| {
        let explained = explain(&root, by_token(token, "acme", Scope::Read)).await;
        explained.expect("it may").credential.expect("a credential").last_use_time
    };
    assert!(last_use(&used).await.is_some());
    assert_eq!(last_use(&explained).await, None);
}

async fn what_is_wrong_with_the_request_is_named(h: Harness) {
    let root = cast(&h).await;
    let none = explain(&root, ExplainRequest::default()).await;
    assert_eq!(fields(none), ["credential"]);
    let request = ExplainRequest {
        credential: Some(explain_request::Credential::CredentialId("x".to_owned())),
        required_scopes: vec![77],
        ..Default::default()
    };
    assert_eq!(fields(explain(&root, request).await), ["credential_id", "required_scopes"]);
}
