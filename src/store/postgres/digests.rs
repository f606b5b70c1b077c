//! The digests of all credentials, page by page, for whoever wants to know which there are.

use sqlx::Row as _;

use super::{Result, Session};
use crate::model::Digest;
use crate::store::row;
use crate::store::sql::select_digests;

/// Digests after this one, in their order.
pub(super) async fn list(
    db: &mut Session,
    after: Option<&Digest>,
    limit: u32,
) -> Result<Vec<Digest>> {
    let rows = db
        .query(select_digests!())
        .bind(place(after))
        .bind(i64::from(limit))
        .fetch_all(db.connection())
        .await?;
    rows.iter().map(row::digest).collect()
}

/// How [`list`] would find this page.
pub(super) async fn explain(
    db: &mut Session,
    after: Option<&Digest>,
    limit: u32,
) -> Result<Vec<String>> {
    let rows = db
        .query(concat!("EXPLAIN (COSTS OFF) ", select_digests!()))
        .bind(place(after))
        .bind(i64::from(limit))
        .fetch_all(db.connection())
        .await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// No bytes at all come before every digest.
fn place(after: Option<&Digest>) -> &[u8] {
    after.map_or(&[], |digest| digest.as_bytes())
}
