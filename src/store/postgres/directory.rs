//! The directory: workspaces and their names, users, and memberships.

use async_trait::async_trait;
use sqlx::{Postgres, QueryBuilder};

use super::session::{locked, read};
use super::transaction::{PostgresTx, run};
use super::{PostgresStore, Result, Session, sql_time};
use crate::model::{Membership, Slug, Timestamp, User, UserId, Workspace, WorkspaceId};
use crate::store::sql::{membership_columns, user_columns, workspace_columns};
use crate::store::{DirectoryStore, DirectoryTx, Lock, NameHolder, row};

#[async_trait]
impl DirectoryStore for PostgresStore {
    async fn find_workspace(&self, name: &str) -> Result<Option<Workspace>> {
        read!(self, async |db| find_workspace(db, name).await)
    }

    async fn list_workspaces(
        &self,
        after: Option<&WorkspaceId>,
        limit: u32,
    ) -> Result<Vec<Workspace>> {
        read!(self, async |db| {
            let rows = db
                .query(concat!(
                    "SELECT ",
                    workspace_columns!("w"),
                    " FROM workspaces AS w \
                 WHERE w.id > $1 AND w.delete_time IS NULL \
                 ORDER BY w.id \
                 LIMIT $2"
                ))
                .bind(after.map_or("", WorkspaceId::as_str))
                .bind(i64::from(limit))
                .fetch_all(db.connection())
                .await?;
            rows.iter().map(row::workspace).collect()
        })
    }

    async fn find_user(&self, id: &UserId) -> Result<Option<User>> {
        read!(self, async |db| {
            Ok(find_user_row(db, id).await?.filter(|user| user.delete_time.is_none()))
        })
    }

    async fn list_users(&self, after: Option<&UserId>, limit: u32) -> Result<Vec<User>> {
        read!(self, async |db| {
            let rows = db
                .query(concat!(
                    "SELECT ",
                    user_columns!(),
                    " FROM users AS u \
                 WHERE u.id > $1 AND u.delete_time IS NULL \
                 ORDER BY u.id \
                 LIMIT $2"
                ))
                .bind(after.map_or("", UserId::as_str))
                .bind(i64::from(limit))
                .fetch_all(db.connection())
                .await?;
            rows.iter().map(row::user).collect()
        })
    }

    async fn find_membership(
        &self,
        workspace: &WorkspaceId,
        user: &UserId,
    ) -> Result<Option<Membership>> {
        read!(self, async |db| find_membership(db, workspace, user).await)
    }

    async fn list_memberships(
        &self,
        workspace: Option<&WorkspaceId>,
        user: Option<&UserId>,
        after: Option<(&WorkspaceId, &UserId)>,
        limit: u32,
    ) -> Result<Vec<Membership>> {
        read!(self, async |db| {
            // Only the requested conditions go into the statement, so that Postgres can use the index for them.
            let (after_workspace, after_user) =
                after.map_or(("", ""), |(workspace, user)| (workspace.as_str(), user.as_str()));
            let mut query = QueryBuilder::<Postgres>::new(concat!(
                "SELECT ",
                membership_columns!(),
                " FROM memberships AS m WHERE (m.workspace_id, m.user_id) > ("
            ));
            query.push_bind(after_workspace).push(", ").push_bind(after_user).push(")");
            if let Some(workspace) = workspace {
                query.push(" AND m.workspace_id = ").push_bind(workspace.as_str());
            }
            if let Some(user) = user {
                query.push(" AND m.user_id = ").push_bind(user.as_str());
            }
            query.push(" ORDER BY m.workspace_id, m.user_id LIMIT ").push_bind(i64::from(limit));
            let rows = db.query_from(&mut query).fetch_all(db.connection()).await?;
            rows.iter().map(row::membership).collect()
        })
    }
}

#[async_trait]
impl DirectoryTx for PostgresTx {
    async fn lock_workspace_names(&mut self) -> Result<()> {
        run!(self, async |db| {
            // Two keys of 32 bits. The first marks the lock as ours ("soph"), and the second is the number of the lock.
            db.query("SELECT pg_advisory_xact_lock(1936682088, 1)")
                .execute(db.connection())
                .await?;
            Ok(())
        })
    }

    async fn find_name_holder(&mut self, name: &str, now: Timestamp) -> Result<Option<NameHolder>> {
        run!(self, async |db| {
            let row = db
                .query(
                    "SELECT id, NULL::timestamptz AS release_time, 1 AS rank FROM workspaces WHERE id = $1 \
                 UNION ALL \
                 SELECT id, NULL, 2 FROM workspaces WHERE slug = $1 AND delete_time IS NULL \
                 UNION ALL \
                 SELECT workspace_id, release_time, 3 FROM reserved_slugs WHERE slug = $1 AND release_time > $2 \
                 ORDER BY rank \
                 LIMIT 1",
                )
                .bind(name)
                .bind(sql_time(now))
                .fetch_optional(db.connection())
                .await?;
            row.as_ref().map(row::name_holder).transpose()
        })
    }

