//! Flags and variables of `serve`.

#![expect(clippy::doc_markdown, reason = "these comments are help texts, read in a terminal")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::policy::PolicyArgs;
use super::record::PurgeArgs;
use super::{at_least_one, duration, issuer, lease, positive};
use crate::server::defaults;

// Headings of `serve --help`. Each flag names its heading, because `next_help_heading` on a flattened struct would apply to
// all flags after it.
const LISTENING: &str = "Listening";
const TLS: &str = "TLS";
const ANSWERS: &str = "Answers and the cache";
const LIMITS: &str = "Limits";
const HOUSEKEEPING: &str = "Housekeeping";
const STOPPING: &str = "Stopping";

pub(super) const EXAMPLES: &str = "\
Examples:
  sophic-auth serve --database-url sqlite:/var/lib/sophic-auth/store.db
  sophic-auth serve --database-url postgres://sophic@db/auth --no-migrate --log-format json \
    --listen 0.0.0.0:50051 --http-listen 0.0.0.0:8080 --tls-cert server.pem --tls-key server.key";

/// Flags of `serve`. `serve/check.rs` has the rules on which flags require or exclude each other.
#[expect(clippy::struct_excessive_bools, reason = "each is a separate flag")]
#[derive(Debug, Args)]
pub(in crate::cli) struct ServeArgs {
    #[command(flatten)]
    pub(in crate::cli) ports: Ports,
    /// Do not create or migrate the store. Refuse to start unless `sophic-auth migrate` has brought its schema up to date
    #[arg(long, env = "SOPHIC_AUTH_NO_MIGRATE", help_heading = HOUSEKEEPING)]
    pub(in crate::cli) no_migrate: bool,
    /// Certificate chain of the server, in PEM. Without it, the server uses plaintext and listens on loopback only
    #[arg(long, env = "SOPHIC_AUTH_TLS_CERT", value_name = "FILE", help_heading = TLS)]
    pub(in crate::cli) tls_cert: Option<PathBuf>,
    /// Private key of the certificate, in PEM
    #[arg(long, env = "SOPHIC_AUTH_TLS_KEY", value_name = "FILE", help_heading = TLS)]
    pub(in crate::cli) tls_key: Option<PathBuf>,
    /// CA certificates for client certificates, in PEM. With them, callers can authenticate by client certificate
    #[arg(long, env = "SOPHIC_AUTH_TLS_CLIENT_CA", value_name = "FILE", help_heading = TLS)]
    pub(in crate::cli) tls_client_ca: Option<PathBuf>,
    /// Whether a client must present a certificate [default: optional]
    #[arg(long, env = "SOPHIC_AUTH_TLS_CLIENT_CERTIFICATES", help_heading = TLS)]
    pub(in crate::cli) tls_client_certificates: Option<ClientCertificatesArg>,
    /// Allow plaintext on addresses other than loopback. Use it only on a protected network
    #[arg(long, env = "SOPHIC_AUTH_INSECURE", help_heading = LISTENING)]
    pub(in crate::cli) insecure: bool,
    /// Serve gRPC reflection, which tools such as grpcurl use
    #[arg(long, env = "SOPHIC_AUTH_REFLECTION", default_value_t = defaults::REFLECTION, action = clap::ArgAction::Set, help_heading = LISTENING)]
    pub(in crate::cli) reflection: bool,
    /// Also look up text that is not a sophic-auth token, as the token of an imported credential
    #[arg(long, env = "SOPHIC_AUTH_ACCEPT_IMPORTED_TOKENS", help_heading = ANSWERS)]
    pub(in crate::cli) accept_imported_tokens: bool,
    /// Issuer URL (RFC 8414), by which OAuth clients reach the HTTP port [default: http(s)://ADDRESS of --http-listen]
    #[arg(long, env = "SOPHIC_AUTH_ISSUER", value_parser = issuer, value_name = "URL", help_heading = LISTENING)]
    pub(in crate::cli) issuer: Option<String>,
    /// Maximum time that a client that follows Watch may cache an answer
    #[arg(long, env = "SOPHIC_AUTH_CACHE_TTL", default_value = defaults::CACHE_TTL.text, value_parser = duration, value_name = "DURATION", help_heading = ANSWERS)]
    pub(in crate::cli) cache_ttl: Duration,
    /// Maximum number of cached credentials, of cached users and of cached workspaces, each
    #[arg(long, env = "SOPHIC_AUTH_CACHE_CAPACITY", default_value_t = defaults::CACHE_CAPACITY, value_parser = at_least_one::<usize>, value_name = "N", help_heading = ANSWERS)]
    pub(in crate::cli) cache_capacity: usize,
    /// How long the server answers from memory after a sync with the store, from 1s to 60s. A revocation waits this long and
    /// 7 % for a crashed server. If the store is unreachable for longer, requests fail with UNAVAILABLE
    #[arg(long, env = "SOPHIC_AUTH_LEASE", default_value = defaults::LEASE.text, value_parser = lease, value_name = "DURATION", help_heading = ANSWERS)]
    pub(in crate::cli) lease: Duration,
    /// How long after the lease the server answers with stale data while the store is unreachable. Such answers are
    /// marked stale, and revoked tokens may be accepted meanwhile
    #[arg(long, env = "SOPHIC_AUTH_OUTAGE_GRACE", default_value = defaults::OUTAGE_GRACE.text, value_parser = duration, value_name = "DURATION", help_heading = ANSWERS)]
    pub(in crate::cli) outage_grace: Duration,
    /// Maximum rate of store look-ups of unknown tokens, per caller and second. Beyond it, the caller's unknown tokens
    /// fail with RESOURCE_EXHAUSTED. The same rate applies to unknown service tokens per address, and a tenth of it to
    /// workspaces in which a token has no role. 0 means no limit
    #[arg(long, env = "SOPHIC_AUTH_UNKNOWN_RATE_MAX", default_value_t = defaults::UNKNOWN_RATE_MAX, value_name = "N", help_heading = LIMITS)]
    pub(in crate::cli) unknown_rate_max: u32,
    #[command(flatten)]
    pub(in crate::cli) policy: PolicyArgs,
    /// Maximum number of connections per port. Beyond it, a new connection evicts the longest idle one, unauthenticated peers
    /// first, but never one with a caller's request in flight. 0 means no limit [default: 10000, or fewer if the limit of open
    /// files is lower]
    #[arg(long, env = "SOPHIC_AUTH_CONNECTIONS_MAX", value_name = "N", help_heading = LIMITS)]
    pub(in crate::cli) connections_max: Option<usize>,
    /// Maximum number of concurrent requests per connection. 0 means no limit
    #[arg(long, env = "SOPHIC_AUTH_STREAMS_MAX", default_value_t = defaults::STREAMS_MAX, value_name = "N", help_heading = LIMITS)]
    pub(in crate::cli) streams_max: u32,
    /// Maximum number of requests in flight on all connections. One caller may use half of them. Further requests are refused.
    /// 0 means no limit
    #[arg(long, env = "SOPHIC_AUTH_REQUESTS_MAX", default_value_t = defaults::REQUESTS_MAX, value_name = "N", help_heading = LIMITS)]
    pub(in crate::cli) requests_max: usize,
    /// Time limit of a request. A client may take twice as long to read its answer. 0s means no limit
    #[arg(long, env = "SOPHIC_AUTH_REQUEST_TIMEOUT", default_value = defaults::REQUEST_TIMEOUT.text, value_parser = duration, value_name = "DURATION", help_heading = LIMITS)]
    pub(in crate::cli) request_timeout: Duration,
    /// Interval between writes of last-use times to the store
    #[arg(long, env = "SOPHIC_AUTH_LAST_USE_FLUSH", default_value = defaults::LAST_USE_FLUSH.text, value_parser = positive, value_name = "DURATION", help_heading = HOUSEKEEPING)]
    pub(in crate::cli) last_use_flush: Duration,
    /// Interval between purges, as the next two flags set them [default: 1h]
    #[arg(long, env = "SOPHIC_AUTH_PURGE_EVERY", value_parser = positive, value_name = "DURATION", help_heading = HOUSEKEEPING)]
    pub(in crate::cli) purge_every: Option<Duration>,
    #[command(flatten)]
    pub(in crate::cli) purge: PurgeArgs,
    /// Maximum age of a connection. The server then closes it gracefully, and the client reconnects. 0s means no limit
    #[arg(long, env = "SOPHIC_AUTH_CONNECTION_AGE_MAX", default_value = defaults::CONNECTION_AGE_MAX.text, value_parser = duration, value_name = "DURATION", help_heading = LIMITS)]
    pub(in crate::cli) connection_age_max: Duration,
    /// How long to accept connections after SIGTERM, while health checks already report NOT_SERVING
    #[arg(long, env = "SOPHIC_AUTH_DRAIN_DELAY", default_value = defaults::DRAIN_DELAY.text, value_parser = duration, value_name = "DURATION", help_heading = STOPPING)]
    pub(in crate::cli) drain_delay: Duration,
    /// Time limit for requests in flight after the drain delay
    #[arg(long, env = "SOPHIC_AUTH_SHUTDOWN_GRACE", default_value = defaults::SHUTDOWN_GRACE.text, value_parser = duration, value_name = "DURATION", help_heading = STOPPING)]
    pub(in crate::cli) shutdown_grace: Duration,
}

