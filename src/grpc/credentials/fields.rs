//! Converts credentials to messages, and reads the fields of requests about them.

use crate::grpc::{convert, pb};
use crate::model::limits::WORKSPACE_SET_MAX;
use crate::model::{
    Credential, CredentialId, CredentialKind, CredentialState, Owner, Scope, Timestamp,
    WorkspaceName, WorkspaceSet,
};
use crate::service::{CredentialEnd, Violations};
use crate::store::CredentialOrder;

pub(super) fn kind(violations: &mut Violations, number: i32) -> Option<CredentialKind> {
    match pb::CredentialKind::try_from(number) {
        Ok(pb::CredentialKind::Key) => Some(CredentialKind::Key),
        Ok(pb::CredentialKind::Pat) => Some(CredentialKind::Pat),
        Ok(pb::CredentialKind::Unspecified) => None,
        Err(_) => {
            violations.add("kind", "must be CREDENTIAL_KIND_KEY or CREDENTIAL_KIND_PAT");
            None
        }
    }
}

pub(super) fn state(violations: &mut Violations, number: i32) -> Option<CredentialState> {
    match pb::CredentialState::try_from(number) {
        Ok(pb::CredentialState::Active) => Some(CredentialState::Active),
        Ok(pb::CredentialState::Disabled) => Some(CredentialState::Disabled),
        Ok(pb::CredentialState::Expired) => Some(CredentialState::Expired),
        Ok(pb::CredentialState::Revoked) => Some(CredentialState::Revoked),
        Ok(pb::CredentialState::Unspecified) => None,
        Err(_) => {
            violations
                .add("state", "must be a CREDENTIAL_STATE of active, disabled, expired or revoked");
            None
        }
    }
}

/// Reads the workspaces to which a personal access token is to be limited, by slug or id.
pub(super) fn workspaces(
    violations: &mut Violations,
    field: &str,
    texts: &[String],
) -> Vec<WorkspaceName> {
    violations.check(field, WorkspaceSet::check_count(texts.len()));
    let names = texts.iter().take(WORKSPACE_SET_MAX).enumerate();
    names
        .filter_map(|(i, text)| convert::workspace_name(violations, &format!("{field}[{i}]"), text))
        .collect()
}

pub(super) fn credential_id(
    violations: &mut Violations,
    field: &str,
    text: &str,
) -> Option<CredentialId> {
    violations.check(field, CredentialId::parse(text))
}

/// Reads a scope to filter by. `None` for `SCOPE_UNSPECIFIED`.
pub(super) fn scope(violations: &mut Violations, field: &str, number: i32) -> Option<Scope> {
    if number == pb::Scope::Unspecified as i32 {
        return None;
    }
    convert::scopes(violations, field, &[number]).iter().next()
}

pub(super) fn order(violations: &mut Violations, number: i32) -> CredentialOrder {
    match pb::CredentialOrder::try_from(number) {
        Ok(pb::CredentialOrder::Unspecified | pb::CredentialOrder::CreateTime) => {
            CredentialOrder::CreateTime
        }
        Ok(pb::CredentialOrder::CreateTimeDesc) => CredentialOrder::CreateTimeDesc,
        Ok(pb::CredentialOrder::LastUseTime) => CredentialOrder::LastUseTime,
        Ok(pb::CredentialOrder::ExpireTime) => CredentialOrder::ExpireTime,
        Err(_) => {
            violations
                .add("order", "must be a CREDENTIAL_ORDER of create, last use or expire time");
            CredentialOrder::CreateTime
        }
    }
}

/// Converts how a credential ended.
pub(super) fn end(end: CredentialEnd) -> pb::CredentialEnd {
    let (time, state) = (Some(convert::timestamp(end.time)), convert::pb_state(end.state).into());
    let Some(event) = end.event else {
        return pb::CredentialEnd { state, time, ..pb::CredentialEnd::default() };
    };
    pb::CredentialEnd {
        state,
        time,
        caller: event.caller,
        acting_user: event.acting_user.map(|user| user.to_string()).unwrap_or_default(),
        reason: event.reason.unwrap_or_default(),
        action: event.action,
    }
}

pub(super) fn credential(credential: Credential, now: Timestamp) -> pb::Credential {
    let state = convert::pb_state(credential.state(now)).into();
    let kind = convert::pb_kind(credential.kind).into();
    let etag = credential.etag();
    let (workspace_id, user_id, max_role) = match credential.owner {
        Owner::Workspace(id) => (id.to_string(), String::new(), pb::Role::Unspecified),
        Owner::User { id, max_role } => (String::new(), id.to_string(), max_role.to_proto()),
    };
    let last_use_ip = credential.last_use.and_then(|last_use| last_use.ip);
    pb::Credential {
        id: credential.id.to_string(),
        kind,
        workspace_id,
        user_id,
        name: credential.name.to_string(),
        hint: credential.hint,
        scopes: credential.scopes.to_proto(),
        max_role: max_role.into(),
        ip_allowlist: credential.ip_allowlist.iter().map(ToString::to_string).collect(),
        annotations: credential.annotations.entries().clone().into_iter().collect(),
        state,
        create_time: Some(convert::timestamp(credential.create_time)),
        expire_time: credential.expire_time.map(convert::timestamp),
        disable_time: credential.disable_time.map(convert::timestamp),
        revoke_time: credential.revoke_time.map(convert::timestamp),
        last_use_time: credential.last_use.map(|last_use| convert::timestamp(last_use.time)),
        last_use_ip: last_use_ip.map(|ip| ip.to_string()).unwrap_or_default(),
        creator: credential.creator,
        predecessor_id: credential.predecessor_id.map(|id| id.to_string()).unwrap_or_default(),
        family_id: credential.family_id.to_string(),
        etag,
        limited: credential.granted_workspaces.is_some(),
        granted_workspace_ids: credential.granted_workspaces.iter().flat_map(ids).collect(),
        barred_workspace_ids: ids(&credential.barred_workspaces).collect(),
    }
}

fn ids(set: &WorkspaceSet) -> impl Iterator<Item = String> {
    set.iter().map(|entry| entry.id.to_string())
}
