//! JSON form of the model's types in the audit log and on the command line. The field names are those of the proto.

use serde_json::{Map, Value, json};

use super::{Count, CredentialEnd, Introspection, ReplicaState, Status, WorkspacePat};
use crate::decision::ExplainedRow;
use crate::model::{
    AuditEvent, Caller, CallerIdentity, Credential, DisplayName, LastUse, Membership, Owner,
    PatPolicy, PrincipalFacts, ScopeSet, Timestamp, User, Workspace, WorkspacePolicy, WorkspaceSet,
};
use crate::store::ReplicaDetails;

/// A credential, with its state at `now`.
pub fn credential(credential: &Credential, now: Timestamp) -> Value {
    let mut view = object(json!({
        "id": credential.id.to_string(),
        "kind": credential.kind.as_str(),
        "name": credential.name.as_str(),
        "hint": credential.hint,
        "scopes": scopes(credential.scopes),
        "state": credential.state(now).as_str(),
        "create_time": credential.create_time.to_string(),
        "creator": credential.creator,
        "family_id": credential.family_id.to_string(),
        "etag": credential.etag(),
    }));
    match &credential.owner {
        Owner::Workspace(id) => {
            view.insert("workspace_id".into(), id.as_str().into());
        }
        Owner::User { id, max_role } => {
            view.insert("user_id".into(), id.as_str().into());
            view.insert("max_role".into(), max_role.as_str().into());
        }
    }
    if !credential.ip_allowlist.is_empty() {
        let networks = credential.ip_allowlist.iter().map(|network| network.to_string().into());
        view.insert("ip_allowlist".into(), Value::Array(networks.collect()));
    }
    if !credential.annotations.entries().is_empty() {
        view.insert("annotations".into(), json!(credential.annotations.entries()));
    }
    let ids = |set: &WorkspaceSet| set.iter().map(|entry| entry.id.as_str().into()).collect();
    if let Some(granted) = &credential.granted_workspaces {
        view.insert("limited".into(), true.into());
        view.insert("granted_workspace_ids".into(), Value::Array(ids(granted)));
    }
    if !credential.barred_workspaces.is_empty() {
        let barred = ids(&credential.barred_workspaces);
        view.insert("barred_workspace_ids".into(), Value::Array(barred));
    }
    insert_time(&mut view, "expire_time", credential.expire_time);
    insert_time(&mut view, "disable_time", credential.disable_time);
    insert_time(&mut view, "revoke_time", credential.revoke_time);
    insert_last_use(&mut view, credential.last_use);
    if let Some(id) = credential.predecessor_id {
        view.insert("predecessor_id".into(), id.to_string().into());
    }
    Value::Object(view)
}

/// A replica.
pub fn replica(replica: &ReplicaDetails) -> Value {
    let mut view = object(json!({
        "id": replica.id.to_string(),
        "host": replica.host,
        "state": ReplicaState::of(replica).as_str(),
        "applied_revision": replica.applied.0,
        "lease": format!("{}s", replica.lease.as_secs_f64()),
        "sync_time": replica.sync_time.to_string(),
        "waited_count": replica.waited_count,
    }));
    if let Some(lag) = replica.lag() {
        view.insert("revision_lag".into(), lag.into());
    }
    if let Some(id) = replica.process_id {
        view.insert("process_id".into(), id.into());
    }
    if let Some(version) = &replica.version {
        view.insert("version".into(), version.as_str().into());
    }
    insert_time(&mut view, "start_time", replica.start_time);
    insert_time(&mut view, "waited_time", replica.waited_time);
    insert_time(&mut view, "end_time", replica.end_time);
    Value::Object(view)
}

