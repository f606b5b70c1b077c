//! At every face an unreadable client address counts as unknown: it is refused for credentials with an IP allowlist,
//! and for no others.

use sophic_auth::grpc::pb::{BatchIntrospectRequest, IntrospectRequest, Scope};

use super::scene::Scene;
use super::wire::Call;
use crate::stores::on_every_store;

on_every_store! {
    an_unreadable_address_is_refused_only_by_allowlists_at_every_face,
}

/// The address that each text is read as, if any.
const ADDRESSES: [(&str, bool); 14] = [
    ("unknown", false),
    ("unix:", false),
    ("_hidden", false),
    ("203.0.113.7,", false),
    ("203.0.113.7:x", false),
    ("203.0.113.0/24", false),
    (" ", false),
    ("\0", false),
    ("203.0.113.7", true),
    ("203.0.113.7:51234", true),
    ("203.0.113.7 ", true),
    (" 203.0.113.7", true),
    ("\"203.0.113.7\"", true),
    ("\"[::ffff:203.0.113.7]:443\"", true),
];

async fn an_unreadable_address_is_refused_only_by_allowlists_at_every_face(scene: Scene) {
    let key = scene.key(&[Scope::Read]).await;
    let bound = scene.pat_for(&["203.0.113.0/24"]).await;
    let bearer = format!("Bearer {}", scene.caller_token);
    let mut requests = Vec::new();
    let mut expected = Vec::new();
    for (address, is_read) in ADDRESSES {
        for (token, allowed) in [(&key, true), (&bound, is_read)] {
            let request = IntrospectRequest {
                token: token.clone(),
                workspace: "acme".to_owned(),
                client_ip: address.to_owned(),
                ..Default::default()
            };
            let answer = scene.root.auth().introspect(request.clone()).await.expect("an answer");
            assert_eq!(answer.into_inner().allowed, allowed, "{address:?}");
            let fields = [("token", &**token), ("workspace", "acme"), ("client_ip", address)];
            let call = Call::form("/oauth2/introspect", &fields).header("authorization", &bearer);
            let reply = call.send(scene.http()).await;
            assert_eq!(reply.status, 200, "{address:?}: {reply:?}");
            assert_eq!(reply.json()["allowed"], allowed, "{address:?}: {reply:?}");
            requests.push(request);
            expected.push(allowed);
        }
    }
    let batch = scene.root.auth().batch_introspect(BatchIntrospectRequest { requests }).await;
    let answers = batch.expect("answers").into_inner().responses;
    assert_eq!(answers.iter().map(|answer| answer.allowed).collect::<Vec<_>>(), expected);
}
