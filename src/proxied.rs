//! Decides whether a proxy may let a request through, and with which headers or body. Forward-auth and Envoy share
//! this.
//!
//! `token::headers` reads the request's headers.

use std::net::IpAddr;

use http::StatusCode;
use serde_json::{Map, Value, json};

use crate::decision::{Decision, Denial, www_authenticate};
use crate::model::{CallerId, PrincipalFacts, Scope, ScopeSet};
use crate::service::{Introspection, IntrospectionRequest, Result, Service, Violations};
use crate::token::headers::{self, Bearer};

pub use crate::token::headers::WORKSPACE_HEADER;

const PRINCIPAL_KIND_HEADER: &str = "x-sophic-principal-kind";
const USER_HEADER: &str = "x-sophic-user";
const WORKSPACE_ID_HEADER: &str = "x-sophic-workspace-id";
const WORKSPACE_SLUG_HEADER: &str = "x-sophic-workspace-slug";
const ROLE_HEADER: &str = "x-sophic-role";
const SCOPES_HEADER: &str = "x-sophic-scopes";
const CREDENTIAL_ID_HEADER: &str = "x-sophic-credential-id";
/// `true` if the route requires no scope, so that the client is authorised for nothing. Absent otherwise.
const IDENTITY_ONLY_HEADER: &str = "x-sophic-identity-only";

/// Headers that tell the upstream who the client is. Headers of these names from the client must never reach the
/// upstream.
pub const IDENTITY_HEADERS: [&str; 8] = [
    PRINCIPAL_KIND_HEADER,
    USER_HEADER,
    WORKSPACE_ID_HEADER,
    WORKSPACE_SLUG_HEADER,
    ROLE_HEADER,
    SCOPES_HEADER,
    CREDENTIAL_ID_HEADER,
    IDENTITY_ONLY_HEADER,
];

/// The operator's setting for a route that requires no scope.
pub const IDENTITY_ONLY_SETTING: &str = "identity_only";

/// Denial code of a malformed request. All other codes are those of [`Denial`].
const REQUEST_MALFORMED: &str = "REQUEST_MALFORMED";

/// A client's request, as its proxy passes it on.
#[derive(Clone, Copy)]
pub struct ProxiedRequest<'a> {
    /// All values of `Authorization`.
    pub authorization: &'a [&'a [u8]],
    /// All values of [`WORKSPACE_HEADER`].
    pub workspace: &'a [&'a [u8]],
    /// All scopes that the route needs, as [`required_scopes`] reads them. None: only the identity is asked for.
    pub required_scopes: ScopeSet,
    /// Address of the client. `None` if the proxy does not send it.
    pub client_ip: Option<IpAddr>,
    /// The proxy, whose rate of unknown tokens is limited.
    pub caller_id: Option<CallerId>,
}

/// Whether the proxy may let the request through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProxyDecision {
    /// Let it through, with these headers out of [`IDENTITY_HEADERS`].
    Pass(Vec<(&'static str, String)>),
    /// Refuse it.
    Refuse(Refusal),
}

/// The proxy's answer to the client, instead of the upstream's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// 400, 401 or 403.
    pub status: u16,
    /// Code of the denial.
    pub denial: &'static str,
    /// Value of the `WWW-Authenticate` header.
    pub www_authenticate: &'static str,
    /// A problem body (RFC 9457).
    pub problem: Value,
}

/// Reads what the operator requires on a route: `scopes`, separated by spaces, or explicitly none. Neither is a mistake,
/// and so are both: a setting that was forgotten would let every client through. `prefix` comes before the names of
/// the settings in an error.
pub fn required_scopes<'a>(
    violations: &mut Violations,
    prefix: &str,
    scopes: impl IntoIterator<Item = &'a str>,
    identity_only: Option<&str>,
) -> ScopeSet {
    let words = scopes.into_iter().flat_map(|text| text.split(' '));
    let mut words = words.filter(|word| !word.is_empty()).peekable();
    let (field, switch) = (format!("{prefix}scope"), format!("{prefix}{IDENTITY_ONLY_SETTING}"));
    match (words.peek().is_some(), identity_only) {
        (true, None) | (false, Some("true")) => {}
        (false, None) => violations.add(
            &field,
            "must name the scopes that the route requires. For a route that requires none and permits nothing, set \
             identity_only to true",
        ),
        (true, Some("true")) => violations.add(&switch, "must be absent if scope names any"),
        (_, Some(_)) => violations.add(&switch, "must be true or absent"),
    }
    words.filter_map(|word| violations.check(&field, word.parse::<Scope>())).collect()
}

