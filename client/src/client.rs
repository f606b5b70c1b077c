//! The client: introspection, from memory where that is as good as asking.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sophic_auth_protocol::token::digest_of_presented;
use tokio::task::JoinHandle;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};

use crate::cache::{Cache, KeyRef};
use crate::call::{Again, Authenticated, Caller, Calls};
use crate::clock::Moment;
use crate::config::Builder;
use crate::error::{Error, ErrorKind};
use crate::flights::{Boarding, CallFuture, Flights, landed};
use crate::introspection::Introspection;
use crate::observe::Event;
use crate::pb::auth_service_client::AuthServiceClient;
use crate::pb::{BatchIntrospectRequest, IntrospectRequest};
use crate::presented::Presented;
use crate::watch;

/// A longer name is no workspace's, and is not worth remembering.
const WORKSPACE_BYTES_MAX: usize = 64;

/// Asks the service. Cheap to clone: clones share connection and memory.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    link: Link,
    cache: Option<Arc<Cache>>,
    flights: Flights,
    imported: bool,
    watch: Option<JoinHandle<()>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(watch) = &self.watch {
            watch.abort();
        }
    }
}

/// What it takes to make a call.
#[derive(Clone)]
pub(crate) struct Link {
    channel: Channel,
    caller: Caller,
    pub(crate) calls: Arc<Calls>,
    timeout: Duration,
    pub(crate) management_timeout: Duration,
}

impl Link {
    /// The generated client of `AuthService`.
    pub(crate) fn auth(&self) -> AuthServiceClient<Authenticated> {
        AuthServiceClient::with_interceptor(self.channel.clone(), self.caller.clone())
    }

    pub(crate) fn channel(&self) -> (Channel, Caller) {
        (self.channel.clone(), self.caller.clone())
    }

    async fn introspect(&self, request: IntrospectRequest) -> Result<Introspection, Error> {
        let auth = self.auth();
        let call = |request| {
            let mut auth = auth.clone();
            async move { auth.introspect(request).await }
        };
        let response = self.calls.make("Introspect", request, Again::Safe, self.timeout, call);
        Ok(Introspection::new(response.await?))
    }
}

impl Client {
    /// A client of the service at this URL, as `https://auth.internal:7431`.
    pub fn builder(endpoint: impl Into<String>) -> Builder {
        Builder::new(endpoint)
    }

    /// A client of the service that `SOPHIC_AUTH_ENDPOINT` names, as the caller whose token `SOPHIC_AUTH_CALLER_TOKEN` is.
    ///
    /// # Errors
    /// If the endpoint is not set.
    pub fn from_env() -> Result<Builder, Error> {
        Builder::from_env()
    }

    pub(crate) fn start(
        endpoint: &Endpoint,
        bearer: Option<MetadataValue<Ascii>>,
        builder: Builder,
    ) -> Self {
        let caller = Caller(bearer);
        let calls = Arc::new(Calls::new(builder.attempts_max, builder.observer));
        let cache = builder.cache.map(|limits| Arc::new(Cache::new(limits)));
        let watch = cache.as_ref().map(|cache| {
            let (cache, calls) = (Arc::clone(cache), Arc::clone(&calls));
            let watching = watch::run(endpoint.clone(), caller.clone(), cache, calls);
            #[expect(clippy::disallowed_methods, reason = "it is aborted with the last client")]
            tokio::spawn(watching)
        });
        let link = Link {
            channel: endpoint.connect_lazy(),
            caller,
            calls,
            timeout: builder.timeout,
            management_timeout: builder.management_timeout,
        };
        let flights = Flights::default();
        Self(Arc::new(Inner { link, cache, flights, imported: builder.imported, watch }))
    }

    pub(crate) fn link(&self) -> &Link {
        &self.0.link
    }

    /// Says whose token it is, and whether it may do what it is presented for. A bad token is an answer, not an error.
    ///
    /// Dropping the future leaves the call to others who wait for the same.
    ///
    /// # Errors
    /// If the service cannot be asked, or does not let this caller ask. Then nobody knows: refuse.
    pub async fn introspect(&self, presented: &Presented<'_>) -> Result<Introspection, Error> {
        let digest = match self.off_line(presented) {
            Ok(digest) => digest,
            Err(refusal) => return Ok(refusal),
        };
        let inner = &self.0;
        let fits = !presented.fresh && presented.workspace.len() <= WORKSPACE_BYTES_MAX;
        let Some(cache) = inner.cache.as_ref().filter(|_| fits) else {
            return inner.link.introspect(presented.to_request()).await;
        };
        let key = key(&digest, presented);
        let now = Moment::now();
        if let Some(answer) = cache.get(&key, presented.at_least_revision, now) {
            inner.link.calls.tell(Event::Hit);
            return Ok(answer);
        }
        match self.ask(cache, &key, presented, now).await {
            Err(error) if error.is_outage() && presented.at_least_revision == 0 => {
                let answer = cache.get_bridging(&key, Moment::now()).ok_or(error)?;
                inner.link.calls.tell(Event::Bridged);
                Ok(answer)
            }
            outcome => outcome,
        }
    }

