//! Converts messages to the nouns of `model` and back. Invalid fields are collected as violations, so that one answer
//! names them all.

use std::time::Duration;

use tonic::{Request, Status};

use super::pb;
use crate::decision::{Denial, RoleCap};
use crate::model::limits::SCOPES_MAX;
use crate::model::{
    Caller, CallerId, CallerIdentity, CredentialKind, CredentialState, Invalid, Membership,
    PatPolicy, PatPolicyChange, PolicyChange, PrincipalFacts, Role, Scope, ScopeSet, Timestamp,
    User, UserId, Workspace, WorkspaceName, WorkspacePolicy, join_names,
};
use crate::service::{
    Context, Expiration, Introspection, IntrospectionRequest, PageRequest, Service, ServiceError,
    Violations,
};

/// Returns the context that `gate.rs` has added to the request.
pub(super) fn context<T>(request: &Request<T>) -> std::result::Result<Context, Status> {
    let context = request.extensions().get::<Context>().cloned();
    context.ok_or_else(|| ServiceError::internal(&"a request that did not pass the gate").into())
}

/// Returns the id of the caller, if a caller sent the request.
pub(super) fn caller_id<T>(request: &Request<T>) -> std::result::Result<Option<CallerId>, Status> {
    Ok(context(request)?.caller_id())
}

/// Converts a request. `prefix` is put before the field names in violations.
pub(super) fn introspection_request<'a>(
    service: &Service,
    violations: &mut Violations,
    prefix: &str,
    message: &'a pb::IntrospectRequest,
    caller_id: Option<CallerId>,
) -> IntrospectionRequest<'a> {
    let field = |name: &str| format!("{prefix}{name}");
    let required_scopes = scopes(violations, &field("required_scopes"), &message.required_scopes);
    let client_ip = optional(&message.client_ip)
        .and_then(|text| service.client_address("client_ip", text.as_bytes()));
    if i64::try_from(message.at_least_revision).is_err() {
        let description = "must be a revision of an earlier answer, or 0";
        violations.add(&field("at_least_revision"), description);
    }
    IntrospectionRequest {
        token: &message.token,
        workspace: &message.workspace,
        required_scopes,
        client_ip,
        fresh: message.fresh,
        at_least_revision: message.at_least_revision,
        caller_id,
    }
}

pub(super) fn workspace_name(
    violations: &mut Violations,
    field: &str,
    text: &str,
) -> Option<WorkspaceName> {
    let described =
        |_| Invalid::new("must be a workspace's slug or id: 1 to 64 of A-Z, a-z, 0-9, '_' and '-'");
    violations.check(field, WorkspaceName::parse(text).map_err(described))
}

pub(super) fn user_id(violations: &mut Violations, field: &str, text: &str) -> Option<UserId> {
    violations.check(field, UserId::parse(text))
}

/// Returns `None` for an empty field.
pub(super) fn optional(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

pub(super) fn page_request(size: i32, token: String) -> PageRequest {
    PageRequest { size, token }
}

/// Returns the collected violations as an error, for a `let … else` on required fields.
pub(super) fn refuse<T>(violations: Violations) -> std::result::Result<T, Status> {
    Err(violations.into_error().into())
}

pub(super) fn scopes(violations: &mut Violations, field: &str, numbers: &[i32]) -> ScopeSet {
    if numbers.len() > SCOPES_MAX {
        violations.add(field, format!("must have at most {SCOPES_MAX} entries"));
        return ScopeSet::NONE;
    }
    let scopes = numbers.iter().filter_map(|number| {
        let scope = Scope::from_proto(*number);
        if scope.is_none() {
            let names = Scope::ALL.map(|scope| scope.to_proto().as_str_name());
            violations.add(field, format!("must be one of {}", join_names(&names, " and ")));
        }
        scope
    });
    scopes.collect()
}

/// Reads a role. `None` for `ROLE_UNSPECIFIED`.
pub(super) fn role(violations: &mut Violations, field: &str, number: i32) -> Option<Role> {
    let role = Role::from_proto(number);
    if role.is_none() && number != pb::Role::Unspecified as i32 {
        let names = Role::ALL.map(|role| role.to_proto().as_str_name());
        violations.add(field, format!("must be one of {}", join_names(&names, " and ")));
    }
    role
}

/// Reads a duration, which must not be negative.
pub(super) fn non_negative_duration(
    violations: &mut Violations,
    field: &str,
    duration: prost_types::Duration,
) -> Option<Duration> {
    let nanos = u32::try_from(duration.nanos).ok().filter(|nanos| *nanos < 1_000_000_000);
    let seconds = u64::try_from(duration.seconds).ok();
    let duration = seconds.zip(nanos).map(|(seconds, nanos)| Duration::new(seconds, nanos));
    let wrong = || Invalid::new("must be positive, with nanos from 0 to 999,999,999");
    violations.check(field, duration.ok_or_else(wrong))
}

/// Reads a time.
pub(super) fn time(
    violations: &mut Violations,
    field: &str,
    time: prost_types::Timestamp,
) -> Option<Timestamp> {
    violations.check(field, Timestamp::from_unix(time.seconds, time.nanos))
}

pub(super) fn expire_at(
    violations: &mut Violations,
    time: prost_types::Timestamp,
) -> Option<Expiration> {
    let time = Timestamp::from_unix(time.seconds, time.nanos);
    violations.check("expire_time", time).map(Expiration::At)
}

pub(super) fn expire_after(
    violations: &mut Violations,
    ttl: prost_types::Duration,
) -> Option<Expiration> {
    non_negative_duration(violations, "ttl", ttl).map(Expiration::After)
}

pub(super) fn timestamp(time: Timestamp) -> prost_types::Timestamp {
    let micros = time.unix_micros();
    // The remainder of a division by a million, times a thousand, is below 2^31.
    let nanos = i32::try_from(micros.rem_euclid(1_000_000) * 1_000).unwrap_or(0);
    prost_types::Timestamp { seconds: micros.div_euclid(1_000_000), nanos }
}

pub(super) fn duration(duration: Duration) -> prost_types::Duration {
    let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    prost_types::Duration { seconds, nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0) }
}

