//! Batches of credentials: revoking, purging, and recording their last use.

use async_trait::async_trait;
use sqlx::{QueryBuilder, Row as _, Sqlite, SqliteConnection};
use uuid::Uuid;

use super::last_uses::{self, update_last_uses};
use super::transaction::{SqliteTx, run};
use super::{Result, SqliteStore, read, sql_time, transact};
use crate::model::{Credential, CredentialId, LastUse, Timestamp, WorkspaceUse};
use crate::store::error::expect_rows;
use crate::store::sql::{credential_columns, select_credentials};
use crate::store::{BulkStore, BulkTx, RevokeFilter, row};

#[async_trait]
impl BulkStore for SqliteStore {
    async fn list_revocable(
        &self,
        filter: &RevokeFilter,
        after: Option<CredentialId>,
        limit: u32,
    ) -> Result<Vec<Credential>> {
        read!(self, async |db| list_revocable(db, filter, after, limit).await)
    }

    async fn last_credential_id(&self) -> Result<Option<CredentialId>> {
        read!(self, async |db| {
            let row = sqlx::query("SELECT id FROM credentials ORDER BY id DESC LIMIT 1")
                .fetch_optional(db)
                .await?;
            row.map(|row| Ok(CredentialId(row.try_get(0)?))).transpose()
        })
    }

    async fn count_revocable(&self, filter: &RevokeFilter) -> Result<u64> {
        read!(self, async |db| {
            let mut query = QueryBuilder::<Sqlite>::new(
                "SELECT COUNT(*) \
                 FROM credentials AS c \
                 LEFT JOIN workspaces AS w ON w.id = c.workspace_id \
                 LEFT JOIN users AS u ON u.id = c.user_id \
                 WHERE ",
            );
            push_revocable(&mut query, filter);
            let count: i64 = query.build().fetch_one(db).await?.try_get(0)?;
            Ok(u64::try_from(count).unwrap_or(0))
        })
    }

    async fn list_purgeable(&self, cutoff: Timestamp, limit: u32) -> Result<Vec<CredentialId>> {
        read!(self, async |db| {
            // Revoked or expired, each by its index, or ended with the owner.
            let rows = sqlx::query(
                "SELECT revoked.id FROM ( \
                     SELECT c.id FROM credentials AS c \
                     WHERE c.revoke_time < $1 ORDER BY c.revoke_time LIMIT $2) AS revoked \
                 UNION SELECT expired.id FROM ( \
                     SELECT c.id FROM credentials AS c \
                     WHERE c.expire_time < $1 ORDER BY c.expire_time LIMIT $2) AS expired \
                 UNION SELECT keys.id FROM ( \
                     SELECT c.id FROM workspaces AS w \
                     JOIN credentials AS c ON c.workspace_id = w.id AND c.generation < w.generation \
                     WHERE w.generation > 0 AND COALESCE(w.generation_time, w.update_time) < $1 LIMIT $2) AS keys \
                 UNION SELECT pats.id FROM ( \
                     SELECT c.id FROM users AS u \
                     JOIN credentials AS c ON c.user_id = u.id AND c.generation < u.generation \
                     WHERE u.generation > 0 AND COALESCE(u.generation_time, u.update_time) < $1 LIMIT $2) AS pats \
                 LIMIT $2",
            )
            .bind(sql_time(cutoff))
            .bind(i64::from(limit))
            .fetch_all(db)
            .await?;
            rows.iter().map(|row| Ok(CredentialId(row.try_get(0)?))).collect()
        })
    }

    async fn write_last_uses(
        &self,
        uses: &[(CredentialId, LastUse)],
        in_workspaces: &[WorkspaceUse],
    ) -> Result<u64> {
        transact!(self, async |db| {
            let uses: Vec<_> = uses.iter().map(|(id, last_use)| (id.0, *last_use)).collect();
            let written = last_uses::write(db, update_last_uses!("credentials"), &uses).await?;
            write_workspace_uses(db, in_workspaces).await?;
            Ok(written)
        })
    }
}

#[async_trait]
impl BulkTx for SqliteTx {
    async fn find_credentials(&mut self, ids: &[CredentialId]) -> Result<Vec<Credential>> {
        run!(self, async |db| {
            let rows = sqlx::query(concat!(
                select_credentials!(),
                " WHERE c.id IN (SELECT unhex(value) FROM json_each($1)) ORDER BY c.id"
            ))
            .bind(uuids(ids))
            .fetch_all(db)
            .await?;
            rows.iter().map(row::credential).collect()
        })
    }

