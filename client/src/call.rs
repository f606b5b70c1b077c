//! Calls to the service: authentication of the caller, deadlines and retries.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};
use tower::retry::backoff::{
    Backoff as _, ExponentialBackoff, ExponentialBackoffMaker, MakeBackoff as _,
};
use tower::retry::budget::{Budget as _, TpsBudget};
use tower::util::rng::HasherRng;

use crate::error::Error;
use crate::observe::{Event, Observer};

/// Adds the caller's token to each call.
#[derive(Clone)]
pub struct Caller(pub(crate) Option<MetadataValue<Ascii>>);

impl Interceptor for Caller {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(bearer) = &self.0 {
            request.metadata_mut().insert("authorization", bearer.clone());
        }
        Ok(request)
    }
}

/// A channel that authenticates each call.
pub type Authenticated = InterceptedService<Channel, Caller>;

/// Whether a failed call may be retried, even though the service may have carried it out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Idempotency {
    /// The second call changes nothing.
    Idempotent,
    /// The second call would repeat the work.
    NotIdempotent,
}

impl Idempotency {
    /// A call with a `request_id` creates one credential at most. Without one, a retry may create a second.
    pub(crate) fn by_request_id(request_id: &str) -> Self {
        if request_id.is_empty() { Self::NotIdempotent } else { Self::Idempotent }
    }
}

/// State that all calls share.
pub(crate) struct Calls {
    /// Retry budget: one retry for ten calls, and ten a second in any case. It keeps retries from overloading a service
    /// that recovers from an outage.
    budget: TpsBudget,
    attempts_max: u32,
    observer: Option<Arc<dyn Observer>>,
}

impl Calls {
    pub(crate) fn new(attempts_max: u32, observer: Option<Arc<dyn Observer>>) -> Self {
        Self { budget: TpsBudget::new(Duration::from_secs(10), 10, 0.1), attempts_max, observer }
    }

    pub(crate) fn notify(&self, event: Event) {
        if let Some(observer) = &self.observer {
            observer.observe(event);
        }
    }

    /// Makes a call. Retries it while it is idempotent, the service is unavailable, and attempts, budget and time are
    /// left.
    pub(crate) async fn make<M, R, F>(
        &self,
        method: &'static str,
        message: M,
        idempotency: Idempotency,
        timeout: Duration,
        call: impl Fn(Request<M>) -> F,
    ) -> Result<R, Error>
    where
        M: Clone,
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let deadline = Instant::now() + timeout;
        let mut backoff = backoff(Duration::from_millis(50), Duration::from_secs(1));
        self.budget.deposit();
        for attempt in 1.. {
            let started = Instant::now();
            let mut request = Request::new(message.clone());
            request.set_timeout(deadline.saturating_duration_since(started));
            let outcome = tokio::time::timeout_at(deadline, call(request)).await;
            let code = match &outcome {
                Ok(Ok(_)) => Code::Ok,
                Ok(Err(status)) => status.code(),
                Err(_) => Code::DeadlineExceeded,
            };
            self.notify(Event::Called { method, code, took: started.elapsed() });
            let error = match outcome {
                Ok(Ok(response)) => return Ok(response.into_inner()),
                Ok(Err(status)) => Error::from(status),
                Err(_) => return Err(Error::deadline()),
            };
            let may = idempotency == Idempotency::Idempotent
                && error.kind() == crate::ErrorKind::Unavailable
                && attempt < self.attempts_max
                && self.budget.withdraw();
            if !may {
                return Err(error);
            }
            // The delay that the service asks for is better than a guess. The backoff is added to keep callers apart.
            let asked = error.retry_after().unwrap_or(Duration::ZERO);
            if Instant::now() + asked >= deadline {
                return Err(error);
            }
            let wait = async {
                tokio::join!(tokio::time::sleep(asked), backoff.next_backoff());
            };
            if tokio::time::timeout_at(deadline, wait).await.is_err() {
                return Err(error);
            }
            self.notify(Event::Retried { method });
        }
        Err(Error::deadline())
    }
}

/// Returns an exponential backoff with a jitter of 50 %.
pub(crate) fn backoff(min: Duration, max: Duration) -> ExponentialBackoff<HasherRng> {
    // It fails only if the bounds are out of order or the jitter is not a number.
    ExponentialBackoffMaker::new(min, max, 0.5, HasherRng::default())
        .expect("the bounds are constants in order")
        .make_backoff()
}
