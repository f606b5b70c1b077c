//! How large the items of a page are. A page is cut before it gets too large for a client, who would otherwise never get
//! past it. The largest single item, a credential or the event of its change, has about 50 or 200 kB.

use crate::model::limits::PAGE_BYTES_MAX;
use crate::model::{AuditEvent, Caller, Credential, Membership, User, Workspace, WorkspaceSet};
use crate::store::{NumberedEvent, ReplicaDetails, UsedPat};

/// Bytes of what every item has: ids, times, and numbers.
const FIXED_BYTES: usize = 256;
/// Bytes that each entry of a list or a map takes in addition to its text.
const ENTRY_BYTES: usize = 8;
/// Bytes of a network, written as text.
const NETWORK_BYTES: usize = 48;

/// An item of a page.
pub(super) trait PageItem {
    /// Bytes of its texts that people or other programs chose.
    fn text_bytes(&self) -> usize;
}

/// Returns how many of the items fit on a page: at least one, if there is any.
pub(super) fn fitting<T: PageItem>(items: &[T]) -> usize {
    let mut bytes = 0;
    let fits = |item: &&T| {
        bytes += FIXED_BYTES + item.text_bytes();
        bytes <= PAGE_BYTES_MAX
    };
    items.iter().take_while(fits).count().max(1).min(items.len())
}

impl PageItem for AuditEvent {
    fn text_bytes(&self) -> usize {
        let optional = [&self.remote_address, &self.before, &self.after, &self.reason];
        let user = self.acting_user.as_ref().map_or(0, |user| user.as_str().len());
        optional.into_iter().flatten().map(String::len).sum::<usize>()
            + user
            + self.caller.len()
            + self.target_id.len()
    }
}

impl PageItem for NumberedEvent {
    fn text_bytes(&self) -> usize {
        self.event.text_bytes()
    }
}

impl PageItem for Credential {
    fn text_bytes(&self) -> usize {
        let ids = |set: &WorkspaceSet| -> usize {
            set.iter().map(|entry| entry.id.as_str().len() + ENTRY_BYTES).sum()
        };
        let entries = self.annotations.entries().iter();
        self.name.as_str().len()
            + self.hint.len()
            + self.creator.len()
            + self.ip_allowlist.iter().count() * NETWORK_BYTES
            + entries.map(|(key, value)| key.len() + value.len() + ENTRY_BYTES).sum::<usize>()
            + self.granted_workspaces.as_ref().map_or(0, ids)
            + ids(&self.barred_workspaces)
    }
}

impl PageItem for UsedPat {
    fn text_bytes(&self) -> usize {
        // The owners of the workspace do not see the name and the limits of the token.
        self.credential.hint.len() + self.user.text_bytes()
    }
}

impl PageItem for Workspace {
    fn text_bytes(&self) -> usize {
        self.display_name.as_str().len()
    }
}

impl PageItem for User {
    fn text_bytes(&self) -> usize {
        self.display_name.as_str().len()
    }
}

impl PageItem for Caller {
    fn text_bytes(&self) -> usize {
        // The name and the certificate's name have 318 bytes at most.
        self.hint.len() + self.creator.len() + 318
    }
}

/// A thousand memberships have 0.3 MB at most: two ids of 64 bytes, a role and two times.
impl PageItem for Membership {
    fn text_bytes(&self) -> usize {
        0
    }
}

/// A thousand replicas have 0.6 MB at most: the name of a host has 255 bytes at most.
impl PageItem for ReplicaDetails {
    fn text_bytes(&self) -> usize {
        self.host.len()
    }
}
