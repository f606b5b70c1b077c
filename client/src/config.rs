//! How a client is set up.

use std::sync::Arc;
use std::time::Duration;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use crate::TokenKind;
use crate::cache::CacheLimits;
use crate::client::Client;
use crate::error::Error;
use crate::observe::Observer;

/// Where the service is.
pub const ENDPOINT_VARIABLE: &str = "SOPHIC_AUTH_ENDPOINT";
/// The caller's service token.
pub const CALLER_TOKEN_VARIABLE: &str = "SOPHIC_AUTH_CALLER_TOKEN";

/// Sets up a [`Client`]. `Debug` shows no secret.
#[must_use]
pub struct Builder {
    endpoint: String,
    caller_token: Option<String>,
    identity: Option<Identity>,
    ca: Option<Certificate>,
    insecure: bool,
    pub(crate) timeout: Duration,
    pub(crate) management_timeout: Duration,
    pub(crate) attempts_max: u32,
    pub(crate) imported: bool,
    pub(crate) cache: Option<CacheLimits>,
    pub(crate) observer: Option<Arc<dyn Observer>>,
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder")
            .field("endpoint", &self.endpoint)
            .field("cache", &self.cache)
            .finish_non_exhaustive()
    }
}

const CACHE: CacheLimits = CacheLimits {
    answers_max: 10_000,
    checkpoint_max: Duration::from_secs(3),
    unknown_ttl: Duration::from_secs(1),
    bridge_outage: Duration::ZERO,
};

impl Builder {
    pub(crate) fn new(endpoint: impl Into<String>) -> Self {
        Self {
            endpoint: endpoint.into(),
            caller_token: None,
            identity: None,
            ca: None,
            insecure: false,
            timeout: Duration::from_secs(5),
            management_timeout: Duration::from_secs(30),
            attempts_max: 4,
            imported: false,
            cache: Some(CACHE),
            observer: None,
        }
    }

    pub(crate) fn from_env() -> Result<Self, Error> {
        let endpoint = std::env::var(ENDPOINT_VARIABLE)
            .map_err(|_| Error::config(format!("{ENDPOINT_VARIABLE} is not set")))?;
        let builder = Self::new(endpoint);
        Ok(match std::env::var(CALLER_TOKEN_VARIABLE) {
            Ok(token) => builder.caller_token(token),
            Err(_) => builder,
        })
    }

    /// Says who calls, by its service token (`sophic_svc_...`).
    pub fn caller_token(self, token: impl Into<String>) -> Self {
        Self { caller_token: Some(token.into()), ..self }
    }