    async fn reserve_slug(
        &mut self,
        slug: &Slug,
        id: &WorkspaceId,
        release_time: Timestamp,
    ) -> Result<()> {
        run!(self, async |db| {
            db.query(
                "INSERT INTO reserved_slugs (slug, workspace_id, release_time) \
                 VALUES ($1, $2, $3) \
                 ON CONFLICT (slug) DO UPDATE \
                 SET workspace_id = excluded.workspace_id, release_time = excluded.release_time",
            )
            .bind(slug.as_str())
            .bind(id.as_str())
            .bind(sql_time(release_time))
            .execute(db.connection())
            .await?;
            Ok(())
        })
    }

    async fn release_slug(&mut self, slug: &Slug) -> Result<()> {
        run!(self, async |db| {
            db.query("DELETE FROM reserved_slugs WHERE slug = $1")
                .bind(slug.as_str())
                .execute(db.connection())
                .await?;
            Ok(())
        })
    }

    async fn find_workspace(&mut self, name: &str, lock: Lock) -> Result<Option<Workspace>> {
        run!(self, async |db| {
            // Resolve the name again after the lock is granted: another workspace may have taken it in the meantime.
            let Some(found) = find_workspace(db, name).await? else { return Ok(None) };
            find_workspace_row_locked(db, &found.id, lock).await?;
            Ok(find_workspace(db, name).await?.filter(|again| again.id == found.id))
        })
    }

    async fn find_workspace_row(
        &mut self,
        id: &WorkspaceId,
        lock: Lock,
    ) -> Result<Option<Workspace>> {
        run!(self, async |db| find_workspace_row_locked(db, id, lock).await)
    }

    async fn put_workspace(&mut self, workspace: &Workspace) -> Result<()> {
        run!(self, async |db| {
            db.query(
                "INSERT INTO workspaces ( \
                     id, slug, display_name, disabled, generation, generation_time, create_time, update_time, delete_time, \
                     pats_forbidden, pat_expiry_required, pat_lifetime_max) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) \
                 ON CONFLICT (id) DO UPDATE \
                 SET slug = excluded.slug, display_name = excluded.display_name, disabled = excluded.disabled, \
                     generation = excluded.generation, generation_time = excluded.generation_time, \
                     update_time = excluded.update_time, delete_time = excluded.delete_time, \
                     pats_forbidden = excluded.pats_forbidden, pat_expiry_required = excluded.pat_expiry_required, \
                     pat_lifetime_max = excluded.pat_lifetime_max",
            )
            .bind(workspace.id.as_str())
            .bind(workspace.slug.as_str())
            .bind(workspace.display_name.as_str())
            .bind(workspace.disabled)
            .bind(workspace.generation)
            .bind(workspace.generation_time.map(sql_time))
            .bind(sql_time(workspace.create_time))
            .bind(sql_time(workspace.update_time))
            .bind(workspace.delete_time.map(sql_time))
            .bind(workspace.pat_policy.forbidden)
            .bind(workspace.pat_policy.expiry_required)
            .bind(workspace.pat_policy.lifetime_max.map(row::duration_micros))
            .execute(db.connection())
            .await?;
            Ok(())
        })
    }

    async fn find_user_row(&mut self, id: &UserId, lock: Lock) -> Result<Option<User>> {
        run!(self, async |db| {
            let statement = locked!(lock, "SELECT id FROM users WHERE id = $1");
            db.query(statement).bind(id.as_str()).execute(db.connection()).await?;
            find_user_row(db, id).await
        })
    }

    async fn put_user(&mut self, user: &User) -> Result<()> {
        run!(self, async |db| {
            db.query(
                "INSERT INTO users ( \
                     id, display_name, disabled, generation, generation_time, create_time, update_time, delete_time) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
                 ON CONFLICT (id) DO UPDATE \
                 SET display_name = excluded.display_name, disabled = excluded.disabled, \
                     generation = excluded.generation, generation_time = excluded.generation_time, \
                     update_time = excluded.update_time, delete_time = excluded.delete_time",
            )
            .bind(user.id.as_str())
            .bind(user.display_name.as_str())
            .bind(user.disabled)
            .bind(user.generation)
            .bind(user.generation_time.map(sql_time))
            .bind(sql_time(user.create_time))
            .bind(sql_time(user.update_time))
            .bind(user.delete_time.map(sql_time))
            .execute(db.connection())
            .await?;
            Ok(())
        })
    }

