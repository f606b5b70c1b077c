//! TLS with rustls. It is terminated here and not in tonic, so that certificates can be replaced while the server runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

use super::connections::Protocol;
use crate::model::CertificateSan;

/// Shortest and longest pause between two looks at the clock, for the expiry of a client certificate.
const CLOCK_STEP_MIN: Duration = Duration::from_millis(1);
const CLOCK_STEP_MAX: Duration = Duration::from_secs(10);

/// The TLS files, all PEM.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The server's certificate chain.
    pub certificate: PathBuf,
    /// Private key of the certificate.
    pub key: PathBuf,
    /// CAs for client certificates. With `None` the server requests no client certificate.
    pub client_ca: Option<PathBuf>,
    /// Whether a client must present a certificate.
    pub client_certificates: ClientCertificates,
}

/// Whether a client must present a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientCertificates {
    /// A client may present a certificate, or use a service token.
    #[default]
    Optional,
    /// A connection without a client certificate is refused.
    Required,
}

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or parsed.
    #[error("{path}: {fault}")]
    File {
        /// Path of the file.
        path: PathBuf,
        /// Description of the error.
        fault: String,
    },
    /// The certificate and the key do not belong together.
    #[error("{certificate} and {key} cannot be used together: {fault}")]
    Pair {
        /// Path of the certificate.
        certificate: PathBuf,
        /// Path of the key.
        key: PathBuf,
        /// Error of rustls.
        fault: rustls::Error,
    },
}

/// TLS settings in use. They can be reloaded.
pub(super) struct Tls {
    files: TlsFiles,
    current: ArcSwap<Acceptors>,
}

struct Acceptors {
    grpc: Arc<ServerConfig>,
    http: Arc<ServerConfig>,
}

impl Tls {
    pub(super) fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let current = ArcSwap::from_pointee(acceptors(&files)?);
        Ok(Self { files, current })
    }

    /// Reloads the files for new connections. Open connections are not affected.
    pub(super) fn reload(&self) -> Result<(), TlsError> {
        self.current.store(Arc::new(acceptors(&self.files)?));
        Ok(())
    }

    pub(super) async fn accept(
        &self,
        stream: TcpStream,
        protocol: Protocol,
    ) -> std::io::Result<(TlsStream<TcpStream>, Option<ClientCertificate>)> {
        let current = self.current.load_full();
        let config = match protocol {
            Protocol::Grpc => &current.grpc,
            Protocol::Http => &current.http,
        };
        let stream = TlsAcceptor::from(Arc::clone(config)).accept(stream).await?;
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let certificate = certificate.map(ClientCertificate::read);
        Ok((stream, certificate))
    }
}

/// What the server uses of a verified client certificate.
pub(super) struct ClientCertificate {
    pub(super) sans: Arc<[CertificateSan]>,
    not_after: SystemTime,
}

impl ClientCertificate {
    /// A certificate that cannot be read has no names, and counts as expired.
    fn read(certificate: &CertificateDer<'_>) -> Self {
        let Ok((_, certificate)) = X509Certificate::from_der(certificate) else {
            return Self { sans: Arc::default(), not_after: SystemTime::UNIX_EPOCH };
        };
        let not_after = certificate.validity().not_after.timestamp();
        let not_after = Duration::from_secs(u64::try_from(not_after).unwrap_or_default());
        Self {
            sans: subject_alternative_names(&certificate).into(),
            not_after: SystemTime::UNIX_EPOCH + not_after,
        }
    }

    /// Waits until the certificate has expired by this machine's clock, by which rustls verified it. Looks at the clock
    /// again and again, because a timer does not notice when the clock is set or the machine sleeps.
    #[expect(clippy::disallowed_methods, reason = "rustls verified it by this clock too")]
    pub(super) async fn expired(self) {
        while let Ok(left) = self.not_after.duration_since(SystemTime::now()) {
            tokio::time::sleep(left.clamp(CLOCK_STEP_MIN, CLOCK_STEP_MAX)).await;
        }
    }
}

fn acceptors(files: &TlsFiles) -> Result<Acceptors, TlsError> {
    let certificates = read_certificates(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| file(&files.key, &error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let pair = |fault| TlsError::Pair {
        certificate: files.certificate.clone(),
        key: files.key.clone(),
        fault,
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(pair)?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            builder.with_client_cert_verifier(verifier(path, files.client_certificates, provider)?)
        }
    };
    let mut config = builder.with_single_cert(certificates, key).map_err(pair)?;
    if files.client_ca.is_some() {
        // A resumed session would bring back a certificate without verifying it again, even after its expiry.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    config.alpn_protocols = vec![b"h2".to_vec()];
    let grpc = Arc::new(config.clone());
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Acceptors { grpc, http: Arc::new(config) })
}

fn verifier(
    path: &Path,
    client_certificates: ClientCertificates,
    provider: Arc<rustls::crypto::CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(path)? {
        roots.add(certificate).map_err(|error| file(path, &error))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = match client_certificates {
        ClientCertificates::Optional => builder.allow_unauthenticated(),
        ClientCertificates::Required => builder,
    };
    builder.build().map_err(|error| file(path, &error))
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| file(path, &error))?;
    if certificates.is_empty() {
        return Err(file(path, &"no certificate in it"));
    }
    Ok(certificates)
}

fn file(path: &Path, fault: &dyn std::fmt::Display) -> TlsError {
    TlsError::File { path: path.to_owned(), fault: fault.to_string() }
}

/// Returns the DNS names and URIs of a verified certificate, in its order: the first one that belongs to a caller decides.
/// Skips names that cannot be a caller's. A certificate without readable names has none.
fn subject_alternative_names(certificate: &X509Certificate<'_>) -> Vec<CertificateSan> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
    let names = extension.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) | GeneralName::URI(name) => CertificateSan::parse(name).ok(),
        _ => None,
    });
    names.collect()
}
