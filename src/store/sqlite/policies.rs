//! Policies of workspaces for their keys, which restrict the server's policy further.

use async_trait::async_trait;
use sqlx::SqliteConnection;

use super::transaction::{SqliteTx, run};
use super::{Result, SqliteStore, read};
use crate::model::{WorkspaceId, WorkspacePolicy};
use crate::store::{Lock, PolicyStore, PolicyTx, row};

#[async_trait]
impl PolicyStore for SqliteStore {
    async fn find_workspace_policy(&self, id: &WorkspaceId) -> Result<Option<WorkspacePolicy>> {
        read!(self, async |db| find(db, id).await)
    }

    async fn list_workspace_policies(
        &self,
        first: &WorkspaceId,
        last: &WorkspaceId,
    ) -> Result<Vec<(WorkspaceId, WorkspacePolicy)>> {
        read!(self, async |db| {
            let rows = sqlx::query(
                "SELECT workspace_id, key_lifetime_max, key_expiry_required, keys_max, overlap_min, overlap_max \
                 FROM workspace_policies \
                 WHERE workspace_id BETWEEN $1 AND $2 \
                 ORDER BY workspace_id",
            )
            .bind(first.as_str())
            .bind(last.as_str())
            .fetch_all(db)
            .await?;
            rows.iter().map(row::workspace_policy).collect()
        })
    }
}

#[async_trait]
impl PolicyTx for SqliteTx {
    async fn find_workspace_policy(
        &mut self,
        id: &WorkspaceId,
        _lock: Lock,
    ) -> Result<Option<WorkspacePolicy>> {
        run!(self, async |db| find(db, id).await)
    }

    async fn put_workspace_policy(
        &mut self,
        id: &WorkspaceId,
        policy: &WorkspacePolicy,
    ) -> Result<()> {
        run!(self, async |db| {
            sqlx::query(
                "INSERT INTO workspace_policies ( \
                     workspace_id, key_lifetime_max, key_expiry_required, keys_max, overlap_min, overlap_max) \
                 VALUES ($1, $2, $3, $4, $5, $6) \
                 ON CONFLICT (workspace_id) DO UPDATE \
                 SET key_lifetime_max = excluded.key_lifetime_max, \
                     key_expiry_required = excluded.key_expiry_required, keys_max = excluded.keys_max, \
                     overlap_min = excluded.overlap_min, overlap_max = excluded.overlap_max",
            )
            .bind(id.as_str())
            .bind(policy.key_lifetime_max.map(row::duration_micros))
            .bind(policy.key_expiry_required)
            .bind(policy.keys_max.map(i64::from))
            .bind(policy.overlap_min.map(row::duration_micros))
            .bind(policy.overlap_max.map(row::duration_micros))
            .execute(db)
            .await?;
            Ok(())
        })
    }

    async fn delete_workspace_policy(&mut self, id: &WorkspaceId) -> Result<()> {
        run!(self, async |db| {
            sqlx::query("DELETE FROM workspace_policies WHERE workspace_id = $1")
                .bind(id.as_str())
                .execute(db)
                .await?;
            Ok(())
        })
    }
}

/// Returns the policy of this workspace, if it has one.
async fn find(db: &mut SqliteConnection, id: &WorkspaceId) -> Result<Option<WorkspacePolicy>> {
    let row = sqlx::query(
        "SELECT workspace_id, key_lifetime_max, key_expiry_required, keys_max, overlap_min, overlap_max \
         FROM workspace_policies \
         WHERE workspace_id = $1",
    )
    .bind(id.as_str())
    .fetch_optional(db)
    .await?;
    Ok(row.as_ref().map(row::workspace_policy).transpose()?.map(|(_, policy)| policy))
}
