//! Converts the state of the service.

use super::{convert, pb};
use crate::model::{Credential, CredentialState, Owner};
use crate::service::{Count, ReplicaState, Status};
use crate::store::{ReplicaDetails, StoreKind};

/// Converts a replica.
pub(super) fn replica(replica: ReplicaDetails) -> pb::Replica {
    let state = match ReplicaState::of(&replica) {
        ReplicaState::Active => pb::ReplicaState::Active,
        ReplicaState::Stalled => pb::ReplicaState::Stalled,
        ReplicaState::Ended => pb::ReplicaState::Ended,
    };
    let revision_lag = replica.lag().unwrap_or_default();
    pb::Replica {
        id: replica.id.to_string(),
        host: replica.host,
        process_id: replica.process_id.unwrap_or_default(),
        version: replica.version.unwrap_or_default(),
        start_time: replica.start_time.map(convert::timestamp),
        state: state.into(),
        applied_revision: replica.applied.0,
        revision_lag,
        lease: Some(convert::duration(replica.lease)),
        sync_time: Some(convert::timestamp(replica.sync_time)),
        waited_time: replica.waited_time.map(convert::timestamp),
        waited_count: replica.waited_count,
        end_time: replica.end_time.map(convert::timestamp),
    }
}

/// Converts the state of this server and the store.
pub(super) fn status(status: Status) -> pb::GetStatusResponse {
    let counts = status.counts;
    let credential_counts = counts.credentials.into_iter().map(|(kind, state, number)| {
        let state = match state {
            CredentialState::Active => pb::CredentialState::Active,
            CredentialState::Disabled => pb::CredentialState::Disabled,
            CredentialState::Expired => pb::CredentialState::Expired,
            CredentialState::Revoked => pb::CredentialState::Revoked,
        };
        let (kind, count) = (convert::pb_kind(kind), Some(count(number)));
        pb::CredentialCount { kind: kind.into(), state: state.into(), count }
    });
    pb::GetStatusResponse {
        host: status.host,
        version: status.version.to_owned(),
        store_kind: match status.store_kind {
            StoreKind::Sqlite => pb::StoreKind::Sqlite.into(),
            StoreKind::Postgres => pb::StoreKind::Postgres.into(),
        },
        revision: status.revision.0,
        applied_revision: status.applied.0,
        revision_lag: status.revision.0.saturating_sub(status.applied.0),
        answers_from_memory: status.answers_from_memory,
        barrier_wait: status.barrier_wait.map(|wait| pb::BarrierWait {
            revision: wait.revision.0,
            replica_ids: wait.replicas.iter().map(|(id, _)| id.to_string()).collect(),
        }),
        credential_counts: credential_counts.collect(),
        workspaces: Some(count(counts.workspaces)),
        users: Some(count(counts.users)),
        callers: Some(count(counts.callers)),
        count_time: Some(convert::timestamp(counts.time)),
        expiring: Some(count(status.expiring)),
        expiring_credentials: status.expiring_credentials.into_iter().map(expiring).collect(),
    }
}

fn count(number: Count) -> pb::Count {
    let count = i64::try_from(number.count).unwrap_or(i64::MAX);
    pb::Count { count, at_least: number.at_least }
}

fn expiring(credential: Credential) -> pb::ExpiringCredential {
    let (workspace_id, user_id) = match credential.owner {
        Owner::Workspace(id) => (id.to_string(), String::new()),
        Owner::User { id, .. } => (String::new(), id.to_string()),
    };
    pb::ExpiringCredential {
        id: credential.id.to_string(),
        kind: convert::pb_kind(credential.kind).into(),
        name: credential.name.to_string(),
        hint: credential.hint,
        workspace_id,
        user_id,
        expire_time: credential.expire_time.map(convert::timestamp),
    }
}
