//! Pending end events: audit events of credentials that ended with their owner and are still to be written.

use async_trait::async_trait;
use sqlx::{QueryBuilder, Row as _, Sqlite};
use uuid::Uuid;

use super::transaction::{SqliteTx, verb};
use super::{Result, SqliteStore, at, read};
use crate::model::Credential;
use crate::store::sql::{credential_columns, select_credentials};
use crate::store::{Untold, UntoldOwner, UntoldStore, UntoldTx, row};

#[async_trait]
impl UntoldStore for SqliteStore {
    async fn has_untold(&self) -> Result<bool> {
        read!(self, async |db| {
            let row = sqlx::query("SELECT EXISTS (SELECT 1 FROM untold)").fetch_one(db).await?;
            Ok(row.try_get(0)?)
        })
    }
}

#[async_trait]
impl UntoldTx for SqliteTx {
    async fn take_untold(&mut self) -> Result<Option<Untold>> {
        verb!(self, async |db| {
            let row = sqlx::query("SELECT id, workspace_id, user_id, generation, revoke_time, caller, remote_address, reason, \
         told_id, told_count FROM untold ORDER BY id LIMIT 1")
                .fetch_optional(db)
                .await?;
            row.as_ref().map(row::untold).transpose()
        })
    }

    async fn list_untold(&mut self, untold: &Untold, limit: u32) -> Result<Vec<Credential>> {
        verb!(self, async |db| {
            let mut query = QueryBuilder::<Sqlite>::new(concat!(
                select_credentials!(),
                " WHERE c.revoke_time IS NULL"
            ));
            match &untold.owner {
                UntoldOwner::Workspace(id) => {
                    query.push(" AND c.workspace_id = ").push_bind(id.to_string())
                }
                UntoldOwner::User(id) => query.push(" AND c.user_id = ").push_bind(id.to_string()),
            };
            query.push(" AND c.generation = ").push_bind(untold.generation);
            query.push(" AND c.id > ").push_bind(untold.told_id.0);
            query.push(" ORDER BY c.id LIMIT ").push_bind(i64::from(limit));
            let rows = query.build().fetch_all(db).await?;
            rows.iter().map(row::credential).collect()
        })
    }

    async fn save_untold(&mut self, untold: &Untold) -> Result<()> {
        verb!(self, async |db| {
            let (workspace_id, user_id) = match &untold.owner {
                UntoldOwner::Workspace(id) => (Some(id.as_str()), None),
                UntoldOwner::User(id) => (None, Some(id.as_str())),
            };
            sqlx::query("INSERT INTO untold ( \
         id, workspace_id, user_id, generation, revoke_time, caller, remote_address, reason, told_id, told_count) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) \
         ON CONFLICT (id) DO UPDATE SET told_id = excluded.told_id, told_count = excluded.told_count")
            .bind(untold.id)
            .bind(workspace_id)
            .bind(user_id)
            .bind(untold.generation)
            .bind(at(untold.revoke_time))
            .bind(&untold.caller)
            .bind(&untold.remote_address)
            .bind(&untold.reason)
            .bind(untold.told_id.0)
            .bind(untold.told_count)
            .execute(db)
            .await?;
            Ok(())
        })
    }

    async fn delete_untold(&mut self, id: Uuid) -> Result<()> {
        verb!(self, async |db| {
            sqlx::query("DELETE FROM untold WHERE id = $1").bind(id).execute(db).await?;
            Ok(())
        })
    }
}
