//! Pages of credentials: the SQL for the index walks of `store::listing`.

use async_trait::async_trait;
use sqlx::{QueryBuilder, Row as _, Sqlite, SqliteConnection};

use super::{Result, SqliteStore, read, sql_time};
use crate::model::limits::LIST_SCAN_MAX;
use crate::model::{CredentialState, Digest, Timestamp, UserId, WorkspaceId};
use crate::store::listing::{self, Driver, SelectiveFilter, Side, VisibleOwner};
use crate::store::sql::{credential_columns, select_credentials, select_digests};
use crate::store::{
    CredentialFilter, CredentialOrder, CredentialPage, CredentialPosition, ListingStore, row,
};

type Query = QueryBuilder<Sqlite>;

/// Value of `last_use_order` for a credential that was never used.
const NEVER: i64 = -9_000_000_000_000_000_000;

#[async_trait]
impl ListingStore for SqliteStore {
    async fn list_credentials(
        &self,
        filter: &CredentialFilter,
        now: Timestamp,
        after: Option<CredentialPosition>,
        limit: u32,
    ) -> Result<CredentialPage> {
        read!(self, async |db| {
            let mut parts = Vec::new();
            for (filter, recreated) in walks_of(db, filter).await? {
                let driver = Driver::of(&filter);
                let walk = Walk { driver, filter: &filter, recreated, now, after, limit };
                parts.push(walk.run(db).await?);
            }
            Ok(listing::merge(filter.order, parts, limit))
        })
    }

    async fn explain_credentials(
        &self,
        filter: &CredentialFilter,
        now: Timestamp,
        after: Option<CredentialPosition>,
        limit: u32,
    ) -> Result<Vec<String>> {
        read!(self, async |db| {
            let mut plans = Vec::new();
            for (filter, recreated) in walks_of(db, filter).await? {
                let driver = Driver::of(&filter);
                let walk = Walk { driver, filter: &filter, recreated, now, after, limit };
                let (end, selective) = walk.plan(db).await?;
                let mut query = Query::new("EXPLAIN QUERY PLAN ");
                walk.push_page(&mut query, end, selective);
                for row in query.build().fetch_all(&mut *db).await? {
                    plans.push(row.try_get(3)?);
                }
            }
            Ok(plans)
        })
    }

    async fn list_digests(&self, after: Option<&Digest>, limit: u32) -> Result<Vec<Digest>> {
        read!(self, async |db| {
            let rows = sqlx::query(select_digests!())
                .bind(digest_bytes(after))
                .bind(i64::from(limit))
                .fetch_all(db)
                .await?;
            rows.iter().map(row::digest).collect()
        })
    }

    async fn explain_digests(&self, after: Option<&Digest>, limit: u32) -> Result<Vec<String>> {
        read!(self, async |db| {
            let rows = sqlx::query(concat!("EXPLAIN QUERY PLAN ", select_digests!()))
                .bind(digest_bytes(after))
                .bind(i64::from(limit))
                .fetch_all(db)
                .await?;
            rows.iter().map(|row| Ok(row.try_get(3)?)).collect()
        })
    }
}

/// Returns the filters to walk, one index each, and whether the owner was deleted and created again. A list for an
/// acting user takes one walk for each owner that the user may see.
async fn walks_of(
    db: &mut SqliteConnection,
    filter: &CredentialFilter,
) -> Result<Vec<(CredentialFilter, bool)>> {
    if listing::is_impossible(filter) {
        return Ok(Vec::new());
    }
    let Some(user) = &filter.visible_to else { return Ok(vec![(filter.clone(), false)]) };
    let owners = visible_owners(db, user, filter).await?;
    Ok(listing::walks_by_owner(filter, owners))
}

