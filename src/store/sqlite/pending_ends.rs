//! Pending end events: audit events of credentials that ended with their owner and are still to be written.

use async_trait::async_trait;
use sqlx::{QueryBuilder, Row as _, Sqlite};
use uuid::Uuid;

use super::transaction::{SqliteTx, run};
use super::{Result, SqliteStore, read, sql_time};
use crate::model::Credential;
use crate::store::sql::{credential_columns, select_credentials};
use crate::store::{PendingEnds, PendingEndsOwner, PendingEndsStore, PendingEndsTx, row};

#[async_trait]
impl PendingEndsStore for SqliteStore {
    async fn has_pending_ends(&self) -> Result<bool> {
        read!(self, async |db| {
            let row = sqlx::query("SELECT EXISTS (SELECT 1 FROM untold)").fetch_one(db).await?;
            Ok(row.try_get(0)?)
        })
    }
}

#[async_trait]
impl PendingEndsTx for SqliteTx {
    async fn take_pending_ends(&mut self) -> Result<Option<PendingEnds>> {
        run!(self, async |db| {
            let row = sqlx::query("SELECT id, workspace_id, user_id, generation, revoke_time, caller, remote_address, reason, \
         told_id, told_count FROM untold ORDER BY id LIMIT 1")
                .fetch_optional(db)
                .await?;
            row.as_ref().map(row::pending_ends).transpose()
        })
    }

    async fn list_pending_ends(
        &mut self,
        pending: &PendingEnds,
        limit: u32,
    ) -> Result<Vec<Credential>> {
        run!(self, async |db| {
            let mut query = QueryBuilder::<Sqlite>::new(concat!(
                select_credentials!(),
                " WHERE c.revoke_time IS NULL"
            ));
            match &pending.owner {
                PendingEndsOwner::Workspace(id) => {
                    query.push(" AND c.workspace_id = ").push_bind(id.to_string())
                }
                PendingEndsOwner::User(id) => {
                    query.push(" AND c.user_id = ").push_bind(id.to_string())
                }
            };
            query.push(" AND c.generation = ").push_bind(pending.generation);
            query.push(" AND c.id > ").push_bind(pending.last_written_id.0);
            query.push(" ORDER BY c.id LIMIT ").push_bind(i64::from(limit));
            let rows = query.build().fetch_all(db).await?;
            rows.iter().map(row::credential).collect()
        })
    }

    async fn save_pending_ends(&mut self, pending: &PendingEnds) -> Result<()> {
        run!(self, async |db| {
            let (workspace_id, user_id) = match &pending.owner {
                PendingEndsOwner::Workspace(id) => (Some(id.as_str()), None),
                PendingEndsOwner::User(id) => (None, Some(id.as_str())),
            };
            sqlx::query("INSERT INTO untold ( \
         id, workspace_id, user_id, generation, revoke_time, caller, remote_address, reason, told_id, told_count) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) \
         ON CONFLICT (id) DO UPDATE SET told_id = excluded.told_id, told_count = excluded.told_count")
            .bind(pending.id)
            .bind(workspace_id)
            .bind(user_id)
            .bind(pending.generation)
            .bind(sql_time(pending.revoke_time))
            .bind(&pending.caller)
            .bind(&pending.remote_address)
            .bind(&pending.reason)
            .bind(pending.last_written_id.0)
            .bind(pending.written_count)
            .execute(db)
            .await?;
            Ok(())
        })
    }

    async fn delete_pending_ends(&mut self, id: Uuid) -> Result<()> {
        run!(self, async |db| {
            sqlx::query("DELETE FROM untold WHERE id = $1").bind(id).execute(db).await?;
            Ok(())
        })
    }
}
