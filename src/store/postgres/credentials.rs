//! Keys and personal access tokens: the look-up that decides introspections, and management.

use async_trait::async_trait;
use sqlx::Row as _;

use super::hosts::origin;
use super::session::{decide, locked, read};
use super::transaction::{PostgresTx, run};
use super::{PostgresStore, Result, Session, StatementResult, sql_time};
use crate::model::{Credential, CredentialId, Digest, Facts, Owner, Timestamp};
use crate::store::error::expect_rows;
use crate::store::sql::{credential_columns, select_credentials, user_columns, workspace_columns};
use crate::store::{CredentialStore, CredentialTx, Lock, row};

/// Selects the facts that decide an introspection. `$digest` and `$name` are SQL expressions for the digest and for the
/// workspace name. It
/// starts from the counter, so that an unknown digest still returns the origin and the revision. Ids and slugs share
/// one namespace. The id is tried first, so that a slug inserted by hand cannot take the place of another workspace's
/// id.
macro_rules! look_up {
    ($from:literal, $digest:literal, $name:literal) => {
        look_up!(origin!(), $from, $digest, $name)
    };
    ($origin:expr, $from:literal, $digest:literal, $name:literal) => {
        concat!(
            "SELECT ",
            $origin,
            ", counter.revision, c.digest, ",
            credential_columns!("c.revoke_time"),
            ", ",
            workspace_columns!("own"),
            ", ",
            workspace_columns!("named"),
            ", ",
            user_columns!(),
            ", (SELECT string_agg(m.workspace_id || '=' || m.role, ',' ORDER BY m.workspace_id) \
                FROM memberships AS m \
                WHERE m.user_id = c.user_id) \
             FROM ",
            $from,
            " LEFT JOIN credentials AS c ON c.digest = ",
            $digest,
            " LEFT JOIN users AS u ON u.id = c.user_id \
             LEFT JOIN workspaces AS own ON own.id = c.workspace_id \
             LEFT JOIN workspaces AS named ON c.user_id IS NOT NULL AND named.id = COALESCE( \
                 (SELECT w.id FROM workspaces AS w WHERE w.id = ",
            $name,
            " AND w.delete_time IS NULL), \
                 (SELECT w.id FROM workspaces AS w WHERE w.slug = ",
            $name,
            " AND w.delete_time IS NULL)) \
             WHERE counter.id = 1"
        )
    };
}

#[async_trait]
impl CredentialStore for PostgresStore {
    async fn look_up(&self, digest: &Digest, workspace: Option<&str>) -> Result<Facts> {
        decide!(self, async |db| {
            let row = db
                .query(look_up!("counter", "$1", "$2"))
                .bind(&digest.as_bytes()[..])
                .bind(workspace)
                .fetch_one(db.connection())
                .await?;
            let (origin, revision) = row::origin_and_revision(&row)?;
            Ok(StatementResult { origin, revision, value: row::facts_after_origin(&row, digest) })
        })
    }

    async fn look_up_many(&self, asked: &[(Digest, Option<String>)]) -> Result<Vec<Facts>> {
        if asked.is_empty() {
            return Ok(Vec::new());
        }
        decide!(self, async |db| {
            let digests: Vec<_> =
                asked.iter().map(|(digest, _)| digest.as_bytes().to_vec()).collect();
            let names: Vec<_> = asked.iter().map(|(_, name)| name.clone()).collect();
            let rows = db
                .query(concat!(
                    look_up!(
                        // Otherwise Postgres would compute it for every row.
                        concat!("CASE WHEN asked.ordinal = 1 THEN ", origin!(), " END"),
                        "unnest($1::bytea[], $2::text[]) WITH ORDINALITY AS asked (digest, name, ordinal) \
                         CROSS JOIN counter",
                        "asked.digest",
                        "asked.name"
                    ),
                    " ORDER BY asked.ordinal"
                ))
                .bind(digests)
                .bind(names)
                .fetch_all(db.connection())
                .await?;
            let first =
                rows.first().ok_or(StoreError::Corrupt { table: "counter", column: "id" })?;
            let (origin, revision) = row::origin_and_revision(first)?;
            let found = rows.iter().zip(asked);
            let value =
                found.map(|(row, (digest, _))| row::facts_after_origin(row, digest)).collect();
            Ok(StatementResult { origin, revision, value })
        })
    }

