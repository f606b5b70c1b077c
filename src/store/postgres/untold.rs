//! What the audit log has yet to tell.

use async_trait::async_trait;
use sqlx::{Postgres, QueryBuilder, Row as _};
use uuid::Uuid;

use super::session::read;
use super::transaction::{PostgresTx, verb};
use super::{PostgresStore, Result, at};
use crate::model::Credential;
use crate::store::sql::{credential_columns, select_credentials};
use crate::store::{Untold, UntoldOwner, UntoldStore, UntoldTx, row};

#[async_trait]
impl UntoldStore for PostgresStore {
    async fn has_untold(&self) -> Result<bool> {
        read!(self, async |db| {
            let row =
                db.query("SELECT EXISTS (SELECT 1 FROM untold)").fetch_one(db.connection()).await?;
            Ok(row.try_get(0)?)
        })
    }
}

#[async_trait]
impl UntoldTx for PostgresTx {
    async fn take_untold(&mut self) -> Result<Option<Untold>> {
        verb!(self, async |db| {
            // Two who take at once get two, or one of them none.
            let row = db.query("SELECT id, workspace_id, user_id, generation, revoke_time, caller, remote_address, reason, \
         told_id, told_count FROM untold ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED")
                .fetch_optional(db.connection())
                .await?;
            row.as_ref().map(row::untold).transpose()
        })
    }

    async fn list_untold(&mut self, untold: &Untold, limit: u32) -> Result<Vec<Credential>> {
        verb!(self, async |db| {
            let mut query = QueryBuilder::<Postgres>::new(concat!(
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
            let rows = db.built(&mut query).fetch_all(db.connection()).await?;
            rows.iter().map(row::credential).collect()
        })
    }

    async fn save_untold(&mut self, untold: &Untold) -> Result<()> {
        verb!(self, async |db| {
            let (workspace_id, user_id) = match &untold.owner {
                UntoldOwner::Workspace(id) => (Some(id.as_str()), None),
                UntoldOwner::User(id) => (None, Some(id.as_str())),
            };
            db.query("INSERT INTO untold ( \
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
            .execute(db.connection())
            .await?;
            Ok(())
        })
    }

    async fn delete_untold(&mut self, id: Uuid) -> Result<()> {
        verb!(self, async |db| {
            db.query("DELETE FROM untold WHERE id = $1").bind(id).execute(db.connection()).await?;
            Ok(())
        })
    }
}
