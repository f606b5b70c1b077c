//! `serve`: runs the server until a signal stops it.

mod check;
pub(super) mod dev;
mod open_files;

use tokio::signal::unix::SignalKind;

use super::args::serve::{ClientCertificatesArg, ServeArgs};
use super::args::{Global, Output};
use super::signals::Signals;
use super::{output, refuse_token_output, store_url};
use crate::server::{
    self, CacheConfig, ClientCertificates, Config, Housekeeping, ListenAddresses, Running,
    TlsFiles, defaults,
};
use crate::service::{Options, RequestLimits};
use crate::store::PoolSizes;

pub(super) async fn run(global: &Global, args: Box<ServeArgs>) -> anyhow::Result<()> {
    refuse_token_output(global)?;
    forbid_core_dumps();
    for warnings in check::check(&args)? {
        tracing::warn!("{warnings}");
    }
    let mut signals = Signals::listen()?;
    let connections_max = open_files::connections_max(args.connections_max);
    let config = Config { connections_max, ..config(global, *args)? };
    let format = global.output;
    let listening = |listening| announce(format, listening);
    // While the store is unreachable, this may wait for a long time.
    let running = server::start_waiting_for_store(config, listening, signals.terminated()).await?;
    let Some(running) = running else { return Ok(()) };
    until_stopped(running, signals, OnHangup::ReloadTls).await
}

/// Prints the addresses of the ports.
fn announce(format: Output, listening: ListenAddresses) {
    let (grpc, http) = (listening.grpc_url(), listening.http_url());
    match format {
        Output::Json => {
            output::announce(serde_json::json!({"grpc": grpc, "http": http}).to_string());
        }
        Output::Table | Output::Token => output::announce(format!("gRPC  {grpc}\nHTTP  {http}")),
    }
}

/// Reaction to SIGHUP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnHangup {
    /// Reload the TLS files. A server has no terminal that could hang up.
    ReloadTls,
    /// Stop, because the terminal is closed.
    Stop,
}

/// Runs until SIGTERM, SIGINT or SIGQUIT, then shuts down gracefully. A second signal stops the process at once.
pub(super) async fn until_stopped(
    running: Running,
    mut signals: Signals,
    on_hangup: OnHangup,
) -> anyhow::Result<()> {
    while signals.next().await == SignalKind::hangup() && on_hangup == OnHangup::ReloadTls {
        reload_tls(&running);
    }
    signals.is_new();
    tracing::info!("stopping");
    tokio::select! {
        () = running.stop() => Ok(()),
        () = signals.terminated() => anyhow::bail!("stopped at once by a second signal"),
    }
}

fn reload_tls(running: &Running) {
    if !running.tls {
        tracing::info!(
            "SIGHUP changes nothing: it reloads TLS files, and this server does not use TLS"
        );
        return;
    }
    match running.reload_tls() {
        Ok(()) => tracing::info!("the TLS files were reloaded"),
        Err(error) => {
            tracing::error!(%error, "could not reload the TLS files: the old ones stay in use");
        }
    }
}

fn config(global: &Global, args: ServeArgs) -> anyhow::Result<Config> {
    let client_certificates = match args.tls_client_certificates {
        None | Some(ClientCertificatesArg::Optional) => ClientCertificates::Optional,
        Some(ClientCertificatesArg::Required) => ClientCertificates::Required,
    };
    let tls = args.tls_cert.zip(args.tls_key).map(|(certificate, key)| TlsFiles {
        certificate,
        key,
        client_ca: args.tls_client_ca,
        client_certificates,
    });
    Ok(Config {
        migrate: !args.no_migrate,
        tls,
        insecure: args.insecure,
        reflection: args.reflection,
        streams_max: args.streams_max,
        connection_age_max: args.connection_age_max,
        limits: RequestLimits {
            requests_max: args.requests_max,
            request_timeout: args.request_timeout,
        },
        drain_delay: args.drain_delay,
        shutdown_grace: args.shutdown_grace,
        housekeeping: Housekeeping {
            last_use_flush: args.last_use_flush,
            purge_every: args.purge_every.unwrap_or(defaults::PURGE_EVERY.value),
            purge_dead_after: args.purge.dead_after,
            purge_changes_after: args.purge.changes_after,
        },
        issuer: args.issuer,
        pools: PoolSizes::default(),
        cache: CacheConfig {
            capacity: args.cache_capacity,
            lease: args.lease,
            outage_grace: args.outage_grace,
            unknown_rate_max: args.unknown_rate_max,
        },
        options: Options {
            accept_imported_tokens: args.accept_imported_tokens,
            cache_ttl: args.cache_ttl,
            policy: args.policy.policy()?,
        },
        ..Config::new(store_url::select(global)?, args.ports.listen, args.ports.http_listen)
    })
}

/// Disables core dumps, because tokens pass through this process's memory. Logs a failure.
fn forbid_core_dumps() {
    if let Err(error) =
        rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
    {
        tracing::warn!(%error, "could not disable core dumps");
    }
}