/// Decides on a request.
///
/// # Errors
/// If introspection fails, for example because the store cannot be reached. The proxy must refuse the request then.
pub async fn decide_for_proxy(
    service: &Service,
    request: &ProxiedRequest<'_>,
) -> Result<ProxyDecision> {
    let token = match Bearer::from_headers(request.authorization.iter().copied()) {
        Bearer::Token(token) => token,
        Bearer::Missing => {
            return Ok(ProxyDecision::Refuse(refusal_without_token(Denial::TokenMissing)));
        }
        Bearer::Malformed => {
            return Ok(ProxyDecision::Refuse(refusal_without_token(Denial::TokenUnknown)));
        }
    };
    let Some(workspace) = headers::workspace(request.workspace.iter().copied()) else {
        return Ok(ProxyDecision::Refuse(malformed_workspace_refusal()));
    };
    let answer = service
        .introspect(&IntrospectionRequest {
            token,
            workspace,
            required_scopes: request.required_scopes,
            client_ip: request.client_ip,
            fresh: false,
            at_least_revision: 0,
            caller_id: request.caller_id,
        })
        .await?;
    Ok(refusal_of(&answer)
        .map_or_else(|| ProxyDecision::Pass(identity_headers(&answer)), ProxyDecision::Refuse))
}

fn refusal_without_token(denial: Denial) -> Refusal {
    let decision = Decision::refused(denial);
    let status = decision.http_status();
    Refusal {
        status,
        denial: denial.as_str(),
        www_authenticate: www_authenticate(&decision, ScopeSet::NONE),
        problem: Value::Object(problem(status, denial.as_str(), decision.explanation())),
    }
}

fn malformed_workspace_refusal() -> Refusal {
    Refusal {
        status: 400,
        denial: REQUEST_MALFORMED,
        www_authenticate: headers::WORKSPACE_MALFORMED_CHALLENGE,
        problem: Value::Object(problem(400, REQUEST_MALFORMED, headers::WORKSPACE_MALFORMED)),
    }
}

fn refusal_of(answer: &Introspection) -> Option<Refusal> {
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
    let title = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    let mut problem = Map::new();
    problem.insert("type".into(), "about:blank".into());
    problem.insert("title".into(), title.unwrap_or_default().into());
    problem.insert("status".into(), status.into());
    problem.insert("detail".into(), detail.into());
    problem.insert("denial".into(), denial.into());
    problem
}

/// Returns the identity headers. Ids, slugs, roles and scopes are ASCII and need no encoding.
fn identity_headers(answer: &Introspection) -> Vec<(&'static str, String)> {
    let mut headers = Vec::with_capacity(IDENTITY_HEADERS.len());
    let Some(found) = &answer.found else { return headers };
    match &found.principal {
        PrincipalFacts::Workspace(_) => {
            headers.push((PRINCIPAL_KIND_HEADER, "workspace_key".to_owned()));
        }
        PrincipalFacts::User(facts) => {
            headers.push((PRINCIPAL_KIND_HEADER, "user".to_owned()));
            headers.push((USER_HEADER, facts.user.id.to_string()));
        }
    }
    if let Some(workspace) = answer.workspace() {
        headers.push((WORKSPACE_ID_HEADER, workspace.id.to_string()));
        headers.push((WORKSPACE_SLUG_HEADER, workspace.slug.to_string()));
    }
    if let Some((role, _)) = answer.decision.role {
        headers.push((ROLE_HEADER, role.as_str().to_owned()));
    }
    headers.push((SCOPES_HEADER, answer.decision.scopes.to_string()));
    headers.push((CREDENTIAL_ID_HEADER, found.credential.id.to_string()));
    if answer.identity_only {
        headers.push((IDENTITY_ONLY_HEADER, "true".to_owned()));
    }
    headers
}
