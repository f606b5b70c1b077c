//! BatchIntrospect gives the answers of single calls.

use sophic_auth::grpc::pb::{
    BatchIntrospectRequest, IntrospectRequest, IntrospectResponse, Role, Scope,
};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::harness::{Actor, Harness};
use crate::stores::on_every_store;

on_every_store! {
    a_batch_has_the_answers_of_single_calls_in_order,
    a_batch_of_a_thousand_is_answered_and_one_more_is_refused,
    an_invalid_item_is_named_by_its_index,
    an_empty_batch_has_an_empty_answer,
}

async fn batch(
    actor: &Actor,
    requests: Vec<IntrospectRequest>,
) -> Result<Vec<IntrospectResponse>, tonic::Status> {
    let request = BatchIntrospectRequest { requests };
    actor.auth().batch_introspect(request).await.map(|answer| answer.into_inner().responses)
}

fn ask(token: &str, workspace: &str, scope: Scope) -> IntrospectRequest {
    IntrospectRequest {
        token: token.to_owned(),
        workspace: workspace.to_owned(),
        required_scopes: vec![scope.into()],
        ..Default::default()
    }
}

async fn a_batch_has_the_answers_of_single_calls_in_order(h: Harness) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    root.put_workspace("other").await;
    root.put_user("ada").await;
    root.put_membership("acme", "ada", Role::Member).await;
    let key = root.create_key("acme", &[Scope::Read]).await.token;
    let pat = root.create_pat("ada", &[Scope::Read, Scope::Capture], Role::Owner).await.token;
    let requests = vec![
        ask(&key, "acme", Scope::Read),
        ask("junk", "", Scope::Read),
        ask(&pat, "acme", Scope::Capture),
        ask("", "", Scope::Read),
        ask(&pat, "other", Scope::Read),
        ask(&key, "other", Scope::Read),
        ask(&key, "", Scope::Capture),
        ask(&pat, "", Scope::Read),
        ask(&pat, "nowhere", Scope::Read),
        ask(&key, "acme", Scope::Read),
    ];
    // Once with an empty cache, once with a full one.
    for server in [h.another(|_| {}).await, h.another(|_| {}).await] {
        // Otherwise the revision might rise between the batch and the single calls.
        h.wait_until_read_by(&server).await;
        let actor = root.via(&server);
        let answers = batch(&actor, requests.clone()).await.expect("answers");
        assert_eq!(answers.len(), requests.len());
        for (request, answer) in requests.iter().zip(answers) {
            let single = actor.auth().introspect(request.clone()).await.expect("an answer");
            assert_eq!(answer, single.into_inner());
        }
    }
}

async fn a_batch_of_a_thousand_is_answered_and_one_more_is_refused(h: Harness) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    let key = root.create_key("acme", &[Scope::Read]).await.token;
    let answers = batch(&root, vec![ask(&key, "acme", Scope::Read); 1_000]).await;
    assert!(answers.expect("answers").iter().all(|answer| answer.allowed));
    let refused = batch(&root, vec![ask(&key, "acme", Scope::Read); 1_001]).await;
    let refused = refused.expect_err("too many");
    assert_eq!(refused.code(), Code::InvalidArgument);
    let violations = refused.get_details_bad_request().expect("details").field_violations;
    assert_eq!(violations[0].field, "requests");
}

async fn an_invalid_item_is_named_by_its_index(h: Harness) {
    let root = h.root().await;
    let good = ask("", "", Scope::Read);
    let wrong = IntrospectRequest { at_least_revision: u64::MAX, ..good.clone() };
    let refused = batch(&root, vec![good.clone(), wrong, good]).await.expect_err("a wrong item");
    let violations = refused.get_details_bad_request().expect("details").field_violations;
    assert_eq!(violations[0].field, "requests[1].at_least_revision");
}

async fn an_empty_batch_has_an_empty_answer(h: Harness) {
    let answers = batch(&h.root().await, Vec::new()).await.expect("no answers");
    assert!(answers.is_empty());
}