/// The state of the store, as a command shows it: without that of this process, which is no replica.
pub fn status(status: &Status) -> Value {
    let count = |count: Count| json!({"count": count.count, "at_least": count.at_least});
    let counts = &status.counts;
    let credentials = counts.credentials.iter().map(|(kind, state, number)| {
        json!({"kind": kind.as_str(), "state": state.as_str(), "count": count(*number)})
    });
    let expiring = status.expiring_credentials.iter();
    let expiring = expiring.map(|expiring| credential(expiring, counts.time));
    json!({
        "store_kind": status.store_kind.as_str(),
        "revision": status.revision.0,
        "credential_counts": credentials.collect::<Vec<_>>(),
        "workspaces": count(counts.workspaces),
        "users": count(counts.users),
        "callers": count(counts.callers),
        "count_time": counts.time.to_string(),
        "expiring": count(status.expiring),
        "expiring_credentials": expiring.collect::<Vec<_>>(),
    })
}

/// A personal access token, as the owners of a workspace see it.
pub fn workspace_pat(pat: &WorkspacePat) -> Value {
    let mut view = object(json!({
        "credential_id": pat.credential_id.to_string(),
        "user_id": pat.user_id.as_str(),
        "user_display_name": pat.user_display_name.as_ref().map_or("", DisplayName::as_str),
        "hint": pat.hint,
        "barred": pat.barred,
        "state": pat.state.as_str(),
    }));
    insert_time(&mut view, "last_use_time", pat.last_use_time);
    if let Some(role) = pat.role {
        view.insert("role".into(), role.as_str().into());
    }
    Value::Object(view)
}

/// A workspace.
pub fn workspace(workspace: &Workspace) -> Value {
    let mut view = object(json!({
        "id": workspace.id.as_str(),
        "slug": workspace.slug.as_str(),
        "display_name": workspace.display_name.as_str(),
        "disabled": workspace.disabled,
        "create_time": workspace.create_time.to_string(),
        "update_time": workspace.update_time.to_string(),
    }));
    if workspace.pat_policy != PatPolicy::default() {
        view.insert("pat_policy".into(), pat_policy(&workspace.pat_policy));
    }
    Value::Object(view)
}

/// A workspace's policy for the personal access tokens that act in it.
fn pat_policy(policy: &PatPolicy) -> Value {
    let mut view = Map::new();
    for (name, rule) in
        [("forbidden", policy.forbidden), ("expiry_required", policy.expiry_required)]
    {
        if rule {
            view.insert(name.into(), true.into());
        }
    }
    if let Some(most) = policy.lifetime_max {
        view.insert("lifetime_max".into(), format!("{}s", most.as_secs_f64()).into());
    }
    Value::Object(view)
}

/// A workspace's policy for its keys.
pub fn workspace_policy(policy: &WorkspacePolicy) -> Value {
    let mut view = object(json!({}));
    let durations = [
        ("key_lifetime_max", policy.key_lifetime_max),
        ("overlap_min", policy.overlap_min),
        ("overlap_max", policy.overlap_max),
    ];
    for (name, duration) in durations {
        if let Some(duration) = duration {
            // The JSON form of `google.protobuf.Duration`.
            view.insert(name.into(), format!("{}s", duration.as_secs_f64()).into());
        }
    }
    if policy.key_expiry_required {
        view.insert("key_expiry_required".into(), true.into());
    }
    if let Some(most) = policy.keys_max {
        view.insert("keys_max".into(), most.into());
    }
    Value::Object(view)
}

/// A workspace's view with its policy added, if it has one.
pub fn with_policy(mut view: Value, policy: Option<&WorkspacePolicy>) -> Value {
    if let (Value::Object(fields), Some(policy)) = (&mut view, policy) {
        fields.insert("policy".to_owned(), workspace_policy(policy));
    }
    view
}

/// A user.
pub fn user(user: &User) -> Value {
    json!({
        "id": user.id.as_str(),
        "display_name": user.display_name.as_str(),
        "disabled": user.disabled,
        "create_time": user.create_time.to_string(),
        "update_time": user.update_time.to_string(),
    })
}

