//! A flood of made-up tokens is the flooder's own trouble.

use sophic_auth::grpc::pb::{Denial, IntrospectRequest, Scope};
use sophic_auth::model::Permission;
use sophic_auth::token::{OsRandom, Token, TokenKind};
use tonic::Code;

use crate::harness::Harness;
use crate::stores::on_every_store;

on_every_store! {
    a_flooder_is_refused_look_ups_while_others_are_answered,
}

async fn a_flooder_is_refused_look_ups_while_others_are_answered(h: Harness) {
    // One unknown token an hour would be 0, so one a second it is: a burst of two, and no more within this test.
    let server = h.another(|config| config.cache.unknown_rate_max = 1).await;
    let root = h.root().await;
    root.put_workspace("acme").await;
    let known = root.create_key("acme", &[Scope::Read]).await.token;
    let cold = root.create_key("acme", &[Scope::Read]).await.token;
    let flooder = h.caller("flooder", &[Permission::Introspect]).await.at(&server);
    // The word that the key was made, heard late, would evict what was read before.
    h.settled(&server).await;
    assert!(flooder.introspect(&known, "acme", &[]).await.allowed);
    let refused = loop {
        let token = Token::mint(TokenKind::Key, &OsRandom).expect("randomness").expose().to_owned();
        match flooder.auth().introspect(IntrospectRequest { token, ..Default::default() }).await {
            Ok(answer) => assert_eq!(answer.into_inner().denial(), Denial::TokenUnknown),
            Err(status) => break status,
        }
    };
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(flooder.introspect(&known, "acme", &[]).await.allowed, "what is in memory is answered");
    let gateway = h.gateway().await.at(&server);
    assert!(gateway.introspect(&cold, "acme", &[]).await.allowed, "others are not held up");
}
