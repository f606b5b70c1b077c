//! Configuration of a client.

use std::sync::Arc;
use std::time::Duration;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use crate::TokenKind;
use crate::cache::CacheLimits;
use crate::client::Client;
use crate::error::Error;
use crate::observe::Observer;

/// Variable with the URL of the service.
pub const ENDPOINT_VARIABLE: &str = "SOPHIC_AUTH_ENDPOINT";
/// Variable with the caller's service token.
pub const CALLER_TOKEN_VARIABLE: &str = "SOPHIC_AUTH_CALLER_TOKEN";

/// Builder of a [`Client`]. Its `Debug` shows no secret.
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

    /// Authenticates the caller by its service token (`sophic_svc_...`).
    pub fn caller_token(self, token: impl Into<String>) -> Self {
        Self { caller_token: Some(token.into()), ..self }
    }

    /// Authenticates the caller by a client certificate and its key, in PEM.
    pub fn client_certificate(self, certificate: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Self {
        Self { identity: Some(Identity::from_pem(certificate, key)), ..self }
    }

    /// Trusts certificates that this CA signed, in PEM, in place of the public CAs.
    pub fn ca_certificate(self, certificate: impl AsRef<[u8]>) -> Self {
        Self { ca: Some(Certificate::from_pem(certificate)), ..self }
    }

    /// Allows plaintext connections beyond loopback. Use it only if the network itself is protected.
    pub fn insecure(self, insecure: bool) -> Self {
        Self { insecure, ..self }
    }

    /// Deadline of an introspection, including retries. The default is 5 s.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Deadline of any other call. The default is 30 s, because a call that narrows access returns only when no replica
    /// can answer as before, and waits for a crashed replica's lease to expire.
    pub fn management_timeout(self, management_timeout: Duration) -> Self {
        Self { management_timeout, ..self }
    }

    /// Maximum number of attempts of an idempotent call while the service is unavailable, including the first. The default is 4.
    pub fn attempts_max(self, attempts_max: u32) -> Self {
        Self { attempts_max: attempts_max.max(1), ..self }
    }

    /// Also asks about tokens of other systems, as a service with `--accept-imported-tokens` does.
    pub fn accept_imported_tokens(self, imported: bool) -> Self {
        Self { imported, ..self }
    }

    /// Disables the cache and the Watch stream. Each introspection is a call.
    pub fn without_cache(self) -> Self {
        Self { cache: None, ..self }
    }

    /// Capacity of the cache in answers. The default is 10,000. Refusals of unknown tokens are kept in a separate cache
    /// of the same capacity.
    pub fn answers_max(self, answers_max: usize) -> Self {
        self.cached(|cache| cache.answers_max = answers_max.max(1))
    }

    /// Age up to which the last checkpoint allows answers from the cache. The default is 3 s. A revoked token is
    /// refused within this time even if no change arrives. The service sends a checkpoint every second, so below 2 s
    /// the cache would be unusable at times.
    pub fn checkpoint_max(self, checkpoint_max: Duration) -> Self {
        self.cached(|cache| cache.checkpoint_max = checkpoint_max)
    }

    /// How long an unknown token is cached. The default is 1 s.
    pub fn unknown_ttl(self, unknown_ttl: Duration) -> Self {
        self.cached(|cache| cache.unknown_ttl = unknown_ttl)
    }

    /// While the service is unavailable, gives cached answers for this much longer after the last checkpoint has become
    /// too old, but never beyond the lifetime of the answer. Such answers are marked:
    /// [`Introspection::is_stale`](crate::Introspection::is_stale). The default is zero, because tokens may have been
    /// revoked meanwhile.
    pub fn bridge_outage(self, bridge_outage: Duration) -> Self {
        self.cached(|cache| cache.bridge_outage = bridge_outage)
    }

    /// Notifies this observer of events.
    pub fn observer(self, observer: Arc<dyn Observer>) -> Self {
        Self { observer: Some(observer), ..self }
    }

    fn cached(mut self, change: impl FnOnce(&mut CacheLimits)) -> Self {
        change(self.cache.get_or_insert(CACHE));
        self
    }

    /// Builds the client. It connects on first use, or at once if it follows Watch, and reconnects by itself. Must be
    /// called within a Tokio runtime.
    ///
    /// # Errors
    /// Fails with [`ErrorKind::Config`](crate::ErrorKind::Config) if the configuration can never work.
    pub fn build(self) -> Result<Client, Error> {
        let endpoint = self.to_endpoint()?;
        let bearer = self.caller_token.as_deref().map(bearer).transpose()?;
        if bearer.is_none() && self.identity.is_none() {
            return Err(Error::config("neither a caller token nor a client certificate is given"));
        }
        Ok(Client::start(&endpoint, bearer, self))
    }

    fn to_endpoint(&self) -> Result<Endpoint, Error> {
        let endpoint = Endpoint::from_shared(self.endpoint.clone()).map_err(|_| {
            Error::config("the endpoint is not a URL such as http://127.0.0.1:7431")
        })?;
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
                endpoint.tls_config(tls).map_err(|_| {
                    Error::config(
                        "the CA certificate, the client certificate or its key cannot be loaded",
                    )
                })
            }
            Some("http") if self.insecure || is_loopback(&host) => Ok(endpoint),
            Some("http") => Err(Error::config(
                "the endpoint is plaintext and not a loopback address, so tokens could be read on the way. \
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