pub(super) const fn pb_role_cap(cap: RoleCap) -> pb::RoleCap {
    match cap {
        RoleCap::Membership => pb::RoleCap::Membership,
        RoleCap::Token => pb::RoleCap::Token,
    }
}

pub(super) const fn pb_kind(kind: CredentialKind) -> pb::CredentialKind {
    match kind {
        CredentialKind::Key => pb::CredentialKind::Key,
        CredentialKind::Pat => pb::CredentialKind::Pat,
    }
}

pub(super) const fn pb_state(state: CredentialState) -> pb::CredentialState {
    match state {
        CredentialState::Active => pb::CredentialState::Active,
        CredentialState::Disabled => pb::CredentialState::Disabled,
        CredentialState::Expired => pb::CredentialState::Expired,
        CredentialState::Revoked => pb::CredentialState::Revoked,
    }
}

pub(super) fn workspace(workspace: &Workspace, policy: Option<WorkspacePolicy>) -> pb::Workspace {
    pb::Workspace {
        id: workspace.id.to_string(),
        slug: workspace.slug.to_string(),
        display_name: workspace.display_name.to_string(),
        disabled: Some(workspace.disabled),
        create_time: Some(timestamp(workspace.create_time)),
        update_time: Some(timestamp(workspace.update_time)),
        policy: policy.map(|policy| pb::WorkspacePolicy {
            key_lifetime_max: policy.key_lifetime_max.map(duration),
            key_expiry_required: Some(policy.key_expiry_required),
            keys_max: policy.keys_max,
            overlap_min: policy.overlap_min.map(duration),
            overlap_max: policy.overlap_max.map(duration),
        }),
        pat_policy: Some(workspace.pat_policy)
            .filter(|policy| *policy != PatPolicy::default())
            .map(|policy| pb::PatPolicy {
                forbidden: Some(policy.forbidden),
                expiry_required: Some(policy.expiry_required),
                lifetime_max: policy.lifetime_max.map(duration),
            }),
    }
}

/// Reads the changes to a workspace's policy.
pub(super) fn policy_change(
    violations: &mut Violations,
    field: &str,
    message: pb::WorkspacePolicy,
) -> PolicyChange {
    let mut optional = |name, duration: Option<prost_types::Duration>| {
        limit(violations, &format!("{field}.policy.{name}"), duration?)
    };
    PolicyChange {
        key_lifetime_max: optional("key_lifetime_max", message.key_lifetime_max),
        key_expiry_required: message.key_expiry_required,
        keys_max: message.keys_max,
        overlap_min: optional("overlap_min", message.overlap_min),
        overlap_max: optional("overlap_max", message.overlap_max),
    }
}

/// Reads the changes to a workspace's policy for personal access tokens.
pub(super) fn pat_policy_change(
    violations: &mut Violations,
    field: &str,
    message: pb::PatPolicy,
) -> PatPolicyChange {
    let field = format!("{field}.pat_policy.lifetime_max");
    PatPolicyChange {
        forbidden: message.forbidden,
        expiry_required: message.expiry_required,
        lifetime_max: message.lifetime_max.and_then(|most| limit(violations, &field, most)),
    }
}