/// Returns the user, and the workspaces of the filter of which the user is an admin or owner.
async fn visible_owners(
    db: &mut SqliteConnection,
    user: &UserId,
    filter: &CredentialFilter,
) -> Result<Vec<VisibleOwner>> {
    let rows = sqlx::query(
        "SELECT NULL, u.generation > 0 FROM users AS u WHERE u.id = $1 \
         UNION ALL \
         SELECT w.id, w.generation > 0 \
         FROM memberships AS m \
         JOIN workspaces AS w ON w.id = m.workspace_id \
         WHERE m.user_id = $1 AND m.role >= 3 AND NOT $2 AND ($3 IS NULL OR w.id = $3) \
         ORDER BY 1",
    )
    .bind(user.as_str())
    .bind(filter.user_id.is_some())
    .bind(filter.workspace_id.as_ref().map(WorkspaceId::as_str))
    .fetch_all(db)
    .await?;
    rows.iter().map(row::visible_owner).collect()
}

/// A walk along one index.
struct Walk<'f> {
    driver: Driver,
    filter: &'f CredentialFilter,
    /// Whether the owner may have credentials of an earlier generation, which the acting user may not see.
    recreated: bool,
    now: Timestamp,
    after: Option<CredentialPosition>,
    limit: u32,
}

