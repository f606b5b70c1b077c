//! A request that a proxy asks about before it lets it through: one verdict, in headers and a body, for forward-auth and
//! for Envoy alike.
//!
//! What a request shows may be shown twice, and proxies and upstreams differ on which of the two counts. So whatever
//! is there twice, or may be two that were joined by a comma, is refused, never chosen from.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use crate::decision::{Decision, Denial, www_authenticate};
use crate::model::{CallerId, PrincipalFacts, Scope, ScopeSet};
use crate::service::{Introspection, IntrospectionRequest, Result, Service};
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
    let token = match presented(request.authorization) {
        Presented::Token(token) => token,
        Presented::Nothing => return Ok(Verdict::Refuse(without_token(Denial::TokenMissing))),
        Presented::Unreadable => {
            return Ok(Verdict::Refuse(without_token(Denial::TokenUnknown)));
        }
    };
    let Some(workspace) = workspace(request.workspace) else {
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

/// What `Authorization` holds.
#[derive(Debug, PartialEq, Eq)]
enum Presented<'a> {
    /// No Bearer token: no header, or another scheme (RFC 6750 §3.1).
    Nothing,
    /// No token can be read from it.
    Unreadable,
    /// This.
    Token(&'a str),
}

/// The scheme in any case (RFC 9110 §11.1), one space or more, and a token in the characters of RFC 6750 §2.1: so no list, no
/// tab, nothing before or behind.
fn presented<'a>(values: &[&'a [u8]]) -> Presented<'a> {
    let value = match values {
        [] => return Presented::Nothing,
        [value] => *value,
        [_, _, ..] => return Presented::Unreadable,
    };
    let scheme = value.split(|byte| !byte.is_ascii_graphic()).next().unwrap_or_default();
    if !scheme.eq_ignore_ascii_case(b"bearer") {
        // A first word that is not ASCII is no scheme at all.
        let is_scheme = scheme.len() == value.len() || value.get(scheme.len()) == Some(&b' ');
        let is_scheme = is_scheme && !scheme.is_empty();
        return if is_scheme { Presented::Nothing } else { Presented::Unreadable };
    }
    let spelled = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(byte);
    let token = bearer(value).filter(|token| !token.is_empty() && token.iter().all(spelled));
    match token.map(std::str::from_utf8) {
        Some(Ok(token)) => Presented::Token(token),
        Some(Err(_)) | None => Presented::Unreadable,
    }
}

/// The workspace that is named; empty if the header is not there, `None` if it may be read in two ways.
fn workspace<'a>(values: &[&'a [u8]]) -> Option<&'a str> {
    match values {
        [] => Some(""),
        [value] => {
            let visible = |byte: &u8| matches!(byte, b' '..=b'~' | b'\t') && *byte != b',';
            let text = std::str::from_utf8(value).ok();
            text.filter(|text| !text.is_empty() && text.as_bytes().iter().all(visible))
        }
        [_, _, ..] => None,
    }
}

fn without_token(denial: Denial) -> Refusal {
    let decision = Decision::refused(denial);
    let status = decision.http_status();
    Refusal {
        status,
        denial: denial.as_str(),
        www_authenticate: www_authenticate(&decision, ScopeSet::EMPTY),
        problem: Value::Object(problem(status, denial.as_str(), decision.explanation())),
    }
}

fn bad_workspace() -> Refusal {
    let detail = "x-sophic-workspace must be sent once, with a slug or id";
    Refusal {
        status: 400,
        denial: REQUEST_MALFORMED,
        www_authenticate: r#"Bearer realm="sophic", error="invalid_request", error_description="send x-sophic-workspace once""#,
        problem: Value::Object(problem(400, REQUEST_MALFORMED, detail)),
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

#[cfg(test)]
mod tests {
    use super::{Presented, presented, workspace};

    #[test]
    fn one_bearer_token_is_read() {
        for value in ["Bearer abc", "bearer abc", "BEARER abc", "Bearer   abc"] {
            assert_eq!(presented(&[value.as_bytes()]), Presented::Token("abc"), "{value}");
        }
    }

    #[test]
    fn no_header_and_another_scheme_present_nothing() {
        assert_eq!(presented(&[]), Presented::Nothing);
        for value in ["Basic YTpi", "Digest x=1, y=2", "sophic_key_abc", "Bearerabc"] {
            assert_eq!(presented(&[value.as_bytes()]), Presented::Nothing, "{value}");
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_not_read() {
        let values: [&[u8]; 11] = [
            b"Bearer",
            b"Bearer ",
            b"Bearer  ",
            b"Bearer \tabc",
            b"Bearer\tabc",
            b"Bearer abc def",
            b"Bearer abc,def",
            b"Bearer abc, Bearer def",
            b"Bearer ab\xffc",
            b"\xef\xbb\xbfBearer abc",
            b"",
        ];
        for value in values {
            assert_eq!(presented(&[value]), Presented::Unreadable, "{}", value.escape_ascii());
        }
        assert_eq!(presented(&[b"Bearer abc", b"Bearer abc"]), Presented::Unreadable);
    }

    #[test]
    fn a_workspace_is_named_once_or_not_at_all() {
        assert_eq!(workspace(&[]), Some(""));
        assert_eq!(workspace(&[b"acme"]), Some("acme"));
        let bad: [&[&[u8]]; 5] =
            [&[b""], &[b"acme,globex"], &[b"acme", b"acme"], &[b"\xff"], &[b"a\x7f"]];
        for values in bad {
            assert_eq!(workspace(values), None);
        }
    }
}
