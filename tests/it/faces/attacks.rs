//! Attacks by a client through each proxy: no request gets through that the direct call would refuse, and each that
//! gets through has the identity that sophic-auth reports.

use sophic_auth::grpc::pb::{Role, Scope};
use sophic_auth::proxied::IDENTITY_HEADERS;

use super::proxies::Proxy;
use super::scene::Scene;
use super::wire::{Call, Reply};

const READ: &str = "/api/v1/documents";

/// Sends the request. The upstream receives it if and only if the answer is 200.
async fn attempt(proxy: &Proxy, call: &Call) -> Reply {
    let before = proxy.upstream.requests();
    let reply = proxy.send(call).await;
    let passed = proxy.upstream.requests() - before;
    let name = proxy.name;
    assert_eq!(passed, usize::from(reply.status == 200), "{name}: {call:?}: {reply:?}");
    reply
}

async fn refused(proxy: &Proxy, call: &Call) {
    let reply = attempt(proxy, call).await;
    let name = proxy.name;
    assert!((400..500).contains(&reply.status), "{name}: {call:?}: {reply:?}");
}

/// A repeated header is refused. nginx before 1.23 may let it through as if only the first had been sent.
async fn refused_or_first(proxy: &Proxy, call: &Call) {
    let reply = attempt(proxy, call).await;
    let name = proxy.name;
    if name == "nginx" && reply.status == 200 {
        let seen = Seen(&reply.body);
        assert_eq!(seen.one("x-sophic-workspace-slug"), Some("acme"), "{call:?}: {reply:?}");
        assert_eq!(seen.one("authorization"), None, "{call:?}: {reply:?}");
        assert!(matches!(seen.values("x-sophic-workspace")[..], [] | ["acme"]), "{reply:?}");
        return;
    }
    assert!((400..500).contains(&reply.status), "{name}: {call:?}: {reply:?}");
}

