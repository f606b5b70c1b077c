//! A request that a proxy asks about before it lets it through: one verdict, in headers and a body, for forward-auth and
//! for Envoy alike.
//!
//! What a request shows is read by `token::headers`.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use crate::decision::{Decision, Denial, www_authenticate};
use crate::model::{CallerId, PrincipalFacts, Scope, ScopeSet};
use crate::service::{Introspection, IntrospectionRequest, Result, Service};
use crate::token::headers::{self, Bearer};

pub use crate::token::headers::WORKSPACE_HEADER;

/// Headers that tell the upstream who is asking. What a client sends under these names must never get there.
pub const IDENTITY_HEADERS: [&str; 7] = [
    "x-sophic-principal-kind",
    "x-sophic-user",
    "x-sophic-workspace-id",
    "x-sophic-workspace-slug",
    "x-sophic-role",
    "x-sophic-scopes",
    "x-sophic-credential-id",
];

/// What stands for the denial of a request that is not well formed; all others are those of the decision.
const REQUEST_MALFORMED: &str = "REQUEST_MALFORMED";

/// What a client's request shows, as its proxy passes it on.
#[derive(Clone, Copy)]
pub struct ProxiedRequest<'a> {
    /// Each value of `Authorization`.
    pub authorization: &'a [&'a [u8]],
    /// Each value of [`WORKSPACE_HEADER`].
    pub workspace: &'a [&'a [u8]],
    /// All the scopes that the route needs.
    pub required_scopes: ScopeSet,
    /// Where the client is, if the proxy says.
    pub client_ip: Option<IpAddr>,
    /// The proxy, which may ask about only so many unknown tokens.
    pub asker: Option<CallerId>,
}

/// Whether the proxy is to let the request through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Yes, with these of [`IDENTITY_HEADERS`].
    Pass(Vec<(&'static str, String)>),
    /// No.
    Refuse(Refusal),
}

/// What to answer the client with in place of the upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// 400, 401 or 403.
    pub status: u16,
    /// Why, in a word.
    pub denial: &'static str,
    /// The `WWW-Authenticate` header.
    pub www_authenticate: &'static str,
    /// A problem body (RFC 9457).
    pub problem: Value,
}

/// Judges a request.
///
/// # Errors
/// Only if the store is out of reach: then nothing may be let through.
pub async fn judge(service: &Service, request: &ProxiedRequest<'_>) -> Result<Verdict> {
    let token = match Bearer::of(request.authorization.iter().copied()) {
        Bearer::Token(token) => token,
        Bearer::Missing => return Ok(Verdict::Refuse(without_token(Denial::TokenMissing))),
        Bearer::Malformed => return Ok(Verdict::Refuse(without_token(Denial::TokenUnknown))),
    };
    let Some(workspace) = headers::workspace(request.workspace.iter().copied()) else {
        return Ok(Verdict::Refuse(bad_workspace()));
    };
    let answer = service
        .introspect(&IntrospectionRequest {
            token,
            workspace,
            required_scopes: request.required_scopes,
            client_ip: request.client_ip,
            fresh: false,
            at_least_revision: 0,
            asker: request.asker,
        })
        .await?;
    Ok(refusal(&answer).map_or_else(|| Verdict::Pass(identity(&answer)), Verdict::Refuse))
}

fn without_token(denial: Denial) -> Refusal {
    let decision = Decision::refused(denial);
    let status = decision.http_status();
    Refusal {
        status,
        denial: denial.as_str(),
        www_authenticate: www_authenticate(&decision, ScopeSet::NONE),
        problem: Value::Object(problem(status, denial.as_str(), decision.explanation())),
    }
}

fn bad_workspace() -> Refusal {
    Refusal {
        status: 400,
        denial: REQUEST_MALFORMED,
        www_authenticate: headers::WORKSPACE_MALFORMED_CHALLENGE,
        problem: Value::Object(problem(400, REQUEST_MALFORMED, headers::WORKSPACE_MALFORMED)),
    }
}

fn refusal(answer: &Introspection) -> Option<Refusal> {
    let denial = answer.decision.denial?;
    let status = denial.http_status();
    let mut problem = problem(status, denial.as_str(), answer.decision.explanation());
    if !answer.decision.missing_scopes.is_empty() {
        let missing: Vec<_> = answer.decision.missing_scopes.iter().map(Scope::as_str).collect();
        problem.insert("missing_scopes".into(), json!(missing));
    }
    Some(Refusal {
        status,
        denial: denial.as_str(),
        www_authenticate: answer.www_authenticate,
        problem: Value::Object(problem),
    })
}

fn problem(status: u16, denial: &str, detail: &str) -> Map<String, Value> {
    let title = match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        _ => "Forbidden",
    };
    let mut problem = Map::new();
    problem.insert("type".into(), "about:blank".into());
    problem.insert("title".into(), title.into());
    problem.insert("status".into(), status.into());
    problem.insert("detail".into(), detail.into());
    problem.insert("denial".into(), denial.into());
    problem
}

/// Ids, slugs, roles and scopes are all plain ASCII, so that they fit into headers as they are.
fn identity(answer: &Introspection) -> Vec<(&'static str, String)> {
    let mut headers = Vec::with_capacity(IDENTITY_HEADERS.len());
    let Some(found) = &answer.found else { return headers };
    match &found.principal {
        PrincipalFacts::Workspace(_) => {
            headers.push(("x-sophic-principal-kind", "workspace_key".to_owned()));
        }
        PrincipalFacts::User(facts) => {
            headers.push(("x-sophic-principal-kind", "user".to_owned()));
            headers.push(("x-sophic-user", facts.user.id.to_string()));
        }
    }
    if let Some(workspace) = answer.workspace() {
        headers.push(("x-sophic-workspace-id", workspace.id.to_string()));
        headers.push(("x-sophic-workspace-slug", workspace.slug.to_string()));
    }
    if let Some((role, _)) = answer.decision.role {
        headers.push(("x-sophic-role", role.as_str().to_owned()));
    }
    headers.push(("x-sophic-scopes", answer.decision.scopes.to_string()));
    headers.push(("x-sophic-credential-id", found.credential.id.to_string()));
    headers
}
