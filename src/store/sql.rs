//! The columns that both databases select, as literals for `concat!`. `row` reads them in the same order. The aliases
//! are fixed: `w` workspaces, `u` users, `m` memberships, `c` credentials.

/// Columns for [`super::row::workspace`], from the table with this alias.
macro_rules! workspace_columns {
    ($alias:literal) => {
        concat!(
            $alias,
            ".id, ",
            $alias,
            ".slug, ",
            $alias,
            ".display_name, ",
            $alias,
            ".disabled, ",
            $alias,
            ".pats_forbidden, ",
            $alias,
            ".pat_expiry_required, ",
            $alias,
            ".pat_lifetime_max, ",
            $alias,
            ".generation, ",
            $alias,
            ".generation_time, ",
            $alias,
            ".create_time, ",
            $alias,
            ".update_time, ",
            $alias,
            ".delete_time"
        )
    };
}

/// Columns for [`super::row::user`].
macro_rules! user_columns {
    () => {
        "u.id, u.display_name, u.disabled, u.generation, u.generation_time, \
         u.create_time, u.update_time, u.delete_time"
    };
}

/// Columns for [`super::row::membership`].
macro_rules! membership_columns {
    () => {
        "m.workspace_id, m.user_id, m.role, m.create_time, m.update_time"
    };
}

/// Columns for [`super::row::credential`]. `$revoke_time` is an SQL expression.
macro_rules! credential_columns {
    ($revoke_time:literal) => {
        concat!(
            "c.id, c.kind, c.workspace_id, c.user_id, c.max_role, c.generation, c.name, c.hint, c.scopes, \
             c.ip_allowlist, c.limited, c.granted_workspaces, c.barred_workspaces, c.end_at_once, c.annotations, c.create_time, c.expire_time, c.disable_time, ",
            $revoke_time,
            ", c.last_use_time, c.last_use_ip, c.creator, c.predecessor_id, c.family_id, c.version"
        )
    };
}

/// Selects credentials, with the time of their owner's generation as `revoke_time` if it revokes them. A generation
/// raised by hand may lack its time. The time of the owner's last update then takes its place.
macro_rules! select_credentials {
    () => {
        select_credentials!(with "")
    };
    // Selects further columns after `credential_columns`.
    (with $more:literal) => {
        select_credentials!(with $more, from "credentials AS c")
    };
    // The same, from further tables.
    (with $more:expr, from $from:literal) => {
        concat!(
            "SELECT ",
            credential_columns!(
                "COALESCE(c.revoke_time, \
                 CASE WHEN c.generation < w.generation THEN COALESCE(w.generation_time, w.update_time) \
                 WHEN c.generation < u.generation THEN COALESCE(u.generation_time, u.update_time) END)"
            ),
            $more,
            " FROM ",
            $from,
            " LEFT JOIN workspaces AS w ON w.id = c.workspace_id \
             LEFT JOIN users AS u ON u.id = c.user_id"
        )
    };
}

/// Selects a page of digests for [`super::row::digest`]: `$2` digests after `$1`. The same for both databases.
macro_rules! select_digests {
    () => {
        "SELECT c.digest FROM credentials AS c WHERE c.digest > $1 ORDER BY c.digest LIMIT $2"
    };
}

/// Columns for [`super::caller_row::caller`].
macro_rules! caller_columns {
    () => {
        "id, name, permissions, digest, certificate_san, hint, create_time, revoke_time, \
         previous_digest, previous_expire_time, rotation_id, expire_time, last_use_time, last_use_ip, creator, \
         version"
    };
}

/// Columns for [`super::row::audit_event`].
macro_rules! audit_event_columns {
    () => {
        "id, time, action, caller, acting_user, target_kind, target_id, remote_address, before, after, reason, \
         refusal"
    };
}

/// The workspace that an audit event is about, on SQLite. Migration 0019 has an index on exactly this expression. On
/// Postgres it is the function `audit_event_workspace`.
macro_rules! audit_event_workspace {
    () => {
        "CASE WHEN target_id = '' THEN NULL \
              WHEN target_kind = 'workspace' THEN target_id \
              WHEN target_kind = 'credential' THEN \
                  CASE WHEN json_valid(COALESCE(after, before)) THEN COALESCE(after, before) ->> '$.workspace_id' END \
              WHEN instr(target_id, '/') > 0 THEN substr(target_id, 1, instr(target_id, '/') - 1) END"
    };
}

/// The user whom an audit event is about, on SQLite. Migration 0019 has an index on exactly this expression. On
/// Postgres it is the function `audit_event_user`.
macro_rules! audit_event_user {
    () => {
        "CASE WHEN target_id = '' THEN NULL \
              WHEN target_kind = 'user' THEN target_id \
              WHEN target_kind = 'credential' THEN \
                  CASE WHEN json_valid(COALESCE(after, before)) THEN COALESCE(after, before) ->> '$.user_id' END \
              WHEN target_kind = 'membership' AND instr(target_id, '/') > 0 \
              THEN substr(target_id, instr(target_id, '/') + 1) END"
    };
}

/// Number of `workspace_columns`.
pub(super) const WORKSPACE_COLUMNS: usize = count_columns(workspace_columns!("w"));
/// Number of `user_columns`.
pub(super) const USER_COLUMNS: usize = count_columns(user_columns!());

/// Counts the columns of a list without expressions.
const fn count_columns(list: &str) -> usize {
    let (bytes, mut at, mut count) = (list.as_bytes(), 0, 1);
    while at < bytes.len() {
        if bytes[at] == b',' {
            count += 1;
        }
        at += 1;
    }
    count
}

pub(super) use {
    audit_event_columns, audit_event_user, audit_event_workspace, caller_columns,
    credential_columns, membership_columns, select_credentials, select_digests, user_columns,
    workspace_columns,
};