    /// Says who calls, by a client certificate and its key, in PEM.
    pub fn client_certificate(self, certificate: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Self {
        Self { identity: Some(Identity::from_pem(certificate, key)), ..self }
    }

    /// Believes certificates that this CA signed, in PEM, in place of those that browsers believe.
    pub fn ca_certificate(self, certificate: impl AsRef<[u8]>) -> Self {
        Self { ca: Some(Certificate::from_pem(certificate)), ..self }
    }

    /// Sends tokens in the clear beyond loopback: only where the network itself is protected.
    pub fn insecure(self, insecure: bool) -> Self {
        Self { insecure, ..self }
    }

    /// How long an introspection may take, with all tries; 5 s.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// How long any other call may take; 30 s, for one that takes something away returns only when no replica can answer as
    /// before, and a replica that died without a word is waited for.
    pub fn management_timeout(self, management_timeout: Duration) -> Self {
        Self { management_timeout, ..self }
    }

    /// How often a call is made at the most, that may be made again and finds the service out of reach; 4.
    pub fn attempts_max(self, attempts_max: u32) -> Self {
        Self { attempts_max: attempts_max.max(1), ..self }
    }

    /// Asks about tokens that do not look like ours too, as the service does with `--accept-imported-tokens`.
    pub fn accept_imported_tokens(self, imported: bool) -> Self {
        Self { imported, ..self }
    }

    /// Remembers nothing, and follows no changes: each introspection is a call.
    pub fn without_cache(self) -> Self {
        Self { cache: None, ..self }
    }

    /// How many answers to remember; 10,000. Refusals of unknown tokens are remembered apart from them, as many again.
    pub fn answers_max(self, answers_max: usize) -> Self {
        self.cached(|cache| cache.answers_max = answers_max.max(1))
    }

    /// How old the last checkpoint may be for an answer from memory; 3 s. A token that was revoked is refused no later than
    /// this after, even if every word of it is lost. The service sends a checkpoint each second: below 2 s the cache would
    /// be blind at times.
    pub fn checkpoint_max(self, checkpoint_max: Duration) -> Self {
        self.cached(|cache| cache.checkpoint_max = checkpoint_max)
    }

    /// How long to remember that a token is unknown; 1 s.
    pub fn unknown_ttl(self, unknown_ttl: Duration) -> Self {
        self.cached(|cache| cache.unknown_ttl = unknown_ttl)
    }

    /// While the service is out of reach, goes on answering what was good when it was last heard of, for so long after the
    /// last checkpoint grew too old, and says so: [`Introspection::is_stale`](crate::Introspection::is_stale). Never past
    /// an answer's own lifetime. By default it does not, for nobody can know what was revoked meanwhile.
    pub fn bridge_outage(self, bridge_outage: Duration) -> Self {
        self.cached(|cache| cache.bridge_outage = bridge_outage)
    }

    /// Tells this of what happens.
    pub fn observer(self, observer: Arc<dyn Observer>) -> Self {
        Self { observer: Some(observer), ..self }
    }

    fn cached(mut self, change: impl FnOnce(&mut CacheLimits)) -> Self {
        change(self.cache.get_or_insert(CACHE));
        self
    }

    /// The client. It connects when it is first used, or at once for Watch, and again by itself whenever it has to; so this
    /// fails only if it never could. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config).
    pub fn build(self) -> Result<Client, Error> {
        let endpoint = self.to_endpoint()?;
        let bearer = self.caller_token.as_deref().map(bearer).transpose()?;
        if bearer.is_none() && self.identity.is_none() {
            return Err(Error::config("neither a caller token nor a client certificate is given"));
        }
        Ok(Client::start(&endpoint, bearer, self))
    }

    fn to_endpoint(&self) -> Result<Endpoint, Error> {
        let endpoint = Endpoint::from_shared(self.endpoint.clone())
            .map_err(|_| Error::config("the endpoint is not a URL, as http://127.0.0.1:7431"))?;
        let host = endpoint.uri().host().unwrap_or_default().to_owned();
        let endpoint = endpoint
            .connect_timeout(Duration::from_secs(2))
            .http2_keep_alive_interval(Duration::from_secs(5))
            .keep_alive_timeout(Duration::from_secs(3))
            .keep_alive_while_idle(true)
            .tcp_nodelay(true);
        match endpoint.uri().scheme_str() {
            Some("https") => {
                let tls = match &self.ca {
                    Some(ca) => ClientTlsConfig::new().ca_certificate(ca.clone()),
                    None => ClientTlsConfig::new().with_webpki_roots(),
                };
                let tls = match &self.identity {
                    Some(identity) => tls.identity(identity.clone()),
                    None => tls,
                };
                endpoint
                    .tls_config(tls)
                    .map_err(|_| Error::config("the CA or client certificate or key does not load"))
            }
            Some("http") if self.insecure || is_loopback(&host) => Ok(endpoint),
            Some("http") => Err(Error::config(
                "the endpoint is in the clear and not a loopback address: tokens could be read on the way. \
                 Use https, or insecure(true) if the network itself is protected",
            )),
            _ => Err(Error::config("the endpoint must begin with http:// or https://")),
        }
    }
}

fn is_loopback(host: &str) -> bool {
    let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
}

fn bearer(token: &str) -> Result<MetadataValue<Ascii>, Error> {
    let malformed = || Error::config("the caller token is not a well-formed sophic_svc_ token");
    if TokenKind::parse(token) != Some(TokenKind::Service) {
        return Err(malformed());
    }
    let mut value: MetadataValue<Ascii> =
        format!("Bearer {token}").parse().map_err(|_| malformed())?;
    value.set_sensitive(true);
    Ok(value)
}