    async fn find_credential(&self, id: CredentialId) -> Result<Option<Credential>> {
        read!(self, async |db| find(db, id).await)
    }

    async fn find_digest(&self, id: CredentialId) -> Result<Option<Digest>> {
        read!(self, async |db| {
            let row = db
                .query("SELECT digest FROM credentials WHERE id = $1")
                .bind(id.0)
                .fetch_optional(db.connection())
                .await?;
            row.as_ref().map(row::digest).transpose()
        })
    }
}

#[async_trait]
impl CredentialTx for PostgresTx {
    async fn find_credential(
        &mut self,
        id: CredentialId,
        lock: Lock,
    ) -> Result<Option<Credential>> {
        run!(self, async |db| {
            // Two statements, so that the second reads an owner that was committed before the lock was granted. A
            // single statement would wait for the credential's row and then return its owner as it was before the wait.
            let statement = locked!(lock, "SELECT id FROM credentials WHERE id = $1");
            db.query(statement).bind(id.0).execute(db.connection()).await?;
            find(db, id).await
        })
    }

    async fn peek_credential(&mut self, id: CredentialId) -> Result<Option<Credential>> {
        run!(self, async |db| find(db, id).await)
    }

    async fn find_credential_by_digest(
        &mut self,
        digest: &Digest,
        lock: Lock,
    ) -> Result<Option<Credential>> {
        run!(self, async |db| {
            let statement = locked!(lock, "SELECT id FROM credentials WHERE digest = $1");
            db.query(statement).bind(&digest.as_bytes()[..]).execute(db.connection()).await?;
            find_by_digest(db, digest).await
        })
    }

    async fn insert_credential(&mut self, credential: &Credential, digest: &Digest) -> Result<()> {
        run!(self, async |db| {
            let (workspace, user, max_role) = match &credential.owner {
                Owner::Workspace(id) => (Some(id.as_str()), None, None),
                Owner::User { id, max_role } => {
                    (None, Some(id.as_str()), Some(i16::from(max_role.number())))
                }
            };
            db.query(
                "INSERT INTO credentials ( \
                     id, kind, workspace_id, user_id, max_role, generation, name, hint, digest, scopes, ip_allowlist, \
                     annotations, create_time, expire_time, disable_time, revoke_time, last_use_time, last_use_ip, \
                     creator, predecessor_id, family_id, version, limited, granted_workspaces, barred_workspaces, \
                     end_at_once) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, \
                     $21, $22, $23, $24, $25, $26)",
            )
            .bind(credential.id.0)
            .bind(i16::from(credential.kind.number()))
            .bind(workspace)
            .bind(user)
            .bind(max_role)
            .bind(credential.generation)
            .bind(credential.name.as_str())
            .bind(&credential.hint)
            .bind(&digest.as_bytes()[..])
            .bind(i16::from(credential.scopes.bits()))
            .bind(credential.ip_allowlist.to_string())
            .bind(row::annotations_text(&credential.annotations))
            .bind(sql_time(credential.create_time))
            .bind(credential.expire_time.map(sql_time))
            .bind(credential.disable_time.map(sql_time))
            .bind(credential.revoke_time.map(sql_time))
            .bind(credential.last_use.map(|last_use| sql_time(last_use.time)))
            .bind(credential.last_use.and_then(|last_use| last_use.ip).map(|ip| ip.to_string()))
            .bind(&credential.creator)
            .bind(credential.predecessor_id.map(|id| id.0))
            .bind(credential.family_id.0)
            .bind(credential.version)
            .bind(credential.granted_workspaces.is_some())
            .bind(row::granted_text(credential))
            .bind(credential.barred_workspaces.to_text())
            .bind(credential.end_at_once)
            .execute(db.connection())
            .await?;
            Ok(())
        })
    }

