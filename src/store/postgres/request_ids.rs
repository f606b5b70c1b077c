//! Request ids of calls that created a credential, which keep a retry from creating a second one.

use async_trait::async_trait;

use super::transaction::{PostgresTx, run};
use super::{Result, Session, sql_time};
use crate::model::{RequestId, Timestamp};
use crate::store::request_ids::EXPIRED_PER_CLAIM;
use crate::store::{ClaimedRequest, RequestIdTx, row};

#[async_trait]
impl RequestIdTx for PostgresTx {
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
            let done = db
                .query(
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
                .execute(db.connection())
                .await?;
            if done.rows_affected() == 0 {
                return find(db, &request.requester, request.request_id).await;
            }
            db.query(
                "DELETE FROM requests \
                 WHERE ctid IN ( \
                     SELECT ctid FROM requests WHERE create_time <= $1 ORDER BY create_time LIMIT $2 \
                         FOR UPDATE SKIP LOCKED)",
            )
            .bind(sql_time(forget_before))
            .bind(EXPIRED_PER_CLAIM)
            .execute(db.connection())
            .await?;
            Ok(None)
        })
    }
}

async fn find(
    db: &mut Session,
    requester: &str,
    request_id: RequestId,
) -> Result<Option<ClaimedRequest>> {
    let row = db
        .query(
            "SELECT requester, request_id, fingerprint, credential_id, create_time FROM requests \
         WHERE requester = $1 AND request_id = $2",
        )
        .bind(requester)
        .bind(request_id.0)
        .fetch_optional(db.connection())
        .await?;
    row.as_ref().map(row::request).transpose()
}