    /// The answer, if it is in memory and as good as asking. Does not wait for anything.
    pub fn introspect_cached(&self, presented: &Presented<'_>) -> Option<Introspection> {
        let digest = match self.off_line(presented) {
            Ok(digest) => digest,
            Err(refusal) => return Some(refusal),
        };
        let cache = self.0.cache.as_ref().filter(|_| !presented.fresh)?;
        let answer =
            cache.get(&key(&digest, presented), presented.at_least_revision, Moment::now())?;
        self.0.link.calls.tell(Event::Hit);
        Some(answer)
    }

    /// Asks several at once, in one call past this client's memory, and answers in their order. At most 1,000.
    ///
    /// One that the service did not look up, since this caller has asked about too many tokens that nobody knows, is refused in
    /// its place: [`Denial::UnknownTokensTooMany`](crate::Denial::UnknownTokensTooMany), status 429. It says nothing of the
    /// token: ask again in a moment.
    ///
    /// # Errors
    /// As [`introspect`](Self::introspect).
    pub async fn introspect_batch(
        &self,
        presented: &[Presented<'_>],
    ) -> Result<Vec<Introspection>, Error> {
        let link = &self.0.link;
        let requests = presented.iter().map(|presented| presented.to_request()).collect();
        let auth = link.auth();
        let call = |request| {
            let mut auth = auth.clone();
            async move { auth.batch_introspect(request).await }
        };
        let request = BatchIntrospectRequest { requests };
        let made = link.calls.make("BatchIntrospect", request, Again::Safe, link.timeout, call);
        let responses = made.await?.responses;
        if responses.len() == presented.len() {
            Ok(responses.into_iter().map(Introspection::new).collect())
        } else {
            Err(Error::plain(ErrorKind::Internal, "the batch was not answered one by one"))
        }
    }

    /// Whether answers may come from memory just now.
    pub fn is_watching(&self) -> bool {
        self.0.cache.as_ref().is_some_and(|cache| Moment::now() < cache.fresh_until())
    }

    /// What can be said without the service: nothing presented, or what cannot be a token.
    fn off_line(&self, presented: &Presented<'_>) -> Result<[u8; 32], Introspection> {
        if presented.token.is_empty() {
            return Err(Introspection::missing());
        }
        digest_of_presented(presented.token, self.0.imported).ok_or_else(|| {
            self.0.link.calls.tell(Event::Malformed);
            Introspection::unknown()
        })
    }

    /// Asks the service, together with whoever asks the same.
    async fn ask(
        &self,
        cache: &Arc<Cache>,
        key: &KeyRef<'_>,
        presented: &Presented<'_>,
        now: Moment,
    ) -> Result<Introspection, Error> {
        let inner = &self.0;
        if presented.at_least_revision > 0 {
            inner.link.calls.tell(Event::Miss);
            return inner.link.introspect(presented.to_request()).await;
        }
        let begun = cache.begin(now);
        let fill = || -> CallFuture {
            let (link, cache, key) = (inner.link.clone(), Arc::clone(cache), key.to_key());
            let request = presented.to_request();
            Box::pin(async move {
                let answer = link.introspect(request).await?;
                cache.keep(key, answer.clone(), &begun);
                Ok(answer)
            })
        };
        let may_join = |theirs: &_| cache.may_join(theirs, now);
        let look_again = || cache.get(key, 0, now);
        let landing = match inner.flights.board(key, begun, may_join, look_again, fill) {
            Boarding::Landed(answer) => {
                inner.link.calls.tell(Event::Hit);
                return Ok(answer);
            }
            Boarding::Joined(landing) => {
                inner.link.calls.tell(Event::Joined);
                landing
            }
            Boarding::Began(landing) => {
                inner.link.calls.tell(Event::Miss);
                landing
            }
        };
        landed(landing).await
    }
}

fn key<'a>(digest: &'a [u8; 32], presented: &Presented<'a>) -> KeyRef<'a> {
    KeyRef {
        digest,
        workspace: presented.workspace,
        scopes: presented.required_scopes.bits(),
        client_ip: presented.client_ip,
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("watching", &self.is_watching()).finish_non_exhaustive()
    }
}
