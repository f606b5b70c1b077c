//! Envoy's external authorization, `envoy.service.auth.v3.Authorization/Check`: the decision of forward-auth as Envoy's
//! messages. The operator's settings are in the route's `context_extensions`, which no client can set.
//!
//! If there is no decision, the answer is a gRPC error. Envoy treats it as a refusal with `failure_mode_allow: false`.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use tonic::{Code, Request, Response, Status};

use super::convert;
use super::envoy::config::core::v3 as core;
use super::envoy::service::auth::v3 as auth;
use super::envoy::r#type::v3 as http_type;
use super::google::rpc;
use crate::model::ScopeSet;
use crate::proxied::{
    IDENTITY_HEADERS, IDENTITY_ONLY_SETTING, ProxiedRequest, ProxyDecision, Refusal,
    WORKSPACE_HEADER, decide_for_proxy, required_scopes,
};
use crate::service::{Service, Violations};

/// A key of `context_extensions`. Its value is the scopes that the route needs, separated by spaces. The only other key is
/// [`IDENTITY_ONLY_SETTING`].
const SCOPE_KEY: &str = "scope";

/// Implements Envoy's `Authorization` service.
pub(super) struct ExtAuthzFace(pub(super) Arc<Service>);

#[tonic::async_trait]
impl auth::authorization_server::Authorization for ExtAuthzFace {
    async fn check(
        &self,
        request: Request<auth::CheckRequest>,
    ) -> Result<Response<auth::CheckResponse>, Status> {
        let caller_id = convert::caller_id(&request)?;
        let attributes = request.into_inner().attributes.unwrap_or_default();
        let mut violations = Violations::default();
        let required_scopes = scopes(&mut violations, &attributes.context_extensions);
        violations.finish()?;
        let client_ip = client_ip(&self.0, attributes.source);
        let http = attributes.request.and_then(|request| request.http).unwrap_or_default();
        let headers = headers(&http);
        let authorization = values(&headers, "authorization");
        let workspace = values(&headers, WORKSPACE_HEADER);
        let decision = decide_for_proxy(
            &self.0,
            &ProxiedRequest {
                authorization: &authorization,
                workspace: &workspace,
                required_scopes,
                client_ip,
                caller_id,
            },
        )
        .await?;
        Ok(Response::new(match decision {
            ProxyDecision::Pass(identity) => pass(identity, &headers),
            ProxyDecision::Refuse(refusal) => refuse(&refusal),
        }))
    }
}

/// Reads the required scopes. An unknown key is an error, because a misspelled one would change nothing.
fn scopes(violations: &mut Violations, extensions: &HashMap<String, String>) -> ScopeSet {
    if extensions.keys().any(|key| key != SCOPE_KEY && key != IDENTITY_ONLY_SETTING) {
        violations
            .add("context_extensions", "may have the keys scope and identity_only, and no other");
    }
    let value = |key| extensions.get(key).map(String::as_str);
    let identity_only = value(IDENTITY_ONLY_SETTING);
    required_scopes(violations, "context_extensions.", value(SCOPE_KEY), identity_only)
}

/// Returns the client's address as Envoy reports it. A client on a Unix socket has none.
fn client_ip(service: &Service, source: Option<auth::attribute_context::Peer>) -> Option<IpAddr> {
    let core::address::Address::SocketAddress(socket) = source?.address?.address?;
    service.client_address("source.address", socket.address.as_bytes())
}

/// Returns the client's headers, whichever of its two fields Envoy is configured to send them in.
fn headers(http: &auth::attribute_context::HttpRequest) -> Vec<(&str, &[u8])> {
    let joined = http.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    let raw = http.header_map.iter().flat_map(|map| &map.headers).map(|header| {
        let value = if header.raw_value.is_empty() {
            header.value.as_bytes()
        } else {
            &header.raw_value[..]
        };
        (header.key.as_str(), value)
    });
    joined.chain(raw).collect()
}

fn values<'a>(headers: &[(&str, &'a [u8])], name: &str) -> Vec<&'a [u8]> {
    let named = headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
    named.map(|(_, value)| *value).collect()
}

/// Lets the request through, without its credential and without identity headers that the client sent.
fn pass(identity: Vec<(&'static str, String)>, client: &[(&str, &[u8])]) -> auth::CheckResponse {
    let unset = IDENTITY_HEADERS
        .into_iter()
        .filter(|name| !identity.iter().any(|(set, _)| set == name))
        .map(str::to_owned);
    let mut remove: Vec<_> = std::iter::once("authorization".to_owned()).chain(unset).collect();
    remove.extend(
        client.iter().filter(|(name, _)| is_disguised(name)).map(|(name, _)| (*name).to_owned()),
    );
    let set = identity.into_iter().map(|(name, value)| header(name, value)).collect();
    auth::CheckResponse {
        status: Some(status(Code::Ok, "")),
        http_response: Some(auth::check_response::HttpResponse::OkResponse(auth::OkHttpResponse {
            headers: set,
            headers_to_remove: remove,
        })),
    }
}

/// Whether this is an identity header with `_` for `-`, which an upstream behind CGI or WSGI would take for the real
/// one.
fn is_disguised(name: &str) -> bool {
    name.contains('_') && {
        let name = name.to_ascii_lowercase().replace('_', "-");
        IDENTITY_HEADERS.contains(&name.as_str()) || name == WORKSPACE_HEADER
    }
}

fn refuse(refusal: &Refusal) -> auth::CheckResponse {
    let (code, status_code) = match refusal.status {
        400 => (Code::InvalidArgument, http_type::StatusCode::BadRequest),
        401 => (Code::Unauthenticated, http_type::StatusCode::Unauthorized),
        _ => (Code::PermissionDenied, http_type::StatusCode::Forbidden),
    };
    let headers = vec![
        header("www-authenticate", refusal.www_authenticate.to_owned()),
        header("content-type", "application/problem+json".to_owned()),
        header("cache-control", "no-store".to_owned()),
        header("x-sophic-denial", refusal.denial.to_owned()),
    ];
    let denied = auth::DeniedHttpResponse {
        status: Some(http_type::HttpStatus { code: status_code.into() }),
        headers,
        body: refusal.problem.to_string(),
    };
    auth::CheckResponse {
        status: Some(status(code, refusal.denial)),
        http_response: Some(auth::check_response::HttpResponse::DeniedResponse(denied)),
    }
}

fn status(code: Code, message: &str) -> rpc::Status {
    rpc::Status { code: code.into(), message: message.to_owned(), details: Vec::new() }
}

/// Sets a header and replaces any that the client sent under that name.
fn header(name: &str, value: String) -> core::HeaderValueOption {
    core::HeaderValueOption {
        header: Some(core::HeaderValue { key: name.to_owned(), value, raw_value: Vec::new() }),
        append_action: core::header_value_option::HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
    }
}
