//! Decodes rows into model types, for both databases. All decoders use `column_reader.rs`. A value that does not fit is
//! [`StoreError::Corrupt`], which names the column but never the value.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::column_reader::{ColumnReader, Columns};
use super::listing::VisibleOwner;
use super::sql::{USER_COLUMNS, WORKSPACE_COLUMNS};
use super::{
    Change, ChangedEntity, ClaimedRequest, CredentialPosition, Incarnation, IncarnationId,
    NameHolder, Origin, PendingEnds, PendingEndsOwner, Result, StaleOrigin, StoreError,
    StoredCredential, Synced, TakenCredential, UsedPat,
};
use crate::model::{
    Annotations, CallerId, Credential, CredentialFacts, CredentialId, CredentialKind, Digest,
    DisplayName, Facts, FoundFacts, Invalid, IpAllowlist, LastUse, Lately, Membership, Owner,
    OwnerKind, PatPolicy, PrincipalFacts, RequestId, Revision, Role, ScopeSet, Slug, StoreTime,
    User, UserFacts, UserId, Workspace, WorkspaceId, WorkspacePolicy, WorkspaceSet,
};

impl<R: Columns> ColumnReader<'_, R> {
    fn workspace(&mut self) -> Result<Workspace> {
        Ok(Workspace {
            id: self.parsed("id", WorkspaceId::parse)?,
            slug: self.parsed("slug", Slug::parse)?,
            display_name: self.parsed("display_name", DisplayName::parse)?,
            disabled: self.flag("disabled")?,
            pat_policy: PatPolicy {
                forbidden: self.flag("pats_forbidden")?,
                expiry_required: self.flag("pat_expiry_required")?,
                lifetime_max: self.maybe_duration("pat_lifetime_max")?,
            },
            generation: self.int("generation")?,
            generation_time: self.maybe_time("generation_time")?,
            create_time: self.time("create_time")?,
            update_time: self.time("update_time")?,
            delete_time: self.maybe_time("delete_time")?,
        })
    }

    fn user(&mut self) -> Result<User> {
        Ok(User {
            id: self.parsed("id", UserId::parse)?,
            display_name: self.parsed("display_name", DisplayName::parse)?,
            disabled: self.flag("disabled")?,
            generation: self.int("generation")?,
            generation_time: self.maybe_time("generation_time")?,
            create_time: self.time("create_time")?,
            update_time: self.time("update_time")?,
            delete_time: self.maybe_time("delete_time")?,
        })
    }

    fn kind_and_owner(&mut self) -> Result<(CredentialKind, Owner)> {
        let kind = self.number("kind", CredentialKind::from_number)?;
        let workspace_id = self.maybe_parsed("workspace_id", WorkspaceId::parse)?;
        let user_id = self.maybe_parsed("user_id", UserId::parse)?;
        let max_role = self.maybe("max_role", R::int, Role::from_number)?;
        let owner = match (kind.owner_kind(), workspace_id, user_id, max_role) {
            (OwnerKind::Workspace, Some(id), None, None) => Owner::Workspace(id),
            (OwnerKind::User, None, Some(id), Some(max_role)) => Owner::User { id, max_role },
            (OwnerKind::Workspace | OwnerKind::User, ..) => return Err(self.corrupt("kind")),
        };
        Ok((kind, owner))
    }

    pub(super) fn last_use(&mut self) -> Result<Option<LastUse>> {
        let time = self.maybe_time("last_use_time")?;
        let ip = self.maybe("last_use_ip", R::text, |text| text.parse::<IpAddr>().ok())?;
        Ok(time.map(|time| LastUse { time, ip }))
    }

    fn credential(&mut self) -> Result<Credential> {
        let id = CredentialId(self.uuid("id")?);
        let (kind, owner) = self.kind_and_owner()?;
        Ok(Credential {
            id,
            kind,
            owner,
            generation: self.int("generation")?,
            name: self.parsed("name", DisplayName::parse)?,
            hint: self.text("hint")?,
            scopes: self.number("scopes", ScopeSet::from_bits)?,
            ip_allowlist: self.parsed("ip_allowlist", parse_ip_allowlist)?,
            granted_workspaces: {
                let limited = self.flag("limited")?;
                let granted = self.parsed("granted_workspaces", WorkspaceSet::from_text)?;
                limited.then_some(granted)
            },
            barred_workspaces: self.parsed("barred_workspaces", WorkspaceSet::from_text)?,
            end_at_once: self.flag("end_at_once")?,
            annotations: self.parsed("annotations", parse_annotations)?,
            create_time: self.time("create_time")?,
            expire_time: self.maybe_time("expire_time")?,
            disable_time: self.maybe_time("disable_time")?,
            revoke_time: self.maybe_time("revoke_time")?,
            last_use: self.last_use()?,
            creator: self.text("creator")?,
            predecessor_id: self.maybe_uuid("predecessor_id")?.map(CredentialId),
            family_id: CredentialId(self.uuid("family_id")?),
            version: self.int("version")?,
        })
    }

    fn incarnation_and_revision(&mut self) -> Result<(IncarnationId, Revision)> {
        // A standby has no timeline. Replicas must not register with a standby.
        let incarnation = self.maybe_text("epoch")?;
        let incarnation =
            incarnation.ok_or_else(|| StoreError::Unavailable(StaleOrigin::Standby.to_string()))?;
        Ok((IncarnationId(incarnation), self.revision()?))
    }

    /// Reads the origin of a Postgres statement, which is NULL on a standby.
    fn origin(&mut self) -> Result<Origin> {
        let incarnation = self.maybe("epoch", R::text, Incarnation::parse)?;
        Ok(incarnation.map_or(Origin::Standby, Origin::Primary))
    }

    fn revision(&mut self) -> Result<Revision> {
        self.number("revision", |number| u64::try_from(number).ok().map(Revision))
    }

    fn change(&mut self) -> Result<Change> {
        let revision = self.number("revision", |number| u64::try_from(number).ok())?;
        let entity = self.text("entity")?;
        let id = self.text("entity_id")?;
        let digest = self.maybe_digest("digest")?;
        let entity = changed_entity(&entity, &id, digest)
            .map_err(|column| StoreError::Corrupt { table: "changes", column })?;
        Ok(Change { revision: Revision(revision), entity })
    }
}

