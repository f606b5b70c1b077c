//! Rate limits on look-ups that find nothing, so that a flood of made-up tokens cannot keep the store from answering
//! real ones. Unknown tokens count per caller and per client. Unknown service tokens count per network, since their
//! sender is not authenticated. Workspaces in which a valid token has no role count per token.
//!
//! The limits do not apply to answers from memory, nor to tokens that may exist by
//! [`Lookup::may_exist`](crate::cache::Lookup::may_exist).

use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::cache::ClockMap;
use crate::model::limits::{COUNTED_CALLERS_MAX, COUNTED_PEERS_MAX};
use crate::model::{BootClock, CallerId, Digest};
use crate::service::bucket::{Bucket, Rate};
use crate::service::peer::network;

/// Divisor of the caller's rate for one of its clients, if the client's address is known, and for the workspaces that
/// one credential names. It keeps a single client from using up the caller's rate.
const CLIENT_SHARE: u32 = 10;
/// Burst after idle time: this much time's worth of look-ups at once.
const BURST: Duration = Duration::from_secs(1);

/// Token buckets for look-ups that find nothing. They run on the time since boot.
pub struct UnknownRate {
    /// Rate of a caller, and of a network.
    rate: Rate,
    /// Rate of a client, and of a credential. At least one a second, unless `rate` is slower.
    share: Rate,
    boot: Arc<dyn BootClock>,
    callers: Counts<CallerId>,
    /// By caller and network of its client.
    clients: Counts<(CallerId, IpAddr)>,
    networks: Counts<IpAddr>,
    /// By the digest of the token that names workspaces.
    credentials: Counts<Digest>,
}

type Counts<K> = ClockMap<(K, Arc<Bucket>)>;

impl UnknownRate {
    /// Allows `per_second` misses. 0 means no limit.
    pub fn new(per_second: u32, boot: Arc<dyn BootClock>) -> Self {
        let interval = BURST.checked_div(per_second).unwrap_or_default();
        let of_share = (interval * CLIENT_SHARE).min(BURST).max(interval);
        Self {
            rate: Rate { interval, burst: BURST },
            share: Rate { interval: of_share, burst: BURST },
            boot,
            callers: ClockMap::new(COUNTED_CALLERS_MAX),
            clients: ClockMap::new(COUNTED_PEERS_MAX),
            networks: ClockMap::new(COUNTED_PEERS_MAX),
            credentials: ClockMap::new(COUNTED_PEERS_MAX),
        }
    }

    /// Whether the caller may look up an unknown token now, for a client at this address if known.
    pub fn admits(&self, caller: CallerId, client: Option<IpAddr>) -> bool {
        let of_client = |ip| self.has_room(&self.clients, &(caller, network(ip)), self.share);
        self.has_room(&self.callers, &caller, self.rate) && client.is_none_or(of_client)
    }

    /// Counts an unknown token of the caller and its client.
    pub fn count(&self, caller: CallerId, client: Option<IpAddr>) {
        self.take_one(&self.callers, caller, self.rate);
        if let Some(ip) = client {
            let key = (caller, network(ip));
            self.take_one(&self.clients, key, self.share);
        }
    }

    /// Whether the token of this digest may have another workspace looked up now.
    pub fn admits_workspace(&self, token: &Digest) -> bool {
        self.has_room(&self.credentials, token, self.share)
    }

    /// Counts a workspace in which the token of this digest has no role.
    pub fn count_workspace(&self, token: &Digest) {
        self.take_one(&self.credentials, *token, self.share);
    }

    /// Whether a service token from this network may be looked up now.
    pub fn admits_network(&self, network: IpAddr) -> bool {
        self.has_room(&self.networks, &network, self.rate)
    }

    /// Counts an unknown service token from this network.
    pub fn count_network(&self, network: IpAddr) {
        self.take_one(&self.networks, network, self.rate);
    }

    fn has_room<K: Hash + Eq>(&self, counts: &Counts<K>, key: &K, rate: Rate) -> bool {
        let bucket = counts.get(key, bucket_of);
        bucket.is_none_or(|bucket| bucket.has_room(self.boot.since_boot(), rate))
    }

    fn take_one<K: Hash + Eq>(&self, counts: &Counts<K>, key: K, rate: Rate) {
        if rate.interval.is_zero() {
            return;
        }
        let bucket = counts.get(&key, bucket_of).unwrap_or_else(|| {
            let new = Arc::new(Bucket::default());
            counts.insert_if((key, Arc::clone(&new)), || true);
            new
        });
        bucket.take(self.boot.since_boot(), rate);
    }
}

fn bucket_of<K>((_, bucket): &(K, Arc<Bucket>)) -> Arc<Bucket> {
    Arc::clone(bucket)
}