impl Walk<'_> {
    async fn run(&self, db: &mut SqliteConnection) -> Result<CredentialPage> {
        let (end, selective) = self.plan(db).await?;
        let mut query = Query::new("");
        self.push_page(&mut query, end, selective);
        let rows = query.build().fetch_all(db).await?;
        let credentials: Vec<_> = rows.iter().map(row::credential).collect::<Result<_>>()?;
        let short = credentials.len() < self.limit as usize;
        Ok(CredentialPage { credentials, resume: end.filter(|_| short) })
    }

    /// Returns the position at which the walk must end, if any, or a filter that leaves so few rows that all of them
    /// are read.
    async fn plan(
        &self,
        db: &mut SqliteConnection,
    ) -> Result<(Option<CredentialPosition>, Option<SelectiveFilter>)> {
        if !self.recreated && !self.driver.needs_row_filter(self.filter) {
            return Ok((None, None));
        }
        let mut query = Query::new(match self.filter.order {
            CredentialOrder::CreateTime | CredentialOrder::CreateTimeDesc => "SELECT NULL, c.id",
            CredentialOrder::LastUseTime => "SELECT c.last_use_time, c.id",
            CredentialOrder::ExpireTime => "SELECT c.expire_time, c.id",
        });
        query.push(" FROM credentials AS c");
        self.push_walked(&mut query, None);
        self.push_order(&mut query);
        query.push(" LIMIT 1 OFFSET ").push_bind(i64::from(LIST_SCAN_MAX) - 1);
        let Some(end) = query.build().fetch_optional(&mut *db).await? else {
            return Ok((None, None));
        };
        for selective in listing::selective_filters(self.filter, self.driver) {
            let mut query = Query::new("SELECT count(*) FROM (SELECT 1 FROM credentials AS c");
            self.push_selective(&mut query, selective);
            query.push(" LIMIT ").push_bind(i64::from(LIST_SCAN_MAX) + 1).push(") AS few");
            let count: i64 = query.build().fetch_one(&mut *db).await?.try_get(0)?;
            if count <= i64::from(LIST_SCAN_MAX) {
                return Ok((None, Some(selective)));
            }
        }
        Ok((Some(row::credential_position(&end)?), None))
    }

    fn push_page(
        &self,
        query: &mut Query,
        end: Option<CredentialPosition>,
        selective: Option<SelectiveFilter>,
    ) {
        if let Some(selective) = selective {
            query.push("WITH credentials AS MATERIALIZED (SELECT c.* FROM main.credentials AS c");
            self.push_selective(query, selective);
            query.push(" LIMIT ").push_bind(i64::from(LIST_SCAN_MAX)).push(") ");
        }
        query.push(select_credentials!());
        self.push_walked(query, end);
        self.push_filtered(query);
        self.push_order(query);
        query.push(" LIMIT ").push_bind(i64::from(self.limit));
    }

    /// Adds the rows to walk: the prefix of the index, from the start of the page up to `end`.
    fn push_walked(&self, query: &mut Query, end: Option<CredentialPosition>) {
        let filter = self.filter;
        query.push(" WHERE ");
        match self.driver {
            Driver::All => query.push("TRUE"),
            Driver::Workspace => push_equal(query, "c.workspace_id", filter.workspace_id.as_ref()),
            Driver::User => push_equal(query, "c.user_id", filter.user_id.as_ref()),
            Driver::Family => {
                query.push("c.family_id = ").push_bind(filter.family_id.map(|id| id.0))
            }
            Driver::Creator => query.push("c.creator = ").push_bind(filter.creator.clone()),
            Driver::Kind => {
                query.push("c.kind = ").push_bind(filter.kind.map(|kind| i16::from(kind.number())))
            }
            Driver::Disabled => query.push("c.disable_time IS NOT NULL"),
        };
        match filter.order {
            CredentialOrder::CreateTime | CredentialOrder::CreateTimeDesc => {}
            CredentialOrder::LastUseTime => {
                if let Some(time) = filter.unused_since {
                    query.push(" AND c.last_use_order < ").push_bind(sql_time(time));
                }
            }
            CredentialOrder::ExpireTime => {
                query.push(" AND c.expire_time IS NOT NULL");
                if let Some(time) = filter.expires_before {
                    query.push(" AND c.expire_time < ").push_bind(sql_time(time));
                    if self.after.is_none() {
                        query.push(" AND c.expire_time > ").push_bind(sql_time(self.now));
                    }
                }
            }
        }
        if let Some(after) = self.after {
            push_compared(query, filter.order, Side::After, after);
        }
        if let Some(end) = end {
            push_compared(query, filter.order, Side::Through, end);
        }
    }

    /// Adds the conditions that are checked row by row. SQLite keeps no statistics. A unary `+` keeps it from using the
    /// index of a condition that would leave more rows than the walk.
    fn push_filtered(&self, query: &mut Query) {
        let filter = self.filter;
        if let Some(user) = &filter.visible_to {
            query.push(" AND c.generation >= COALESCE(w.generation, u.generation)");
            // Evaluated once, not for each row.
            if let Some(workspace) = &filter.workspace_id {
                query
                    .push(" AND EXISTS (SELECT 1 FROM memberships AS m WHERE m.role >= 3 AND m.user_id = ")
                    .push_bind(user.as_str().to_owned())
                    .push(" AND m.workspace_id = ")
                    .push_bind(workspace.as_str().to_owned())
                    .push(")");
            }
        }
        if let Some(kind) = filter.kind {
            query.push(" AND +c.kind = ").push_bind(i16::from(kind.number()));
        }
        if let Some(state) = filter.state {
            push_state(query, state, self.now);
        }
        if let Some(scope) = filter.scope {
            query.push(" AND c.scopes & ").push_bind(i16::from(scope as u8)).push(" <> 0");
        }
        if let Some(creator) = filter.creator.clone() {
            query.push(" AND +c.creator = ").push_bind(creator);
        }
        if let Some(family) = filter.family_id {
            query.push(" AND +c.family_id = ").push_bind(family.0);
        }
        if let Some(prefix) = &filter.name_prefix {
            query.push(" AND ");
            push_prefix(query, "+c.name", prefix);
        }
        if let Some(time) = filter.expires_before {
            query.push(" AND +c.expire_time > ").push_bind(sql_time(self.now));
            query.push(" AND +c.expire_time < ").push_bind(sql_time(time));
            query.push(" AND NOT ").push(REVOKED);
        }
        if let Some(time) = filter.unused_since {
            query.push(" AND +c.last_use_order < ").push_bind(sql_time(time));
        }
    }

    fn push_order(&self, query: &mut Query) {
        query.push(" ORDER BY ").push(match self.filter.order {
            CredentialOrder::CreateTime => "c.id",
            CredentialOrder::CreateTimeDesc => "c.id DESC",
            CredentialOrder::LastUseTime => "c.last_use_order, c.id",
            CredentialOrder::ExpireTime => "c.expire_time, c.id",
        });
    }

    /// Adds the rows that a narrow filter leaves. They are sorted by that filter's index, so that SQLite uses no other.
    fn push_selective(&self, query: &mut Query, selective: SelectiveFilter) {
        let filter = self.filter;
        query.push(" WHERE ");
        match selective {
            SelectiveFilter::Family => query
                .push("c.family_id = ")
                .push_bind(filter.family_id.map(|id| id.0))
                .push(" ORDER BY c.family_id, c.id"),
            SelectiveFilter::Creator => query
                .push("c.creator = ")
                .push_bind(filter.creator.clone())
                .push(" ORDER BY c.creator, c.id"),
            SelectiveFilter::NamePrefix => {
                push_prefix(query, "c.name", filter.name_prefix.as_deref().unwrap_or_default());
                query.push(" ORDER BY c.name, c.id")
            }
            SelectiveFilter::ExpiresBefore => query
                .push("c.expire_time > ")
                .push_bind(sql_time(self.now))
                .push(" AND c.expire_time < ")
                .push_bind(filter.expires_before.map(sql_time))
                .push(" ORDER BY c.expire_time, c.id"),
            SelectiveFilter::UnusedSince => query
                .push("c.last_use_order < ")
                .push_bind(filter.unused_since.map(sql_time))
                .push(" ORDER BY c.last_use_order, c.id"),
        };
    }
}

