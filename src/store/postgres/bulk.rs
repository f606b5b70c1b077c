//! Bulk operations on credentials, with few statements for many rows: revoking, purging, and recording last uses.

use async_trait::async_trait;
use sqlx::types::time::OffsetDateTime;
use sqlx::{Postgres, QueryBuilder, Row as _};
use uuid::Uuid;

use super::last_uses::{self, update_last_uses};
use super::session::{read, transact};
use super::transaction::{PostgresTx, run};
use super::{PostgresStore, Result, Session, sql_time};
use crate::model::{Credential, CredentialId, LastUse, Timestamp, WorkspaceUse};
use crate::store::error::expect_rows;
use crate::store::sql::{credential_columns, select_credentials};
use crate::store::{BulkStore, BulkTx, RevokeFilter, row};

#[async_trait]
impl BulkStore for PostgresStore {
    async fn list_revocable(
        &self,
        filter: &RevokeFilter,
        after: Option<CredentialId>,
        limit: u32,
    ) -> Result<Vec<Credential>> {
        read!(self, async |db| {
            let mut query = select_revocable(filter, after, limit);
            let rows = db.query_from(&mut query).fetch_all(db.connection()).await?;
            rows.iter().map(row::credential).collect()
        })
    }

    async fn last_credential_id(&self) -> Result<Option<CredentialId>> {
        read!(self, async |db| {
            let row = db
                .query("SELECT id FROM credentials ORDER BY id DESC LIMIT 1")
                .fetch_optional(db.connection())
                .await?;
            row.map(|row| Ok(CredentialId(row.try_get(0)?))).transpose()
        })
    }

    async fn count_revocable(&self, filter: &RevokeFilter) -> Result<u64> {
        read!(self, async |db| {
            let mut query = QueryBuilder::<Postgres>::new(
                "SELECT COUNT(*) \
                 FROM credentials AS c \
                 LEFT JOIN workspaces AS w ON w.id = c.workspace_id \
                 LEFT JOIN users AS u ON u.id = c.user_id \
                 WHERE ",
            );
            push_revocable(&mut query, filter);
            let count: i64 =
                db.query_from(&mut query).fetch_one(db.connection()).await?.try_get(0)?;
            Ok(u64::try_from(count).unwrap_or(0))
        })
    }

