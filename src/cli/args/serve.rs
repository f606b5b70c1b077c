//! The flags and variables of `serve`.

#![expect(clippy::doc_markdown, reason = "these comments are help texts, read in a terminal")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::policy::PolicyArgs;
use super::record::PurgeArgs;
use super::{at_least_one, duration, issuer, lease, positive};

// What `serve --help` groups flags under. Each flag names its own: a heading of a flattened struct lasts to the end.
const LISTENING: &str = "Listening";
const TLS: &str = "TLS";
const ANSWERS: &str = "Answers and the cache";
const LIMITS: &str = "Limits";
const HOUSEKEEPING: &str = "Housekeeping";
const STOPPING: &str = "Stopping";

/// Flags of `serve`. Which of them need each other, or exclude each other, is in `serve/check.rs`.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[derive(Debug, Args)]
pub(in crate::cli) struct ServeArgs {
    #[command(flatten)]
    pub(in crate::cli) ports: Ports,
    /// Neither make the store nor bring its schema up to date: refuse one that `sophic-auth migrate` has not brought there.
    /// Where nothing is to be done to the schema, no rights to it are needed without this either
    #[arg(long, env = "SOPHIC_AUTH_NO_MIGRATE", help_heading = HOUSEKEEPING)]
    pub(in crate::cli) no_migrate: bool,
    /// The server's certificate chain, PEM; without it, connections are in the clear, which only loopback may be
    #[arg(long, env = "SOPHIC_AUTH_TLS_CERT", value_name = "FILE", help_heading = TLS)]
    pub(in crate::cli) tls_cert: Option<PathBuf>,
    /// The certificate's private key, PEM
    #[arg(long, env = "SOPHIC_AUTH_TLS_KEY", value_name = "FILE", help_heading = TLS)]
    pub(in crate::cli) tls_key: Option<PathBuf>,
    /// The authorities whose client certificates are believed, PEM: callers may then be known by certificate
    #[arg(long, env = "SOPHIC_AUTH_TLS_CLIENT_CA", value_name = "FILE", help_heading = TLS)]
    pub(in crate::cli) tls_client_ca: Option<PathBuf>,
    /// Whether a client must have a certificate [default: optional]
    #[arg(long, env = "SOPHIC_AUTH_TLS_CLIENT_CERTIFICATES", help_heading = TLS)]
    pub(in crate::cli) tls_client_certificates: Option<ClientCertificatesArg>,
    /// Listen in the clear beyond loopback: only where the network itself is protected
    #[arg(long, env = "SOPHIC_AUTH_INSECURE", help_heading = LISTENING)]
    pub(in crate::cli) insecure: bool,
    /// Let grpcurl and its like discover the protocol
    #[arg(long, env = "SOPHIC_AUTH_REFLECTION", default_value_t = true, action = clap::ArgAction::Set, help_heading = LISTENING)]
    pub(in crate::cli) reflection: bool,
    /// Look text of any shape up as the token of an imported credential
    #[arg(long, env = "SOPHIC_AUTH_ACCEPT_IMPORTED_TOKENS", help_heading = ANSWERS)]
    pub(in crate::cli) accept_imported_tokens: bool,
    /// The URL that OAuth clients know the HTTP port by [default: http(s)://ADDRESS of --http-listen]
    #[arg(long, env = "SOPHIC_AUTH_ISSUER", value_parser = issuer, value_name = "URL", help_heading = LISTENING)]
    pub(in crate::cli) issuer: Option<String>,
    /// The longest that a cache that follows Watch may hold an answer
    #[arg(long, env = "SOPHIC_AUTH_CACHE_TTL", default_value = "60s", value_parser = duration, value_name = "DURATION", help_heading = ANSWERS)]
    pub(in crate::cli) cache_ttl: Duration,
    /// Credentials in memory at the most, and as many users and workspaces
    #[arg(long, env = "SOPHIC_AUTH_CACHE_CAPACITY", default_value_t = 1_000_000, value_parser = at_least_one::<usize>, value_name = "N", help_heading = ANSWERS)]
    pub(in crate::cli) cache_capacity: usize,
    /// How long answers from memory are good after a sync with the store, 1s to 60s: a revocation waits that long for a
    /// server that has stopped without taking leave, and a store that is away for longer makes answers UNAVAILABLE
    #[arg(long, env = "SOPHIC_AUTH_LEASE", default_value = "10s", value_parser = lease, value_name = "DURATION", help_heading = ANSWERS)]
    pub(in crate::cli) lease: Duration,
    /// How long after the lease to answer what was last known, marked stale, where the store is out of reach: revoked
    /// tokens live on for as long
    #[arg(long, env = "SOPHIC_AUTH_OUTAGE_GRACE", default_value = "0s", value_parser = duration, value_name = "DURATION", help_heading = ANSWERS)]
    pub(in crate::cli) outage_grace: Duration,
    /// Unknown tokens a second that are looked up in the store for one caller; past that, what is nobody's token is refused
    /// it for a moment (RESOURCE_EXHAUSTED); as many unknown service tokens from one address, and a tenth as many workspaces
    /// where a token has no role; 0: no limit
    #[arg(long, env = "SOPHIC_AUTH_UNKNOWN_RATE_MAX", default_value_t = 1_000, value_name = "N", help_heading = LIMITS)]
    pub(in crate::cli) unknown_rate_max: u32,
    #[command(flatten)]
    pub(in crate::cli) policy: PolicyArgs,
    /// Connections at once on each port; for one more, one goes: of strangers before callers, and the one that has asked
    /// nothing for longest, never one with a caller's request under way; 0: no limit [default: 10000, or as many as the
    /// limit of open files has room for]
    #[arg(long, env = "SOPHIC_AUTH_CONNECTIONS_MAX", value_name = "N", help_heading = LIMITS)]
    pub(in crate::cli) connections_max: Option<usize>,
    /// Requests at once on one connection; 0: no limit
    #[arg(long, env = "SOPHIC_AUTH_STREAMS_MAX", default_value_t = 256, value_name = "N", help_heading = LIMITS)]
    pub(in crate::cli) streams_max: u32,
    /// Requests at once over all connections, and half of it for one caller; one more is refused; 0: no limit
    #[arg(long, env = "SOPHIC_AUTH_REQUESTS_MAX", default_value_t = 4_096, value_name = "N", help_heading = LIMITS)]
    pub(in crate::cli) requests_max: usize,
    /// The longest that a request may take, and half of what its answer may wait for its reader; 0s: no limit
    #[arg(long, env = "SOPHIC_AUTH_REQUEST_TIMEOUT", default_value = "15s", value_parser = duration, value_name = "DURATION", help_heading = LIMITS)]
    pub(in crate::cli) request_timeout: Duration,
    /// How often last uses are written to the store
    #[arg(long, env = "SOPHIC_AUTH_LAST_USE_FLUSH", default_value = "60s", value_parser = positive, value_name = "DURATION", help_heading = HOUSEKEEPING)]
    pub(in crate::cli) last_use_flush: Duration,
    /// How often to clean up what the next two flags name [default: 1h]
    #[arg(long, env = "SOPHIC_AUTH_PURGE_EVERY", value_parser = positive, value_name = "DURATION", help_heading = HOUSEKEEPING)]
    pub(in crate::cli) purge_every: Option<Duration>,
    #[command(flatten)]
    pub(in crate::cli) purge: PurgeArgs,
    /// How old a connection may grow before its client is asked to come again; 0s: no limit
    #[arg(long, env = "SOPHIC_AUTH_CONNECTION_AGE_MAX", default_value = "30m", value_parser = duration, value_name = "DURATION", help_heading = LIMITS)]
    pub(in crate::cli) connection_age_max: Duration,
    /// How long to go on accepting after SIGTERM, while health checks already say NOT_SERVING
    #[arg(long, env = "SOPHIC_AUTH_DRAIN_DELAY", default_value = "0s", value_parser = duration, value_name = "DURATION", help_heading = STOPPING)]
    pub(in crate::cli) drain_delay: Duration,
    /// How long requests under way may take after that
    #[arg(long, env = "SOPHIC_AUTH_SHUTDOWN_GRACE", default_value = "10s", value_parser = duration, value_name = "DURATION", help_heading = STOPPING)]
    pub(in crate::cli) shutdown_grace: Duration,
}

/// Where to listen.
#[derive(Debug, Args)]
pub(in crate::cli) struct Ports {
    /// Where to listen for gRPC; port 0 takes a free one
    #[arg(long,
        env = "SOPHIC_AUTH_LISTEN",
        default_value = "127.0.0.1:50051",
        value_name = "ADDRESS", help_heading = LISTENING)]
    pub(in crate::cli) listen: SocketAddr,
    /// Where to listen for HTTP (OAuth, forward-auth, /healthz, /readyz); port 0 takes a free one
    #[arg(long,
        env = "SOPHIC_AUTH_HTTP_LISTEN",
        default_value = "127.0.0.1:8080",
        value_name = "ADDRESS", help_heading = LISTENING)]
    pub(in crate::cli) http_listen: SocketAddr,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum ClientCertificatesArg {
    Optional,
    Required,
}
