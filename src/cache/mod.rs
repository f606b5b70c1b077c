//! Where `service::introspect` asks: the seam between the decision and whatever knows its facts.
//!
//! Today that is the store itself; answers from memory will be another [`Lookup`] over the same store.

use std::sync::Arc;

use async_trait::async_trait;

use crate::model::Digest;
use crate::store::{LookedUp, Result, Store};

/// What knows the facts that an introspection is decided by.
#[async_trait]
pub trait Lookup: Send + Sync {
    /// All that an introspection of this digest is decided by, of one revision. `workspace` is the slug or id that the
    /// request names; `fresh` goes past memory.
    async fn look_up(
        &self,
        digest: &Digest,
        workspace: Option<&str>,
        fresh: bool,
    ) -> Result<LookedUp>;
}

/// Asks the store each time: always fresh.
pub struct Direct(pub Arc<dyn Store>);

#[async_trait]
impl Lookup for Direct {
    async fn look_up(
        &self,
        digest: &Digest,
        workspace: Option<&str>,
        _fresh: bool,
    ) -> Result<LookedUp> {
        self.0.look_up(digest, workspace).await
    }
}
