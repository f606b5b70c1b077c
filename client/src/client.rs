//! The client: introspection, from the cache where a cached answer is as good as a new one.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sophic_auth_protocol::token::digest_of_presented;
use tokio::task::JoinHandle;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};

use crate::cache::{Cache, KeyRef};
use crate::call::{Authenticated, Caller, Calls, Idempotency};
use crate::clock::BootInstant;
use crate::config::Builder;
use crate::error::{Error, ErrorKind};
use crate::in_flight::{CallFuture, InFlightCalls, JoinOutcome, await_outcome};
use crate::introspection::Introspection;
use crate::observe::Event;
use crate::pb::auth_service_client::AuthServiceClient;
use crate::pb::{BatchIntrospectRequest, IntrospectRequest};
use crate::presented::Presented;
use crate::{Scopes, watch};

/// Longer names cannot be workspace names, so their answers are not cached.
const WORKSPACE_BYTES_MAX: usize = 64;

/// Client of the service. Cheap to clone: clones share the connection and the cache.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    link: Link,
    cache: Option<Arc<Cache>>,
    in_flight: InFlightCalls,
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

/// Connection to the service, with everything that a call needs.
#[derive(Clone)]
pub(crate) struct Link {
    channel: Channel,
    caller: Caller,
    pub(crate) calls: Arc<Calls>,
    timeout: Duration,
    pub(crate) management_timeout: Duration,
}

impl Link {
    /// Returns the generated client of `AuthService`.
    pub(crate) fn auth(&self) -> AuthServiceClient<Authenticated> {
        AuthServiceClient::with_interceptor(self.channel.clone(), self.caller.clone())
    }

    pub(crate) fn channel(&self) -> (Channel, Caller) {
        (self.channel.clone(), self.caller.clone())
    }

    async fn introspect(
        &self,
        request: IntrospectRequest,
        required_scopes: Scopes,
    ) -> Result<Introspection, Error> {
        let auth = self.auth();
        let call = |request| {
            let mut auth = auth.clone();
            async move { auth.introspect(request).await }
        };
        let response =
            self.calls.make("Introspect", request, Idempotency::Idempotent, self.timeout, call);
        Ok(Introspection::new(response.await?, required_scopes))
    }
}

impl Client {
    /// Returns a builder for a client of the service at this URL, such as `https://auth.internal:7431`.
    pub fn builder(endpoint: impl Into<String>) -> Builder {
        Builder::new(endpoint)
    }