    async fn update_credential(&mut self, credential: &Credential) -> Result<()> {
        run!(self, async |db| {
            let max_role = match &credential.owner {
                Owner::Workspace(_) => None,
                Owner::User { max_role, .. } => Some(i16::from(max_role.number())),
            };
            let done = db.query(
                "UPDATE credentials \
                 SET max_role = $2, name = $3, hint = $4, scopes = $5, ip_allowlist = $6, annotations = $7, \
                     expire_time = $8, disable_time = $9, revoke_time = $10, version = $11, limited = $12, \
                     granted_workspaces = $13, barred_workspaces = $14, end_at_once = $15 \
                 WHERE id = $1",
            )
            .bind(credential.id.0)
            .bind(max_role)
            .bind(credential.name.as_str())
            .bind(&credential.hint)
            .bind(i16::from(credential.scopes.bits()))
            .bind(credential.ip_allowlist.to_string())
            .bind(row::annotations_text(&credential.annotations))
            .bind(credential.expire_time.map(sql_time))
            .bind(credential.disable_time.map(sql_time))
            .bind(credential.revoke_time.map(sql_time))
            .bind(credential.version)
            .bind(credential.granted_workspaces.is_some())
            .bind(row::granted_text(credential))
            .bind(credential.barred_workspaces.to_text())
            .bind(credential.end_at_once)
            .execute(db.connection())
            .await?;
            expect_rows(1, done.rows_affected())
        })
    }

    async fn replace_digest(&mut self, id: CredentialId, digest: &Digest) -> Result<()> {
        run!(self, async |db| {
            let done = db
                .query("UPDATE credentials SET digest = $2 WHERE id = $1")
                .bind(id.0)
                .bind(&digest.as_bytes()[..])
                .execute(db.connection())
                .await?;
            expect_rows(1, done.rows_affected())
        })
    }

    async fn find_successor(
        &mut self,
        id: CredentialId,
        now: Timestamp,
    ) -> Result<Option<Credential>> {
        run!(self, async |db| {
            let row = db
                .query(concat!(
                    select_credentials!(),
                    " WHERE c.predecessor_id = $1 \
                   AND c.revoke_time IS NULL \
                   AND c.generation >= COALESCE(w.generation, u.generation) \
                   AND (c.expire_time IS NULL OR c.expire_time > $2) \
                 ORDER BY c.id DESC \
                 LIMIT 1"
                ))
                .bind(id.0)
                .bind(sql_time(now))
                .fetch_optional(db.connection())
                .await?;
            row.as_ref().map(row::credential).transpose()
        })
    }

    async fn count_live_credentials(
        &mut self,
        owner: &Owner,
        generation: i64,
        now: Timestamp,
        most: u32,
    ) -> Result<u32> {
        run!(self, async |db| {
            let (statement, id) = match owner {
                Owner::Workspace(id) => (
                    "SELECT count(*) FROM ( \
                         SELECT 1 FROM credentials \
                         WHERE workspace_id = $1 AND generation >= $2 AND revoke_time IS NULL \
                           AND (expire_time IS NULL OR expire_time > $3) \
                         LIMIT $4) AS live",
                    id.as_str(),
                ),
                Owner::User { id, .. } => (
                    "SELECT count(*) FROM ( \
                         SELECT 1 FROM credentials \
                         WHERE user_id = $1 AND generation >= $2 AND revoke_time IS NULL \
                           AND (expire_time IS NULL OR expire_time > $3) \
                         LIMIT $4) AS live",
                    id.as_str(),
                ),
            };
            let row = db
                .query(statement)
                .bind(id)
                .bind(generation)
                .bind(sql_time(now))
                .bind(i64::from(most))
                .fetch_one(db.connection())
                .await?;
            // At most `most`, which is a `u32`.
            Ok(u32::try_from(row.try_get::<i64, _>(0)?).unwrap_or(most))
        })
    }
}

/// Returns the credential of this id.
async fn find(db: &mut Session, id: CredentialId) -> Result<Option<Credential>> {
    let row = db
        .query(concat!(select_credentials!(), " WHERE c.id = $1"))
        .bind(id.0)
        .fetch_optional(db.connection())
        .await?;
    row.as_ref().map(row::credential).transpose()
}

/// Returns the credential of this digest.
async fn find_by_digest(db: &mut Session, digest: &Digest) -> Result<Option<Credential>> {
    let row = db
        .query(concat!(select_credentials!(), " WHERE c.digest = $1"))
        .bind(&digest.as_bytes()[..])
        .fetch_optional(db.connection())
        .await?;
    row.as_ref().map(row::credential).transpose()
}
