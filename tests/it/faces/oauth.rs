//! RFC 7662, RFC 7009 and RFC 8414 over the wire, and their answers to invalid input.

use base64::Engine as _;
use serde_json::json;
use sophic_auth::grpc::pb::Scope;
use sophic_auth::model::Permission;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::scene::{Scene, caller};
use super::wire::{Call, Reply};
use crate::grpc::audit::of_action;
use crate::grpc::retried::{brief, freeze};
use crate::harness::Harness;
use crate::stores::on_every_store;
use crate::waits::within;

on_every_store! {
    an_active_token_is_described,
    an_inactive_token_is_not_described,
    a_revoked_token_is_refused_when_the_answer_arrives,
    a_repeated_revocation_waits_like_the_first,
    a_caller_authenticates_by_basic_or_bearer,
    a_caller_without_the_permission_is_refused,
    a_refused_revocation_is_in_the_audit_log,
    a_body_that_is_not_a_form_is_refused,
    a_form_with_a_mistake_is_refused,
    a_parameter_in_the_url_is_refused,
    a_large_body_is_refused_early,
    a_client_that_sends_a_huge_body_gets_the_answer,
    a_body_that_does_not_arrive_is_refused,
    the_metadata_names_the_endpoints,
}

fn basic(name: &str, token: &str) -> String {
    let pair = format!("{name}:{token}");
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
}

async fn introspect(scene: &Scene, fields: &[(&str, &str)]) -> Reply {
    let call = Call::form("/oauth2/introspect", fields)
        .header("authorization", &format!("Bearer {}", scene.caller_token));
    let reply = call.send(scene.http()).await;
    assert_eq!(reply.header("cache-control"), "no-store");
    assert_eq!(reply.header("content-type"), "application/json");
    reply
}

async fn an_active_token_is_described(scene: Scene) {
    let key = scene.root.create_key("acme", &[Scope::Read, Scope::Admin]).await;
    let reply = introspect(&scene, &[("token", &key.token)]).await;
    assert_eq!(reply.status, 200);
    let view = reply.json();
    let credential = key.credential.expect("it is shown");
    assert_eq!(
        view,
        json!({
            "active": true,
            "scope": "read admin",
            "client_id": credential.id,
            "sub": "workspace:id-of-acme",
            "iat": credential.create_time.expect("a time").seconds,
            "iss": scene.h.running.http_url(),
            "token_type": "Bearer",
            "principal_kind": "workspace_key",
            "workspace": {"id": "id-of-acme", "slug": "acme", "display_name": "Workspace acme"},
            "allowed": true,
            "identity_only": true,
            "http_status": 200,
        })
    );
    let pat = scene.pat(&[Scope::Read, Scope::Capture]).await;
    let fields = [("token", pat.as_str()), ("workspace", "acme"), ("scope", "read capture")];
    let view = introspect(&scene, &fields).await.json();
    assert_eq!(view["sub"], "user:ada");
    assert_eq!(view["username"], "ada");
    assert_eq!(view["role"], "member");
    assert_eq!(view["role_capped_by"], "membership");
    assert_eq!((&view["allowed"], &view["scope"]), (&json!(true), &json!("read capture")));
    assert_eq!(view["identity_only"], false);
    // A library that reads only active and scope allows nothing to a token without a workspace.
    let view = introspect(&scene, &[("token", &pat)]).await.json();
    assert_eq!((&view["active"], &view["allowed"]), (&json!(true), &json!(false)));
    assert_eq!(view["denial"], "WORKSPACE_REQUIRED");
    assert_eq!(view.get("scope"), None);
}

