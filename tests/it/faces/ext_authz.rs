//! Envoy's `Check`, called directly.

use sophic_auth::grpc::envoy::config::core::v3::address::Address;
use sophic_auth::grpc::envoy::config::core::v3::{HeaderMap, HeaderValue};
use sophic_auth::grpc::envoy::service::auth::v3::attribute_context::HttpRequest;
use sophic_auth::grpc::envoy::service::auth::v3::check_response::HttpResponse;
use sophic_auth::grpc::envoy::service::auth::v3::{DeniedHttpResponse, OkHttpResponse};
use sophic_auth::grpc::pb::Scope;
use tonic::Code;

use super::rows::{check, described, joined};
use super::scene::Scene;
use crate::stores::on_every_store;

on_every_store! {
    the_upstream_gets_the_identity_and_not_the_credential,
    a_refusal_has_status_challenge_and_body,
    a_mistake_of_the_operator_is_an_error,
    a_route_without_a_scope_must_say_so_and_the_upstream_learns_it,
    a_header_that_was_sent_twice_is_refused,
    an_unreadable_address_is_refused_only_by_allowlists,
}

async fn pass(scene: &Scene, http: HttpRequest, extensions: &[(&str, &str)]) -> OkHttpResponse {
    let response = check(scene, described(http, extensions)).await.expect("a verdict");
    assert_eq!(response.status.expect("a status").code, i32::from(Code::Ok));
    match response.http_response {
        Some(HttpResponse::OkResponse(ok)) => ok,
        other => panic!("not let through: {other:?}"),
    }
}

async fn denied(scene: &Scene, http: HttpRequest, scope: &str) -> DeniedHttpResponse {
    let attributes = described(http, &[("scope", scope)]);
    let response = check(scene, attributes).await.expect("a verdict");
    assert_ne!(response.status.expect("a status").code, i32::from(Code::Ok));
    match response.http_response {
        Some(HttpResponse::DeniedResponse(denied)) => denied,
        other => panic!("let through: {other:?}"),
    }
}

async fn the_upstream_gets_the_identity_and_not_the_credential(scene: Scene) {
    let key = scene.key(&[Scope::Read]).await;
    let bearer = format!("Bearer {key}");
    let headers =
        [("authorization", bearer.as_str()), ("x-sophic-user", "forged"), ("x_sophic_role", "x")];
    let ok = pass(&scene, joined(&headers), &[("scope", "read")]).await;
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
    assert!(!format!("{ok:?}").contains("sophic_key_"));
}