/// Large valid requests get through: a proxy passes on only the headers that are needed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_and_large_headers_are_accepted() {
    let scene = Scene::on_sqlite().await;
    let key = scene.key(&[Scope::Read]).await;
    for proxy in Proxy::all(&scene).await {
        for (name, bytes, count) in
            [("cookie", 6 << 10, 3), ("x-filler", 6 << 10, 3), ("x-filler", 1, 60)]
        {
            let mut call = Call::get(READ).header("authorization", &format!("Bearer {key}"));
            for i in 0..count {
                let name = if name == "cookie" { name.to_owned() } else { format!("{name}-{i}") };
                call = call.header(&name, &"x".repeat(bytes));
            }
            let reply = attempt(&proxy, &call).await;
            assert_eq!(reply.status, 200, "{} {name} {bytes} {count}: {reply:?}", proxy.name);
        }
        // Envoy accepts 100.
        if proxy.name != "envoy" {
            let mut call = Call::get(READ).header("authorization", &format!("Bearer {key}"));
            for i in 0..150 {
                call = call.header(&format!("x-filler-{i}"), "x");
            }
            assert_eq!(attempt(&proxy, &call).await.status, 200, "{}", proxy.name);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_credentials_do_not_get_through() {
    let scene = Scene::on_sqlite().await;
    let key = scene.key(&[Scope::Read]).await;
    let pat = scene.pat(&[Scope::Read]).await;
    let good = format!("Bearer {key}");
    for proxy in Proxy::all(&scene).await {
        let call = Call::get(READ);
        for value in [
            format!("Bearer\t{key}"),
            format!("Bearer \t{key}"),
            format!("Bearer {key},Bearer {key}"),
            format!("Bearer {key}, Basic eA=="),
            "Bearer".to_owned(),
            "Bearer ".to_owned(),
            key.clone(),
            format!("Basic {key}"),
            format!("Token {key}"),
        ] {
            refused(&proxy, &call.clone().header("authorization", &value)).await;
        }
        // Envoy drops an empty one, so that one is left, which is the client's.
        let seconds = [good.as_str(), "Bearer rubbish", "Basic eA==", ""];
        let count = if proxy.name == "envoy" { 3 } else { 4 };
        for second in &seconds[..count] {
            let first = call.clone().header("authorization", &good);
            refused_or_first(&proxy, &first.header("Authorization", second)).await;
            let last = call.clone().header("authorization", second);
            refused(&proxy, &last.header("authorization", &good)).await;
        }
        let pat_call = call.clone().header("authorization", &format!("Bearer {pat}"));
        for (first, second) in
            [("acme", "globex"), ("globex", "acme"), ("acme", "acme"), ("acme", "")]
        {
            let call = pat_call.clone().header("x-sophic-workspace", first);
            refused_or_first(&proxy, &call.header("X-Sophic-Workspace", second)).await;
        }
        refused(&proxy, &pat_call.clone().header("x-sophic-workspace", "acme,globex")).await;
        refused(&proxy, &pat_call.header("x_sophic_workspace", "acme")).await;
        // Schemes are case-insensitive (RFC 9110 §11.1), so this one is valid.
        let lower = call.header("authorization", &format!("bearer {key}"));
        assert_eq!(attempt(&proxy, &lower).await.status, 200, "{}", proxy.name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_cannot_forge_its_identity() {
    let scene = Scene::on_sqlite().await;
    let key = scene.key(&[Scope::Read]).await;
    let pat = scene.pat(&[Scope::Read]).await;
    for proxy in Proxy::all(&scene).await {
        for (token, user) in [(&key, None), (&pat, Some("ada"))] {
            let mut call = Call::get(READ).header("authorization", &format!("Bearer {token}"));
            call = call.header("x-sophic-workspace", "acme");
            for name in IDENTITY_HEADERS {
                call = call.header(name, "forged").header(&name.to_uppercase(), "forged");
            }
            call = call.header("x-sophic-denial", "forged");
            let reply = attempt(&proxy, &call).await;
            assert_eq!(reply.status, 200, "{}: {reply:?}", proxy.name);
            let seen = Seen(&reply.body);
            for name in IDENTITY_HEADERS {
                assert!(!seen.values(name).contains(&"forged"), "{}: {reply:?}", proxy.name);
                assert!(seen.values(name).len() <= 1, "{}: {reply:?}", proxy.name);
            }
            assert_eq!(seen.one("x-sophic-user"), user, "{}: {reply:?}", proxy.name);
            assert_eq!(seen.one("x-sophic-workspace-id"), Some("id-of-acme"));
            assert_eq!(seen.one("x-sophic-workspace-slug"), Some("acme"));
            assert_eq!(seen.one("x-sophic-scopes"), Some("read"));
            assert_eq!(seen.one("x-sophic-role"), user.map(|_| "member"));
            assert_eq!(seen.one("authorization"), None, "{}: {reply:?}", proxy.name);
            assert!(!reply.body.contains("sophic_"), "{}: {reply:?}", proxy.name);
        }
        // With `_` a header is a different one for a proxy, but the same for CGI and WSGI.
        for name in IDENTITY_HEADERS {
            for disguise in disguises(name) {
                let call = Call::get(READ).header("authorization", &format!("Bearer {key}"));
                let reply = attempt(&proxy, &call.header(&disguise, "forged")).await;
                assert!(!reply.body.contains("forged"), "{} {disguise}: {reply:?}", proxy.name);
            }
        }
    }
}

/// The name with some `-` replaced by `_`.
fn disguises(name: &str) -> Vec<String> {
    let places: Vec<_> = name.match_indices('-').map(|(place, _)| place).collect();
    (1..1_u32 << places.len())
        .map(|choice| {
            let mut bytes = name.as_bytes().to_vec();
            for (i, place) in places.iter().enumerate() {
                if choice & (1 << i) != 0 {
                    bytes[*place] = b'_';
                }
            }
            String::from_utf8(bytes).expect("ASCII")
        })
        .collect()
}

/// The head of a request, as the upstream received it.
struct Seen<'a>(&'a str);

impl Seen<'_> {
    fn values(&self, name: &str) -> Vec<&str> {
        let lines = self.0.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
        let named = lines.filter(|(n, _)| n.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.trim()).filter(|value| !value.is_empty()).collect()
    }

    fn one(&self, name: &str) -> Option<&str> {
        self.values(name).first().copied()
    }

    fn target(&self) -> &str {
        self.0.split(' ').nth(1).unwrap_or_default()
    }
}

/// A key with read must not reach a path that needs more, however the path is written. Nor may the upstream receive a
/// path that it might resolve differently from the proxy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tricks_with_the_path_do_not_get_through() {
    let scene = Scene::on_sqlite().await;
    let key = scene.key(&[Scope::Read]).await;
    let tricks = [
        "/api/v1/../admin/keys",
        "/api/v1/./../admin/keys",
        "/api/v1//../admin/keys",
        "/api/v1/%2e%2e/admin/keys",
        "/api/v1/%2E./admin/keys",
        "/api/v1/..%2fadmin/keys",
        "/api/v1%2f..%2fadmin/keys",
        "/api/v1/%252e%252e/admin/keys",
        "/api/v1/..\\admin\\keys",
        "/api/v1/..%5cadmin/keys",
        "/api/v1/..;/admin/keys",
        "/api/v1/%00/../admin/keys",
        "//api/admin/keys",
        "/api//admin/keys",
        "/api/%61dmin/keys",
        "/api/admin%2fkeys",
        "/api/admin/keys/../../v1/documents",
        "/api/admin/keys/%2e%2e/%2e%2e/v1/documents",
        "/api/admin/..//v1/documents",
        "/./api/admin/keys",
        "/api/v1/../../api/admin/keys",
        "/_sophic/read",
        "/auth",
        "http://other/api/admin/keys",
    ];
    for proxy in Proxy::all(&scene).await {
        for trick in tricks {
            let call = Call::get(trick).header("authorization", &format!("Bearer {key}"));
            let reply = attempt(&proxy, &call).await;
            if reply.status != 200 {
                assert!((300..500).contains(&reply.status), "{} {trick}: {reply:?}", proxy.name);
                continue;
            }
            let seen = Seen(&reply.body);
            let target = seen.target();
            assert!(target.starts_with("/api/v1/"), "{} {trick}: {target}", proxy.name);
            assert!(!reaches_admin(target), "{} {trick}: {target}", proxy.name);
        }
        // A query is not a path.
        let call = Call::get("/api/v1/documents?next=//x/../%2e")
            .header("authorization", &format!("Bearer {key}"));
        assert_eq!(attempt(&proxy, &call).await.status, 200, "{}", proxy.name);
    }
}

/// Whether some server might resolve this path to `/api/admin`: decoded once, with dots and slashes resolved.
fn reaches_admin(target: &str) -> bool {
    let decoded =
        target.to_ascii_lowercase().replace("%2e", ".").replace("%2f", "/").replace("%5c", "\\");
    let mut parts = Vec::new();
    for part in decoded.split(['/', '\\']) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.starts_with(&["api", "admin"]) || decoded.contains("/../") && decoded.contains("admin")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn oversized_headers_do_not_get_through() {
    let scene = Scene::on_sqlite().await;
    let key = scene.key(&[Scope::Read]).await;
    for proxy in Proxy::all(&scene).await {
        for size in [1 << 10, 1 << 13, 1 << 15, 1 << 17] {
            let big = "x".repeat(size);
            for call in [
                Call::get(READ).header("authorization", &format!("Bearer {key}{big}")),
                Call::get(READ).header("authorization", &format!("Bearer {big}")),
                Call::get(READ)
                    .header("authorization", &format!("Bearer {key}"))
                    .header("x-sophic-workspace", &big),
            ] {
                let reply = attempt(&proxy, &call).await;
                let name = proxy.name;
                assert!(reply.status >= 400, "{name} {size}: {}", reply.status);
            }
            // A large valid request may be refused, but never gets through without the check.
            let call = Call::get(READ).header("x-filler", &big);
            let reply = attempt(&proxy, &call).await;
            assert!(reply.status >= 400, "{} {size}: {}", proxy.name, reply.status);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_without_an_answer_lets_no_request_through() {
    let scene = Scene::on_sqlite().await;
    let key = scene.key(&[Scope::Read]).await;
    let call = Call::get(READ).header("authorization", &format!("Bearer {key}"));
    for name in ["nginx", "caddy", "envoy"] {
        // If the proxy is not a known caller, that is not the client's fault.
        let other = sophic_auth::token::Token::mint(
            sophic_auth::token::TokenKind::Service,
            &sophic_auth::token::OsRandom,
        );
        let proxy = Proxy::start(name, &scene, other.expect("a token").expose()).await;
        let reply = attempt(&proxy, &call).await;
        assert_eq!(reply.status, 503, "{name}: {reply:?}");
        // nginx keeps the challenge of a 401 in any case.
        let challenge = reply.header("www-authenticate");
        assert!(name == "nginx" || challenge.is_empty(), "{name}: {reply:?}");
    }
    let proxies = Proxy::all(&scene).await;
    for proxy in &proxies {
        assert_eq!(attempt(proxy, &call).await.status, 200, "{}", proxy.name);
    }
    scene.h.running.stop().await;
    for proxy in &proxies {
        let reply = attempt(proxy, &call).await;
        assert!(matches!(reply.status, 502 | 503), "{}: {reply:?}", proxy.name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clients_address_is_that_of_its_connection() {
    let scene = Scene::on_sqlite().await;
    let elsewhere = scene.pat_for(&["203.0.113.0/24"]).await;
    for proxy in Proxy::all(&scene).await {
        for name in ["x-forwarded-for", "x-real-ip", "forwarded", "x-envoy-external-address"] {
            let call = Call::get(READ)
                .header("authorization", &format!("Bearer {elsewhere}"))
                .header("x-sophic-workspace", "acme")
                .header(name, "203.0.113.7");
            assert_eq!(attempt(&proxy, &call).await.status, 403, "{} {name}", proxy.name);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_token_is_refused_by_every_proxy() {
    let scene = Scene::on_sqlite().await;
    let proxies = Proxy::all(&scene).await;
    for proxy in &proxies {
        let pat = scene.root.create_pat("ada", &[Scope::Read], Role::Viewer).await.token;
        let call = Call::get(READ)
            .header("authorization", &format!("Bearer {pat}"))
            .header("x-sophic-workspace", "acme");
        assert_eq!(attempt(proxy, &call).await.status, 200);
        let revoke = Call::form("/oauth2/revoke", &[("token", &pat)])
            .header("authorization", &format!("Bearer {}", scene.caller_token));
        assert_eq!(revoke.send(scene.http()).await.status, 200);
        assert_eq!(attempt(proxy, &call).await.status, 401, "{}", proxy.name);
    }
}
