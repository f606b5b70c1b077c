//! What the audit log has yet to tell.

use sqlx::{QueryBuilder, Row as _, Sqlite, SqliteConnection};
use uuid::Uuid;

use super::{Result, at};
use crate::model::Credential;
use crate::store::sql::{credential_columns, select_credentials};
use crate::store::{Untold, UntoldOwner, row};

/// Whether there is any.
pub(super) async fn any(db: &mut SqliteConnection) -> Result<bool> {
    let row = sqlx::query("SELECT EXISTS (SELECT 1 FROM untold)").fetch_one(db).await?;
    Ok(row.try_get(0)?)
}

/// The oldest that nobody else holds, held.
pub(super) async fn take(db: &mut SqliteConnection) -> Result<Option<Untold>> {
    let row = sqlx::query("SELECT id, workspace_id, user_id, generation, revoke_time, caller, remote_address, reason, \
 told_id, told_count FROM untold ORDER BY id LIMIT 1")
        .fetch_optional(db)
        .await?;
    row.as_ref().map(row::untold).transpose()
}

/// The next of these credentials.
pub(super) async fn list(
    db: &mut SqliteConnection,
    untold: &Untold,
    limit: u32,
) -> Result<Vec<Credential>> {
    let mut query =
        QueryBuilder::<Sqlite>::new(concat!(select_credentials!(), " WHERE c.revoke_time IS NULL"));
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
}

/// Inserts it, or notes how far it has come.
pub(super) async fn save(db: &mut SqliteConnection, untold: &Untold) -> Result<()> {
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
}

/// Drops it: all is told.
pub(super) async fn delete(db: &mut SqliteConnection, id: Uuid) -> Result<()> {
    sqlx::query("DELETE FROM untold WHERE id = $1").bind(id).execute(db).await?;
    Ok(())
}
