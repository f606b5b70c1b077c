//! Forward-auth: a proxy asks before it lets a request through (nginx `auth_request`, Caddy `forward_auth`, Traefik
//! `ForwardAuth`). What the operator fixed stands in the query, which no client can reach; nothing that decides is
//! ever taken from a header that a client could have sent in the proxy's place.

use std::net::IpAddr;

use axum::body::Body;
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use axum::response::IntoResponse as _;

use super::form::Form;
use super::problem::{Problem, json_response};
use crate::model::{Scope, ScopeSet};
use crate::proxied::{IDENTITY_HEADERS, ProxiedRequest, Refusal, Verdict, WORKSPACE_HEADER, judge};
use crate::service::{Context, Service, ServiceError, Violations};

/// Where a proxy that cannot fix a query puts the scopes that a route needs.
const SCOPE_HEADER: &str = "x-sophic-required-scope";
/// Why a request is refused, in a word. It is there exactly when the answer speaks of the client.
const DENIAL_HEADER: HeaderName = HeaderName::from_static("x-sophic-denial");

/// What the operator asks for.
struct Terms {
    required_scopes: ScopeSet,
    client_ip: Option<IpAddr>,
}

/// Judges the request that the proxy asks about. The proxy has been found good already.
pub(super) async fn answer(
    service: &Service,
    context: &Context,
    parts: &Parts,
) -> Result<Response<Body>, Problem> {
    let terms = terms(service, parts)?;
    let authorization = values(&parts.headers, AUTHORIZATION.as_str());
    let workspace = values(&parts.headers, WORKSPACE_HEADER);
    let verdict = judge(
        service,
        &ProxiedRequest {
            authorization: &authorization,
            workspace: &workspace,
            required_scopes: terms.required_scopes,
            client_ip: terms.client_ip,
            asker: context.caller_id(),
        },
    )
    .await?;
    match verdict {
        Verdict::Pass(identity) => pass(identity),
        Verdict::Refuse(refusal) => Ok(refuse(&refusal)),
    }
}

/// What is not said is there, and empty: Caddy would copy its own placeholder for a header that is not there, or leave
/// the client's.
fn pass(identity: Vec<(&'static str, String)>) -> Result<Response<Body>, Problem> {
    let mut headers = HeaderMap::with_capacity(IDENTITY_HEADERS.len() + 1);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    for name in IDENTITY_HEADERS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(""));
    }
    for (name, value) in identity {
        let value = HeaderValue::try_from(value);
        let value = value.map_err(|error| ServiceError::internal(&error))?;
        headers.insert(HeaderName::from_static(name), value);
    }
    Ok((StatusCode::OK, headers).into_response())
}

fn refuse(refusal: &Refusal) -> Response<Body> {
    let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::FORBIDDEN);
    let mut response = json_response(status, "application/problem+json", &refusal.problem);
    let headers = response.headers_mut();
    headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(refusal.www_authenticate));
    headers.insert(DENIAL_HEADER, HeaderValue::from_static(refusal.denial));
    response
}

/// The query wins: where it says anything of scopes, the header is not looked at. A parameter that is not known is an
/// error, since a scope that was misspelled away would let everybody through.
fn terms(service: &Service, parts: &Parts) -> Result<Terms, Problem> {
    let query = Form::decode(parts.uri.query().unwrap_or_default().as_bytes())?;
    let mut violations = Violations::default();
    if query.has_other_than(&["scope", "client_ip_header"]) {
        violations.add("query", "may have scope and client_ip_header, and nothing else");
    }
    let in_query: Vec<_> = query.all("scope").map(str::as_bytes).collect();
    let scopes = if in_query.is_empty() { values(&parts.headers, SCOPE_HEADER) } else { in_query };
    let required_scopes = scopes
        .iter()
        .flat_map(|value| value.split(|byte| *byte == b' ').filter(|word| !word.is_empty()))
        .filter_map(|word| {
            let scope = std::str::from_utf8(word).unwrap_or("?").parse::<Scope>();
            violations.check("scope", scope)
        })
        .collect();
    let client_ip_header = query.one("client_ip_header")?;
    violations.finish()?;
    let client_ip = client_ip_header.and_then(|name| client_ip(service, &parts.headers, name));
    Ok(Terms { required_scopes, client_ip })
}

/// The last address in the last header of that name: what the nearest proxy wrote.
fn client_ip(service: &Service, headers: &HeaderMap, name: &str) -> Option<IpAddr> {
    let value = headers.get_all(name).iter().next_back()?;
    let last = value.as_bytes().rsplit(|byte| *byte == b',').next()?.trim_ascii();
    service.client_address(name, last)
}

fn values<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a [u8]> {
    headers.get_all(name).iter().map(HeaderValue::as_bytes).collect()
}
