//! Callers: services with a service token or a client certificate.

use async_trait::async_trait;

use super::hosts::origin;
use super::last_uses::{self, update_last_uses};
use super::session::{decide, locked, read, transact};
use super::transaction::{PostgresTx, run};
use super::{PostgresStore, Result, Session, StatementResult, sql_time};
use crate::model::{Caller, CallerId, CallerIdentity, Digest, LastUse, RotationId};
use crate::store::error::expect_rows;
use crate::store::sql::caller_columns;
use crate::store::{CallerStore, CallerTx, Lock, caller_row, row};

/// Selects the caller that meets the condition, after the origin and the revision. The row exists even if there is no
/// such caller.
macro_rules! find_with_origin {
    ($condition:literal) => {
        concat!(
            "SELECT ",
            origin!(),
            ", counter.revision, found.* FROM counter LEFT JOIN (SELECT ",
            caller_columns!(),
            " FROM callers WHERE ",
            $condition,
            ") AS found ON true WHERE counter.id = 1"
        )
    };
}

#[async_trait]
impl CallerStore for PostgresStore {
    async fn find_caller_by_digest(&self, digest: &Digest) -> Result<Option<Caller>> {
        decide!(self, async |db| {
            let row = db
                .query(find_with_origin!("digest = $1 OR previous_digest = $1"))
                .bind(&digest.as_bytes()[..])
                .fetch_one(db.connection())
                .await?;
            let (origin, revision) = row::origin_and_revision(&row)?;
            // The index has found the digest. This comparison covers all of it in constant time.
            let value = caller_row::caller_after_origin(&row)
                .map(|caller| caller.filter(|caller| caller.has_token(digest)));
            Ok(StatementResult { origin, revision, value })
        })
    }

    async fn find_caller_by_san(&self, san: &str) -> Result<Option<Caller>> {
        decide!(self, async |db| {
            let row = db
                .query(find_with_origin!("certificate_san = $1 AND revoke_time IS NULL"))
                .bind(san)
                .fetch_one(db.connection())
                .await?;
            let (origin, revision) = row::origin_and_revision(&row)?;
            Ok(StatementResult { origin, revision, value: caller_row::caller_after_origin(&row) })
        })
    }

    async fn list_callers(&self, after: Option<CallerId>, limit: u32) -> Result<Vec<Caller>> {
        read!(self, async |db| {
            let rows = db
                .query(concat!(
                    "SELECT ",
                    caller_columns!(),
                    " FROM callers WHERE id > $1 ORDER BY id LIMIT $2"
                ))
                .bind(after.map(|id| id.0).unwrap_or_default())
                .bind(i64::from(limit))
                .fetch_all(db.connection())
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
impl CallerTx for PostgresTx {
    async fn find_caller(&mut self, id: CallerId, lock: Lock) -> Result<Option<Caller>> {
        run!(self, async |db| {
            let statement = locked!(lock, "SELECT id FROM callers WHERE id = $1");
            db.query(statement).bind(id.0).execute(db.connection()).await?;
            find(db, id).await
        })
    }

    async fn peek_caller_by_name(&mut self, name: &str) -> Result<Option<Caller>> {
        run!(self, async |db| {
            let row = db
                .query(concat!(
                    "SELECT ",
                    caller_columns!(),
                    " FROM callers WHERE name = $1 AND revoke_time IS NULL"
                ))
                .bind(name)
                .fetch_optional(db.connection())
                .await?;
            row.as_ref().map(caller_row::caller).transpose()
        })
    }

    async fn peek_caller_by_rotation(&mut self, rotation: RotationId) -> Result<Option<Caller>> {
        run!(self, async |db| {
            let row = db
                .query(concat!(
                    "SELECT ",
                    caller_columns!(),
                    " FROM callers WHERE rotation_id = $1"
                ))
                .bind(rotation.0)
                .fetch_optional(db.connection())
                .await?;
            row.as_ref().map(caller_row::caller).transpose()
        })
    }

    async fn insert_caller(&mut self, caller: &Caller) -> Result<()> {
        run!(self, async |db| {
            let (digest, san) = identity(caller);
            db.query(concat!(
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
            .execute(db.connection())
            .await?;
            Ok(())
        })
    }

    async fn update_caller(&mut self, caller: &Caller) -> Result<()> {
        run!(self, async |db| {
            let (digest, san) = identity(caller);
            let done = db
                .query(
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
                .execute(db.connection())
                .await?;
            expect_rows(1, done.rows_affected())
        })
    }
}

/// Returns the caller of this id, even if it is revoked.
async fn find(db: &mut Session, id: CallerId) -> Result<Option<Caller>> {
    let row = db
        .query(concat!("SELECT ", caller_columns!(), " FROM callers WHERE id = $1"))
        .bind(id.0)
        .fetch_optional(db.connection())
        .await?;
    row.as_ref().map(caller_row::caller).transpose()
}

/// Returns the digest of the caller's service token, or the name in its certificate.
fn identity(caller: &Caller) -> (Option<&[u8]>, Option<&str>) {
    match &caller.identity {
        CallerIdentity::Token(digest) => (Some(&digest.as_bytes()[..]), None),
        CallerIdentity::Certificate(san) => (None, Some(san.as_str())),
    }
}

/// Returns the digest of the caller's previous token.
fn previous_digest(caller: &Caller) -> Option<&[u8]> {
    caller.previous.as_ref().map(|previous| &previous.digest.as_bytes()[..])
}