/// Reads a limit of a policy. Zero means no limit.
fn limit(
    violations: &mut Violations,
    field: &str,
    limit: prost_types::Duration,
) -> Option<Duration> {
    let limit = non_negative_duration(violations, field, limit)?;
    // The store keeps microseconds, so a shorter duration would become 0, which means no limit.
    if !limit.is_zero() && limit < Duration::from_micros(1) {
        violations.add(field, "must be 0, for no limit, or a microsecond or more");
    }
    Some(limit)
}

pub(super) fn user(user: &User) -> pb::User {
    pb::User {
        id: user.id.to_string(),
        display_name: user.display_name.to_string(),
        disabled: Some(user.disabled),
        create_time: Some(timestamp(user.create_time)),
        update_time: Some(timestamp(user.update_time)),
    }
}

pub(super) fn membership(membership: &Membership) -> pb::Membership {
    pb::Membership {
        workspace_id: membership.workspace_id.to_string(),
        user_id: membership.user_id.to_string(),
        role: membership.role.to_proto().into(),
        create_time: Some(timestamp(membership.create_time)),
        update_time: Some(timestamp(membership.update_time)),
    }
}

/// Converts a caller, with its state at `now`.
pub(super) fn caller(caller: Caller, now: Timestamp) -> pb::Caller {
    let (state, etag) = (pb_state(caller.state(now)).into(), caller.etag());
    let certificate_san = match caller.identity {
        CallerIdentity::Token(_) => String::new(),
        CallerIdentity::Certificate(san) => san.as_str().to_owned(),
    };
    pb::Caller {
        id: caller.id.to_string(),
        name: caller.name.to_string(),
        permissions: caller.permissions.names().collect(),
        hint: caller.hint,
        certificate_san,
        create_time: Some(timestamp(caller.create_time)),
        revoke_time: caller.revoke_time.map(timestamp),
        previous_token_expire_time: caller.previous.map(|previous| timestamp(previous.expire_time)),
        expire_time: caller.expire_time.map(timestamp),
        last_use_time: caller.last_use.map(|last_use| timestamp(last_use.time)),
        last_use_ip: caller
            .last_use
            .and_then(|last_use| last_use.ip)
            .map(|ip| ip.to_string())
            .unwrap_or_default(),
        etag,
        creator: caller.creator,
        state,
    }
}

pub(super) fn introspection(answer: Introspection) -> pb::IntrospectResponse {
    let decision = &answer.decision;
    let role = decision.role.map_or(pb::Role::Unspecified, |(role, _)| role.to_proto());
    let cap = decision.role.map_or(pb::RoleCap::Unspecified, |(_, cap)| pb_role_cap(cap));
    let mut response = pb::IntrospectResponse {
        active: decision.is_active(),
        allowed: decision.is_allowed(),
        denial: decision.denial.map_or(pb::Denial::Unspecified, Denial::to_proto).into(),
        http_status: decision.http_status().into(),
        www_authenticate: answer.www_authenticate.to_owned(),
        principal: None,
        workspace: answer.workspace().map(|workspace| pb::IntrospectedWorkspace {
            id: workspace.id.to_string(),
            slug: workspace.slug.to_string(),
            display_name: workspace.display_name.to_string(),
        }),
        role: role.into(),
        role_capped_by: cap.into(),
        scopes: decision.scopes.to_proto(),
        missing_scopes: decision.missing_scopes.to_proto(),
        token_lacks_scopes: decision.token_lacks.to_proto(),
        role_lacks_scopes: decision.role_lacks.to_proto(),
        credential: None,
        cache_ttl: Some(duration(answer.cache_ttl)),
        revision: answer.revision,
        stale: answer.stale,
        identity_only: answer.identity_only,
    };
    let active = decision.is_active();
    if let Some(found) = answer.found.filter(|_| active) {
        let credential = found.credential;
        response.principal = Some(match found.principal {
            PrincipalFacts::Workspace(workspace) => {
                pb::introspect_response::Principal::WorkspaceKey(pb::WorkspaceKeyPrincipal {
                    workspace_id: workspace.id.to_string(),
                    credential_id: credential.id.to_string(),
                    name: credential.name().to_owned(),
                })
            }
            PrincipalFacts::User(facts) => {
                pb::introspect_response::Principal::User(pb::UserPrincipal {
                    id: facts.user.id.to_string(),
                    display_name: facts.user.display_name.to_string(),
                })
            }
        });
        response.credential = Some(pb::IntrospectedCredential {
            id: credential.id.to_string(),
            kind: pb_kind(credential.kind).into(),
            name: credential.name().to_owned(),
            hint: credential.hint().to_owned(),
            create_time: Some(timestamp(credential.create_time)),
            expire_time: credential.expire_time.map(timestamp),
        });
    }
    response
}
