//! Flags of `serve` that contradict or need each other: all rules in one place, whether a flag was given on the command
//! line or by its variable. All that is wrong is said at once.

use std::net::SocketAddr;
use std::time::Duration;

use crate::cache::patience;
use crate::cli::UsageError;
use crate::cli::args::serve::{Ports, ServeArgs};

/// Refuses flags that cannot be meant together; else gives what may not be meant, and works all the same.
pub(in crate::cli) fn check(args: &ServeArgs) -> Result<Vec<String>, UsageError> {
    let mut wrong = ports(&args.ports);
    tls(args, &mut wrong);
    let purges = !args.purge.dead_after.is_zero() || !args.purge.changes_after.is_zero();
    if args.purge_every.is_some() && !purges {
        wrong.push(
            "--purge-every has nothing to do: --purge-dead-after and --purge-changes-after are 0s, which is never"
                .to_owned(),
        );
    }
    wrong.extend(args.policy.policy().err().map(|UsageError(text)| text));
    if wrong.is_empty() { Ok(warnings(args)) } else { Err(UsageError(wrong.join("; "))) }
}

/// The same of the ports alone, which `dev` has too.
pub(in crate::cli) fn ports(ports: &Ports) -> Vec<String> {
    let (grpc, http) = (ports.listen, ports.http_listen);
    let any = |address: SocketAddr| address.ip().is_unspecified();
    let meet = grpc.ip() == http.ip() || any(grpc) || any(http);
    if grpc.port() != 0 && grpc.port() == http.port() && meet {
        let text = "--listen and --http-listen must have different ports: gRPC and HTTP share none";
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
            "--insecure listens in the clear, and --tls-cert does not: give one of them".to_owned(),
        );
    }
    let plain = args.issuer.as_ref().is_some_and(|issuer| issuer.starts_with("http://"));
    if plain && certificate {
        wrong.push("--issuer is an http URL, and --tls-cert makes the port speak https".to_owned());
    }
}

/// What works and may yet surprise.
fn warnings(args: &ServeArgs) -> Vec<String> {
    let mut warnings = Vec::new();
    let time = |duration: Duration| humantime::format_duration(duration).to_string();
    let dead = patience(args.lease);
    if !args.request_timeout.is_zero() && args.request_timeout <= dead {
        warnings.push(format!(
            "a revocation waits up to {} for a server that died (--lease and a margin), which is not less than \
             --request-timeout {}: such calls end in BARRIER_PENDING, and have to be repeated",
            time(dead),
            time(args.request_timeout),
        ));
    }
    let watched = args.purge.changes_after;
    if !watched.is_zero() && watched < args.cache_ttl {
        warnings.push(format!(
            "--purge-changes-after {} is less than --cache-ttl {}: clients that were away for longer start afresh",
            time(watched),
            time(args.cache_ttl),
        ));
    }
    warnings
}
