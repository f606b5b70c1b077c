//! From rows to nouns, once for both databases: each tells how it keeps six plain kinds of value, and every decoder is
//! written over that. What does not fit is [`StoreError::Corrupt`], which names the column and never the value.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, ValueRef as _};
use uuid::Uuid;

use super::{
    Change, ChangedEntity, Found, FoundPrincipal, Incarnation, LookedUp, NameHolder, Replica,
    Replicas, Result, StoreError, StoredCredential, Synced, TakenCredential,
};
use crate::model::{
    Annotations, AuditEvent, Caller, CallerId, CallerIdentity, CallerName, CertificateSan,
    Credential, CredentialId, Digest, DisplayName, EventId, Invalid, IpAllowlist, LastUse,
    Membership, Owner, PermissionSet, ReplicaId, Revision, Role, ScopeSet, Slug, Timestamp, User,
    UserId, Workspace, WorkspaceId,
};

/// How a database keeps what the columns hold. `None` is NULL; an error, a value of another type.
pub(super) trait Columns {
    fn int(&self, index: usize) -> sqlx::Result<Option<i64>>;
    fn flag(&self, index: usize) -> sqlx::Result<Option<bool>>;
    fn text(&self, index: usize) -> sqlx::Result<Option<&str>>;
    fn bytes(&self, index: usize) -> sqlx::Result<Option<&[u8]>>;
    fn uuid(&self, index: usize) -> sqlx::Result<Option<Uuid>>;
    /// In microseconds since 1970.
    fn micros(&self, index: usize) -> sqlx::Result<Option<i64>>;
}

impl Columns for SqliteRow {
    fn int(&self, index: usize) -> sqlx::Result<Option<i64>> {
        self.try_get(index)
    }

    fn flag(&self, index: usize) -> sqlx::Result<Option<bool>> {
        Ok(self.try_get::<Option<i64>, _>(index)?.map(|number| number != 0))
    }

    fn text(&self, index: usize) -> sqlx::Result<Option<&str>> {
        self.try_get(index)
    }

    fn bytes(&self, index: usize) -> sqlx::Result<Option<&[u8]>> {
        self.try_get(index)
    }

    fn uuid(&self, index: usize) -> sqlx::Result<Option<Uuid>> {
        self.try_get(index)
    }

    fn micros(&self, index: usize) -> sqlx::Result<Option<i64>> {
        self.try_get(index)
    }
}

impl Columns for PgRow {
    /// Of any width: smallint, integer and bigint decode alike.
    fn int(&self, index: usize) -> sqlx::Result<Option<i64>> {
        self.try_get_unchecked(index)
    }

    fn flag(&self, index: usize) -> sqlx::Result<Option<bool>> {
        self.try_get(index)
    }

    fn text(&self, index: usize) -> sqlx::Result<Option<&str>> {
        self.try_get(index)
    }

    fn bytes(&self, index: usize) -> sqlx::Result<Option<&[u8]>> {
        self.try_get(index)
    }

    fn uuid(&self, index: usize) -> sqlx::Result<Option<Uuid>> {
        self.try_get(index)
    }

    /// By hand: `'infinity'` from a shell would overflow the type that sqlx decodes to, which panics.
    fn micros(&self, index: usize) -> sqlx::Result<Option<i64>> {
        /// 2000-01-01T00:00:00Z, from which Postgres counts.
        const POSTGRES_EPOCH: i64 = 946_684_800_000_000;
        let value = self.try_get_raw(index)?;
        if value.is_null() {
            return Ok(None);
        }
        let bytes = value.as_bytes().map_err(sqlx::Error::Decode)?;
        let micros = bytes
            .try_into()
            .map(i64::from_be_bytes)
            .map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
        Ok(Some(micros.saturating_add(POSTGRES_EPOCH)))
    }
}

/// Reads a row's columns one after the other.
struct Fields<'r, R> {
    row: &'r R,
    next: usize,
    table: &'static str,
}