fn push_compared(
    query: &mut Query,
    order: CredentialOrder,
    side: Side,
    position: CredentialPosition,
) {
    let time = position.time.map_or(NEVER, sql_time);
    let operator = side.operator(order);
    let columns = match order {
        CredentialOrder::CreateTime | CredentialOrder::CreateTimeDesc => {
            query.push(" AND c.id").push(operator).push_bind(position.id.0);
            return;
        }
        CredentialOrder::LastUseTime => " AND (c.last_use_order, c.id)",
        CredentialOrder::ExpireTime => " AND (c.expire_time, c.id)",
    };
    query.push(columns).push(operator).push("(").push_bind(time).push(", ");
    query.push_bind(position.id.0).push(")");
}

fn push_prefix(query: &mut Query, column: &str, prefix: &str) {
    query.push(column).push(" >= ").push_bind(prefix.to_owned());
    if let Some(after) = listing::after_prefix(prefix) {
        query.push(" AND ").push(column).push(" < ").push_bind(after);
    }
}

fn push_equal<'q>(query: &'q mut Query, column: &str, id: Option<&impl ToString>) -> &'q mut Query {
    query.push(column).push(" = ").push_bind(id.map(ToString::to_string))
}

const REVOKED: &str =
    "(c.revoke_time IS NOT NULL OR c.generation < COALESCE(w.generation, u.generation))";

/// Checks in the same order as [`Credential::state`](crate::model::Credential::state): revoked, expired, disabled,
/// active.
fn push_state(query: &mut Query, state: CredentialState, now: Timestamp) {
    query.push(if state == CredentialState::Revoked { " AND " } else { " AND NOT " }).push(REVOKED);
    match state {
        CredentialState::Revoked => return,
        CredentialState::Expired => query.push(" AND +c.expire_time <= ").push_bind(sql_time(now)),
        CredentialState::Disabled | CredentialState::Active => query
            .push(" AND (+c.expire_time IS NULL OR +c.expire_time > ")
            .push_bind(sql_time(now))
            .push(")"),
    };
    match state {
        CredentialState::Disabled => query.push(" AND +c.disable_time IS NOT NULL"),
        CredentialState::Active => query.push(" AND +c.disable_time IS NULL"),
        CredentialState::Revoked | CredentialState::Expired => return,
    };
}

/// The empty byte string sorts before every digest.
fn digest_bytes(after: Option<&Digest>) -> &[u8] {
    after.map_or(&[], |digest| digest.as_bytes())
}
