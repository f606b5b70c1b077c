//! The personal access tokens that have acted in a workspace, and bars against them.

use async_trait::async_trait;
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::session::read;
use super::transaction::{PostgresTx, run};
use super::{PostgresStore, Result, Session, sql_time};
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

/// Selects a page of the tokens that have acted in a workspace. Without a position (`$3`, `$4`) the page begins at the
/// end of the index: no time is as late.
macro_rules! select_workspace_pats {
    () => {
        concat!(
            "WITH used AS MATERIALIZED ( \
                 SELECT credential_id, last_use_time FROM workspace_uses \
                 WHERE workspace_id = $1 AND generation = $2 \
                   AND (last_use_time, credential_id) < (COALESCE($3::timestamptz, 'infinity'), $4) \
                 ORDER BY last_use_time DESC, credential_id DESC LIMIT $5) ",
            select_credentials!(
                with used_columns!(),
                from "used AS x JOIN credentials AS c ON c.id = x.credential_id \
                      LEFT JOIN memberships AS m ON m.workspace_id = $1 AND m.user_id = c.user_id"
            ),
            " ORDER BY x.last_use_time DESC, x.credential_id DESC"
        )
    };
}

#[async_trait]
impl WorkspaceUseStore for PostgresStore {
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
            let statement = concat!("EXPLAIN (COSTS OFF) ", select_workspace_pats!());
            let rows = page(db, statement, workspace, generation, after, limit).await?;
            rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
        })
    }
}

/// Runs a statement made of [`select_workspace_pats!`].
async fn page(
    db: &mut Session,
    statement: &'static str,
    workspace: &WorkspaceId,
    generation: i64,
    after: Option<UsePosition>,
    limit: u32,
) -> Result<Vec<PgRow>> {
    let rows = db
        .query(statement)
        .bind(workspace.as_str())
        .bind(generation)
        .bind(after.map(|after| sql_time(after.time)))
        .bind(after.map_or(Uuid::max(), |after| after.id.0))
        .bind(i64::from(limit))
        .fetch_all(db.connection())
        .await?;
    Ok(rows)
}

#[async_trait]
impl WorkspaceUseTx for PostgresTx {
    async fn find_workspace_pat(
        &mut self,
        workspace: &WorkspaceId,
        generation: i64,
        id: CredentialId,
    ) -> Result<Option<UsedPat>> {
        run!(self, async |db| {
            let row = db
                .query(concat!(
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
                .fetch_optional(db.connection())
                .await?;
            row.as_ref().map(row::used_pat).transpose()
        })
    }

    async fn find_pat_family(&mut self, family_id: CredentialId) -> Result<Vec<Credential>> {
        run!(self, async |db| {
            loop {
                let rows = db
                    .query(
                        "SELECT id FROM credentials WHERE family_id = $1 AND kind = 2 ORDER BY id \
                         FOR NO KEY UPDATE",
                    )
                    .bind(family_id.0)
                    .fetch_all(db.connection())
                    .await?;
                let locked: Vec<Uuid> =
                    rows.iter().map(|row| row.try_get(0)).collect::<sqlx::Result<_>>()?;
                let rows = db
                    .query(concat!(
                        select_credentials!(),
                        " WHERE c.family_id = $1 AND c.kind = 2 ORDER BY c.id"
                    ))
                    .bind(family_id.0)
                    .fetch_all(db.connection())
                    .await?;
                let found: Vec<_> = rows.iter().map(row::credential).collect::<Result<_>>()?;
                // A rotation for which the first statement has waited has added a successor that it did not see.
                if found.iter().all(|credential| locked.contains(&credential.id.0)) {
                    return Ok(found);
                }
            }
        })
    }

    async fn write_bars(&mut self, credentials: &[Credential]) -> Result<()> {
        run!(self, async |db| {
            let ids: Vec<Uuid> = credentials.iter().map(|credential| credential.id.0).collect();
            let bars: Vec<_> = credentials
                .iter()
                .map(|credential| credential.barred_workspaces.to_text())
                .collect();
            let versions: Vec<_> =
                credentials.iter().map(|credential| credential.version).collect();
            let done = db
                .query(
                    "UPDATE credentials AS c SET barred_workspaces = new.bars, version = new.version \
                     FROM unnest($1::uuid[], $2::text[], $3::bigint[]) AS new (id, bars, version) \
                     WHERE c.id = new.id",
                )
                .bind(ids)
                .bind(bars)
                .bind(versions)
                .execute(db.connection())
                .await?;
            expect_rows(credentials.len() as u64, done.rows_affected())
        })
    }
}
