//! Import and export of credentials, with arrays as parameters, so that one statement handles many rows.

use async_trait::async_trait;
use sqlx::types::time::OffsetDateTime;
use uuid::Uuid;

use super::session::read;
use super::transaction::{PostgresTx, run};
use super::{PostgresStore, Result, Session, sql_time};
use crate::model::{CredentialId, Owner, UserId};
use crate::store::error::expect_rows;
use crate::store::sql::{credential_columns, select_credentials, user_columns, workspace_columns};
use crate::store::{
    ExportFilter, ImportFound, ImportNames, StoredCredential, TransferStore, TransferTx, row,
};

#[async_trait]
impl TransferStore for PostgresStore {
    async fn export_credentials(
        &self,
        filter: &ExportFilter,
        after: Option<CredentialId>,
        limit: u32,
    ) -> Result<Vec<StoredCredential>> {
        read!(self, async |db| {
            const LIVE: &str =
                " AND COALESCE(w.delete_time, u.delete_time) IS NULL ORDER BY c.id LIMIT ";
            let mut query = sqlx::QueryBuilder::<sqlx::Postgres>::new(concat!(
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
            let rows = db.query_from(&mut query).fetch_all(db.connection()).await?;
            rows.iter().map(row::stored_credential).collect()
        })
    }

    async fn find_imported(&self, names: &ImportNames) -> Result<ImportFound> {
        read!(self, async |db| find(db, names).await)
    }
}

#[async_trait]
impl TransferTx for PostgresTx {
    async fn find_imported(&mut self, names: &ImportNames) -> Result<ImportFound> {
        run!(self, async |db| {
            // Lock the owners in the order of their ids, then read them, as in `find_credential`.
            db.query(
                "SELECT id FROM workspaces WHERE id = ANY($1) OR slug = ANY($1) ORDER BY id FOR SHARE",
            )
            .bind(&names.workspaces)
            .execute(db.connection())
            .await?;
            db.query("SELECT id FROM users WHERE id = ANY($1) ORDER BY id FOR SHARE")
                .bind(users(names))
                .execute(db.connection())
                .await?;
            find(db, names).await
        })
    }

    async fn peek_imported(&mut self, names: &ImportNames) -> Result<ImportFound> {
        run!(self, async |db| find(db, names).await)
    }

    async fn insert_credentials(&mut self, credentials: &[StoredCredential]) -> Result<()> {
        run!(self, async |db| {
            // One row of the change log covers all of them: unknown digests may have become known.
            if credentials.is_empty() {
                return Ok(());
            }
            // The setting lasts until the end of the transaction, because the triggers that read it run then.
            db.query("SET LOCAL sophic_auth.bulk = 'on'").execute(db.connection()).await?;
            let rows = Arrays::of(credentials);
            let done = db
                .query(
                    "INSERT INTO credentials ( \
                         id, kind, workspace_id, user_id, max_role, generation, name, hint, digest, scopes, ip_allowlist, \
                         annotations, create_time, expire_time, disable_time, revoke_time, last_use_time, last_use_ip, \
                         creator, predecessor_id, family_id, version, limited, granted_workspaces, barred_workspaces) \
                     SELECT * FROM unnest( \
                         $1::uuid[], $2::smallint[], $3::text[], $4::text[], $5::smallint[], $6::bigint[], $7::text[], \
                         $8::text[], $9::bytea[], $10::smallint[], $11::text[], $12::text[], $13::timestamptz[], \
                         $14::timestamptz[], $15::timestamptz[], $16::timestamptz[], $17::timestamptz[], $18::text[], \
                         $19::text[], $20::uuid[], $21::uuid[], $22::bigint[], $23::boolean[], $24::text[], $25::text[])",
                )
                .bind(rows.id)
                .bind(rows.kind)
                .bind(rows.workspace_id)
                .bind(rows.user_id)
                .bind(rows.max_role)
                .bind(rows.generation)
                .bind(rows.name)
                .bind(rows.hint)
                .bind(rows.digest)
                .bind(rows.scopes)
                .bind(rows.ip_allowlist)
                .bind(rows.annotations)
                .bind(rows.create_time)
                .bind(rows.expire_time)
                .bind(rows.disable_time)
                .bind(rows.revoke_time)
                .bind(rows.last_use_time)
                .bind(rows.last_use_ip)
                .bind(rows.creator)
                .bind(rows.predecessor_id)
                .bind(rows.family_id)
                .bind(rows.version)
                .bind(rows.limited)
                .bind(rows.granted_workspaces)
                .bind(rows.barred_workspaces)
                .execute(db.connection())
                .await?;
            expect_rows(credentials.len() as u64, done.rows_affected())
        })
    }

    async fn renew_epoch(&mut self, epoch: Uuid) -> Result<()> {
        run!(self, async |db| {
            let done = db
                .query("UPDATE counter SET epoch = $1 WHERE id = 1")
                .bind(epoch)
                .execute(db.connection())
                .await?;
            expect_rows(1, done.rows_affected())
        })
    }
}

/// Reads the existing entries among those that a batch names.
async fn find(db: &mut Session, names: &ImportNames) -> Result<ImportFound> {
    let mut found = ImportFound::default();
    if !names.workspaces.is_empty() {
        let rows = db
            .query(concat!(
                "SELECT ",
                workspace_columns!("w"),
                " FROM workspaces AS w \
                 WHERE w.delete_time IS NULL AND (w.id = ANY($1) OR w.slug = ANY($1))"
            ))
            .bind(&names.workspaces)
            .fetch_all(db.connection())
            .await?;
        found.workspaces = rows.iter().map(row::workspace).collect::<Result<_>>()?;
    }
    if !names.users.is_empty() {
        let rows = db
            .query(concat!(
                "SELECT ",
                user_columns!(),
                " FROM users AS u WHERE u.delete_time IS NULL AND u.id = ANY($1)"
            ))
            .bind(users(names))
            .fetch_all(db.connection())
            .await?;
        found.users = rows.iter().map(row::user).collect::<Result<_>>()?;
    }
    let digests: Vec<&[u8]> = names.digests.iter().map(|digest| &digest.as_bytes()[..]).collect();
    let ids: Vec<_> = names.ids.iter().map(|id| id.0).collect();
    let rows = db
        .query(
            "SELECT id, digest, kind, workspace_id, user_id, max_role FROM credentials \
             WHERE digest = ANY($1) OR id = ANY($2)",
        )
        .bind(digests)
        .bind(ids)
        .fetch_all(db.connection())
        .await?;
    found.credentials = rows.iter().map(row::taken_credential).collect::<Result<_>>()?;
    Ok(found)
}

/// The columns of many rows: one array for each column.
#[derive(Default)]
struct Arrays<'a> {
    id: Vec<Uuid>,
    kind: Vec<i16>,
    workspace_id: Vec<Option<&'a str>>,
    user_id: Vec<Option<&'a str>>,
    max_role: Vec<Option<i16>>,
    generation: Vec<i64>,
    name: Vec<&'a str>,
    hint: Vec<&'a str>,
    digest: Vec<&'a [u8]>,
    scopes: Vec<i16>,
    ip_allowlist: Vec<String>,
    annotations: Vec<String>,
    create_time: Vec<OffsetDateTime>,
    expire_time: Vec<Option<OffsetDateTime>>,
    disable_time: Vec<Option<OffsetDateTime>>,
    revoke_time: Vec<Option<OffsetDateTime>>,
    last_use_time: Vec<Option<OffsetDateTime>>,
    last_use_ip: Vec<Option<String>>,
    creator: Vec<&'a str>,
    predecessor_id: Vec<Option<Uuid>>,
    family_id: Vec<Uuid>,
    version: Vec<i64>,
    limited: Vec<bool>,
    granted_workspaces: Vec<String>,
    barred_workspaces: Vec<String>,
}

impl<'a> Arrays<'a> {
    fn of(credentials: &'a [StoredCredential]) -> Self {
        let mut arrays = Self::default();
        for StoredCredential { credential, digest } in credentials {
            let (workspace, user, max_role) = match &credential.owner {
                Owner::Workspace(id) => (Some(id.as_str()), None, None),
                Owner::User { id, max_role } => {
                    (None, Some(id.as_str()), Some(i16::from(max_role.number())))
                }
            };
            arrays.id.push(credential.id.0);
            arrays.kind.push(i16::from(credential.kind.number()));
            arrays.workspace_id.push(workspace);
            arrays.user_id.push(user);
            arrays.max_role.push(max_role);
            arrays.generation.push(credential.generation);
            arrays.name.push(credential.name.as_str());
            arrays.hint.push(&credential.hint);
            arrays.digest.push(&digest.as_bytes()[..]);
            arrays.scopes.push(i16::from(credential.scopes.bits()));
            arrays.ip_allowlist.push(credential.ip_allowlist.to_string());
            arrays.annotations.push(row::annotations_text(&credential.annotations));
            arrays.create_time.push(sql_time(credential.create_time));
            arrays.expire_time.push(credential.expire_time.map(sql_time));
            arrays.disable_time.push(credential.disable_time.map(sql_time));
            arrays.revoke_time.push(credential.revoke_time.map(sql_time));
            arrays.last_use_time.push(credential.last_use.map(|last_use| sql_time(last_use.time)));
            let ip = credential.last_use.and_then(|last_use| last_use.ip);
            arrays.last_use_ip.push(ip.map(|ip| ip.to_string()));
            arrays.creator.push(&credential.creator);
            arrays.predecessor_id.push(credential.predecessor_id.map(|id| id.0));
            arrays.family_id.push(credential.family_id.0);
            arrays.version.push(credential.version);
            arrays.limited.push(credential.granted_workspaces.is_some());
            arrays.granted_workspaces.push(row::granted_text(credential));
            arrays.barred_workspaces.push(credential.barred_workspaces.to_text());
        }
        arrays
    }
}

fn users(names: &ImportNames) -> Vec<&str> {
    names.users.iter().map(UserId::as_str).collect()
}