/// Addresses to listen on.
#[derive(Debug, Args)]
pub(in crate::cli) struct Ports {
    /// Address to listen on for gRPC. Port 0 picks a free port
    #[arg(long,
        env = "SOPHIC_AUTH_LISTEN",
        default_value = "127.0.0.1:50051",
        value_name = "ADDRESS", help_heading = LISTENING)]
    pub(in crate::cli) listen: SocketAddr,
    /// Address to listen on for HTTP (OAuth, forward-auth, /healthz, /readyz). Port 0 picks a free port
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

#[cfg(test)]
mod tests {
    use super::defaults;
    use crate::model::limits::PAGE_SIZE_MAX;

    /// Returns the help text of a flag.
    fn help(command: &[&str], flag: &str) -> String {
        let mut found = crate::cli::command();
        for name in command {
            found = found.find_subcommand(name).expect("a command").clone();
        }
        let flag = found.get_arguments().find(|argument| argument.get_long() == Some(flag));
        flag.and_then(clap::Arg::get_help).expect("a help text").to_string()
    }

    #[test]
    fn defaults_and_limits_in_help_texts_are_those_of_the_code() {
        let purge_every = format!("[default: {}]", defaults::PURGE_EVERY.text);
        let connections_max = format!("[default: {},", defaults::CONNECTIONS_MAX);
        let events_max = format!("from 1 to {PAGE_SIZE_MAX}");
        assert!(help(&["serve"], "purge-every").contains(&purge_every), "{purge_every}");
        assert!(
            help(&["serve"], "connections-max").contains(&connections_max),
            "{connections_max}"
        );
        assert!(help(&["audit", "list"], "limit").contains(&events_max), "{events_max}");
    }
}