async fn a_refusal_has_status_challenge_and_body(scene: Scene) {
    let key = scene.key(&[Scope::Read]).await;
    let bearer = format!("Bearer {key}");
    let denied = denied(&scene, joined(&[("authorization", &bearer)]), "read admin").await;
    assert_eq!(denied.status.expect("a status").code, 403);
    assert!(denied.body.contains(r#""missing_scopes":["admin"]"#), "{denied:?}");
    let challenge = denied.headers.iter().filter_map(|option| option.header.as_ref());
    let challenge = challenge.filter(|header| header.key == "www-authenticate").count();
    assert_eq!(challenge, 1, "{denied:?}");
}

async fn a_mistake_of_the_operator_is_an_error(scene: Scene) {
    let key = scene.key(&[Scope::Read]).await;
    let bearer = format!("Bearer {key}");
    for extension in
        [("scope", "write"), ("scope", "read,admin"), ("scope", "READ"), ("scopes", "read")]
    {
        let attributes = described(joined(&[("authorization", &bearer)]), &[extension]);
        let error = check(&scene, attributes).await.expect_err("an error");
        assert_eq!(error.code(), Code::InvalidArgument, "{extension:?}");
    }
}

async fn a_route_without_a_scope_must_say_so_and_the_upstream_learns_it(scene: Scene) {
    let key = scene.key(&[Scope::Read]).await;
    let bearer = format!("Bearer {key}");
    let headers = [("authorization", bearer.as_str()), ("x-sophic-identity-only", "forged")];
    let mistakes: [&[(&str, &str)]; 6] = [
        &[],
        &[("scope", "")],
        &[("scope", " ")],
        &[("identity_only", "")],
        &[("identity_only", "yes")],
        &[("identity_only", "true"), ("scope", "read")],
    ];
    for extensions in mistakes {
        let attributes = described(joined(&headers), extensions);
        let error = check(&scene, attributes).await.expect_err("an error");
        assert_eq!(error.code(), Code::InvalidArgument, "{extensions:?}");
    }
    let says = |ok: &OkHttpResponse| {
        let mut set = ok.headers.iter().filter_map(|option| option.header.as_ref());
        let set = set.find(|header| header.key == "x-sophic-identity-only");
        let removed = ok.headers_to_remove.iter().any(|name| name == "x-sophic-identity-only");
        (set.map(|header| header.value.clone()), removed)
    };
    let ok = pass(&scene, joined(&headers), &[("identity_only", "true")]).await;
    assert_eq!(says(&ok), (Some("true".to_owned()), false), "{ok:?}");
    let ok = pass(&scene, joined(&headers), &[("scope", "read")]).await;
    assert_eq!(says(&ok), (None, true), "{ok:?}");
}

async fn an_unreadable_address_is_refused_only_by_allowlists(scene: Scene) {
    let (key, pat) = (scene.key(&[Scope::Read]).await, scene.pat_for(&["203.0.113.0/24"]).await);
    for (address, of_key, of_pat) in
        [("unknown", 200, 403), ("203.0.113.7:51234", 200, 200), ("198.51.100.1:80", 200, 403)]
    {
        for (token, status) in [(&key, of_key), (&pat, of_pat)] {
            let bearer = format!("Bearer {token}");
            let headers = [("authorization", bearer.as_str()), ("x-sophic-workspace", "acme")];
            let mut attributes = described(joined(&headers), &[("scope", "read")]);
            let source = attributes.source.as_mut().and_then(|source| source.address.as_mut());
            let Some(Address::SocketAddress(socket)) = source.and_then(|it| it.address.as_mut())
            else {
                panic!("the source has an address");
            };
            address.clone_into(&mut socket.address);
            let response = check(&scene, attributes).await.expect("a verdict");
            let got = match response.http_response {
                Some(HttpResponse::OkResponse(_)) => 200,
                Some(HttpResponse::DeniedResponse(denied)) => denied.status.expect("one").code,
                None => 0,
            };
            assert_eq!(got, status, "{address}");
        }
    }
}

/// With `encode_raw_headers`, Envoy sends each header separately.
fn raw(headers: &[(&str, &str)]) -> HttpRequest {
    let header = |(key, value): &(&str, &str)| HeaderValue {
        key: (*key).to_owned(),
        value: String::new(),
        raw_value: value.as_bytes().to_vec(),
    };
    let map = HeaderMap { headers: headers.iter().map(header).collect() };
    HttpRequest { headers: std::collections::HashMap::new(), header_map: Some(map) }
}

async fn a_header_that_was_sent_twice_is_refused(scene: Scene) {
    let key = scene.key(&[Scope::Read]).await;
    let twice = format!("Bearer {key},Bearer {key}");
    let once = format!("Bearer {key}");
    let once = [("authorization", once.as_str())];
    pass(&scene, raw(&once), &[("scope", "read")]).await;
    let workspace = |value| [once[0], ("x-sophic-workspace", value)];
    let acme = ("x-sophic-workspace", "acme");
    for (http, status, denial) in [
        (joined(&[("authorization", &twice)]), 401, "TOKEN_UNKNOWN"),
        (raw(&[once[0], once[0]]), 401, "TOKEN_UNKNOWN"),
        (joined(&workspace("acme,globex")), 400, "REQUEST_MALFORMED"),
        (joined(&workspace("")), 400, "REQUEST_MALFORMED"),
        (raw(&workspace("")), 400, "REQUEST_MALFORMED"),
        (raw(&[once[0], acme, acme]), 400, "REQUEST_MALFORMED"),
    ] {
        let denied = denied(&scene, http, "read").await;
        assert_eq!(denied.status.expect("a status").code, status, "{denied:?}");
        assert!(denied.body.contains(denial), "{denied:?}");
    }
}
