//! Request ids of calls that created a credential, which keep a retry from creating a second one.

use async_trait::async_trait;
use sqlx::SqliteConnection;

use super::transaction::{SqliteTx, run};
use super::{Result, sql_time};
use crate::model::{RequestId, Timestamp};
use crate::store::request_ids::EXPIRED_PER_CLAIM;
use crate::store::{ClaimedRequest, RequestIdTx, row};

#[async_trait]
impl RequestIdTx for SqliteTx {
    async fn claim_request(
        &mut self,
        request: &ClaimedRequest,
        forget_before: Timestamp,
    ) -> Result<Option<ClaimedRequest>> {
        run!(self, async |db| {
            // Read without a lock first, so that later retries do not wait for each other.
            let earlier = find(db, &request.requester, request.request_id).await?;
            if let Some(earlier) = earlier.filter(|earlier| earlier.create_time > forget_before) {
                return Ok(Some(earlier));
            }
            // If two requests race, the second waits here until the first has committed or failed.
            let done = sqlx::query(
                "INSERT INTO requests (requester, request_id, fingerprint, credential_id, create_time) \
                 VALUES ($1, $2, $3, $4, $5) \
                 ON CONFLICT (requester, request_id) DO UPDATE \
                 SET fingerprint = excluded.fingerprint, credential_id = excluded.credential_id, \
                     create_time = excluded.create_time \
                 WHERE requests.create_time <= $6",
            )
            .bind(&request.requester)
            .bind(request.request_id.0)
            .bind(&request.fingerprint.as_bytes()[..])
            .bind(request.credential_id.0)
            .bind(sql_time(request.create_time))
            .bind(sql_time(forget_before))
            .execute(&mut *db)
            .await?;
            if done.rows_affected() == 0 {
                return find(db, &request.requester, request.request_id).await;
            }
            sqlx::query(
                "DELETE FROM requests \
                 WHERE rowid IN ( \
                     SELECT rowid FROM requests WHERE create_time <= $1 ORDER BY create_time LIMIT $2)",
            )
            .bind(sql_time(forget_before))
            .bind(EXPIRED_PER_CLAIM)
            .execute(&mut *db)
            .await?;
            Ok(None)
        })
    }
}

async fn find(
    db: &mut SqliteConnection,
    requester: &str,
    request_id: RequestId,
) -> Result<Option<ClaimedRequest>> {
    let row = sqlx::query(
        "SELECT requester, request_id, fingerprint, credential_id, create_time FROM requests \
         WHERE requester = $1 AND request_id = $2",
    )
    .bind(requester)
    .bind(request_id.0)
    .fetch_optional(&mut *db)
    .await?;
    row.as_ref().map(row::request).transpose()
}
