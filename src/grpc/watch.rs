//! Converts the stream of `Service::watch` to the responses of `Watch`.

use std::pin::Pin;

use futures::{Stream, StreamExt as _};
use tonic::Status;

use super::pb;
use crate::service::{Result, WatchUpdate};
use crate::store::{Change, ChangedEntity};

/// A stream of responses.
pub(super) type Responses =
    Pin<Box<dyn Stream<Item = std::result::Result<pb::WatchResponse, Status>> + Send>>;

/// Converts each item to a response. An error ends the stream.
pub(super) fn responses(
    updates: impl Stream<Item = Result<WatchUpdate>> + Send + 'static,
) -> Responses {
    Box::pin(updates.map(|update| Ok(response(update?))))
}

fn response(update: WatchUpdate) -> pb::WatchResponse {
    pb::WatchResponse {
        changes: update.changes.iter().filter_map(change).collect(),
        cursor: update.cursor,
        revision: update.revision.0,
    }
}

/// Converts a change. `None` for a change of a caller, which watchers do not receive.
fn change(change: &Change) -> Option<pb::Change> {
    use pb::change::Entity;
    let entity = match &change.entity {
        ChangedEntity::Credential(digest) => Entity::CredentialDigest(digest.as_bytes().to_vec()),
        ChangedEntity::User(id) => Entity::UserId(id.to_string()),
        ChangedEntity::Workspace(id) => Entity::WorkspaceId(id.to_string()),
        ChangedEntity::UnknownDigests => Entity::UnknownDigests(true),
        ChangedEntity::Caller(_) => return None,
    };
    Some(pb::Change { entity: Some(entity), revision: change.revision.0 })
}
