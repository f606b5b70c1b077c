//! Workspaces and their names, users, memberships.

use sqlx::{Postgres, QueryBuilder};

use super::session::locked;
use super::{Result, Session, at};
use crate::model::{Membership, Slug, Timestamp, User, UserId, Workspace, WorkspaceId};
use crate::store::sql::{membership_columns, user_columns, workspace_columns};
use crate::store::{Lock, NameHolder, row};

/// Makes all that give or take names wait for each other, to the end of the transaction.
pub(super) async fn lock_names(db: &mut Session) -> Result<()> {
    // Two keys of 32 bits: the first says that it is ours ("soph"), the second which lock it is.
    db.query("SELECT pg_advisory_xact_lock(1936682088, 1)").execute(db.connection()).await?;
    Ok(())
}

/// Who holds this name: as an id, be it of a deleted workspace, as a slug, or as a slug reserved beyond `now`.
pub(super) async fn find_name_holder(
    db: &mut Session,
    name: &str,
    now: Timestamp,
) -> Result<Option<NameHolder>> {
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
        .bind(at(now))
        .fetch_optional(db.connection())
        .await?;
    row.as_ref().map(row::name_holder).transpose()
}

/// Reserves a slug, or moves its reservation.
pub(super) async fn reserve_slug(
    db: &mut Session,
    slug: &Slug,
    id: &WorkspaceId,
    release_time: Timestamp,
) -> Result<()> {
    db.query(
        "INSERT INTO reserved_slugs (slug, workspace_id, release_time) \
         VALUES ($1, $2, $3) \
         ON CONFLICT (slug) DO UPDATE \
         SET workspace_id = excluded.workspace_id, release_time = excluded.release_time",
    )
    .bind(slug.as_str())
    .bind(id.as_str())
    .bind(at(release_time))
    .execute(db.connection())
    .await?;
    Ok(())
}

/// Drops the reservation of a slug.
pub(super) async fn release_slug(db: &mut Session, slug: &Slug) -> Result<()> {
    db.query("DELETE FROM reserved_slugs WHERE slug = $1")
        .bind(slug.as_str())
        .execute(db.connection())
        .await?;
    Ok(())
}

