//! OAuth 2.0 endpoints for existing client libraries: introspection (RFC 7662), revocation (RFC 7009) and metadata (RFC
//! 8414). The service issues no tokens by OAuth, so there is neither an authorization nor a token endpoint.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, EXPECT};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Response, StatusCode};
use axum::response::IntoResponse as _;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::form::Form;
use super::problem::{Problem, json_response};
use crate::decision::Denial;
use crate::model::{PrincipalFacts, Scope, ScopeSet, Timestamp};
use crate::service::{
    Context, Introspection, IntrospectionRequest, RevokeTarget, Service, Violations,
};

/// Largest form, in bytes. A form has a token and a few short fields.
pub(super) const FORM_BYTES_MAX: usize = 16 * 1024;
/// Longest time for a form to arrive.
const FORM_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum number of bytes of a refused body that are read and discarded.
const DISCARDED_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Longest wait for the next part of a refused body.
const DISCARD_PAUSE: Duration = Duration::from_millis(500);

/// Answers an introspection (RFC 7662), with three parameters added: `workspace`, `scope` and `client_ip`.
pub(super) async fn introspect(
    service: &Service,
    context: &Context,
    issuer: &str,
    form: &Form,
) -> Result<Response<Body>, Problem> {
    let token = form.single("token")?.ok_or(Problem::Malformed("token is missing"))?;
    let mut violations = Violations::default();
    let words =
        form.single("scope")?.unwrap_or_default().split(' ').filter(|word| !word.is_empty());
    let required_scopes =
        words.filter_map(|word| violations.check("scope", word.parse::<Scope>())).collect();
    let client_ip = form.single("client_ip")?;
    violations.finish()?;
    let client_ip = client_ip.and_then(|text| service.client_address("client_ip", text.as_bytes()));
    let request = IntrospectionRequest {
        token,
        workspace: form.single("workspace")?.unwrap_or_default(),
        required_scopes,
        client_ip,
        fresh: false,
        at_least_revision: 0,
        caller_id: context.caller_id(),
    };
    let answer = service.introspect(&request).await?;
    Ok(json_response(StatusCode::OK, "application/json", &introspection_body(&answer, issuer)))
}

/// Revokes a token (RFC 7009), and answers when no replica accepts it any more. The answer is the same for every token.
/// Only the audit log says whether there was a credential.
pub(super) async fn revoke(
    service: &Arc<Service>,
    context: Context,
    form: &Form,
) -> Result<Response<Body>, Problem> {
    let token = form.single("token")?.ok_or(Problem::Malformed("token is missing"))?;
    let target = RevokeTarget::Token(Zeroizing::new(token.to_owned()));
    service.revoke(context, target, "", "").await?;
    Ok((StatusCode::OK, [(CACHE_CONTROL, "no-store")]).into_response())
}

/// Returns the server metadata (RFC 8414).
pub(super) fn metadata(issuer: &str) -> Response<Body> {
    let body = json!({
        "issuer": issuer,
        "introspection_endpoint": format!("{issuer}/oauth2/introspect"),
        "introspection_endpoint_auth_methods_supported": ["client_secret_basic", "Bearer"],
        "revocation_endpoint": format!("{issuer}/oauth2/revoke"),
        "revocation_endpoint_auth_methods_supported": ["client_secret_basic"],
        "scopes_supported": Scope::ALL.map(Scope::as_str),
        "response_types_supported": [],
        "grant_types_supported": [],
    });
    json_response(StatusCode::OK, "application/json", &body)
}

/// Reads the form in the body. URL parameters are refused, not ignored: a client that sends `?workspace=` expects an
/// effect, and a token in the URL would be in the log of every proxy.
pub(super) async fn read_form(parts: &Parts, mut body: Body) -> Result<Form, Problem> {
    let read = match check_head(parts) {
        Ok(()) => read_body(&mut body).await,
        Err(problem) => Err(problem),
    };
    // A client that sent `Expect` waits for our answer, and sends no body after a refusal.
    if read.is_err() && !parts.headers.contains_key(EXPECT) {
        discard(body).await;
    }
    read
}

/// Checks the request before its body is read.
fn check_head(parts: &Parts) -> Result<(), Problem> {
    if parts.uri.query().is_some_and(|query| !query.is_empty()) {
        return Err(Problem::Malformed(
            "the URL takes no parameters: they belong in the form, which has token, and for introspection workspace, scope \
             and client_ip",
        ));
    }
    let headers = &parts.headers;
    if !is_form(headers) {
        return Err(Problem::MediaType);
    }
    let announced = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    let announced = announced.and_then(|length| length.parse::<usize>().ok());
    if announced.is_some_and(|length| length > FORM_BYTES_MAX) {
        return Err(Problem::TooLarge);
    }
    Ok(())
}

async fn read_body(body: &mut Body) -> Result<Form, Problem> {
    let read = tokio::time::timeout(FORM_TIMEOUT, Limited::new(body, FORM_BYTES_MAX).collect());
    match read.await {
        Ok(Ok(body)) => Ok(Form::decode(&body.to_bytes())?),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Problem::TooLarge),
        Ok(Err(_)) => Err(Problem::Malformed("the body ended early")),
        Err(_) => Err(Problem::TooSlow),
    }
}

