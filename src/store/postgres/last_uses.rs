//! Last uses, which credentials and callers record in the same columns.

use sqlx::types::time::OffsetDateTime;
use uuid::Uuid;

use super::{Result, Session, sql_time};
use crate::model::LastUse;

/// Updates the last uses in this table, for [`write`]. Locks the rows in the order of their ids first, so that two
/// replicas that flush at the same time do not deadlock.
macro_rules! update_last_uses {
    ($table:literal) => {
        concat!(
            "WITH used AS ( \
                 SELECT * FROM unnest($1::uuid[], $2::timestamptz[], $3::text[]) AS used (id, time, ip) \
             ), held AS ( \
                 SELECT x.id FROM ",
            $table,
            " AS x \
                 JOIN used ON used.id = x.id \
                 WHERE x.last_use_time IS NULL OR x.last_use_time < used.time \
                 ORDER BY x.id \
                 FOR NO KEY UPDATE OF x \
             ) \
             UPDATE ",
            $table,
            " AS x SET last_use_time = used.time, last_use_ip = used.ip \
             FROM used JOIN held ON held.id = used.id \
             WHERE x.id = used.id AND (x.last_use_time IS NULL OR x.last_use_time < used.time)"
        )
    };
}

pub(super) use update_last_uses;

/// Runs `statement`, an [`update_last_uses!`], and returns the number of changed rows. Several replicas write at once,
/// and none overwrites a later time.
pub(super) async fn write(
    db: &mut Session,
    statement: &'static str,
    uses: &[(Uuid, LastUse)],
) -> Result<u64> {
    let ids: Vec<Uuid> = uses.iter().map(|(id, _)| *id).collect();
    let times: Vec<OffsetDateTime> =
        uses.iter().map(|(_, last_use)| sql_time(last_use.time)).collect();
    let ips: Vec<Option<String>> =
        uses.iter().map(|(_, last_use)| last_use.ip.map(|ip| ip.to_string())).collect();
    let done = db.query(statement).bind(ids).bind(times).bind(ips).execute(db.connection()).await?;
    Ok(done.rows_affected())
}