/// The workspace of this slug or id, unless it is deleted. Ids come first, as in `look_up`.
pub(super) async fn find_workspace(db: &mut Session, name: &str) -> Result<Option<Workspace>> {
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

/// The workspace of this slug or id, whose row stays locked to the end of the transaction.
pub(super) async fn find_workspace_locked(
    db: &mut Session,
    name: &str,
    lock: Lock,
) -> Result<Option<Workspace>> {
    // Whom the name leads to is asked twice: it may have been given to another while this waited for the lock.
    let Some(found) = find_workspace(db, name).await? else { return Ok(None) };
    find_workspace_row_locked(db, &found.id, lock).await?;
    Ok(find_workspace(db, name).await?.filter(|again| again.id == found.id))
}

/// The workspace of this id, deleted or not, whose row stays locked to the end of the transaction.
pub(super) async fn find_workspace_row_locked(
    db: &mut Session,
    id: &WorkspaceId,
    lock: Lock,
) -> Result<Option<Workspace>> {
    let statement = locked!(lock, "SELECT id FROM workspaces WHERE id = $1");
    db.query(statement).bind(id.as_str()).execute(db.connection()).await?;
    find_workspace_row(db, id).await
}

/// The workspace of this id, deleted or not.
pub(super) async fn find_workspace_row(
    db: &mut Session,
    id: &WorkspaceId,
) -> Result<Option<Workspace>> {
    let row = db
        .query(concat!("SELECT ", workspace_columns!("w"), " FROM workspaces AS w WHERE w.id = $1"))
        .bind(id.as_str())
        .fetch_optional(db.connection())
        .await?;
    row.as_ref().map(row::workspace).transpose()
}

/// Workspaces after this one, by id, without deleted ones.
pub(super) async fn list_workspaces(
    db: &mut Session,
    after: Option<&WorkspaceId>,
    limit: u32,
) -> Result<Vec<Workspace>> {
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
}

/// Inserts the workspace, or makes the row of its id look so.
pub(super) async fn put_workspace(db: &mut Session, workspace: &Workspace) -> Result<()> {
    db.query(
        "INSERT INTO workspaces ( \
             id, slug, display_name, disabled, generation, generation_time, create_time, update_time, delete_time) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) \
         ON CONFLICT (id) DO UPDATE \
         SET slug = excluded.slug, display_name = excluded.display_name, disabled = excluded.disabled, \
             generation = excluded.generation, generation_time = excluded.generation_time, \
             update_time = excluded.update_time, delete_time = excluded.delete_time",
    )
    .bind(workspace.id.as_str())
    .bind(workspace.slug.as_str())
    .bind(workspace.display_name.as_str())
    .bind(workspace.disabled)
    .bind(workspace.generation)
    .bind(workspace.generation_time.map(at))
    .bind(at(workspace.create_time))
    .bind(at(workspace.update_time))
    .bind(workspace.delete_time.map(at))
    .execute(db.connection())
    .await?;
    Ok(())
}

/// The user, unless deleted.
pub(super) async fn find_user(db: &mut Session, id: &UserId) -> Result<Option<User>> {
    Ok(find_user_row(db, id).await?.filter(|user| user.delete_time.is_none()))
}

/// The user of this id, deleted or not, whose row stays locked to the end of the transaction.
pub(super) async fn find_user_row_locked(
    db: &mut Session,
    id: &UserId,
    lock: Lock,
) -> Result<Option<User>> {
    let statement = locked!(lock, "SELECT id FROM users WHERE id = $1");
    db.query(statement).bind(id.as_str()).execute(db.connection()).await?;
    find_user_row(db, id).await
}

/// The user of this id, deleted or not.
pub(super) async fn find_user_row(db: &mut Session, id: &UserId) -> Result<Option<User>> {
    let row = db
        .query(concat!("SELECT ", user_columns!(), " FROM users AS u WHERE u.id = $1"))
        .bind(id.as_str())
        .fetch_optional(db.connection())
        .await?;
    row.as_ref().map(row::user).transpose()
}

/// Users after this one, by id, without deleted ones.
pub(super) async fn list_users(
    db: &mut Session,
    after: Option<&UserId>,
    limit: u32,
) -> Result<Vec<User>> {
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
}

/// Inserts the user, or makes the row of its id look so.
pub(super) async fn put_user(db: &mut Session, user: &User) -> Result<()> {
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
    .bind(user.generation_time.map(at))
    .bind(at(user.create_time))
    .bind(at(user.update_time))
    .bind(user.delete_time.map(at))
    .execute(db.connection())
    .await?;
    Ok(())
}

/// The user's membership of the workspace.
pub(super) async fn find_membership(
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

/// The user's membership of the workspace, whose row stays locked to the end of the transaction.
pub(super) async fn find_membership_locked(
    db: &mut Session,
    workspace: &WorkspaceId,
    user: &UserId,
    lock: Lock,
) -> Result<Option<Membership>> {
    let statement =
        locked!(lock, "SELECT role FROM memberships WHERE user_id = $1 AND workspace_id = $2");
    db.query(statement)
        .bind(user.as_str())
        .bind(workspace.as_str())
        .execute(db.connection())
        .await?;
    find_membership(db, workspace, user).await
}

/// Memberships after this one, by workspace id, then user id. Only what is asked for stands in the statement, so that
/// each has its index.
pub(super) async fn list_memberships(
    db: &mut Session,
    workspace: Option<&WorkspaceId>,
    user: Option<&UserId>,
    after: Option<(&WorkspaceId, &UserId)>,
    limit: u32,
) -> Result<Vec<Membership>> {
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
    let rows = db.built(&mut query).fetch_all(db.connection()).await?;
    rows.iter().map(row::membership).collect()
}

/// Inserts the membership, or makes its row look so.
pub(super) async fn put_membership(db: &mut Session, membership: &Membership) -> Result<()> {
    db.query(
        "INSERT INTO memberships (user_id, workspace_id, role, create_time, update_time) \
         VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (user_id, workspace_id) DO UPDATE \
         SET role = excluded.role, update_time = excluded.update_time",
    )
    .bind(membership.user_id.as_str())
    .bind(membership.workspace_id.as_str())
    .bind(i16::from(membership.role.number()))
    .bind(at(membership.create_time))
    .bind(at(membership.update_time))
    .execute(db.connection())
    .await?;
    Ok(())
}

/// Drops the membership; whether there was one.
pub(super) async fn delete_membership(
    db: &mut Session,
    workspace: &WorkspaceId,
    user: &UserId,
) -> Result<bool> {
    let done = db
        .query("DELETE FROM memberships WHERE user_id = $1 AND workspace_id = $2")
        .bind(user.as_str())
        .bind(workspace.as_str())
        .execute(db.connection())
        .await?;
    Ok(done.rows_affected() != 0)
}

/// Drops every membership of the workspace; how many there were.
pub(super) async fn delete_memberships_of_workspace(
    db: &mut Session,
    workspace: &WorkspaceId,
) -> Result<u64> {
    let done = db
        .query("DELETE FROM memberships WHERE workspace_id = $1")
        .bind(workspace.as_str())
        .execute(db.connection())
        .await?;
    Ok(done.rows_affected())
}

/// Drops every membership of the user; how many there were.
pub(super) async fn delete_memberships_of_user(db: &mut Session, user: &UserId) -> Result<u64> {
    let done = db
        .query("DELETE FROM memberships WHERE user_id = $1")
        .bind(user.as_str())
        .execute(db.connection())
        .await?;
    Ok(done.rows_affected())
}
