//! Envoy's `Check`, asked directly.

use sophic_auth::grpc::envoy::service::auth::v3::check_response::HttpResponse;
use sophic_auth::grpc::envoy::service::auth::v3::{DeniedHttpResponse, OkHttpResponse};
use sophic_auth::grpc::pb::Scope;
use tonic::Code;

use super::rows::check;
use super::scene::Scene;
use crate::stores::on_every_store;

on_every_store! {
    the_credential_goes_no_further_and_the_identity_does,
    a_refusal_has_status_challenge_and_body,
    what_the_operator_got_wrong_is_an_error,
    what_was_sent_twice_is_refused,
}

async fn pass(scene: &Scene, headers: &[(&str, &str)], scope: Option<&str>) -> OkHttpResponse {
    let response = check(scene, headers, scope).await.expect("a verdict");
    assert_eq!(response.status.expect("a status").code, i32::from(Code::Ok));
    match response.http_response {
        Some(HttpResponse::OkResponse(ok)) => ok,
        other => panic!("not let through: {other:?}"),
    }
}

async fn denied(
    scene: &Scene,
    headers: &[(&str, &str)],
    scope: Option<&str>,
) -> DeniedHttpResponse {
    let response = check(scene, headers, scope).await.expect("a verdict");
    assert_ne!(response.status.expect("a status").code, i32::from(Code::Ok));
    match response.http_response {
        Some(HttpResponse::DeniedResponse(denied)) => denied,
        other => panic!("let through: {other:?}"),
    }
}

async fn the_credential_goes_no_further_and_the_identity_does(scene: Scene) {
    let key = scene.key(&[Scope::Read]).await;
    let bearer = format!("Bearer {key}");
    let headers =
        [("authorization", bearer.as_str()), ("x-sophic-user", "forged"), ("x_sophic_role", "x")];
    let ok = pass(&scene, &headers, Some("read")).await;
    for name in ["authorization", "x-sophic-user", "x-sophic-role", "x_sophic_role"] {
        assert!(ok.headers_to_remove.iter().any(|removed| removed == name), "{ok:?}");
    }
    let set = |name: &str| {
        let mut headers = ok.headers.iter().filter_map(|option| option.header.as_ref());
        headers.find(|header| header.key == name).map(|header| header.value.clone())
    };
    assert_eq!(set("x-sophic-principal-kind").as_deref(), Some("workspace_key"));
    assert_eq!(set("x-sophic-workspace-id").as_deref(), Some("id-of-acme"));
    assert_eq!(set("x-sophic-user"), None);
    for option in &ok.headers {
        let name = &option.header.as_ref().expect("a header").key;
        assert!(!ok.headers_to_remove.contains(name), "{name} is set and removed");
    }
    pass(&scene, &headers, Some("")).await;
    pass(&scene, &headers, None).await;
    assert!(!format!("{ok:?}").contains("sophic_key_"));
}

async fn a_refusal_has_status_challenge_and_body(scene: Scene) {
    let key = scene.key(&[Scope::Read]).await;
    let bearer = format!("Bearer {key}");
    let denied = denied(&scene, &[("authorization", &bearer)], Some("read admin")).await;
    assert_eq!(denied.status.expect("a status").code, 403);
    assert!(denied.body.contains(r#""missing_scopes":["admin"]"#), "{denied:?}");
    let challenge = denied.headers.iter().filter_map(|option| option.header.as_ref());
    let challenge = challenge.filter(|header| header.key == "www-authenticate").count();
    assert_eq!(challenge, 1, "{denied:?}");
}

async fn what_the_operator_got_wrong_is_an_error(scene: Scene) {
    let key = scene.key(&[Scope::Read]).await;
    let bearer = format!("Bearer {key}");
    for scope in ["write", "read,admin", "READ"] {
        let error = check(&scene, &[("authorization", &bearer)], Some(scope)).await;
        assert_eq!(error.expect_err("an error").code(), Code::InvalidArgument, "{scope}");
    }
}

async fn what_was_sent_twice_is_refused(scene: Scene) {
    let key = scene.key(&[Scope::Read]).await;
    let twice = format!("Bearer {key},Bearer {key}");
    let once = format!("Bearer {key}");
    for (headers, status, denial) in [
        (&[("authorization", twice.as_str())][..], 401, "TOKEN_UNKNOWN"),
        (
            &[("authorization", once.as_str()), ("x-sophic-workspace", "acme,globex")],
            400,
            "REQUEST_MALFORMED",
        ),
        (&[("authorization", once.as_str()), ("x-sophic-workspace", "")], 400, "REQUEST_MALFORMED"),
    ] {
        let denied = denied(&scene, headers, Some("read")).await;
        assert_eq!(denied.status.expect("a status").code, status, "{headers:?}");
        assert!(denied.body.contains(denial), "{denied:?}");
    }
}
