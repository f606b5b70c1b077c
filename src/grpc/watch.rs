//! What `Service::watch` hears, as the messages of `Watch`.

use std::pin::Pin;

use futures::{Stream, StreamExt as _};
use tonic::Status;

use super::pb;
use crate::service::{WatchUpdate, Result};
use crate::store::{Change, ChangedEntity};

/// A stream of responses.
pub(super) type Responses =
    Pin<Box<dyn Stream<Item = std::result::Result<pb::WatchResponse, Status>> + Send>>;

/// Each thing that is heard is a response; a failure ends the stream.
pub(super) fn responses(heard: impl Stream<Item = Result<WatchUpdate>> + Send + 'static) -> Responses {
    Box::pin(heard.map(|heard| Ok(response(heard?))))
}

fn response(heard: WatchUpdate) -> pb::WatchResponse {
    pb::WatchResponse {
        changes: heard.changes.iter().filter_map(change).collect(),
        cursor: heard.cursor,
        revision: heard.revision.0,
    }
}

/// Nothing for changes that watchers are not told of.
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