    async fn find_revocable(
        &mut self,
        filter: &RevokeFilter,
        after: Option<CredentialId>,
        limit: u32,
    ) -> Result<Vec<Credential>> {
        run!(self, async |db| list_revocable(db, filter, after, limit).await)
    }

    async fn revoke_credentials(&mut self, ids: &[CredentialId], time: Timestamp) -> Result<()> {
        run!(self, async |db| {
            let done = sqlx::query(
                "UPDATE credentials SET revoke_time = $2, version = version + 1 \
                 WHERE id IN (SELECT unhex(value) FROM json_each($1)) AND revoke_time IS NULL",
            )
            .bind(uuids(ids))
            .bind(sql_time(time))
            .execute(db)
            .await?;
            expect_rows(ids.len() as u64, done.rows_affected())
        })
    }

    async fn delete_credentials(&mut self, ids: &[CredentialId]) -> Result<()> {
        run!(self, async |db| {
            let done = sqlx::query(
                "DELETE FROM credentials \
                 WHERE id IN (SELECT unhex(value) FROM json_each($1))",
            )
            .bind(uuids(ids))
            .execute(db)
            .await?;
            expect_rows(ids.len() as u64, done.rows_affected())
        })
    }
}

/// Records uses in workspaces.
async fn write_workspace_uses(db: &mut SqliteConnection, uses: &[WorkspaceUse]) -> Result<()> {
    for one in uses {
        sqlx::query(
            "INSERT INTO workspace_uses AS x (workspace_id, generation, credential_id, last_use_time) \
             SELECT w.id, $2, c.id, $4 \
             FROM workspaces AS w JOIN credentials AS c ON c.id = $3 AND c.kind = 2 \
             WHERE w.id = $1 \
             ON CONFLICT (workspace_id, credential_id) DO UPDATE \
             SET generation = excluded.generation, last_use_time = excluded.last_use_time \
             WHERE (x.generation, x.last_use_time) < (excluded.generation, excluded.last_use_time)",
        )
        .bind(one.workspace_id.as_str())
        .bind(one.generation)
        .bind(one.credential_id.0)
        .bind(sql_time(one.time))
        .execute(&mut *db)
        .await?;
    }
    Ok(())
}

/// Returns the credentials that the filter matches, ordered by id, after the given id.
async fn list_revocable(
    db: &mut SqliteConnection,
    filter: &RevokeFilter,
    after: Option<CredentialId>,
    limit: u32,
) -> Result<Vec<Credential>> {
    let mut query = QueryBuilder::<Sqlite>::new(concat!(select_credentials!(), " WHERE c.id > "));
    query.push_bind(after.map_or_else(Uuid::nil, |id| id.0)).push(" AND ");
    push_revocable(&mut query, filter);
    query.push(" ORDER BY c.id LIMIT ").push_bind(i64::from(limit));
    let rows = query.build().fetch_all(db).await?;
    rows.iter().map(row::credential).collect()
}

/// Adds the conditions: the credential is revoked neither itself nor by its owner's generation, and the filter matches.
fn push_revocable(query: &mut QueryBuilder<Sqlite>, filter: &RevokeFilter) {
    query.push("c.revoke_time IS NULL AND c.generation >= COALESCE(w.generation, u.generation)");
    if let Some(workspace) = &filter.workspace_id {
        query.push(" AND c.workspace_id = ").push_bind(workspace.to_string());
    }
    if let Some(user) = &filter.user_id {
        query.push(" AND c.user_id = ").push_bind(user.to_string());
    }
    if let Some(family) = filter.family_id {
        query.push(" AND c.family_id = ").push_bind(family.0);
    }
    if let Some(last) = filter.last_id {
        query.push(" AND c.id <= ").push_bind(last.0);
    }
    if let Some(creator) = &filter.creator {
        query.push(" AND c.creator = ").push_bind(creator.clone());
    }
    if let Some(time) = filter.created_before {
        query.push(" AND c.create_time < ").push_bind(sql_time(time));
    }
    if let Some(time) = filter.last_used_before {
        query.push(" AND (c.last_use_time IS NULL OR c.last_use_time < ").push_bind(sql_time(time));
        query.push(")");
    }
}

/// Returns the ids as a JSON array of hexadecimal strings, so that any number of them is one parameter.
fn uuids(ids: &[CredentialId]) -> String {
    let ids = ids.iter().map(|id| id.0.simple().to_string().into());
    serde_json::Value::Array(ids.collect()).to_string()
}