    async fn list_purgeable(&self, cutoff: Timestamp, limit: u32) -> Result<Vec<CredentialId>> {
        read!(self, async |db| {
            // Credentials revoked or expired by themselves, which have indexes, or with their owner.
            let rows = db.query(
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
            .fetch_all(db.connection())
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
            lock_used(db, uses, in_workspaces).await?;
            let uses: Vec<_> = uses.iter().map(|(id, last_use)| (id.0, *last_use)).collect();
            let written = last_uses::write(db, update_last_uses!("credentials"), &uses).await?;
            write_workspace_uses(db, in_workspaces).await?;
            Ok(written)
        })
    }
}

#[async_trait]
impl BulkTx for PostgresTx {
    async fn find_credentials(&mut self, ids: &[CredentialId]) -> Result<Vec<Credential>> {
        run!(self, async |db| {
            // Lock in the order of ids, like every statement that locks many rows. Two statements, for the reason given
            // in `find_credential`.
            db.query("SELECT id FROM credentials WHERE id = ANY ($1) ORDER BY id FOR UPDATE")
                .bind(uuids(ids))
                .execute(db.connection())
                .await?;
            let rows = db
                .query(concat!(select_credentials!(), " WHERE c.id = ANY ($1) ORDER BY c.id"))
                .bind(uuids(ids))
                .fetch_all(db.connection())
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
        run!(self, async |db| {
            // One statement is enough, because the owners are locked. After waiting for a row it sees the committed
            // version, and skips a row that has been revoked.
            let mut query = select_revocable(filter, after, limit);
            query.push(" FOR NO KEY UPDATE OF c");
            let rows = db.query_from(&mut query).fetch_all(db.connection()).await?;
            rows.iter().map(row::credential).collect()
        })
    }

    async fn revoke_credentials(&mut self, ids: &[CredentialId], time: Timestamp) -> Result<()> {
        run!(self, async |db| {
            let done = db
                .query(
                    "UPDATE credentials SET revoke_time = $2, version = version + 1 \
                 WHERE id = ANY ($1) AND revoke_time IS NULL",
                )
                .bind(uuids(ids))
                .bind(sql_time(time))
                .execute(db.connection())
                .await?;
            expect_rows(ids.len() as u64, done.rows_affected())
        })
    }

    async fn delete_credentials(&mut self, ids: &[CredentialId]) -> Result<()> {
        run!(self, async |db| {
            let done = db
                .query(
                    "DELETE FROM credentials \
                 WHERE id = ANY ($1)",
                )
                .bind(uuids(ids))
                .execute(db.connection())
                .await?;
            expect_rows(ids.len() as u64, done.rows_affected())
        })
    }
}

/// Locks the workspaces, then all credentials, in the order of their ids, so that none of these rows is deleted before
/// the uses in workspaces refer to it, and no other transaction that locks several of them deadlocks with this one.
async fn lock_used(
    db: &mut Session,
    uses: &[(CredentialId, LastUse)],
    in_workspaces: &[WorkspaceUse],
) -> Result<()> {
    if in_workspaces.is_empty() {
        return Ok(());
    }
    let workspaces: Vec<_> = in_workspaces.iter().map(|one| one.workspace_id.to_string()).collect();
    db.query("SELECT id FROM workspaces WHERE id = ANY ($1) ORDER BY id FOR KEY SHARE")
        .bind(workspaces)
        .execute(db.connection())
        .await?;
    let credentials = uses.iter().map(|(id, _)| id.0);
    let credentials: Vec<_> =
        credentials.chain(in_workspaces.iter().map(|one| one.credential_id.0)).collect();
    // As strong as the lock that the last use of the credential takes.
    db.query("SELECT id FROM credentials WHERE id = ANY ($1) ORDER BY id FOR NO KEY UPDATE")
        .bind(credentials)
        .execute(db.connection())
        .await?;
    Ok(())
}

/// Records uses in workspaces. [`lock_used`] has locked their rows.
async fn write_workspace_uses(db: &mut Session, uses: &[WorkspaceUse]) -> Result<()> {
    if uses.is_empty() {
        return Ok(());
    }
    let workspaces: Vec<_> = uses.iter().map(|one| one.workspace_id.to_string()).collect();
    let generations: Vec<_> = uses.iter().map(|one| one.generation).collect();
    let credentials: Vec<_> = uses.iter().map(|one| one.credential_id.0).collect();
    let times: Vec<OffsetDateTime> = uses.iter().map(|one| sql_time(one.time)).collect();
    db.query(
        "INSERT INTO workspace_uses AS x (workspace_id, generation, credential_id, last_use_time) \
         SELECT w.id, used.generation, c.id, used.time \
         FROM unnest($1::text[], $2::bigint[], $3::uuid[], $4::timestamptz[]) \
             AS used (workspace_id, generation, credential_id, time) \
         JOIN workspaces AS w ON w.id = used.workspace_id \
         JOIN credentials AS c ON c.id = used.credential_id AND c.kind = 2 \
         ORDER BY w.id, c.id \
         ON CONFLICT (workspace_id, credential_id) DO UPDATE \
         SET generation = excluded.generation, last_use_time = excluded.last_use_time \
         WHERE (x.generation, x.last_use_time) < (excluded.generation, excluded.last_use_time)",
    )
    .bind(workspaces)
    .bind(generations)
    .bind(credentials)
    .bind(times)
    .execute(db.connection())
    .await?;
    Ok(())
}

fn select_revocable(
    filter: &RevokeFilter,
    after: Option<CredentialId>,
    limit: u32,
) -> QueryBuilder<Postgres> {
    let mut query = QueryBuilder::<Postgres>::new(concat!(select_credentials!(), " WHERE c.id > "));
    query.push_bind(after.map_or_else(Uuid::nil, |id| id.0)).push(" AND ");
    push_revocable(&mut query, filter);
    query.push(" ORDER BY c.id LIMIT ").push_bind(i64::from(limit));
    query
}

/// Adds the conditions: the credential is revoked neither itself nor by its owner's generation, and the filter matches.
fn push_revocable(query: &mut QueryBuilder<Postgres>, filter: &RevokeFilter) {
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

fn uuids(ids: &[CredentialId]) -> Vec<Uuid> {
    ids.iter().map(|id| id.0).collect()
}
