//! Import and export: many credentials in one statement. Lists are bound as JSON, with bytes in hexadecimal.

use async_trait::async_trait;
use serde_json::{Value, json};
use sqlx::SqliteConnection;
use uuid::Uuid;

use super::transaction::{SqliteTx, run};
use super::{Result, SqliteStore, read, sql_time};
use crate::model::{Credential, CredentialId, Digest, Owner, Timestamp, UserId};
use crate::store::error::expect_rows;
use crate::store::sql::{credential_columns, select_credentials, user_columns, workspace_columns};
use crate::store::{
    ExportFilter, ImportFound, ImportNames, StoredCredential, TransferStore, TransferTx, row,
};

#[async_trait]
impl TransferStore for SqliteStore {
    async fn export_credentials(
        &self,
        filter: &ExportFilter,
        after: Option<CredentialId>,
        limit: u32,
    ) -> Result<Vec<StoredCredential>> {
        read!(self, async |db| {
            const LIVE: &str =
                " AND COALESCE(w.delete_time, u.delete_time) IS NULL ORDER BY c.id LIMIT ";
            let mut query = sqlx::QueryBuilder::<sqlx::Sqlite>::new(concat!(
                select_credentials!(with ", c.digest"),
                " WHERE c.id > "
            ));
            query.push_bind(after.map_or_else(Uuid::nil, |id| id.0));
            if let Some(workspace) = &filter.workspace_id {
                query.push(" AND c.workspace_id = ").push_bind(workspace.as_str());
            }
            if let Some(user) = &filter.user_id {
                query.push(" AND c.user_id = ").push_bind(user.as_str());
            }
            query.push(LIVE).push_bind(i64::from(limit));
            let rows = query.build().fetch_all(db).await?;
            rows.iter().map(row::stored_credential).collect()
        })
    }

    async fn find_imported(&self, names: &ImportNames) -> Result<ImportFound> {
        read!(self, async |db| find(db, names).await)
    }
}

#[async_trait]
impl TransferTx for SqliteTx {
    async fn find_imported(&mut self, names: &ImportNames) -> Result<ImportFound> {
        run!(self, async |db| find(db, names).await)
    }

    async fn peek_imported(&mut self, names: &ImportNames) -> Result<ImportFound> {
        run!(self, async |db| find(db, names).await)
    }

    async fn insert_credentials(&mut self, credentials: &[StoredCredential]) -> Result<()> {
        run!(self, async |db| {
            // One change is logged for all of them: unknown digests may now be known.
            if credentials.is_empty() {
                return Ok(());
            }
            let rows: Vec<_> = credentials.iter().map(fields).collect();
            sqlx::query("UPDATE bulk SET open = 0 WHERE id = 1").execute(&mut *db).await?;
            let done = sqlx::query(
                "INSERT INTO credentials ( \
                     id, kind, workspace_id, user_id, max_role, generation, name, hint, digest, scopes, ip_allowlist, \
                     annotations, create_time, expire_time, disable_time, revoke_time, last_use_time, last_use_ip, \
                     creator, predecessor_id, family_id, version, limited, granted_workspaces, barred_workspaces) \
                 SELECT unhex(value ->> 0), value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, \
                     value ->> 7, unhex(value ->> 8), value ->> 9, value ->> 10, value ->> 11, value ->> 12, value ->> 13, \
                     value ->> 14, value ->> 15, value ->> 16, value ->> 17, value ->> 18, unhex(value ->> 19), \
                     unhex(value ->> 20), value ->> 21, value ->> 22, value ->> 23, value ->> 24 \
                 FROM json_each($1)",
            )
            .bind(Value::Array(rows).to_string())
            .execute(&mut *db)
            .await?;
            expect_rows(credentials.len() as u64, done.rows_affected())?;
            sqlx::query("UPDATE bulk SET open = NULL WHERE id = 1").execute(db).await?;
            Ok(())
        })
    }

    async fn renew_epoch(&mut self, epoch: Uuid) -> Result<()> {
        run!(self, async |db| {
            let done = sqlx::query("UPDATE counter SET epoch = $1 WHERE id = 1")
                .bind(epoch)
                .execute(db)
                .await?;
            expect_rows(1, done.rows_affected())
        })
    }
}

/// Returns what already exists of the names in a batch.
async fn find(db: &mut SqliteConnection, names: &ImportNames) -> Result<ImportFound> {
    let mut found = ImportFound::default();
    if !names.workspaces.is_empty() {
        let rows = sqlx::query(concat!(
            "SELECT ",
            workspace_columns!("w"),
            " FROM workspaces AS w \
             WHERE w.delete_time IS NULL AND (w.id IN (SELECT value FROM json_each($1)) \
                 OR w.slug IN (SELECT value FROM json_each($1)))"
        ))
        .bind(json!(names.workspaces).to_string())
        .fetch_all(&mut *db)
        .await?;
        found.workspaces = rows.iter().map(row::workspace).collect::<Result<_>>()?;
    }
    if !names.users.is_empty() {
        let ids: Vec<_> = names.users.iter().map(UserId::as_str).collect();
        let rows = sqlx::query(concat!(
            "SELECT ",
            user_columns!(),
            " FROM users AS u \
             WHERE u.delete_time IS NULL AND u.id IN (SELECT value FROM json_each($1))"
        ))
        .bind(json!(ids).to_string())
        .fetch_all(&mut *db)
        .await?;
        found.users = rows.iter().map(row::user).collect::<Result<_>>()?;
    }
    let digests: Vec<_> = names.digests.iter().map(Digest::to_hex).collect();
    let ids: Vec<_> = names.ids.iter().map(|id| hex::encode(id.0.as_bytes())).collect();
    let rows = sqlx::query(
        "SELECT id, digest, kind, workspace_id, user_id, max_role FROM credentials \
         WHERE digest IN (SELECT unhex(value) FROM json_each($1)) \
             OR id IN (SELECT unhex(value) FROM json_each($2))",
    )
    .bind(json!(digests).to_string())
    .bind(json!(ids).to_string())
    .fetch_all(db)
    .await?;
    found.credentials = rows.iter().map(row::taken_credential).collect::<Result<_>>()?;
    Ok(found)
}

/// Returns the row as a JSON array, in the order in which `insert_credentials` reads it.
fn fields(StoredCredential { credential, digest }: &StoredCredential) -> Value {
    let Credential { owner, .. } = credential;
    let (workspace, user, max_role) = match owner {
        Owner::Workspace(id) => (Some(id.as_str()), None, None),
        Owner::User { id, max_role } => (None, Some(id.as_str()), Some(max_role.number())),
    };
    let time = |time: Option<Timestamp>| time.map(sql_time);
    json!([
        hex::encode(credential.id.0.as_bytes()),
        credential.kind.number(),
        workspace,
        user,
        max_role,
        credential.generation,
        credential.name.as_str(),
        credential.hint,
        digest.to_hex(),
        credential.scopes.bits(),
        credential.ip_allowlist.to_string(),
        row::annotations_text(&credential.annotations),
        sql_time(credential.create_time),
        time(credential.expire_time),
        time(credential.disable_time),
        time(credential.revoke_time),
        time(credential.last_use.map(|last_use| last_use.time)),
        credential.last_use.and_then(|last_use| last_use.ip).map(|ip| ip.to_string()),
        credential.creator,
        credential.predecessor_id.map(|id| hex::encode(id.0.as_bytes())),
        hex::encode(credential.family_id.0.as_bytes()),
        credential.version,
        u8::from(credential.granted_workspaces.is_some()),
        row::granted_text(credential),
        credential.barred_workspaces.to_text(),
    ])
}