    /// Returns a builder for a client of the service at `SOPHIC_AUTH_ENDPOINT`, with the caller token in
    /// `SOPHIC_AUTH_CALLER_TOKEN`.
    ///
    /// # Errors
    /// Fails if the endpoint is not set.
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
        let in_flight = InFlightCalls::default();
        Self(Arc::new(Inner { link, cache, in_flight, imported: builder.imported, watch }))
    }

    pub(crate) fn link(&self) -> &Link {
        &self.0.link
    }

    /// Returns whose token it is, and whether it may do what it is presented for. A bad token is an answer, not an
    /// error.
    ///
    /// Dropping the future does not cancel the call if other requests wait for the same answer.
    ///
    /// # Errors
    /// Fails if the service is unavailable, or refuses this caller. Then the token's validity is unknown: refuse the
    /// request.
    pub async fn introspect(&self, presented: &Presented<'_>) -> Result<Introspection, Error> {
        let digest = match self.answer_offline(presented) {
            Ok(digest) => digest,
            Err(refusal) => return Ok(refusal),
        };
        let inner = &self.0;
        let fits = !presented.fresh && presented.workspace.len() <= WORKSPACE_BYTES_MAX;
        let Some(cache) = inner.cache.as_ref().filter(|_| fits) else {
            return inner.link.introspect(presented.to_request(), presented.required_scopes).await;
        };
        let key = key(&digest, presented);
        let now = BootInstant::now();
        if let Some(answer) = cache.get(&key, presented.at_least_revision, now) {
            inner.link.calls.notify(Event::Hit);
            return Ok(answer);
        }
        match self.ask(cache, &key, presented, now).await {
            Err(error) if error.is_outage() && presented.at_least_revision == 0 => {
                let answer = cache.get_bridging(&key, BootInstant::now()).ok_or(error)?;
                inner.link.calls.notify(Event::Bridged);
                Ok(answer)
            }
            outcome => outcome,
        }
    }

    /// Returns the answer if the cache has one that is as good as a new one. Never waits.
    pub fn introspect_cached(&self, presented: &Presented<'_>) -> Option<Introspection> {
        let digest = match self.answer_offline(presented) {
            Ok(digest) => digest,
            Err(refusal) => return Some(refusal),
        };
        let cache = self.0.cache.as_ref().filter(|_| !presented.fresh)?;
        let answer =
            cache.get(&key(&digest, presented), presented.at_least_revision, BootInstant::now())?;
        self.0.link.calls.notify(Event::Hit);
        Some(answer)
    }

    /// Introspects up to 1,000 tokens in one call, which bypasses the client's cache. The answers are in the order of
    /// the questions.
    ///
    /// The service does not look up further tokens of a caller that has asked about too many unknown ones. It refuses
    /// each with [`Denial::UnknownTokensTooMany`](crate::Denial::UnknownTokensTooMany), status 429. That says nothing
    /// about the token. Ask again later.
    ///
    /// # Errors
    /// As for [`introspect`](Self::introspect).
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
        let made = link.calls.make(
            "BatchIntrospect",
            request,
            Idempotency::Idempotent,
            link.timeout,
            call,
        );
        let responses = made.await?.responses;
        if responses.len() == presented.len() {
            let answers = responses.into_iter().zip(presented);
            Ok(answers
                .map(|(response, asked)| Introspection::new(response, asked.required_scopes))
                .collect())
        } else {
            Err(Error::plain(
                ErrorKind::Internal,
                "the number of answers is not the number of tokens in the batch",
            ))
        }
    }

    /// Whether the cache can answer at present.
    pub fn is_watching(&self) -> bool {
        self.0.cache.as_ref().is_some_and(|cache| BootInstant::now() < cache.fresh_until())
    }

    /// Returns the digest to look up, or the answer if no call is needed: no token was presented, or the text cannot be
    /// a token.
    fn answer_offline(&self, presented: &Presented<'_>) -> Result<[u8; 32], Introspection> {
        if presented.token.is_empty() {
            return Err(Introspection::missing().for_scopes(presented.required_scopes));
        }
        digest_of_presented(presented.token, self.0.imported).ok_or_else(|| {
            self.0.link.calls.notify(Event::Malformed);
            Introspection::unknown().for_scopes(presented.required_scopes)
        })
    }

    /// Asks the service, or waits for a call in flight with the same question.
    async fn ask(
        &self,
        cache: &Arc<Cache>,
        key: &KeyRef<'_>,
        presented: &Presented<'_>,
        now: BootInstant,
    ) -> Result<Introspection, Error> {
        let inner = &self.0;
        if presented.at_least_revision > 0 {
            inner.link.calls.notify(Event::Miss);
            return inner.link.introspect(presented.to_request(), presented.required_scopes).await;
        }
        let started = cache.begin_fill(now);
        let fill = || -> CallFuture {
            let (link, cache, key) = (inner.link.clone(), Arc::clone(cache), key.to_key());
            let (request, scopes) = (presented.to_request(), presented.required_scopes);
            Box::pin(async move {
                let answer = link.introspect(request, scopes).await?;
                cache.insert(key, answer.clone(), &started);
                Ok(answer)
            })
        };
        let may_join = |other: &_| cache.may_join(other, now);
        let look_up_again = || cache.get(key, 0, now);
        let receiver =
            match inner.in_flight.join_or_start(key, started, may_join, look_up_again, fill) {
                JoinOutcome::Answered(answer) => {
                    inner.link.calls.notify(Event::Hit);
                    return Ok(answer);
                }
                JoinOutcome::Joined(receiver) => {
                    inner.link.calls.notify(Event::Joined);
                    receiver
                }
                JoinOutcome::Started(receiver) => {
                    inner.link.calls.notify(Event::Miss);
                    receiver
                }
            };
        await_outcome(receiver).await
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
