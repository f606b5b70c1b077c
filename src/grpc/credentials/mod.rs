//! The RPCs of `AuthService` that manage credentials: one file for each thing that is done with one.

pub(super) mod bulk_revoke;
pub(super) mod update;
