//! How many tokens that nobody knows a caller may have looked up: a flood of made-up ones must not keep the store from
//! those who present real ones. What is in memory is answered all the same. Service tokens that nobody knows are counted
//! by the network address that they come from, since their sender is nobody either; and workspaces where a real token has no
//! role, by that token, since its holder may name whatever they like.
//!
//! What [`Lookup::may_know`](crate::cache::Lookup::may_know) says may be somebody's is no matter of these counts.

use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::cache::ClockMap;
use crate::model::limits::{COUNTED_CALLERS_MAX, COUNTED_PEERS_MAX};
use crate::model::{BootClock, CallerId, Digest};
use crate::service::bucket::{Bucket, Rate};
use crate::service::edge::network;

/// One client of a caller, where its address is known, may have this part of the caller's rate, and so may one credential with
/// the workspaces that it names: so one client who makes things up does not use up what the others have.
const CLIENT_SHARE: u32 = 10;
/// A caller that was quiet may present this much at once.
const BURST: Duration = Duration::from_secs(1);

/// Counts by caller, or by network, on time since boot.
pub struct UnknownRate {
    /// Of a caller, and of a network.
    rate: Rate,
    /// Of one client, and of one credential: no slower than one a second.
    share: Rate,
    boot: Arc<dyn BootClock>,
    callers: Counts<CallerId>,
    /// By the network of a caller's client.
    clients: Counts<(CallerId, IpAddr)>,
    networks: Counts<IpAddr>,
    /// By the digest of a token that names workspaces.
    credentials: Counts<Digest>,
}

type Counts<K> = ClockMap<(K, Arc<Bucket>)>;

impl UnknownRate {
    /// So many a second; 0: no limit.
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

    /// Whether the caller may have something looked up now, for a client at this address, if it says.
    pub fn admits(&self, caller: CallerId, client: Option<IpAddr>) -> bool {
        let of_client = |ip| self.admits_one(&self.clients, &(caller, network(ip)), self.share);
        self.admits_one(&self.callers, &caller, self.rate) && client.is_none_or(of_client)
    }

    /// What the caller had looked up for this client was unknown.
    pub fn count(&self, caller: CallerId, client: Option<IpAddr>) {
        self.count_one(&self.callers, caller, self.rate);
        if let Some(ip) = client {
            let key = (caller, network(ip));
            self.count_one(&self.clients, key, self.share);
        }
    }

    /// Whether the token of this digest may have another workspace looked up now.
    pub fn admits_workspace(&self, token: &Digest) -> bool {
        self.admits_one(&self.credentials, token, self.share)
    }

    /// A workspace that this token had looked up is none where it has a role.
    pub fn count_workspace(&self, token: &Digest) {
        self.count_one(&self.credentials, *token, self.share);
    }

    /// Whether a service token from this network may be looked up now.
    pub fn admits_network(&self, network: IpAddr) -> bool {
        self.admits_one(&self.networks, &network, self.rate)
    }

    /// A service token that this network had looked up was unknown.
    pub fn count_network(&self, network: IpAddr) {
        self.count_one(&self.networks, network, self.rate);
    }

    fn admits_one<K: Hash + Eq>(&self, counts: &Counts<K>, key: &K, rate: Rate) -> bool {
        let bucket = counts.get(key, shared);
        bucket.is_none_or(|bucket| bucket.has_room(self.boot.since_boot(), rate))
    }

    fn count_one<K: Hash + Eq>(&self, counts: &Counts<K>, key: K, rate: Rate) {
        if rate.interval.is_zero() {
            return;
        }
        let bucket = counts.get(&key, shared).unwrap_or_else(|| {
            let new = Arc::new(Bucket::default());
            counts.insert_if((key, Arc::clone(&new)), || true);
            new
        });
        bucket.take(self.boot.since_boot(), rate);
    }
}

fn shared<K>((_, bucket): &(K, Arc<Bucket>)) -> Arc<Bucket> {
    Arc::clone(bucket)
}
