//! Making calls: who calls, how long a call may take, and when it may be made again.

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

/// Puts the caller's token into each call.
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

/// A channel on which each call says who calls.
pub type Authenticated = InterceptedService<Channel, Caller>;

/// Whether a call that failed may be made once more, though it may have been carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Again {
    /// It changes nothing, or nothing more the second time.
    Safe,
    /// It would do its work twice.
    Never,
}

impl Again {
    /// A call with this `request_id` makes no second credential; one without may.
    pub(crate) fn with(request_id: &str) -> Self {
        if request_id.is_empty() { Self::Never } else { Self::Safe }
    }
}

/// What all calls share.
pub(crate) struct Calls {
    /// Of ten calls one may be made again, and ten a second in any case: a service that comes up after an outage must not
    /// meet a storm.
    budget: TpsBudget,
    attempts_max: u32,
    observer: Option<Arc<dyn Observer>>,
}

impl Calls {
    pub(crate) fn new(attempts_max: u32, observer: Option<Arc<dyn Observer>>) -> Self {
        Self { budget: TpsBudget::new(Duration::from_secs(10), 10, 0.1), attempts_max, observer }
    }

    pub(crate) fn tell(&self, event: Event) {
        if let Some(observer) = &self.observer {
            observer.observe(event);
        }
    }

    /// Makes a call, and makes it again while that is safe, the service is out of reach, and there is time.
    pub(crate) async fn make<M, R, F>(
        &self,
        method: &'static str,
        message: M,
        again: Again,
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
            let begun = Instant::now();
            let mut request = Request::new(message.clone());
            request.set_timeout(deadline.saturating_duration_since(begun));
            let outcome = tokio::time::timeout_at(deadline, call(request)).await;
            let code = match &outcome {
                Ok(Ok(_)) => Code::Ok,
                Ok(Err(status)) => status.code(),
                Err(_) => Code::DeadlineExceeded,
            };
            self.tell(Event::Called { method, code, took: begun.elapsed() });
            let error = match outcome {
                Ok(Ok(response)) => return Ok(response.into_inner()),
                Ok(Err(status)) => Error::from(status),
                Err(_) => return Err(Error::deadline()),
            };
            let may = again == Again::Safe
                && error.kind() == crate::ErrorKind::Unavailable
                && attempt < self.attempts_max
                && self.budget.withdraw();
            if !may {
                return Err(error);
            }
            // The service knows better than a guess when it will be back; the guess adds what keeps callers apart.
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
            self.tell(Event::Retried { method });
        }
        Err(Error::deadline())
    }
}

/// Waits that double, with half as much again by chance.
pub(crate) fn backoff(min: Duration, max: Duration) -> ExponentialBackoff<HasherRng> {
    // It refuses only a least wait above the most, or a share of chance that is no number.
    ExponentialBackoffMaker::new(min, max, 0.5, HasherRng::default())
        .expect("the bounds are constants in order")
        .make_backoff()
}
