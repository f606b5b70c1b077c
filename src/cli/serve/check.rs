//! Rules on which flags of `serve` require or exclude each other, for flags and variables alike. All violations are
//! reported together.

use std::net::SocketAddr;
use std::time::Duration;

use crate::cache::stall_timeout;
use crate::cli::UsageError;
use crate::cli::args::serve::{Ports, ServeArgs};

/// Checks the flags. Returns warnings about combinations that work but may surprise.
///
/// # Errors
/// Flags contradict each other, or one lacks another.
pub(in crate::cli) fn check(args: &ServeArgs) -> Result<Vec<String>, UsageError> {
    let mut wrong = ports(&args.ports);
    tls(args, &mut wrong);
    let purges = !args.purge.dead_after.is_zero() || !args.purge.changes_after.is_zero();
    if args.purge_every.is_some() && !purges {
        wrong.push(
            "--purge-every has no effect, because --purge-dead-after and --purge-changes-after are 0s"
                .to_owned(),
        );
    }
    wrong.extend(args.policy.policy().err().map(|UsageError(text)| text));
    if wrong.is_empty() { Ok(warnings(args)) } else { Err(UsageError(wrong.join("; "))) }
}

/// Checks the ports, which `dev` has too.
pub(in crate::cli) fn ports(ports: &Ports) -> Vec<String> {
    let (grpc, http) = (ports.listen, ports.http_listen);
    let any = |address: SocketAddr| address.ip().is_unspecified();
    let meet = grpc.ip() == http.ip() || any(grpc) || any(http);
    if grpc.port() != 0 && grpc.port() == http.port() && meet {
        let text = "--listen and --http-listen must have different ports";
        return vec![text.to_owned()];
    }
    Vec::new()
}

fn tls(args: &ServeArgs, wrong: &mut Vec<String>) {
    let mut needs = |flag: &str, given: bool, other: &str, there: bool| {
        if given && !there {
            wrong.push(format!("{flag} needs {other}"));
        }
    };
    let (certificate, key) = (args.tls_cert.is_some(), args.tls_key.is_some());
    let certificates = args.tls_client_certificates.is_some();
    needs("--tls-cert", certificate, "--tls-key", key);
    needs("--tls-key", key, "--tls-cert", certificate);
    needs("--tls-client-ca", args.tls_client_ca.is_some(), "--tls-cert and --tls-key", certificate);
    let text = "--tls-client-certificates";
    needs(text, certificates, "--tls-client-ca", args.tls_client_ca.is_some());
    needs(text, certificates, "--tls-cert and --tls-key", certificate);
    if args.insecure && certificate {
        wrong.push(
            "--insecure allows plaintext, and --tls-cert turns it off: give only one of them"
                .to_owned(),
        );
    }
    let plain = args.issuer.as_ref().is_some_and(|issuer| issuer.starts_with("http://"));
    if plain && certificate {
        wrong.push("--issuer is an http URL, but with --tls-cert the port serves https".to_owned());
    }
}

/// Returns warnings about combinations that work but may surprise.
fn warnings(args: &ServeArgs) -> Vec<String> {
    let mut warnings = Vec::new();
    let time = |duration: Duration| humantime::format_duration(duration).to_string();
    let dead = stall_timeout(args.lease);
    if !args.request_timeout.is_zero() && args.request_timeout <= dead {
        warnings.push(format!(
            "a revocation waits up to {} for a crashed server (--lease plus a margin), which is not less than \
            --request-timeout {}: such calls fail with BARRIER_PENDING or REFUSAL_PENDING and must be retried",
            time(dead),
            time(args.request_timeout),
        ));
    }
    let watched = args.purge.changes_after;
    if !watched.is_zero() && watched < args.cache_ttl {
        warnings.push(format!(
            "--purge-changes-after {} is less than --cache-ttl {}: clients that were disconnected for longer lose their cache",
            time(watched),
            time(args.cache_ttl),
        ));
    }
    warnings
}
