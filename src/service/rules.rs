//! Rules that a server of an earlier release would ignore: set only when every replica knows them.

use super::{Reason, Result, Service, ServiceError};
use crate::store::WriteTx;

/// What an error calls the release of a replica that does not state it.
const UNSTATED_VERSION: &str = "older than 0.2";

impl Service {
    /// Fails while a replica runs that would ignore a rule of this program. Call it in the transaction that sets such a
    /// rule, before it writes. Until that transaction ends, no such replica can register.
    ///
    /// # Errors
    /// [`Reason::ReplicaTooOld`] with the `host` and the `version` of one such replica.
    pub async fn require_new_rules(tx: &mut dyn WriteTx) -> Result<()> {
        let Some(old) = tx.require_rules().await? else { return Ok(()) };
        let version = old.version.unwrap_or_else(|| UNSTATED_VERSION.to_owned());
        let error = ServiceError::from(Reason::ReplicaTooOld);
        Err(error.with("host", old.host).with("version", version))
    }
}
