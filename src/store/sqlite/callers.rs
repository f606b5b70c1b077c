//! Callers: the services that call this one.

use async_trait::async_trait;

use super::last_uses::{self, update_last_uses};
use super::transaction::{SqliteTx, run};
use super::{Result, SqliteStore, read, sql_time, transact};
use crate::model::{Caller, CallerId, CallerIdentity, Digest, LastUse, RotationId};
use crate::store::error::expect_rows;
use crate::store::sql::caller_columns;
use crate::store::{CallerStore, CallerTx, Lock, caller_row};

#[async_trait]
impl CallerStore for SqliteStore {
    async fn find_caller_by_digest(&self, digest: &Digest) -> Result<Option<Caller>> {
        read!(self, async |db| {
            let row = sqlx::query(concat!(
                "SELECT ",
                caller_columns!(),
                " FROM callers WHERE digest = $1 OR previous_digest = $1"
            ))
            .bind(&digest.as_bytes()[..])
            .fetch_optional(db)
            .await?;
            let caller = row.as_ref().map(caller_row::caller).transpose()?;
            // The index found the row. This compares the whole digest in constant time.
            Ok(caller.filter(|caller| caller.has_token(digest)))
        })
    }

    async fn find_caller_by_san(&self, san: &str) -> Result<Option<Caller>> {
        read!(self, async |db| {
            let row = sqlx::query(concat!(
                "SELECT ",
                caller_columns!(),
                " FROM callers WHERE certificate_san = $1 AND revoke_time IS NULL"
            ))
            .bind(san)
            .fetch_optional(db)
            .await?;
            row.as_ref().map(caller_row::caller).transpose()
        })
    }

    async fn list_callers(&self, after: Option<CallerId>, limit: u32) -> Result<Vec<Caller>> {
        read!(self, async |db| {
            let rows = sqlx::query(concat!(
                "SELECT ",
                caller_columns!(),
                " FROM callers WHERE id > $1 ORDER BY id LIMIT $2"
            ))
            .bind(after.map(|id| id.0).unwrap_or_default())
            .bind(i64::from(limit))
            .fetch_all(db)
            .await?;
            rows.iter().map(caller_row::caller).collect()
        })
    }

    async fn write_caller_uses(&self, uses: &[(CallerId, LastUse)]) -> Result<u64> {
        transact!(self, async |db| {
            let uses: Vec<_> = uses.iter().map(|(id, last_use)| (id.0, *last_use)).collect();
            last_uses::write(db, update_last_uses!("callers"), &uses).await
        })
    }
}

#[async_trait]
impl CallerTx for SqliteTx {
    async fn find_caller(&mut self, id: CallerId, _lock: Lock) -> Result<Option<Caller>> {
        run!(self, async |db| {
            let row =
                sqlx::query(concat!("SELECT ", caller_columns!(), " FROM callers WHERE id = $1"))
                    .bind(id.0)
                    .fetch_optional(db)
                    .await?;
            row.as_ref().map(caller_row::caller).transpose()
        })
    }

    async fn peek_caller_by_name(&mut self, name: &str) -> Result<Option<Caller>> {
        run!(self, async |db| {
            let row = sqlx::query(concat!(
                "SELECT ",
                caller_columns!(),
                " FROM callers WHERE name = $1 AND revoke_time IS NULL"
            ))
            .bind(name)
            .fetch_optional(db)
            .await?;
            row.as_ref().map(caller_row::caller).transpose()
        })
    }

    async fn peek_caller_by_rotation(&mut self, rotation: RotationId) -> Result<Option<Caller>> {
        run!(self, async |db| {
            let row = sqlx::query(concat!(
                "SELECT ",
                caller_columns!(),
                " FROM callers WHERE rotation_id = $1"
            ))
            .bind(rotation.0)
            .fetch_optional(db)
            .await?;
            row.as_ref().map(caller_row::caller).transpose()
        })
    }

    async fn insert_caller(&mut self, caller: &Caller) -> Result<()> {
        run!(self, async |db| {
            let (digest, san) = identity(caller);
            sqlx::query(concat!(
                "INSERT INTO callers (",
                caller_columns!(),
                ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)"
            ))
            .bind(caller.id.0)
            .bind(caller.name.as_str())
            .bind(i32::from(caller.permissions.bits()))
            .bind(digest)
            .bind(san)
            .bind(&caller.hint)
            .bind(sql_time(caller.create_time))
            .bind(caller.revoke_time.map(sql_time))
            .bind(previous_digest(caller))
            .bind(caller.previous.map(|previous| sql_time(previous.expire_time)))
            .bind(caller.rotation.map(|rotation| rotation.0))
            .bind(caller.expire_time.map(sql_time))
            .bind(caller.last_use.map(|last_use| sql_time(last_use.time)))
            .bind(caller.last_use.and_then(|last_use| last_use.ip).map(|ip| ip.to_string()))
            .bind(&caller.creator)
            .bind(caller.version)
            .execute(db)
            .await?;
            Ok(())
        })
    }

    async fn update_caller(&mut self, caller: &Caller) -> Result<()> {
        run!(self, async |db| {
            let (digest, san) = identity(caller);
            let done = sqlx::query(
                "UPDATE callers \
                 SET name = $2, permissions = $3, digest = $4, certificate_san = $5, hint = $6, revoke_time = $7, \
                     previous_digest = $8, previous_expire_time = $9, rotation_id = $10, \
                     expire_time = $11, version = $12 \
                 WHERE id = $1",
            )
            .bind(caller.id.0)
            .bind(caller.name.as_str())
            .bind(i32::from(caller.permissions.bits()))
                .bind(digest)
                .bind(san)
                .bind(&caller.hint)
            .bind(caller.revoke_time.map(sql_time))
            .bind(previous_digest(caller))
            .bind(caller.previous.map(|previous| sql_time(previous.expire_time)))
            .bind(caller.rotation.map(|rotation| rotation.0))
            .bind(caller.expire_time.map(sql_time))
            .bind(caller.version)
            .execute(db)
            .await?;
            expect_rows(1, done.rows_affected())
        })
    }
}

/// Returns the digest of the service token, or the name in the client certificate.
fn identity(caller: &Caller) -> (Option<&[u8]>, Option<&str>) {
    match &caller.identity {
        CallerIdentity::Token(digest) => (Some(&digest.as_bytes()[..]), None),
        CallerIdentity::Certificate(san) => (None, Some(san.as_str())),
    }
}

/// Returns the digest of the token that the last rotation replaced.
fn previous_digest(caller: &Caller) -> Option<&[u8]> {
    caller.previous.as_ref().map(|previous| &previous.digest.as_bytes()[..])
}
