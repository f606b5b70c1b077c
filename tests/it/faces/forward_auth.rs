//! Forward-auth over the wire, as a proxy calls it.

use serde_json::json;
use sophic_auth::grpc::pb::Scope;
use sophic_auth::model::Permission;

use super::scene::{Scene, caller};
use super::wire::{Call, Reply};
use crate::stores::on_every_store;

on_every_store! {
    the_identity_is_in_the_headers,
    a_refusal_has_status_challenge_and_body,
    scopes_are_read_from_the_query,
    a_route_without_a_scope_must_say_so_and_the_answer_says_so_too,
    a_mistake_of_the_operator_lets_no_request_through,
    the_address_is_taken_from_the_header_that_the_operator_names,
    an_unreadable_address_is_refused_only_by_allowlists,
    a_large_valid_request_is_decided,
    a_header_that_the_client_sends_twice_is_refused,
    identity_headers_from_the_client_are_ignored,
    a_proxy_has_to_authenticate,
}

impl Scene {
    /// A request as a proxy sends it.
    pub(super) fn ask(&self, query: &str) -> Call {
        let call = Call::get(&format!("/auth{query}"));
        call.header("x-sophic-auth-caller", &format!("Bearer {}", self.caller_token))
    }
}

async fn the_identity_is_in_the_headers(scene: Scene) {
    let pat = scene.pat(&[Scope::Read, Scope::Capture]).await;
    for method in ["GET", "HEAD", "POST", "OPTIONS"] {
        let call = scene.ask("?scope=capture").method(method);
        let call = call.header("authorization", &format!("Bearer {pat}"));
        let reply = call.header("x-sophic-workspace", "acme").send(scene.http()).await;
        assert_eq!((reply.status, reply.body.as_str()), (200, ""), "{method}: {reply:?}");
        assert_eq!(reply.header("x-sophic-principal-kind"), "user");
        assert_eq!(reply.header("x-sophic-user"), "ada");
        assert_eq!(reply.header("x-sophic-workspace-id"), "id-of-acme");
        assert_eq!(reply.header("x-sophic-workspace-slug"), "acme");
        assert_eq!(reply.header("x-sophic-role"), "member");
        assert_eq!(reply.header("x-sophic-scopes"), "read capture");
        assert_eq!(reply.header("x-sophic-credential-id").len(), 36);
        assert_eq!(reply.header("cache-control"), "no-store");
        assert_eq!(reply.header("x-sophic-denial"), "");
    }
    let key = scene.key(&[Scope::Read]).await;
    let call = scene.ask("?scope=read").header("authorization", &format!("bearer {key}"));
    let reply = call.send(scene.http()).await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("x-sophic-principal-kind"), "workspace_key");
    assert_eq!(reply.header("x-sophic-user"), "");
    assert_eq!(reply.header("x-sophic-role"), "");
}

async fn a_refusal_has_status_challenge_and_body(scene: Scene) {
    let key = scene.key(&[Scope::Read]).await;
    let call = scene.ask("?scope=read+admin").header("authorization", &format!("Bearer {key}"));
    let reply = call.send(scene.http()).await;
    assert_eq!(reply.status, 403);
    assert_eq!(reply.header("x-sophic-denial"), "INSUFFICIENT_SCOPE");
    assert!(reply.header("www-authenticate").contains("error=\"insufficient_scope\""));
    assert_eq!(reply.header("content-type"), "application/problem+json");
    assert_eq!(
        reply.json(),
        json!({
            "type": "about:blank",
            "title": "Forbidden",
            "status": 403,
            "detail": "the token lacks a required scope",
            "denial": "INSUFFICIENT_SCOPE",
            "missing_scopes": ["admin"],
        })
    );
    let reply = scene.ask("?scope=read").send(scene.http()).await;
    assert_eq!(reply.status, 401);
    assert_eq!(reply.header("www-authenticate"), "Bearer realm=\"sophic\"");
}

async fn scopes_are_read_from_the_query(scene: Scene) {
    let key = scene.key(&[Scope::Read]).await;
    let table = [
        ("?scope=read", None, 200),
        ("?scope=admin", None, 403),
        ("?scope=read&scope=admin", None, 403),
        ("?scope=read%20admin", None, 403),
        ("?scope=+read+", None, 200),
        // No header says which scope a route needs, since a client could send it.
        ("", Some("read"), 400),
        ("?scope=admin", Some("read"), 403),
        ("?scope=read", Some("admin"), 200),
        ("?scope=read", Some("rubbish"), 200),
    ];
    for (query, header, status) in table {
        let mut call = scene.ask(query).header("authorization", &format!("Bearer {key}"));
        if let Some(header) = header {
            call = call.header("x-sophic-required-scope", header);
        }
        let reply = call.send(scene.http()).await;
        assert_eq!(reply.status, status, "{query} {header:?}: {reply:?}");
    }
}

