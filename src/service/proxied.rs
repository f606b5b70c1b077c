//! A request that a proxy asks about before it lets it through: one verdict, in headers and a body, for forward-auth and
//! for Envoy alike.
//!
//! What a request shows may be shown twice, and proxies and upstreams differ on which of the two counts. So whatever
//! is there twice, or may be two that were joined by a comma, is refused, never chosen from.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::{Introspection, IntrospectionRequest, Result, Service};
use crate::cache::PrincipalFacts;
use crate::model::{Scope, ScopeSet};
use crate::token::bearer;

/// The client's header that names the workspace.
pub const WORKSPACE_HEADER: &str = "x-sophic-workspace";

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

impl Service {
    /// Judges a request.
    ///
    /// # Errors
    /// Only if the store is out of reach: then nothing may be let through.
    pub async fn judge(&self, request: &ProxiedRequest<'_>) -> Result<Verdict> {
        let token = match token(request.authorization) {
            Ok(token) => token,
            Err(detail) => return Ok(Verdict::Refuse(malformed(detail))),
        };
        let workspace = match workspace(request.workspace) {
            Ok(workspace) => workspace,
            Err(detail) => return Ok(Verdict::Refuse(malformed(detail))),
        };
        let answer = self
            .introspect(&IntrospectionRequest {
                token,
                workspace,
                required_scopes: request.required_scopes,
                client_ip: request.client_ip,
                fresh: false,
                at_least_revision: 0,
            })
            .await?;
        Ok(refusal(&answer).map_or_else(|| Verdict::Pass(identity(&answer)), Verdict::Refuse))
    }
}

/// The presented token; empty if there is none, as there is none in another scheme.
fn token<'a>(values: &[&'a [u8]]) -> std::result::Result<&'a str, &'static str> {
    match values {
        [] => Ok(""),
        [value] => match bearer(value) {
            None => Ok(""),
            // No Bearer token has a comma (RFC 6750 §2.1): these are two headers that somebody joined.
            Some(token) if token.contains(&b',') => Err("there is more than one Authorization"),
            Some(token) => std::str::from_utf8(token).map_err(|_| "the token is not in UTF-8"),
        },
        [_, _, ..] => Err("there is more than one Authorization"),
    }
}

/// The workspace that is named; empty if the header is not there.
fn workspace<'a>(values: &[&'a [u8]]) -> std::result::Result<&'a str, &'static str> {
    match values {
        [] => Ok(""),
        [b""] => Err("x-sophic-workspace is empty"),
        [value] if value.contains(&b',') => Err("there is more than one x-sophic-workspace"),
        // What is spelled as no workspace is gets the answer of one that is not known.
        [value] => Ok(std::str::from_utf8(value).unwrap_or("?")),
        [_, _, ..] => Err("there is more than one x-sophic-workspace"),
    }
}

fn malformed(detail: &'static str) -> Refusal {
    Refusal {
        status: 400,
        denial: REQUEST_MALFORMED,
        www_authenticate: r#"Bearer realm="sophic", error="invalid_request""#,
        problem: Value::Object(problem(400, REQUEST_MALFORMED, detail)),
    }
}

fn refusal(answer: &Introspection) -> Option<Refusal> {
    let denial = answer.decision.denial?;
    let status = denial.http_status();
    let mut problem = problem(status, denial.as_str(), denial.explanation());
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

#[cfg(test)]
mod tests {
    use super::{token, workspace};

    #[test]
    fn one_bearer_token_is_read_to_the_byte() {
        assert_eq!(token(&[]), Ok(""));
        assert_eq!(token(&[b"Bearer abc"]), Ok("abc"));
        assert_eq!(token(&[b"bEARER abc"]), Ok("abc"));
        assert_eq!(token(&[b"Bearer  abc"]), Ok(" abc"));
        assert_eq!(token(&[b"Bearer abc "]), Ok("abc "));
    }

    #[test]
    fn another_scheme_presents_no_token() {
        for value in ["Bearer", "Bearer\tabc", "Basic YTpi", "abc", "", " Bearer abc"] {
            assert_eq!(token(&[value.as_bytes()]), Ok(""), "{value:?}");
        }
    }

    #[test]
    fn what_may_be_two_is_refused() {
        assert!(token(&[b"Bearer abc", b"Bearer abc"]).is_err());
        assert!(token(&[b"Bearer abc,Bearer def"]).is_err());
        assert!(token(&[b"Bearer \xff"]).is_err());
        assert!(workspace(&[b"acme", b"acme"]).is_err());
        assert!(workspace(&[b"acme,globex"]).is_err());
        assert!(workspace(&[b""]).is_err());
        assert_eq!(workspace(&[b"acme"]), Ok("acme"));
    }
}