/// Decodes the entity of a change. The error is the name of the invalid column.
fn changed_entity(
    entity: &str,
    id: &str,
    digest: Option<Digest>,
) -> std::result::Result<ChangedEntity, &'static str> {
    let bad_id = "entity_id";
    Ok(match entity {
        "credential" => ChangedEntity::Credential(digest.ok_or("digest")?),
        "user" => ChangedEntity::User(UserId::parse(id).map_err(|_| bad_id)?),
        "workspace" => ChangedEntity::Workspace(WorkspaceId::parse(id).map_err(|_| bad_id)?),
        "unknown" => ChangedEntity::UnknownDigests,
        "caller" => ChangedEntity::Caller(CallerId(Uuid::try_parse(id).map_err(|_| bad_id)?)),
        _ => return Err("entity"),
    })
}

fn parse_ip_allowlist(text: &str) -> std::result::Result<IpAllowlist, Invalid> {
    IpAllowlist::parse(text.split(',').filter(|entry| !entry.is_empty()))
}

fn parse_annotations(text: &str) -> std::result::Result<Annotations, Invalid> {
    let entries: BTreeMap<String, String> =
        serde_json::from_str(text).map_err(|_| Invalid::new("must be a JSON object of strings"))?;
    Annotations::parse(entries)
}

/// Encodes annotations as the store keeps them: a JSON object.
pub(super) fn annotations_text(annotations: &Annotations) -> String {
    let object = annotations.entries().iter();
    serde_json::Value::Object(
        object.map(|(key, value)| (key.clone(), value.clone().into())).collect(),
    )
    .to_string()
}

