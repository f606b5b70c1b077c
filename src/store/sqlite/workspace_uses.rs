//! The personal access tokens that have acted in a workspace, and bars against them.

use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};
use uuid::Uuid;

use super::transaction::{SqliteTx, run};
use super::{Result, SqliteStore, read, sql_time};
use crate::model::{Credential, CredentialId, WorkspaceId};
use crate::store::error::expect_rows;
use crate::store::sql::{credential_columns, select_credentials, user_columns};
use crate::store::{UsePosition, UsedPat, WorkspaceUseStore, WorkspaceUseTx, row};

/// Columns for [`row::used_pat`] after `credential_columns`.
macro_rules! used_columns {
    () => {
        concat!(", x.last_use_time, m.role, ", user_columns!())
    };
}

/// Selects a page of the tokens that have acted in a workspace, before the position (`$3`, `$4`).
macro_rules! select_workspace_pats {
    () => {
        concat!(
            "WITH used AS MATERIALIZED ( \
                 SELECT credential_id, last_use_time FROM workspace_uses \
                 WHERE workspace_id = $1 AND generation = $2 \
                   AND (last_use_time, credential_id) < ($3, $4) \
                 ORDER BY last_use_time DESC, credential_id DESC LIMIT $5) ",
            select_credentials!(
                with used_columns!(),
                from "used AS x CROSS JOIN credentials AS c ON c.id = x.credential_id \
                      LEFT JOIN memberships AS m ON m.workspace_id = $1 AND m.user_id = c.user_id"
            ),
            " ORDER BY x.last_use_time DESC, x.credential_id DESC"
        )
    };
}

#[async_trait]
impl WorkspaceUseStore for SqliteStore {
    async fn list_workspace_pats(
        &self,
        workspace: &WorkspaceId,
        generation: i64,
        after: Option<UsePosition>,
        limit: u32,
    ) -> Result<Vec<UsedPat>> {
        read!(self, async |db| {
            let statement = select_workspace_pats!();
            let rows = page(db, statement, workspace, generation, after, limit).await?;
            rows.iter().map(row::used_pat).collect()
        })
    }

    async fn explain_workspace_pats(
        &self,
        workspace: &WorkspaceId,
        generation: i64,
        after: Option<UsePosition>,
        limit: u32,
    ) -> Result<Vec<String>> {
        read!(self, async |db| {
            let statement = concat!("EXPLAIN QUERY PLAN ", select_workspace_pats!());
            let rows = page(db, statement, workspace, generation, after, limit).await?;
            rows.iter().map(|row| Ok(row.try_get(3)?)).collect()
        })
    }
}

/// Runs a statement made of [`select_workspace_pats!`].
async fn page(
    db: &mut SqliteConnection,
    statement: &'static str,
    workspace: &WorkspaceId,
    generation: i64,
    after: Option<UsePosition>,
    limit: u32,
) -> Result<Vec<SqliteRow>> {
    let rows = sqlx::query(statement)
        .bind(workspace.as_str())
        .bind(generation)
        // Without a position the page begins at the end of the index: no time is as late.
        .bind(after.map_or(i64::MAX, |after| sql_time(after.time)))
        .bind(after.map_or(Uuid::max(), |after| after.id.0))
        .bind(i64::from(limit))
        .fetch_all(db)
        .await?;
    Ok(rows)
}

#[async_trait]
impl WorkspaceUseTx for SqliteTx {
    async fn find_workspace_pat(
        &mut self,
        workspace: &WorkspaceId,
        generation: i64,
        id: CredentialId,
    ) -> Result<Option<UsedPat>> {
        run!(self, async |db| {
            let row = sqlx::query(concat!(
                select_credentials!(
                    with used_columns!(),
                    from "credentials AS c \
                          LEFT JOIN workspace_uses AS x ON x.workspace_id = $1 AND x.generation = $2 \
                              AND x.credential_id = c.id \
                          LEFT JOIN memberships AS m ON m.workspace_id = $1 AND m.user_id = c.user_id"
                ),
                " WHERE c.id = $3 AND c.kind = 2"
            ))
            .bind(workspace.as_str())
            .bind(generation)
            .bind(id.0)
            .fetch_optional(db)
            .await?;
            row.as_ref().map(row::used_pat).transpose()
        })
    }

    async fn find_pat_family(&mut self, family_id: CredentialId) -> Result<Vec<Credential>> {
        run!(self, async |db| {
            let rows = sqlx::query(concat!(
                select_credentials!(),
                " WHERE c.family_id = $1 AND c.kind = 2 ORDER BY c.id"
            ))
            .bind(family_id.0)
            .fetch_all(db)
            .await?;
            rows.iter().map(row::credential).collect()
        })
    }

    async fn write_bars(&mut self, credentials: &[Credential]) -> Result<()> {
        run!(self, async |db| {
            for credential in credentials {
                let done = sqlx::query(
                    "UPDATE credentials SET barred_workspaces = $2, version = $3 WHERE id = $1",
                )
                .bind(credential.id.0)
                .bind(credential.barred_workspaces.to_text())
                .bind(credential.version)
                .execute(&mut *db)
                .await?;
                expect_rows(1, done.rows_affected())?;
            }
            Ok(())
        })
    }
}
