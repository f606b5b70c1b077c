//! A connection remembers its peer and the last caller that it authenticated. Most connections carry one caller, which
//! then need not be looked up for each request.

use std::sync::Arc;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use parking_lot::Mutex;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::caller;
use crate::model::Caller;
use crate::service::{AuthenticatedCaller, Peer, Result, Service};

/// A client connection.
#[derive(Debug)]
pub struct Connection {
    peer: Peer,
    last: Mutex<Option<LastCaller>>,
}

/// The last caller that was authenticated on a connection.
struct LastCaller {
    /// Value of the `authorization` header. `None` for a caller known by the connection's certificate.
    authorization: Option<Zeroizing<Box<[u8]>>>,
    known: AuthenticatedCaller,
}

impl std::fmt::Debug for LastCaller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LastCaller")
            .field("caller", &self.known.caller.name)
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// A new connection from `peer`, without a known caller.
    pub fn new(peer: Peer) -> Self {
        Self { peer, last: Mutex::new(None) }
    }

    /// The peer at the other end.
    pub const fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Authenticates the caller, and removes the `authorization` header, so that no later code can log it.
    pub(super) async fn caller(
        &self,
        service: &Service,
        headers: &mut HeaderMap,
    ) -> Result<AuthenticatedCaller> {
        let snapshot = service.lease_snapshot();
        let last = self.last(service, headers, AuthenticatedCaller::clone);
        if let Some(caller) = last.filter(|_| service.lease_held_since(snapshot)) {
            headers.remove(AUTHORIZATION);
            return Ok(caller);
        }
        let value = headers.get(AUTHORIZATION);
        let authorization = value.map(|value| Zeroizing::new(value.as_bytes().into()));
        let presented = caller::presented_caller(headers, Some(&self.peer))?;
        let peer = Some(&self.peer);
        let known = service.authenticate(presented, peer).await?;
        tracing::Span::current().record("caller", known.caller.name.as_str());
        *self.last.lock() = Some(LastCaller { authorization, known: known.clone() });
        Ok(known)
    }

    /// Returns the last caller, if this request comes from it too.
    ///
    /// The answer comes from memory. Take a [`LeaseSnapshot`](crate::cache::LeaseSnapshot) before this call, and check
    /// afterwards that the lease has held since.
    pub(super) fn last_caller(
        &self,
        service: &Service,
        headers: &HeaderMap,
    ) -> Option<Arc<Caller>> {
        self.last(service, headers, |known| Arc::clone(&known.caller))
    }

    fn last<T>(
        &self,
        service: &Service,
        headers: &HeaderMap,
        take: impl FnOnce(&AuthenticatedCaller) -> T,
    ) -> Option<T> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let (value, more) = (values.next(), values.next());
        let last = self.last.lock();
        let last = last.as_ref().filter(|_| more.is_none())?;
        let same = match (&last.authorization, value) {
            (Some(last), Some(value)) => last.ct_eq(value.as_bytes()).into(),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        if !same || !service.is_still_known(&last.known) {
            return None;
        }
        service.note_caller_use(&last.known, Some(self.peer.address.ip()));
        Some(take(&last.known))
    }
}