/// Reads and discards the rest of a body for a while. A client that is still sending when the connection closes would
/// not see the answer.
async fn discard(mut body: Body) {
    let mut left = DISCARDED_BYTES_MAX;
    let rest = async {
        while let Ok(Some(Ok(frame))) = tokio::time::timeout(DISCARD_PAUSE, body.frame()).await {
            let read = frame.data_ref().map_or(0, Bytes::len);
            if read > left {
                break;
            }
            left -= read;
        }
    };
    // Answer now, whether or not the body has ended.
    let _ = tokio::time::timeout(FORM_TIMEOUT, rest).await;
}

/// Whether the body is `application/x-www-form-urlencoded` in UTF-8.
fn is_form(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let (Some(media_type), None) = (types.next(), types.next()) else { return false };
    let Ok(media_type) = media_type.to_str() else { return false };
    let (essence, parameters) = media_type.split_once(';').unwrap_or((media_type, ""));
    essence.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded")
        && parameters.split(';').map(str::trim).filter(|parameter| !parameter.is_empty()).all(
            |parameter| {
                let charset = parameter.to_ascii_lowercase();
                charset == "charset=utf-8" || charset == "charset=\"utf-8\""
            },
        )
}

/// Builds the response. An inactive token gets nothing but `active` (RFC 7662 §2.2).
fn introspection_body(answer: &Introspection, issuer: &str) -> Value {
    let decision = &answer.decision;
    let Some(found) = answer.found.as_ref().filter(|_| decision.is_active()) else {
        return json!({"active": false});
    };
    let credential = &found.credential;
    let (subject, user, kind) = match &found.principal {
        PrincipalFacts::Workspace(workspace) => {
            (format!("workspace:{}", workspace.id), None, "workspace_key")
        }
        PrincipalFacts::User(facts) => {
            (format!("user:{}", facts.user.id), Some(&facts.user.id), "user")
        }
    };
    let mut body = Map::new();
    body.insert("active".into(), true.into());
    let scopes = usable_scopes(answer);
    if !scopes.is_empty() {
        body.insert("scope".into(), scopes.to_string().into());
    }
    body.insert("client_id".into(), credential.id.to_string().into());
    if let Some(user) = user {
        body.insert("username".into(), user.as_str().into());
    }
    body.insert("sub".into(), subject.into());
    if let Some(expire_time) = credential.expire_time {
        body.insert("exp".into(), unix_seconds(expire_time).into());
    }
    body.insert("iat".into(), unix_seconds(credential.create_time).into());
    body.insert("iss".into(), issuer.into());
    body.insert("token_type".into(), "Bearer".into());
    body.insert("principal_kind".into(), kind.into());
    if let Some(workspace) = answer.workspace() {
        let workspace = json!({
            "id": workspace.id.as_str(),
            "slug": workspace.slug.as_str(),
            "display_name": workspace.display_name.as_str(),
        });
        body.insert("workspace".into(), workspace);
    }
    if let Some((role, cap)) = decision.role {
        body.insert("role".into(), role.as_str().into());
        body.insert("role_capped_by".into(), cap.as_str().into());
    }
    body.insert("allowed".into(), decision.is_allowed().into());
    body.insert("identity_only".into(), answer.identity_only.into());
    body.insert("http_status".into(), decision.http_status().into());
    if let Some(denial) = decision.denial {
        body.insert("denial".into(), denial.as_str().into());
    }
    if !decision.missing_scopes.is_empty() {
        let missing: Vec<_> = decision.missing_scopes.iter().map(Scope::as_str).collect();
        body.insert("missing_scopes".into(), missing.into());
    }
    Value::Object(body)
}

/// Returns the scopes that are usable in this workspace and from this address. A library that reads only `active` and
/// `scope` must not let through a request that is refused because of the workspace or the address.
fn usable_scopes(answer: &Introspection) -> ScopeSet {
    match answer.decision.denial {
        None | Some(Denial::UserCredentialRequired | Denial::InsufficientScope) => {
            answer.decision.scopes
        }
        Some(
            Denial::IpNotAllowed
            | Denial::WorkspaceMismatch
            | Denial::WorkspaceRequired
            | Denial::NotAMember
            | Denial::WorkspaceNotGranted
            | Denial::PatNotPermitted
            | Denial::TokenMissing
            | Denial::TokenUnknown
            | Denial::TokenRevoked
            | Denial::TokenExpired
            | Denial::TokenDisabled
            | Denial::PrincipalDisabled
            | Denial::UnknownTokensTooMany,
        ) => ScopeSet::NONE,
    }
}

/// Converts a time to whole seconds, rounded down, so that no expiry is reported later than it is.
fn unix_seconds(time: Timestamp) -> i64 {
    time.unix_micros().div_euclid(1_000_000)
}

#[cfg(test)]
mod tests {
    use axum::http::header::CONTENT_TYPE;
    use axum::http::{HeaderMap, HeaderValue};

    use super::is_form;

    #[test]
    fn only_a_form_in_utf_8_is_read() {
        let table = [
            ("application/x-www-form-urlencoded", true),
            ("Application/X-WWW-Form-URLEncoded; Charset=UTF-8", true),
            ("application/x-www-form-urlencoded;charset=\"utf-8\"", true),
            ("application/x-www-form-urlencoded; charset=utf-16", false),
            ("application/x-www-form-urlencoded; boundary=x", false),
            ("application/json", false),
            ("multipart/form-data", false),
            ("", false),
        ];
        for (media_type, expected) in table {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
            assert_eq!(is_form(&headers), expected, "{media_type}");
            headers.append(CONTENT_TYPE, HeaderValue::from_static(media_type));
            assert!(!is_form(&headers), "{media_type} twice");
        }
        assert!(!is_form(&HeaderMap::new()));
    }
}