/// A membership.
pub fn membership(membership: &Membership) -> Value {
    json!({
        "workspace_id": membership.workspace_id.as_str(),
        "user_id": membership.user_id.as_str(),
        "role": membership.role.as_str(),
        "create_time": membership.create_time.to_string(),
        "update_time": membership.update_time.to_string(),
    })
}

/// A caller with its state at `now` and its last use. The audit log has neither, so that `before` of each of its events
/// equals `after` of the previous one.
pub fn caller_now(caller: &Caller, now: Timestamp) -> Value {
    let mut view = object(self::caller(caller));
    view.insert("state".into(), caller.state(now).as_str().into());
    insert_last_use(&mut view, caller.last_use);
    Value::Object(view)
}

/// A caller, as it was last changed.
pub fn caller(caller: &Caller) -> Value {
    let permissions: Vec<_> = caller.permissions.names().collect();
    let mut view = object(json!({
        "id": caller.id.to_string(),
        "name": caller.name.as_str(),
        "permissions": permissions,
        "create_time": caller.create_time.to_string(),
    }));
    match &caller.identity {
        CallerIdentity::Token(_) => view.insert("hint".into(), caller.hint.as_str().into()),
        CallerIdentity::Certificate(san) => {
            view.insert("certificate_san".into(), san.as_str().into())
        }
    };
    if !caller.creator.is_empty() {
        view.insert("creator".into(), caller.creator.as_str().into());
    }
    view.insert("etag".into(), caller.etag().into());
    insert_time(&mut view, "expire_time", caller.expire_time);
    insert_time(&mut view, "revoke_time", caller.revoke_time);
    let previous = caller.previous.map(|previous| previous.expire_time);
    insert_time(&mut view, "previous_token_expire_time", previous);
    Value::Object(view)
}

/// An audit event.
pub fn audit_event(event: &AuditEvent) -> Value {
    // This file wrote the JSON in the store. Text that is not JSON is shown unchanged.
    let json = |text: &Option<String>| {
        text.as_ref()
            .map(|text| serde_json::from_str(text).unwrap_or_else(|_| text.as_str().into()))
    };
    let mut view = object(json!({
        "id": event.id.to_string(),
        "time": event.time.to_string(),
        "action": event.action,
        "caller": event.caller,
        "target_kind": event.target_kind,
        "target_id": event.target_id,
    }));
    let optional = [
        ("acting_user", event.acting_user.as_ref().map(|user| user.as_str().into())),
        ("remote_address", event.remote_address.as_deref().map(Value::from)),
        ("before", json(&event.before)),
        ("after", json(&event.after)),
        ("reason", event.reason.as_deref().map(Value::from)),
        ("refusal", event.refusal.as_deref().map(Value::from)),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            view.insert(name.into(), value);
        }
    }
    Value::Object(view)
}

/// An introspection answer.
pub fn introspection(answer: &Introspection) -> Value {
    let decision = &answer.decision;
    let mut view = object(json!({
        "active": decision.is_active(),
        "allowed": decision.is_allowed(),
        "http_status": decision.http_status(),
        "revision": answer.revision,
        "identity_only": answer.identity_only,
    }));
    if let Some(denial) = decision.denial {
        view.insert("denial".into(), denial.as_str().into());
        view.insert("explanation".into(), decision.explanation().into());
        view.insert("www_authenticate".into(), answer.www_authenticate.into());
    }
    let Some(found) = answer.found.as_ref().filter(|_| decision.is_active()) else {
        return Value::Object(view);
    };
    let principal = match &found.principal {
        PrincipalFacts::Workspace(workspace) => json!({"workspace_key": {
            "workspace_id": workspace.id.as_str(),
            "credential_id": found.credential.id.to_string(),
            "name": found.credential.name(),
        }}),
        PrincipalFacts::User(facts) => json!({"user": {
            "id": facts.user.id.as_str(),
            "display_name": facts.user.display_name.as_str(),
        }}),
    };
    view.insert("principal".into(), principal);
    if let Some(workspace) = answer.workspace() {
        let workspace = json!({
            "id": workspace.id.as_str(),
            "slug": workspace.slug.as_str(),
            "display_name": workspace.display_name.as_str(),
        });
        view.insert("workspace".into(), workspace);
    }
    if let Some((role, cap)) = decision.role {
        view.insert("role".into(), role.as_str().into());
        view.insert("role_capped_by".into(), cap.as_str().into());
    }
    view.insert("scopes".into(), scopes(decision.scopes));
    if !decision.missing_scopes.is_empty() {
        view.insert("missing_scopes".into(), scopes(decision.missing_scopes));
        view.insert("token_lacks_scopes".into(), scopes(decision.token_lacks));
        view.insert("role_lacks_scopes".into(), scopes(decision.role_lacks));
    }
    let credential = &found.credential;
    let mut summary = object(json!({
        "id": credential.id.to_string(),
        "kind": credential.kind.as_str(),
        "name": credential.name(),
        "hint": credential.hint(),
        "create_time": credential.create_time.to_string(),
    }));
    insert_time(&mut summary, "expire_time", credential.expire_time);
    view.insert("credential".into(), Value::Object(summary));
    Value::Object(view)
}

