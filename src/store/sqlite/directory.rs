//! Workspaces and their names, users, and memberships.

use async_trait::async_trait;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use super::transaction::{SqliteTx, run};
use super::{Result, SqliteStore, read, sql_time};
use crate::model::{Membership, Slug, Timestamp, User, UserId, Workspace, WorkspaceId};
use crate::store::sql::{membership_columns, user_columns, workspace_columns};
use crate::store::{DirectoryStore, DirectoryTx, Lock, NameHolder, row};

#[async_trait]
impl DirectoryStore for SqliteStore {
    async fn find_workspace(&self, name: &str) -> Result<Option<Workspace>> {
        read!(self, async |db| find_workspace(db, name).await)
    }

    async fn list_workspaces(
        &self,
        after: Option<&WorkspaceId>,
        limit: u32,
    ) -> Result<Vec<Workspace>> {
        read!(self, async |db| {
            let rows = sqlx::query(concat!(
                "SELECT ",
                workspace_columns!("w"),
                " FROM workspaces AS w \
                 WHERE w.id > $1 AND w.delete_time IS NULL \
                 ORDER BY w.id \
                 LIMIT $2"
            ))
            .bind(after.map_or("", WorkspaceId::as_str))
            .bind(i64::from(limit))
            .fetch_all(db)
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
            let rows = sqlx::query(concat!(
                "SELECT ",
                user_columns!(),
                " FROM users AS u \
                 WHERE u.id > $1 AND u.delete_time IS NULL \
                 ORDER BY u.id \
                 LIMIT $2"
            ))
            .bind(after.map_or("", UserId::as_str))
            .bind(i64::from(limit))
            .fetch_all(db)
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
            // The statement has only the conditions that the caller sets, so that SQLite can use an index for each.
            let (after_workspace, after_user) =
                after.map_or(("", ""), |(workspace, user)| (workspace.as_str(), user.as_str()));
            let mut query = QueryBuilder::<Sqlite>::new(concat!(
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
            let rows = query.build().fetch_all(db).await?;
            rows.iter().map(row::membership).collect()
        })
    }
}

#[async_trait]
impl DirectoryTx for SqliteTx {
    async fn lock_workspace_names(&mut self) -> Result<()> {
        Ok(())
    }

    async fn find_name_holder(&mut self, name: &str, now: Timestamp) -> Result<Option<NameHolder>> {
        run!(self, async |db| {
            let row = sqlx::query(
                "SELECT id, NULL AS release_time, 1 AS rank FROM workspaces WHERE id = $1 \
                 UNION ALL \
                 SELECT id, NULL, 2 FROM workspaces WHERE slug = $1 AND delete_time IS NULL \
                 UNION ALL \
                 SELECT workspace_id, release_time, 3 FROM reserved_slugs WHERE slug = $1 AND release_time > $2 \
                 ORDER BY rank \
                 LIMIT 1",
            )
            .bind(name)
            .bind(sql_time(now))
            .fetch_optional(db)
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
            sqlx::query(
                "INSERT INTO reserved_slugs (slug, workspace_id, release_time) \
                 VALUES ($1, $2, $3) \
                 ON CONFLICT (slug) DO UPDATE \
                 SET workspace_id = excluded.workspace_id, release_time = excluded.release_time",
            )
            .bind(slug.as_str())
            .bind(id.as_str())
            .bind(sql_time(release_time))
            .execute(db)
            .await?;
            Ok(())
        })
    }

    async fn release_slug(&mut self, slug: &Slug) -> Result<()> {
        run!(self, async |db| {
            sqlx::query("DELETE FROM reserved_slugs WHERE slug = $1")
                .bind(slug.as_str())
                .execute(db)
                .await?;
            Ok(())
        })
    }

    async fn find_workspace(&mut self, name: &str, _lock: Lock) -> Result<Option<Workspace>> {
        run!(self, async |db| find_workspace(db, name).await)
    }

    async fn find_workspace_row(
        &mut self,
        id: &WorkspaceId,
        _lock: Lock,
    ) -> Result<Option<Workspace>> {
        run!(self, async |db| {
            let row = sqlx::query(concat!(
                "SELECT ",
                workspace_columns!("w"),
                " FROM workspaces AS w WHERE w.id = $1"
            ))
            .bind(id.as_str())
            .fetch_optional(db)
            .await?;
            row.as_ref().map(row::workspace).transpose()
        })
    }

    async fn put_workspace(&mut self, workspace: &Workspace) -> Result<()> {
        run!(self, async |db| {
            sqlx::query(
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
            .execute(db)
            .await?;
            Ok(())
        })
    }

    async fn find_user_row(&mut self, id: &UserId, _lock: Lock) -> Result<Option<User>> {
        run!(self, async |db| find_user_row(db, id).await)
    }

    async fn put_user(&mut self, user: &User) -> Result<()> {
        run!(self, async |db| {
            sqlx::query(
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
            .execute(db)
            .await?;
            Ok(())
        })
    }

    async fn find_membership(
        &mut self,
        workspace: &WorkspaceId,
        user: &UserId,
        _lock: Lock,
    ) -> Result<Option<Membership>> {
        run!(self, async |db| find_membership(db, workspace, user).await)
    }

    async fn put_membership(&mut self, membership: &Membership) -> Result<()> {
        run!(self, async |db| {
            sqlx::query(
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
            .execute(db)
            .await?;
            Ok(())
        })
    }

    async fn delete_membership(&mut self, workspace: &WorkspaceId, user: &UserId) -> Result<bool> {
        run!(self, async |db| {
            let done =
                sqlx::query("DELETE FROM memberships WHERE user_id = $1 AND workspace_id = $2")
                    .bind(user.as_str())
                    .bind(workspace.as_str())
                    .execute(db)
                    .await?;
            Ok(done.rows_affected() != 0)
        })
    }

    async fn delete_memberships_of_workspace(&mut self, workspace: &WorkspaceId) -> Result<u64> {
        run!(self, async |db| {
            let done = sqlx::query("DELETE FROM memberships WHERE workspace_id = $1")
                .bind(workspace.as_str())
                .execute(db)
                .await?;
            Ok(done.rows_affected())
        })
    }

    async fn delete_memberships_of_user(&mut self, user: &UserId) -> Result<u64> {
        run!(self, async |db| {
            let done = sqlx::query("DELETE FROM memberships WHERE user_id = $1")
                .bind(user.as_str())
                .execute(db)
                .await?;
            Ok(done.rows_affected())
        })
    }
}

/// Returns the workspace with this slug or id, unless it is deleted. Ids take precedence, as in `look_up`.
async fn find_workspace(db: &mut SqliteConnection, name: &str) -> Result<Option<Workspace>> {
    let row = sqlx::query(concat!(
        "SELECT ",
        workspace_columns!("w"),
        " FROM workspaces AS w WHERE w.id = COALESCE( \
             (SELECT id FROM workspaces WHERE id = $1 AND delete_time IS NULL), \
             (SELECT id FROM workspaces WHERE slug = $1 AND delete_time IS NULL))"
    ))
    .bind(name)
    .fetch_optional(db)
    .await?;
    row.as_ref().map(row::workspace).transpose()
}

/// Returns the user with this id, deleted or not.
async fn find_user_row(db: &mut SqliteConnection, id: &UserId) -> Result<Option<User>> {
    let row = sqlx::query(concat!("SELECT ", user_columns!(), " FROM users AS u WHERE u.id = $1"))
        .bind(id.as_str())
        .fetch_optional(db)
        .await?;
    row.as_ref().map(row::user).transpose()
}

/// Returns the user's membership of the workspace.
async fn find_membership(
    db: &mut SqliteConnection,
    workspace: &WorkspaceId,
    user: &UserId,
) -> Result<Option<Membership>> {
    let row = sqlx::query(concat!(
        "SELECT ",
        membership_columns!(),
        " FROM memberships AS m WHERE m.user_id = $1 AND m.workspace_id = $2"
    ))
    .bind(user.as_str())
    .bind(workspace.as_str())
    .fetch_optional(db)
    .await?;
    row.as_ref().map(row::membership).transpose()
}