/// Encodes the workspaces to which a credential is limited. Empty if it is not limited.
pub(super) fn granted_text(credential: &Credential) -> String {
    credential.granted_workspaces.as_ref().map(WorkspaceSet::to_text).unwrap_or_default()
}

/// Reads `workspace_columns`.
pub(super) fn workspace(row: &impl Columns) -> Result<Workspace> {
    ColumnReader::new(row, "workspaces").workspace()
}

/// Reads `user_columns`.
pub(super) fn user(row: &impl Columns) -> Result<User> {
    ColumnReader::new(row, "users").user()
}

/// Reads `membership_columns`.
pub(super) fn membership(row: &impl Columns) -> Result<Membership> {
    let mut columns = ColumnReader::new(row, "memberships");
    Ok(Membership {
        workspace_id: columns.parsed("workspace_id", WorkspaceId::parse)?,
        user_id: columns.parsed("user_id", UserId::parse)?,
        role: columns.number("role", Role::from_number)?,
        create_time: columns.time("create_time")?,
        update_time: columns.time("update_time")?,
    })
}

/// Reads a workspace's id and the end of the name's reservation, if it is reserved.
pub(super) fn name_holder(row: &impl Columns) -> Result<NameHolder> {
    let mut columns = ColumnReader::new(row, "workspaces");
    Ok(NameHolder {
        workspace_id: columns.parsed("id", WorkspaceId::parse)?,
        release_time: columns.maybe_time("release_time")?,
    })
}

/// Reads `credential_columns`.
pub(super) fn credential(row: &impl Columns) -> Result<Credential> {
    ColumnReader::new(row, "credentials").credential()
}

/// Reads `credential_columns` and the digest.
pub(super) fn stored_credential(row: &impl Columns) -> Result<StoredCredential> {
    let mut columns = ColumnReader::new(row, "credentials");
    let credential = columns.credential()?;
    let digest = columns.maybe_digest("digest")?;
    Ok(StoredCredential { credential, digest: columns.required("digest", digest)? })
}

/// Reads a credential's digest.
pub(super) fn digest(row: &impl Columns) -> Result<Digest> {
    let mut columns = ColumnReader::new(row, "credentials");
    let digest = columns.maybe_digest("digest")?;
    columns.required("digest", digest)
}

/// Reads `credential_columns`, the time of the last use in a workspace, the user's role there, and `user_columns`.
pub(super) fn used_pat(row: &impl Columns) -> Result<UsedPat> {
    let mut columns = ColumnReader::new(row, "credentials");
    let credential = columns.credential()?;
    columns.table = "workspace_uses";
    let last_use_time = columns.maybe_time("last_use_time")?;
    columns.table = "memberships";
    let role = columns.maybe("role", Columns::int, Role::from_number)?;
    columns.table = "users";
    Ok(UsedPat { credential, user: columns.user()?, role, last_use_time })
}

/// Reads a credential's id, digest, kind and owner.
pub(super) fn taken_credential(row: &impl Columns) -> Result<TakenCredential> {
    let mut columns = ColumnReader::new(row, "credentials");
    let id = CredentialId(columns.uuid("id")?);
    let digest = columns.maybe_digest("digest")?;
    let digest = columns.required("digest", digest)?;
    let (kind, owner) = columns.kind_and_owner()?;
    Ok(TakenCredential { id, digest, kind, owner })
}

/// Reads the columns that `look_up` selects: the revision, the digest, `credential_columns`, `workspace_columns` of the
/// owner and of the requested workspace, `user_columns`, and the user's roles.
pub(super) fn facts(row: &impl Columns, digest: &Digest) -> Result<Facts> {
    read_facts(ColumnReader::new(row, "counter"), digest)
}

/// Reads the same columns after the origin of the statement.
pub(super) fn facts_after_origin(row: &impl Columns, digest: &Digest) -> Result<Facts> {
    read_facts(ColumnReader { row, table: "counter", next: ORIGIN_COLUMNS - 1 }, digest)
}

