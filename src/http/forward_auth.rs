//! Forward-auth: a proxy asks whether to let a request through (nginx `auth_request`, Caddy `forward_auth`, Traefik
//! `ForwardAuth`). The operator's settings are in the query, which no client can set. They are never taken from a
//! header that a client could have sent instead of the proxy.

use std::net::IpAddr;

use axum::body::Body;
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use axum::response::IntoResponse as _;

use super::form::Form;
use super::problem::{Problem, json_response};
use crate::model::ScopeSet;
use crate::proxied::{
    IDENTITY_HEADERS, IDENTITY_ONLY_SETTING, ProxiedRequest, ProxyDecision, Refusal,
    WORKSPACE_HEADER, decide_for_proxy, required_scopes,
};
use crate::service::{Context, Service, ServiceError, Violations};

/// Header with the denial code. It is present exactly when the answer is about the client, not about the proxy.
const DENIAL_HEADER: HeaderName = HeaderName::from_static("x-sophic-denial");

/// What the operator requires on a route.
struct RouteRequirements {
    required_scopes: ScopeSet,
    client_ip: Option<IpAddr>,
}

/// Answers whether the proxy may let the request through. The proxy was authenticated before.
pub(super) async fn answer(
    service: &Service,
    context: &Context,
    parts: &Parts,
) -> Result<Response<Body>, Problem> {
    let requirements = route_requirements(service, parts)?;
    let authorization = header_values(&parts.headers, AUTHORIZATION.as_str());
    let workspace = header_values(&parts.headers, WORKSPACE_HEADER);
    let decision = decide_for_proxy(
        service,
        &ProxiedRequest {
            authorization: &authorization,
            workspace: &workspace,
            required_scopes: requirements.required_scopes,
            client_ip: requirements.client_ip,
            caller_id: context.caller_id(),
        },
    )
    .await?;
    match decision {
        ProxyDecision::Pass(identity) => pass(identity),
        ProxyDecision::Refuse(refusal) => Ok(refuse(&refusal)),
    }
}

/// The usual names of headers with a client's address.
const CLIENT_IP_HEADERS: [&str; 8] = [
    "x-forwarded-for",
    "x-real-ip",
    "x-client-ip",
    "x-original-forwarded-for",
    "x-envoy-external-address",
    "cf-connecting-ip",
    "true-client-ip",
    "fastly-client-ip",
];

/// Lets the request through. Identity headers without a value are sent empty: for an absent header, Caddy would copy
/// its placeholder, or leave the client's header.
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

/// Reads the operator's settings. An unknown parameter is an error, because a misspelled one would change nothing.
fn route_requirements(service: &Service, parts: &Parts) -> Result<RouteRequirements, Problem> {
    const SETTINGS: [&str; 3] = ["scope", IDENTITY_ONLY_SETTING, "client_ip_header"];
    let query = Form::decode(parts.uri.query().unwrap_or_default().as_bytes())?;
    let mut violations = Violations::default();
    if query.has_other_fields_than(&SETTINGS) {
        let what = format!("may have {}, and nothing else", SETTINGS.join(", "));
        violations.add("query", what);
    }
    let identity_only = query.single(IDENTITY_ONLY_SETTING)?;
    let required_scopes =
        required_scopes(&mut violations, "", query.values("scope"), identity_only);
    let client_ip_header = query.single("client_ip_header")?;
    violations.finish()?;
    let client_ip = client_ip_header.and_then(|name| client_ip(service, &parts.headers, name));
    Ok(RouteRequirements { required_scopes, client_ip })
}

/// Returns the last address in the last header of that name, which the nearest proxy wrote.
fn client_ip(service: &Service, headers: &HeaderMap, name: &str) -> Option<IpAddr> {
    let value = headers.get_all(name).iter().next_back()?;
    let last = value.as_bytes().rsplit(|byte| *byte == b',').next()?.trim_ascii();
    service.client_address(place_in_log(name), last)
}

/// Returns the name of the header for the log. Only a usual name is repeated, because the query could hold anything
/// there, even a token.
fn place_in_log(name: &str) -> &'static str {
    let known = CLIENT_IP_HEADERS.iter().find(|known| known.eq_ignore_ascii_case(name));
    known.copied().unwrap_or("the header that client_ip_header names")
}

fn header_values<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a [u8]> {
    headers.get_all(name).iter().map(HeaderValue::as_bytes).collect()
}
