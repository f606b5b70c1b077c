//! Keys and personal access tokens: one file for each operation, and the parts that they share.

mod bulk_revoke;
mod bulk_scope;
mod create;
mod find_end;
mod get;
mod granted;
mod hidden;
mod list;
mod owner;
mod pending_ends;
mod retry;
mod revoke;
mod revoke_leaked;
mod rotate;
mod switch;
mod update;
mod workspace_pats;

pub use bulk_revoke::{BulkRevoke, BulkRevoked};
pub(super) use create::check_request_id;
pub use create::{CreateCredential, Created, Expiration};
pub use find_end::CredentialEnd;
pub use get::CredentialChoice;
pub use list::ListCredentials;
pub use owner::NewOwner;
pub(super) use owner::creator;
pub(super) use retry::Fingerprint;
pub use revoke::{RevokeTarget, Revoked};
pub use revoke_leaked::{LeakedToken, LeakedTokenResult};
pub use rotate::{Rotate, Rotated};
pub use switch::SwitchCredential;
pub use update::UpdateCredential;
pub use workspace_pats::{BarPat, ListWorkspacePats, WorkspacePat};