fn read_facts(mut columns: ColumnReader<'_, impl Columns>, digest: &Digest) -> Result<Facts> {
    let revision = columns.revision()?;
    columns.table = "credentials";
    let found_digest = columns.maybe_digest("digest")?;
    // The index has found the digest. This comparison covers all of it in constant time.
    let Some(_) = found_digest.filter(|found| found.equals(digest)) else {
        return Ok(Facts::new(revision, None));
    };
    let credential = columns.credential()?;
    let own_workspace = columns.joined("workspaces", WORKSPACE_COLUMNS, ColumnReader::workspace)?;
    let named_workspace =
        columns.joined("workspaces", WORKSPACE_COLUMNS, ColumnReader::workspace)?;
    let user = columns.joined("users", USER_COLUMNS, ColumnReader::user)?;
    columns.table = "memberships";
    let roles = columns.maybe("role", Columns::text, parse_roles)?.unwrap_or_default();
    let principal = match (own_workspace, user) {
        (Some(workspace), None) => PrincipalFacts::Workspace(Arc::new(workspace)),
        (None, Some(user)) => PrincipalFacts::User(Arc::new(UserFacts { user, roles })),
        _ => return Err(StoreError::Corrupt { table: "credentials", column: "kind" }),
    };
    let found = FoundFacts {
        credential: Arc::new(CredentialFacts::new(*digest, &credential)),
        principal,
        named_workspace: named_workspace.map(Arc::new),
    };
    Ok(Facts::new(revision, Some(found)))
}

/// Parses roles by workspace, as `look_up` joins them: `<workspace>=<role>`, separated by commas.
fn parse_roles(text: &str) -> Option<Box<[(WorkspaceId, Role)]>> {
    let role = |entry: &str| {
        let (workspace, role) = entry.split_once('=')?;
        Some((WorkspaceId::parse(workspace).ok()?, Role::from_number(role.parse().ok()?)?))
    };
    text.split(',').map(role).collect()
}

/// Reads the id of a workspace, or NULL, and whether that owner was deleted and created again.
pub(super) fn visible_owner(row: &impl Columns) -> Result<VisibleOwner> {
    let mut columns = ColumnReader::new(row, "memberships");
    let workspace_id = columns.maybe_parsed("workspace_id", WorkspaceId::parse)?;
    Ok(VisibleOwner { workspace_id, recreated: columns.flag("generation")? })
}

/// Reads a workspace's id and policy.
pub(super) fn workspace_policy(row: &impl Columns) -> Result<(WorkspaceId, WorkspacePolicy)> {
    let mut columns = ColumnReader::new(row, "workspace_policies");
    let id = columns.parsed("workspace_id", WorkspaceId::parse)?;
    let policy = WorkspacePolicy {
        key_lifetime_max: columns.maybe_duration("key_lifetime_max")?,
        key_expiry_required: columns.flag("key_expiry_required")?,
        keys_max: columns.maybe("keys_max", Columns::int, |number| u32::try_from(number).ok())?,
        overlap_min: columns.maybe_duration("overlap_min")?,
        overlap_max: columns.maybe_duration("overlap_max")?,
    };
    Ok((id, policy))
}

/// Encodes a duration in microseconds, as the store keeps it. A longer duration is cut to the maximum.
pub(super) fn duration_micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// Reads the time and the id by which a list is ordered.
pub(super) fn credential_position(row: &impl Columns) -> Result<CredentialPosition> {
    let mut columns = ColumnReader::new(row, "credentials");
    Ok(CredentialPosition {
        time: columns.maybe_time("time")?,
        id: CredentialId(columns.uuid("id")?),
    })
}

/// Reads a request's requester, id, fingerprint, credential and time.
pub(super) fn request(row: &impl Columns) -> Result<ClaimedRequest> {
    let mut columns = ColumnReader::new(row, "requests");
    Ok(ClaimedRequest {
        requester: columns.text("requester")?,
        request_id: RequestId(columns.uuid("request_id")?),
        fingerprint: {
            let fingerprint = columns.maybe_digest("fingerprint")?;
            columns.required("fingerprint", fingerprint)?
        },
        credential_id: CredentialId(columns.uuid("credential_id")?),
        create_time: columns.time("create_time")?,
    })
}