async fn a_route_without_a_scope_must_say_so_and_the_answer_says_so_too(scene: Scene) {
    let pat = scene.pat(&[Scope::Read]).await;
    let ask = async |query: &str, workspace: &str| {
        let call = scene.ask(query).header("authorization", &format!("Bearer {pat}"));
        let call = call.header("x-sophic-workspace", workspace);
        // A client says nothing about it.
        call.header("x-sophic-identity-only", "forged").send(scene.http()).await
    };
    for query in [
        "",
        "?",
        "?scope=",
        "?scope=+",
        "?client_ip_header=x-real-ip",
        "?identity_only=",
        "?identity_only=false",
        "?identity_only=TRUE",
        "?identity_only=true&scope=read",
        "?identity_only=true&identity_only=true",
        "?identity-only=true",
    ] {
        of_the_operator(&ask(query, "acme").await, 400);
    }
    for (query, is_identity_only) in [
        ("?identity_only=true", "true"),
        ("?identity_only=true&scope=", "true"),
        ("?scope=read", ""),
    ] {
        let reply = ask(query, "acme").await;
        assert_eq!(reply.status, 200, "{query}: {reply:?}");
        assert_eq!(reply.header("x-sophic-identity-only"), is_identity_only, "{query}: {reply:?}");
        assert_eq!(reply.header("x-sophic-user"), "ada");
        let reply = ask(query, "globex").await;
        assert_eq!(reply.status, 403, "{query}: {reply:?}");
        assert_eq!(reply.header("x-sophic-denial"), "NOT_A_MEMBER");
    }
}

fn of_the_operator(reply: &Reply, status: u16) {
    assert_eq!(reply.status, status, "{reply:?}");
    assert_eq!(reply.header("x-sophic-denial"), "", "{reply:?}");
    assert_eq!(reply.header("content-type"), "application/problem+json");
    assert_eq!(reply.header("cache-control"), "no-store");
}

async fn a_mistake_of_the_operator_lets_no_request_through(scene: Scene) {
    let key = scene.key(&[Scope::Read]).await;
    let queries = [
        "?scope=write",
        "?scope=READ",
        "?scope=read,admin",
        "?scopes=read",
        "?scope=read&x=y",
        "?scope=%zz",
        "?read",
        "?client_ip_header=x-a&client_ip_header=x-b",
    ];
    for query in queries {
        let call = scene.ask(query).header("authorization", &format!("Bearer {key}"));
        of_the_operator(&call.send(scene.http()).await, 400);
    }
}

async fn the_address_is_taken_from_the_header_that_the_operator_names(scene: Scene) {
    let pat = scene.pat_for(&["203.0.113.0/24"]).await;
    let table = [
        ("?scope=read&client_ip_header=x-real-ip", &["203.0.113.7"][..], 200),
        ("?scope=read&client_ip_header=X-Real-IP", &["203.0.113.7"], 200),
        ("?scope=read&client_ip_header=x-real-ip", &["198.51.100.1"], 403),
        // The nearest proxy wrote the last one.
        ("?scope=read&client_ip_header=x-real-ip", &["198.51.100.1, 203.0.113.7"], 200),
        ("?scope=read&client_ip_header=x-real-ip", &["203.0.113.7, 198.51.100.1"], 403),
        ("?scope=read&client_ip_header=x-real-ip", &["203.0.113.7", "198.51.100.1"], 403),
        ("?scope=read&client_ip_header=x-real-ip", &[], 403),
        ("?scope=read&client_ip_header=x-real-ip", &["203.0.113.7:51234"], 200),
        (
            "?scope=read&client_ip_header=x-real-ip",
            &["198.51.100.1, [::ffff:203.0.113.7]:443"],
            200,
        ),
        ("?scope=read&client_ip_header=x-real-ip", &["198.51.100.1:51234"], 403),
        ("?scope=read&client_ip_header=x-real-ip", &["203.0.113.7, unknown"], 403),
        // A header that the operator did not name is ignored.
        ("?scope=read", &["203.0.113.7"], 403),
    ];
    for (query, addresses, status) in table {
        let mut call = scene.ask(query).header("authorization", &format!("Bearer {pat}"));
        call = call.header("x-sophic-workspace", "acme");
        for address in addresses {
            call = call.header("x-real-ip", address);
        }
        let reply = call.send(scene.http()).await;
        assert_eq!(reply.status, status, "{query} {addresses:?}: {reply:?}");
    }
}