async fn an_inactive_token_is_not_described(scene: Scene) {
    let rows = scene.rows().await;
    let dead = rows.iter().filter(|row| row.status() == 401 && !row.token.is_empty());
    for row in dead {
        let reply = introspect(&scene, &[("token", &row.token), ("workspace", "acme")]).await;
        assert_eq!((reply.status, reply.body.as_str()), (200, r#"{"active":false}"#), "{row:?}");
    }
    let digest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let odd = ["x", "a\0b", "a\r\nb", " ", digest, "sophic_key_", "\u{feff}token", "Ａ"];
    for token in odd {
        let reply = introspect(&scene, &[("token", token)]).await;
        assert_eq!((reply.status, reply.body.as_str()), (200, r#"{"active":false}"#), "{token:?}");
    }
}

async fn a_parameter_in_the_url_is_refused(scene: Scene) {
    let key = scene.key(&[Scope::Read]).await;
    for path in ["/oauth2/revoke", "/oauth2/introspect"] {
        for query in ["?workspace=acme", "?scope=read", "?x"] {
            let call = Call::form(&format!("{path}{query}"), &[("token", &key)])
                .header("authorization", &basic("proxy", &scene.caller_token));
            let reply = call.send(scene.http()).await;
            assert_eq!((reply.status, &reply.json()["error"]), (400, &json!("invalid_request")));
            let why = reply.json()["error_description"].to_string();
            assert!(why.contains("the form") && why.contains("workspace"), "{why}");
            // An unauthenticated client learns nothing about it.
            let reply = Call::form(&format!("{path}{query}"), &[]).send(scene.http()).await;
            assert_eq!(reply.status, 401);
        }
    }
    // Nothing was revoked, and an empty query counts as none.
    let call = Call::form("/oauth2/introspect?", &[("token", &key)])
        .header("authorization", &basic("proxy", &scene.caller_token));
    assert_eq!(call.send(scene.http()).await.json()["active"], json!(true));
}

async fn a_revoked_token_is_refused_when_the_answer_arrives(scene: Scene) {
    let token = scene.key(&[Scope::Read]).await;
    let hint = [("token", token.as_str()), ("token_type_hint", "refresh_token")];
    for fields in [&hint[..], &hint[..1], &[("token", "rubbish")]] {
        let call = Call::form("/oauth2/revoke", fields)
            .header("authorization", &basic("proxy", &scene.caller_token));
        let reply = call.send(scene.http()).await;
        assert_eq!((reply.status, reply.body.as_str()), (200, ""));
        assert_eq!(reply.header("cache-control"), "no-store");
        let view = introspect(&scene, &[("token", &token)]).await;
        assert_eq!(view.body, r#"{"active":false}"#);
    }
}

async fn a_repeated_revocation_waits_like_the_first(scene: Scene) {
    let here = brief(&scene.h).await;
    let token = scene.key(&[Scope::Read]).await;
    let (mut feed, id) = freeze(&scene.h).await;
    let revoke = async |token: &str, server: &Harness| {
        let call = Call::form("/oauth2/revoke", &[("token", token)])
            .header("authorization", &basic("proxy", &scene.caller_token));
        call.send(server.running.http).await.status
    };
    for text in [&token, &token, "rubbish"] {
        assert_eq!(revoke(text, &here).await, 504, "a server may answer as before still");
    }
    feed.deregister(id).await.expect("it takes leave");
    assert_eq!(revoke(&token, &scene.h).await, 200);
}

async fn a_caller_authenticates_by_basic_or_bearer(scene: Scene) {
    let token = scene.key(&[Scope::Read]).await;
    let service = scene.caller_token.as_str();
    let encoded = service.replace('_', "%5F");
    let good = [
        format!("Bearer {service}"),
        format!("bearer {service}"),
        format!("Bearer   {service}"),
        basic("proxy", service),
        basic("proxy", service).replace(' ', "  "),
        basic("proxy", &encoded),
    ];
    let call = Call::form("/oauth2/introspect", &[("token", &token)]);
    for value in &good {
        let reply = call.clone().header("authorization", value).send(scene.http()).await;
        assert_eq!((reply.status, &reply.json()["active"]), (200, &json!(true)), "{value}");
    }
    let bad = [
        format!("Bearer \t{service}"),
        format!("Bearer\t{service}"),
        format!("Bearer {service},Bearer {service}"),
        format!("Bearer {token}"),
        "Bearer".to_owned(),
        basic("other", service),
        basic("", service),
        basic("proxy", &token),
        basic("proxy", ""),
        "Basic %%%".to_owned(),
        "Basic cHJveHk=".to_owned(),
        "Digest x".to_owned(),
    ];
    for value in &bad {
        refused_as_caller(&call.clone().header("authorization", value).send(scene.http()).await);
    }
    refused_as_caller(&call.send(scene.http()).await);
    let twice = call.header("authorization", &good[0]).header("authorization", &good[0]).clone();
    refused_as_caller(&twice.send(scene.http()).await);
    let posted = [("token", token.as_str()), ("client_id", "proxy"), ("client_secret", service)];
    refused_as_caller(&Call::form("/oauth2/introspect", &posted).send(scene.http()).await);
}

fn refused_as_caller(reply: &Reply) {
    assert_eq!(reply.status, 401, "{reply:?}");
    assert!(reply.header("www-authenticate").contains("Basic realm="), "{reply:?}");
    assert_eq!(reply.header("cache-control"), "no-store");
    assert_eq!(reply.json()["error"], "invalid_client");
}

async fn a_caller_without_the_permission_is_refused(scene: Scene) {
    let token = caller(&scene.h, "auditor", &[Permission::AuditRead]).await;
    for path in ["/oauth2/introspect", "/oauth2/revoke"] {
        let call = Call::form(path, &[("token", "x")]);
        let reply =
            call.header("authorization", &format!("Bearer {token}")).send(scene.http()).await;
        assert_eq!(reply.status, 403, "{reply:?}");
        assert_eq!(reply.json()["reason"], "PERMISSION_MISSING");
    }
}

/// Recorded like the refusals of `Revoke` over gRPC.
async fn a_refused_revocation_is_in_the_audit_log(scene: Scene) {
    let auditor = caller(&scene.h, "auditor", &[Permission::AuditRead]).await;
    let call = |token: &str, fields: &[(&str, &str)]| {
        let call = Call::form("/oauth2/revoke", fields);
        call.header("authorization", &format!("Bearer {token}"))
    };
    let sent = [
        (call(&auditor, &[("token", "x")]), 403),
        (call(&scene.caller_token, &[]), 400),
        (call(&scene.caller_token, &[("token", "nobody's")]), 200),
        (call("sophic_svc_nobody", &[("token", "x")]), 401),
    ];
    for (call, status) in sent {
        assert_eq!(call.send(scene.http()).await.status, status);
    }
    let events = of_action(&scene.root, "credential.revoke").await;
    let recorded: Vec<_> = events
        .iter()
        .map(|event| {
            assert_eq!((&*event.target_kind, &*event.target_id), ("credential", ""));
            (&*event.caller, &*event.remote_address, &*event.refusal, &*event.after)
        })
        .collect();
    let expected = [
        ("auditor", "127.0.0.1", "PERMISSION_MISSING", ""),
        ("proxy", "127.0.0.1", "REQUEST_MALFORMED", ""),
        ("proxy", "127.0.0.1", "", r#"{"real":false}"#),
    ];
    assert_eq!(recorded, expected);
}

async fn a_body_that_is_not_a_form_is_refused(scene: Scene) {
    let bearer = format!("Bearer {}", scene.caller_token);
    for path in ["/oauth2/introspect", "/oauth2/revoke"] {
        for method in ["GET", "PUT", "DELETE", "HEAD"] {
            let call = Call::get(&format!("{path}?token=x")).method(method);
            let reply = call.header("authorization", &bearer).send(scene.http()).await;
            assert_eq!((reply.status, reply.header("allow").as_str()), (405, "POST"));
            assert_eq!(reply.header("cache-control"), "no-store");
        }
        let types = ["", "application/json", "application/x-www-form-urlencoded; charset=utf-16"];
        for media_type in types {
            let call = Call::body(path, media_type, b"token=x");
            let reply = call.header("authorization", &bearer).send(scene.http()).await;
            assert_eq!(reply.status, 415, "{media_type}");
        }
    }
}

async fn a_form_with_a_mistake_is_refused(scene: Scene) {
    let forms = [
        "",
        "token",
        "token=",
        "token=a&token=b",
        "token=%zz",
        "token=%C0%80",
        "token=a b",
        "token=x&scope=write",
        "token=x&workspace=a&workspace=b",
    ];
    for form in forms {
        let media_type = "application/x-www-form-urlencoded";
        let call = Call::body("/oauth2/introspect", media_type, form.as_bytes());
        let call = call.header("authorization", &format!("Bearer {}", scene.caller_token));
        let reply = call.send(scene.http()).await;
        assert_eq!(reply.status, 400, "{form}: {reply:?}");
        assert_eq!(reply.json()["error"], "invalid_request", "{form}");
        assert_eq!(reply.header("cache-control"), "no-store");
    }
}

async fn a_large_body_is_refused_early(scene: Scene) {
    let body = format!("token={}", "x".repeat(16 * 1024));
    let call =
        Call::body("/oauth2/introspect", "application/x-www-form-urlencoded", body.as_bytes());
    let call = call.header("authorization", &format!("Bearer {}", scene.caller_token));
    assert_eq!(call.send(scene.http()).await.status, 413);
    // A chunked body does not announce its length, so the received bytes count.
    let mut stream = tokio::net::TcpStream::connect(scene.http()).await.expect("it accepts");
    let head = format!(
        "POST /oauth2/introspect HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\
         content-type: application/x-www-form-urlencoded\r\ntransfer-encoding: chunked\r\n\r\n",
        scene.caller_token
    );
    stream.write_all(head.as_bytes()).await.expect("the head is sent");
    let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
    for _ in 0..5 {
        let _ = stream.write_all(chunk.as_bytes()).await;
    }
    let mut answer = Vec::new();
    let _ = within("an answer", stream.read_to_end(&mut answer)).await;
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
}

async fn a_client_that_sends_a_huge_body_gets_the_answer(scene: Scene) {
    for token in ["x".repeat(1 << 20), "x".repeat(3 << 20)] {
        for _ in 0..4 {
            let body = format!("token={token}");
            let media_type = "application/x-www-form-urlencoded";
            let call = Call::body("/oauth2/introspect", media_type, body.as_bytes());
            let call = call.header("authorization", &format!("Bearer {}", scene.caller_token));
            let reply = call.send(scene.http()).await;
            assert_eq!((reply.status, &reply.json()["reason"]), (413, &"MESSAGE_TOO_LARGE".into()));
        }
    }
}

async fn a_body_that_does_not_arrive_is_refused(scene: Scene) {
    let mut stream = tokio::net::TcpStream::connect(scene.http()).await.expect("it accepts");
    let head = format!(
        "POST /oauth2/introspect HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\
         content-type: application/x-www-form-urlencoded\r\ncontent-length: 100\r\n\r\ntoken=",
        scene.caller_token
    );
    stream.write_all(head.as_bytes()).await.expect("the head is sent");
    let mut answer = Vec::new();
    let _ = within("an answer", stream.read_to_end(&mut answer)).await;
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
}

async fn the_metadata_names_the_endpoints(scene: Scene) {
    let reply = Call::get("/.well-known/oauth-authorization-server").send(scene.http()).await;
    let url = scene.h.running.http_url();
    let metadata = reply.json();
    assert_eq!(metadata["issuer"], url);
    assert_eq!(metadata["introspection_endpoint"], format!("{url}/oauth2/introspect"));
    assert_eq!(metadata["revocation_endpoint"], format!("{url}/oauth2/revoke"));
    let behind = scene
        .h
        .another(|config| config.issuer = Some("https://auth.example/sophic".to_owned()))
        .await;
    for path in ["", "/sophic"] {
        let path = format!("/.well-known/oauth-authorization-server{path}");
        let metadata = Call::get(&path).send(behind.running.http).await.json();
        assert_eq!(metadata["issuer"], "https://auth.example/sophic");
        let endpoint = "https://auth.example/sophic/oauth2/introspect";
        assert_eq!(metadata["introspection_endpoint"], endpoint);
    }
}