/// Reads pending end events: all columns of the table `untold`.
pub(super) fn pending_ends(row: &impl Columns) -> Result<PendingEnds> {
    let mut columns = ColumnReader::new(row, "untold");
    Ok(PendingEnds {
        id: columns.uuid("id")?,
        owner: {
            let workspace = columns.maybe_parsed("workspace_id", WorkspaceId::parse)?;
            let user = columns.maybe_parsed("user_id", UserId::parse)?;
            let owner =
                workspace.map(PendingEndsOwner::Workspace).or(user.map(PendingEndsOwner::User));
            columns.required("user_id", owner)?
        },
        generation: columns.int("generation")?,
        revoke_time: columns.time("revoke_time")?,
        caller: columns.text("caller")?,
        remote_address: columns.maybe_text("remote_address")?,
        reason: columns.text("reason")?,
        last_written_id: CredentialId(columns.uuid("told_id")?),
        written_count: columns.int("told_count")?,
    })
}

/// Reads the origin of a Postgres statement.
pub(super) fn origin(row: &impl Columns) -> Result<Origin> {
    ColumnReader::new(row, "counter").origin()
}

/// Number of columns that [`origin_and_revision`] reads.
pub(super) const ORIGIN_COLUMNS: usize = 2;

/// Reads the origin of a Postgres statement and the newest revision.
pub(super) fn origin_and_revision(row: &impl Columns) -> Result<(Origin, Revision)> {
    let mut columns = ColumnReader::new(row, "counter");
    Ok((columns.origin()?, columns.revision()?))
}

/// Reads the counter's revision.
pub(super) fn revision(row: &impl Columns) -> Result<Revision> {
    let number = ColumnReader::new(row, "counter")
        .number("revision", |number| u64::try_from(number).ok())?;
    Ok(Revision(number))
}

/// Reads the store's clock and the time of the newest audit event.
pub(super) fn store_time(row: &impl Columns) -> Result<StoreTime> {
    let mut columns = ColumnReader::new(row, "audit_events");
    let (now, newest_event) = (columns.maybe_time("now")?, columns.maybe_time("time")?);
    Ok(StoreTime { now, newest_event, lately: None })
}

/// Reads the time of the first recent audit event, and of the event before it.
pub(super) fn lately(row: &impl Columns) -> Result<Option<Lately>> {
    let mut columns = ColumnReader::new(row, "audit_events");
    let (first, before) = (columns.maybe_time("time")?, columns.maybe_time("time")?);
    Ok(first.zip(before).map(|(first, before)| Lately { first, before }))
}

/// Reads the store's incarnation and newest revision.
pub(super) fn incarnation_and_revision(row: &impl Columns) -> Result<(IncarnationId, Revision)> {
    ColumnReader::new(row, "counter").incarnation_and_revision()
}

/// Reads the rows of a sync: the store's incarnation and newest revision, one column to skip, and a change. A row
/// without a change has NULL there.
pub(super) fn synced(rows: &[impl Columns]) -> Result<Option<Synced>> {
    let Some(first) = rows.first() else { return Ok(None) };
    let (incarnation, revision) = self::incarnation_and_revision(first)?;
    let mut changes = Vec::with_capacity(rows.len());
    for row in rows {
        let mut columns = ColumnReader { row, table: "changes", next: 3 };
        if columns.maybe("revision", Columns::int, Some)?.is_some() {
            columns.next = 3;
            changes.push(columns.change()?);
        }
    }
    Ok(Some(Synced { incarnation, revision, changes }))
}

/// Reads a change's revision, entity, entity's id and digest.
pub(super) fn change(row: &impl Columns) -> Result<Change> {
    ColumnReader::new(row, "changes").change()
}