    async fn find_membership(
        &mut self,
        workspace: &WorkspaceId,
        user: &UserId,
        lock: Lock,
    ) -> Result<Option<Membership>> {
        run!(self, async |db| {
            let statement = locked!(
                lock,
                "SELECT role FROM memberships WHERE user_id = $1 AND workspace_id = $2"
            );
            db.query(statement)
                .bind(user.as_str())
                .bind(workspace.as_str())
                .execute(db.connection())
                .await?;
            find_membership(db, workspace, user).await
        })
    }

    async fn put_membership(&mut self, membership: &Membership) -> Result<()> {
        run!(self, async |db| {
            db.query(
                "INSERT INTO memberships (user_id, workspace_id, role, create_time, update_time) \
                 VALUES ($1, $2, $3, $4, $5) \
                 ON CONFLICT (user_id, workspace_id) DO UPDATE \
                 SET role = excluded.role, update_time = excluded.update_time",
            )
            .bind(membership.user_id.as_str())
            .bind(membership.workspace_id.as_str())
            .bind(i16::from(membership.role.number()))
            .bind(sql_time(membership.create_time))
            .bind(sql_time(membership.update_time))
            .execute(db.connection())
            .await?;
            Ok(())
        })
    }

    async fn delete_membership(&mut self, workspace: &WorkspaceId, user: &UserId) -> Result<bool> {
        run!(self, async |db| {
            let done = db
                .query("DELETE FROM memberships WHERE user_id = $1 AND workspace_id = $2")
                .bind(user.as_str())
                .bind(workspace.as_str())
                .execute(db.connection())
                .await?;
            Ok(done.rows_affected() != 0)
        })
    }

    async fn delete_memberships_of_workspace(&mut self, workspace: &WorkspaceId) -> Result<u64> {
        run!(self, async |db| {
            let done = db
                .query("DELETE FROM memberships WHERE workspace_id = $1")
                .bind(workspace.as_str())
                .execute(db.connection())
                .await?;
            Ok(done.rows_affected())
        })
    }

    async fn delete_memberships_of_user(&mut self, user: &UserId) -> Result<u64> {
        run!(self, async |db| {
            let done = db
                .query("DELETE FROM memberships WHERE user_id = $1")
                .bind(user.as_str())
                .execute(db.connection())
                .await?;
            Ok(done.rows_affected())
        })
    }
}

/// Returns the workspace of this slug or id, unless it is deleted. The id is tried first, as in `look_up`.
async fn find_workspace(db: &mut Session, name: &str) -> Result<Option<Workspace>> {
    let row = db
        .query(concat!(
            "SELECT ",
            workspace_columns!("w"),
            " FROM workspaces AS w WHERE w.id = COALESCE( \
             (SELECT id FROM workspaces WHERE id = $1 AND delete_time IS NULL), \
             (SELECT id FROM workspaces WHERE slug = $1 AND delete_time IS NULL))"
        ))
        .bind(name)
        .fetch_optional(db.connection())
        .await?;
    row.as_ref().map(row::workspace).transpose()
}

/// Returns the workspace of this id, even if it is deleted, and locks its row until the end of the transaction.
async fn find_workspace_row_locked(
    db: &mut Session,
    id: &WorkspaceId,
    lock: Lock,
) -> Result<Option<Workspace>> {
    let statement = locked!(lock, "SELECT id FROM workspaces WHERE id = $1");
    db.query(statement).bind(id.as_str()).execute(db.connection()).await?;
    find_workspace_row(db, id).await
}

/// Returns the workspace of this id, even if it is deleted.
async fn find_workspace_row(db: &mut Session, id: &WorkspaceId) -> Result<Option<Workspace>> {
    let row = db
        .query(concat!("SELECT ", workspace_columns!("w"), " FROM workspaces AS w WHERE w.id = $1"))
        .bind(id.as_str())
        .fetch_optional(db.connection())
        .await?;
    row.as_ref().map(row::workspace).transpose()
}

/// Returns the user of this id, even if it is deleted.
async fn find_user_row(db: &mut Session, id: &UserId) -> Result<Option<User>> {
    let row = db
        .query(concat!("SELECT ", user_columns!(), " FROM users AS u WHERE u.id = $1"))
        .bind(id.as_str())
        .fetch_optional(db.connection())
        .await?;
    row.as_ref().map(row::user).transpose()
}

/// Returns the user's membership of the workspace.
async fn find_membership(
    db: &mut Session,
    workspace: &WorkspaceId,
    user: &UserId,
) -> Result<Option<Membership>> {
    let row = db
        .query(concat!(
            "SELECT ",
            membership_columns!(),
            " FROM memberships AS m WHERE m.user_id = $1 AND m.workspace_id = $2"
        ))
        .bind(user.as_str())
        .bind(workspace.as_str())
        .fetch_optional(db.connection())
        .await?;
    row.as_ref().map(row::membership).transpose()
}