async fn an_unreadable_address_is_refused_only_by_allowlists(scene: Scene) {
    let (key, pat) = (scene.key(&[Scope::Read]).await, scene.pat_for(&["203.0.113.0/24"]).await);
    for address in ["unknown", "unix:", "_hidden", "203.0.113.7:x", "203.0.113.0/24", "", "a, "] {
        for (token, status) in [(&key, 200), (&pat, 403)] {
            let call = scene.ask("?scope=read&client_ip_header=x-real-ip");
            let call = call.header("authorization", &format!("Bearer {token}"));
            let call = call.header("x-sophic-workspace", "acme").header("x-real-ip", address);
            let reply = call.send(scene.http()).await;
            assert_eq!(reply.status, status, "{address:?}: {reply:?}");
        }
    }
}

async fn a_large_valid_request_is_decided(scene: Scene) {
    let key = scene.key(&[Scope::Read]).await;
    for (bytes, headers, status) in
        [(6 << 10, 10, 200), (1, 190, 200), (300 << 10, 1, 431), (1, 210, 431)]
    {
        let mut call = scene.ask("?scope=read").header("authorization", &format!("Bearer   {key}"));
        for i in 0..headers {
            call = call.header(&format!("x-filler-{i}"), &"x".repeat(bytes));
        }
        let reply = call.send(scene.http()).await;
        assert_eq!(reply.status, status, "{headers} of {bytes}: {reply:?}");
    }
}

async fn a_header_that_the_client_sends_twice_is_refused(scene: Scene) {
    let key = scene.key(&[Scope::Read]).await;
    let good = format!("Bearer {key}");
    let call = scene.ask("?scope=read").header("authorization", &good);
    let twice = [
        call.clone().header("authorization", &good),
        call.clone().header("Authorization", "Basic eA=="),
        scene.ask("?scope=read").header("authorization", &format!("{good}, {good}")),
        scene.ask("?scope=read").header("authorization", &format!("Bearer\t{key}")),
        scene.ask("?scope=read").header("authorization", &format!("Bearer \t{key}")),
        scene.ask("?scope=read").header("authorization", "Bearer"),
        scene.ask("?scope=read").raw_header("authorization", b"Bearer \xff\xfe"),
    ];
    for call in twice {
        let reply = call.send(scene.http()).await;
        assert_eq!(reply.status, 401, "{call:?}: {reply:?}");
        assert_eq!(reply.header("x-sophic-denial"), "TOKEN_UNKNOWN");
    }
    let workspaces = [
        call.clone().header("x-sophic-workspace", "acme").header("x-sophic-workspace", "globex"),
        call.clone().header("x-sophic-workspace", "acme").header("X-Sophic-Workspace", "acme"),
        call.clone().header("x-sophic-workspace", "acme,globex"),
        call.clone().header("x-sophic-workspace", ""),
    ];
    for call in workspaces {
        let reply = call.send(scene.http()).await;
        assert_eq!(reply.status, 400, "{call:?}: {reply:?}");
        assert_eq!(reply.header("x-sophic-denial"), "REQUEST_MALFORMED");
        assert!(reply.header("www-authenticate").contains("invalid_request"));
    }
    for value in [key.as_str(), "Basic eA=="] {
        let call = scene.ask("?scope=read").header("authorization", value);
        let reply = call.send(scene.http()).await;
        assert_eq!(
            (reply.status, reply.header("x-sophic-denial").as_str()),
            (401, "TOKEN_MISSING")
        );
    }
}

async fn identity_headers_from_the_client_are_ignored(scene: Scene) {
    let key = scene.key(&[Scope::Read]).await;
    let mut call = scene.ask("?scope=read").header("authorization", &format!("Bearer {key}"));
    for name in sophic_auth::proxied::IDENTITY_HEADERS {
        call = call.header(name, "forged");
    }
    let reply = call.header("x-sophic-denial", "forged").send(scene.http()).await;
    assert_eq!(reply.status, 200);
    assert!(!format!("{reply:?}").contains("forged"), "{reply:?}");
}

async fn a_proxy_has_to_authenticate(scene: Scene) {
    let key = scene.key(&[Scope::Read]).await;
    let bearer = format!("Bearer {}", scene.caller_token);
    let call = Call::get("/auth?scope=read");
    // The client's `Authorization` never authenticates the proxy.
    let bad = [
        call.clone().header("authorization", &format!("Bearer {key}")),
        call.clone().header("authorization", &bearer),
        call.clone().header("x-sophic-auth-caller", &format!("Bearer {key}")),
        call.clone().header("x-sophic-auth-caller", &scene.caller_token),
        call.clone().header("x-sophic-auth-caller", ""),
        scene.ask("?scope=read").header("x-sophic-auth-caller", &bearer),
    ];
    for call in bad {
        of_the_operator(&call.send(scene.http()).await, 401);
    }
    let auditor = caller(&scene.h, "auditor", &[Permission::AuditRead]).await;
    let call = call.header("x-sophic-auth-caller", &format!("Bearer {auditor}"));
    of_the_operator(&call.send(scene.http()).await, 403);
}