impl<'r, R: Columns> Fields<'r, R> {
    const fn of(row: &'r R, table: &'static str) -> Self {
        Self { row, next: 0, table }
    }

    const fn corrupt(&self, column: &'static str) -> StoreError {
        StoreError::Corrupt { table: self.table, column }
    }

    /// Reads the next column, which may be NULL, and makes of it what it should be.
    fn maybe<T, U>(
        &mut self,
        column: &'static str,
        read: impl FnOnce(&'r R, usize) -> sqlx::Result<Option<T>>,
        make: impl FnOnce(T) -> Option<U>,
    ) -> Result<Option<U>> {
        let index = self.next;
        self.next += 1;
        let value = read(self.row, index).map_err(|_| self.corrupt(column))?;
        value.map(|value| make(value).ok_or_else(|| self.corrupt(column))).transpose()
    }

    fn some<T>(&self, column: &'static str, value: Option<T>) -> Result<T> {
        value.ok_or_else(|| self.corrupt(column))
    }

    fn int(&mut self, column: &'static str) -> Result<i64> {
        let value = self.maybe(column, R::int, Some)?;
        self.some(column, value)
    }

    fn flag(&mut self, column: &'static str) -> Result<bool> {
        let value = self.maybe(column, R::flag, Some)?;
        self.some(column, value)
    }

    /// Makes of an integer what it stands for.
    fn number<T>(
        &mut self,
        column: &'static str,
        make: impl FnOnce(i64) -> Option<T>,
    ) -> Result<T> {
        let value = self.maybe(column, R::int, make)?;
        self.some(column, value)
    }

    fn maybe_text(&mut self, column: &'static str) -> Result<Option<String>> {
        self.maybe(column, R::text, |text| Some(text.to_owned()))
    }

    fn text(&mut self, column: &'static str) -> Result<String> {
        let value = self.maybe_text(column)?;
        self.some(column, value)
    }

    fn maybe_parsed<T>(
        &mut self,
        column: &'static str,
        parse: impl FnOnce(&str) -> std::result::Result<T, Invalid>,
    ) -> Result<Option<T>> {
        self.maybe(column, R::text, |text| parse(text).ok())
    }

    fn parsed<T>(
        &mut self,
        column: &'static str,
        parse: impl FnOnce(&str) -> std::result::Result<T, Invalid>,
    ) -> Result<T> {
        let value = self.maybe_parsed(column, parse)?;
        self.some(column, value)
    }

    fn maybe_digest(&mut self, column: &'static str) -> Result<Option<Digest>> {
        self.maybe(column, R::bytes, Digest::from_bytes)
    }

    fn maybe_uuid(&mut self, column: &'static str) -> Result<Option<Uuid>> {
        self.maybe(column, R::uuid, Some)
    }

    fn uuid(&mut self, column: &'static str) -> Result<Uuid> {
        let value = self.maybe_uuid(column)?;
        self.some(column, value)
    }

    fn maybe_time(&mut self, column: &'static str) -> Result<Option<Timestamp>> {
        self.maybe(column, R::micros, Timestamp::from_unix_micros)
    }

    fn time(&mut self, column: &'static str) -> Result<Timestamp> {
        let value = self.maybe_time(column)?;
        self.some(column, value)
    }

    /// Reads the next `columns` if the first of them, a text that is never NULL in its table, says that there is a
    /// row; passes over them otherwise: the empty side of a LEFT JOIN.
    fn joined<T>(
        &mut self,
        table: &'static str,
        columns: usize,
        read: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<Option<T>> {
        let outer = std::mem::replace(&mut self.table, table);
        let first = self.row.text(self.next).map_err(|_| self.corrupt("id"))?;
        let value = if first.is_some() {
            Some(read(self)?)
        } else {
            self.next += columns;
            None
        };
        self.table = outer;
        Ok(value)
    }

    fn workspace(&mut self) -> Result<Workspace> {
        Ok(Workspace {
            id: self.parsed("id", WorkspaceId::parse)?,
            slug: self.parsed("slug", Slug::parse)?,
            display_name: self.parsed("display_name", DisplayName::parse)?,
            disabled: self.flag("disabled")?,
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

    fn owner(&mut self) -> Result<Owner> {
        let kind = self.int("kind")?;
        let workspace_id = self.maybe_parsed("workspace_id", WorkspaceId::parse)?;
        let user_id = self.maybe_parsed("user_id", UserId::parse)?;
        let max_role = self.maybe("max_role", R::int, Role::from_number)?;
        match (kind, workspace_id, user_id, max_role) {
            (1, Some(workspace_id), None, None) => Ok(Owner::Workspace(workspace_id)),
            (2, None, Some(id), Some(max_role)) => Ok(Owner::User { id, max_role }),
            _ => Err(self.corrupt("kind")),
        }
    }

    fn last_use(&mut self) -> Result<Option<LastUse>> {
        let time = self.maybe_time("last_use_time")?;
        let ip = self.maybe("last_use_ip", R::text, |text| text.parse::<IpAddr>().ok())?;
        Ok(time.map(|time| LastUse { time, ip }))
    }

    fn credential(&mut self) -> Result<Credential> {
        Ok(Credential {
            id: CredentialId(self.uuid("id")?),
            owner: self.owner()?,
            generation: self.int("generation")?,
            name: self.parsed("name", DisplayName::parse)?,
            hint: self.text("hint")?,
            scopes: self.number("scopes", ScopeSet::from_bits)?,
            ip_allowlist: self.parsed("ip_allowlist", parse_ip_allowlist)?,
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

    fn incarnation(&mut self) -> Result<(Incarnation, Revision)> {
        // A standby has no timeline of its own to tell, and is not where replicas belong.
        let incarnation = self.maybe_text("epoch")?;
        let incarnation = incarnation.ok_or_else(|| {
            StoreError::Unavailable("it is a standby, not the primary".to_owned())
        })?;
        let revision = self.number("revision", |number| u64::try_from(number).ok())?;
        Ok((Incarnation(incarnation), Revision(revision)))
    }

    fn change(&mut self) -> Result<Change> {
        let revision = self.number("revision", |number| u64::try_from(number).ok())?;
        let entity = self.text("entity")?;
        let id = self.text("entity_id")?;
        let digest = self.maybe_digest("digest")?;
        let corrupt = |column| StoreError::Corrupt { table: "changes", column };
        let entity = match entity.as_str() {
            "credential" => ChangedEntity::Credential(digest.ok_or(corrupt("digest"))?),
            "user" => ChangedEntity::User(UserId::parse(&id).map_err(|_| corrupt("entity_id"))?),
            "workspace" => {
                ChangedEntity::Workspace(WorkspaceId::parse(&id).map_err(|_| corrupt("entity_id"))?)
            }
            "unknown" => ChangedEntity::UnknownDigests,
            "caller" => ChangedEntity::Caller(CallerId(
                Uuid::try_parse(&id).map_err(|_| corrupt("entity_id"))?,
            )),
            _ => return Err(corrupt("entity")),
        };
        Ok(Change { revision: Revision(revision), entity })
    }
}

fn parse_ip_allowlist(text: &str) -> std::result::Result<IpAllowlist, Invalid> {
    IpAllowlist::parse(text.split(',').filter(|entry| !entry.is_empty()))
}

fn parse_annotations(text: &str) -> std::result::Result<Annotations, Invalid> {
    let entries: BTreeMap<String, String> =
        serde_json::from_str(text).map_err(|_| Invalid::new("must be a JSON object of strings"))?;
    Annotations::parse(entries)
}

/// Annotations as the store keeps them: a JSON object.
pub(super) fn annotations_text(annotations: &Annotations) -> String {
    let object = annotations.entries().iter();
    serde_json::Value::Object(
        object.map(|(key, value)| (key.clone(), value.clone().into())).collect(),
    )
    .to_string()
}

/// Reads `workspace_columns`.
pub(super) fn workspace(row: &impl Columns) -> Result<Workspace> {
    Fields::of(row, "workspaces").workspace()
}

/// Reads `user_columns`.
pub(super) fn user(row: &impl Columns) -> Result<User> {
    Fields::of(row, "users").user()
}

/// Reads `membership_columns`.
pub(super) fn membership(row: &impl Columns) -> Result<Membership> {
    let mut fields = Fields::of(row, "memberships");
    Ok(Membership {
        workspace_id: fields.parsed("workspace_id", WorkspaceId::parse)?,
        user_id: fields.parsed("user_id", UserId::parse)?,
        role: fields.number("role", Role::from_number)?,
        create_time: fields.time("create_time")?,
        update_time: fields.time("update_time")?,
    })
}

/// Reads a workspace's id, and whether the name is a reserved one.
pub(super) fn name_holder(row: &impl Columns) -> Result<NameHolder> {
    let mut fields = Fields::of(row, "workspaces");
    Ok(NameHolder {
        workspace_id: fields.parsed("id", WorkspaceId::parse)?,
        reserved: fields.int("reserved")? != 0,
    })
}

/// Reads `credential_columns`.
pub(super) fn credential(row: &impl Columns) -> Result<Credential> {
    Fields::of(row, "credentials").credential()
}

/// Reads `credential_columns` and the digest.
pub(super) fn stored_credential(row: &impl Columns) -> Result<StoredCredential> {
    let mut fields = Fields::of(row, "credentials");
    let credential = fields.credential()?;
    let digest = fields.maybe_digest("digest")?;
    Ok(StoredCredential { credential, digest: fields.some("digest", digest)? })
}

/// Reads a credential's id, digest and owner.
pub(super) fn taken_credential(row: &impl Columns) -> Result<TakenCredential> {
    let mut fields = Fields::of(row, "credentials");
    let id = CredentialId(fields.uuid("id")?);
    let digest = fields.maybe_digest("digest")?;
    let digest = fields.some("digest", digest)?;
    Ok(TakenCredential { id, digest, owner: fields.owner()? })
}

/// Reads what `look_up` selects: the revision, the digest and `credential_columns`, `workspace_columns` of the owner
/// and of the name asked for, `user_columns`, and the user's roles.
pub(super) fn looked_up(row: &impl Columns, digest: &Digest) -> Result<LookedUp> {
    let mut fields = Fields::of(row, "counter");
    let revision = Revision(fields.number("revision", |number| u64::try_from(number).ok())?);
    fields.table = "credentials";
    let found_digest = fields.maybe_digest("digest")?;
    // The index has found it; this compares all of it, in a time that tells nothing.
    let Some(_) = found_digest.filter(|found| found.equals(digest)) else {
        return Ok(LookedUp { revision, found: None });
    };
    let credential = fields.credential()?;
    let own_workspace = fields.joined("workspaces", 9, Fields::workspace)?;
    let named_workspace = fields.joined("workspaces", 9, Fields::workspace)?;
    let user = fields.joined("users", 8, Fields::user)?;
    fields.table = "memberships";
    let roles = fields.maybe("role", Columns::text, parse_roles)?.unwrap_or_default();
    let principal = match (own_workspace, user) {
        (Some(workspace), None) => FoundPrincipal::Workspace(workspace),
        (None, Some(user)) => FoundPrincipal::User(user, roles),
        _ => return Err(StoreError::Corrupt { table: "credentials", column: "kind" }),
    };
    Ok(LookedUp { revision, found: Some(Found { credential, principal, named_workspace }) })
}

/// Roles by workspace, as `look_up` joins them: `<workspace>=<role>` with commas between.
fn parse_roles(text: &str) -> Option<Vec<(WorkspaceId, Role)>> {
    let role = |entry: &str| {
        let (workspace, role) = entry.split_once('=')?;
        Some((WorkspaceId::parse(workspace).ok()?, Role::from_number(role.parse().ok()?)?))
    };
    text.split(',').map(role).collect()
}

/// Reads `caller_columns`.
pub(super) fn caller(row: &impl Columns) -> Result<Caller> {
    let mut fields = Fields::of(row, "callers");
    Ok(Caller {
        id: CallerId(fields.uuid("id")?),
        name: fields.parsed("name", CallerName::parse)?,
        permissions: fields.number("permissions", PermissionSet::from_bits)?,
        identity: {
            let digest = fields.maybe_digest("digest")?;
            let san = fields.maybe_parsed("certificate_san", CertificateSan::parse)?;
            match (digest, san) {
                (Some(digest), None) => CallerIdentity::Token(digest),
                (None, Some(san)) => CallerIdentity::Certificate(san),
                _ => return Err(fields.corrupt("digest")),
            }
        },
        hint: fields.text("hint")?,
        create_time: fields.time("create_time")?,
        revoke_time: fields.maybe_time("revoke_time")?,
    })
}

/// Reads `audit_event_columns`.
pub(super) fn audit_event(row: &impl Columns) -> Result<AuditEvent> {
    let mut fields = Fields::of(row, "audit_events");
    Ok(AuditEvent {
        id: EventId(fields.uuid("id")?),
        time: fields.time("time")?,
        action: fields.text("action")?,
        caller: fields.text("caller")?,
        acting_user: fields.maybe_parsed("acting_user", UserId::parse)?,
        target_kind: fields.text("target_kind")?,
        target_id: fields.text("target_id")?,
        remote_address: fields.maybe_text("remote_address")?,
        before: fields.maybe_text("before")?,
        after: fields.maybe_text("after")?,
        reason: fields.maybe_text("reason")?,
    })
}

/// Reads the counter's revision.
pub(super) fn revision(row: &impl Columns) -> Result<Revision> {
    let number =
        Fields::of(row, "counter").number("revision", |number| u64::try_from(number).ok())?;
    Ok(Revision(number))
}

/// Reads a store's life and its newest revision.
pub(super) fn incarnation(row: &impl Columns) -> Result<(Incarnation, Revision)> {
    Fields::of(row, "counter").incarnation()
}

/// Reads rows of `list_replicas`: the store's life and newest revision, and a replica, unless there is none.
pub(super) fn replicas(rows: &[impl Columns]) -> Result<Replicas> {
    let first = rows.first().ok_or(StoreError::Corrupt { table: "counter", column: "id" })?;
    let (incarnation, revision) = self::incarnation(first)?;
    let mut replicas = Vec::with_capacity(rows.len());
    for row in rows {
        let mut fields = Fields { row, table: "replicas", next: 2 };
        let Some(id) = fields.maybe_uuid("replica_id")? else { continue };
        replicas.push(Replica {
            id: ReplicaId(id),
            applied: Revision(fields.number("applied", |number| u64::try_from(number).ok())?),
            seq: fields.int("seq")?,
            lease: fields
                .number("lease", |micros| u64::try_from(micros).ok().map(Duration::from_micros))?,
        });
    }
    Ok(Replicas { incarnation, revision, replicas })
}

/// Reads rows of a sync: the store's life and newest revision, a column to pass over, and a change, unless there is none.
pub(super) fn synced(rows: &[impl Columns]) -> Result<Option<Synced>> {
    let Some(first) = rows.first() else { return Ok(None) };
    let (incarnation, revision) = self::incarnation(first)?;
    let mut changes = Vec::with_capacity(rows.len());
    for row in rows {
        let mut fields = Fields { row, table: "changes", next: 3 };
        if fields.maybe("revision", Columns::int, Some)?.is_some() {
            fields.next = 3;
            changes.push(fields.change()?);
        }
    }
    Ok(Some(Synced { incarnation, revision, changes }))
}

/// Reads a change's revision, entity, entity's id and digest.
pub(super) fn change(row: &impl Columns) -> Result<Change> {
    Fields::of(row, "changes").change()
}