/// A row of the decision table, as it applied. Without the fields that are empty.
pub fn explained_row(row: &ExplainedRow) -> Value {
    let mut view = object(json!({
        "number": row.number,
        "outcome": row.outcome.as_str(),
        "demands": row.text,
    }));
    if let Some(denial) = row.denial {
        view.insert("denial".into(), denial.as_str().into());
    }
    if !row.facts.is_empty() {
        let facts = row.facts.iter().map(|fact| format!("{}={}", fact.name, fact.value).into());
        view.insert("judged".into(), Value::Array(facts.collect()));
    }
    Value::Object(view)
}

/// Adds to a credential's view who ended it, and why.
pub fn add_end(view: &mut Value, end: &CredentialEnd) {
    let end = object(ended(end));
    let names = [
        ("by", "ended_by"),
        ("acting_user", "ended_for"),
        ("action", "end_action"),
        ("reason", "end_reason"),
    ];
    for (name, shown) in names {
        if let Some(value) = end.get(name) {
            view[shown] = value.clone();
        }
    }
}

/// How a credential ended. For the operator.
pub fn ended(ended: &CredentialEnd) -> Value {
    let CredentialEnd { credential, state, time, event } = ended;
    let mut view = object(json!({
        "credential_id": credential.id.to_string(),
        "kind": credential.kind.as_str(),
        "name": credential.name.as_str(),
        "hint": credential.hint,
        "state": state.as_str(),
        "time": time.to_string(),
    }));
    match &credential.owner {
        Owner::Workspace(id) => view.insert("workspace_id".into(), id.as_str().into()),
        Owner::User { id, .. } => view.insert("user_id".into(), id.as_str().into()),
    };
    if let Some(event) = event {
        view.insert("by".into(), event.caller.as_str().into());
        if let Some(user) = &event.acting_user {
            view.insert("acting_user".into(), user.as_str().into());
        }
        view.insert("action".into(), event.action.as_str().into());
        view.insert("action_time".into(), event.time.to_string().into());
        if let Some(reason) = &event.reason {
            view.insert("reason".into(), reason.as_str().into());
        }
    }
    Value::Object(view)
}

fn scopes(scopes: ScopeSet) -> Value {
    scopes.iter().map(|scope| Value::from(scope.as_str())).collect()
}

fn insert_time(view: &mut Map<String, Value>, name: &str, time: Option<Timestamp>) {
    if let Some(time) = time {
        view.insert(name.into(), time.to_string().into());
    }
}

fn insert_last_use(view: &mut Map<String, Value>, last_use: Option<LastUse>) {
    let Some(LastUse { time, ip }) = last_use else { return };
    insert_time(view, "last_use_time", Some(time));
    if let Some(ip) = ip {
        view.insert("last_use_ip".into(), ip.to_string().into());
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        // Only called on object literals above.
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Map::new()
        }
    }
}
