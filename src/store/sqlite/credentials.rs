//! Keys and personal access tokens: the look-up that every introspection needs, and their management.

use async_trait::async_trait;
use sqlx::{Connection as _, Row as _, SqliteConnection};

use super::transaction::{SqliteTx, run};
use super::{Result, SqliteStore, read, sql_time};
use crate::model::{Credential, CredentialId, Digest, Facts, Owner, Timestamp};
use crate::store::error::expect_rows;
use crate::store::sql::{credential_columns, select_credentials, user_columns, workspace_columns};
use crate::store::{CredentialStore, CredentialTx, Lock, row};

#[async_trait]
impl CredentialStore for SqliteStore {
    async fn look_up(&self, digest: &Digest, workspace: Option<&str>) -> Result<Facts> {
        read!(self, async |db| look_up(db, digest, workspace).await)
    }

    async fn look_up_many(&self, asked: &[(Digest, Option<String>)]) -> Result<Vec<Facts>> {
        read!(self, async |db| {
            // One transaction, so that all answers come from one snapshot. SQLite has no round trips to save.
            let mut transaction = db.begin().await?;
            let mut answers = Vec::with_capacity(asked.len());
            for (digest, workspace) in asked {
                answers.push(look_up(&mut transaction, digest, workspace.as_deref()).await?);
            }
            transaction.rollback().await?;
            Ok(answers)
        })
    }

    async fn find_credential(&self, id: CredentialId) -> Result<Option<Credential>> {
        read!(self, async |db| find(db, id).await)
    }

    async fn find_digest(&self, id: CredentialId) -> Result<Option<Digest>> {
        read!(self, async |db| {
            let row = sqlx::query("SELECT digest FROM credentials WHERE id = $1")
                .bind(id.0)
                .fetch_optional(db)
                .await?;
            row.as_ref().map(row::digest).transpose()
        })
    }
}

#[async_trait]
impl CredentialTx for SqliteTx {
    async fn find_credential(
        &mut self,
        id: CredentialId,
        _lock: Lock,
    ) -> Result<Option<Credential>> {
        run!(self, async |db| find(db, id).await)
    }

    async fn peek_credential(&mut self, id: CredentialId) -> Result<Option<Credential>> {
        run!(self, async |db| find(db, id).await)
    }

    async fn find_credential_by_digest(
        &mut self,
        digest: &Digest,
        _lock: Lock,
    ) -> Result<Option<Credential>> {
        run!(self, async |db| {
            let row = sqlx::query(concat!(select_credentials!(), " WHERE c.digest = $1"))
                .bind(&digest.as_bytes()[..])
                .fetch_optional(db)
                .await?;
            row.as_ref().map(row::credential).transpose()
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
            sqlx::query(
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
            .execute(db)
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
            let done = sqlx::query(
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
            .execute(db)
            .await?;
            expect_rows(1, done.rows_affected())
        })
    }

    async fn replace_digest(&mut self, id: CredentialId, digest: &Digest) -> Result<()> {
        run!(self, async |db| {
            let done = sqlx::query("UPDATE credentials SET digest = $2 WHERE id = $1")
                .bind(id.0)
                .bind(&digest.as_bytes()[..])
                .execute(db)
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
            let row = sqlx::query(concat!(
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
            .fetch_optional(db)
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
            let row = sqlx::query(statement)
                .bind(id)
                .bind(generation)
                .bind(sql_time(now))
                .bind(i64::from(most))
                .fetch_one(db)
                .await?;
            // The count is at most `most`, which is a `u32`.
            Ok(u32::try_from(row.try_get::<i64, _>(0)?).unwrap_or(most))
        })
    }
}

/// Returns everything that an introspection of this digest needs. It is one statement, so it reads one snapshot.
async fn look_up(
    db: &mut SqliteConnection,
    digest: &Digest,
    workspace: Option<&str>,
) -> Result<Facts> {
    // The joins start at the counter, so that an unknown digest still returns the revision. Ids and slugs share one
    // namespace. Ids take precedence, so that a slug inserted by hand cannot shadow the id of another workspace.
    let row = sqlx::query(concat!(
        "SELECT counter.revision, c.digest, ",
        credential_columns!("c.revoke_time"),
        ", ",
        workspace_columns!("own"),
        ", ",
        workspace_columns!("named"),
        ", ",
        user_columns!(),
        ", (SELECT group_concat(m.workspace_id || '=' || m.role, ',' ORDER BY m.workspace_id) \
            FROM memberships AS m \
            WHERE m.user_id = c.user_id) \
         FROM counter \
         LEFT JOIN credentials AS c ON c.digest = $1 \
         LEFT JOIN users AS u ON u.id = c.user_id \
         LEFT JOIN workspaces AS own ON own.id = c.workspace_id \
         LEFT JOIN workspaces AS named ON c.user_id IS NOT NULL AND named.id = COALESCE( \
             (SELECT w.id FROM workspaces AS w WHERE w.id = $2 AND w.delete_time IS NULL), \
             (SELECT w.id FROM workspaces AS w WHERE w.slug = $2 AND w.delete_time IS NULL)) \
         WHERE counter.id = 1"
    ))
    .bind(&digest.as_bytes()[..])
    .bind(workspace)
    .fetch_one(db)
    .await?;
    row::facts(&row, digest)
}

/// Returns the credential with this id.
async fn find(db: &mut SqliteConnection, id: CredentialId) -> Result<Option<Credential>> {
    let row = sqlx::query(concat!(select_credentials!(), " WHERE c.id = $1"))
        .bind(id.0)
        .fetch_optional(db)
        .await?;
    row.as_ref().map(row::credential).transpose()
}
