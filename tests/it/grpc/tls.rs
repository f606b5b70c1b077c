//! TLS, client certificates as callers, and the refusal to serve the network without TLS.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use rustls::HandshakeKind;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sophic_auth::grpc::pb::{IntrospectRequest, IntrospectResponse};
use sophic_auth::model::Permission;
use sophic_auth::server::{self, ClientCertificates, Config, Running, StartError, TlsFiles};
use sophic_auth::service::{Context, CreateCaller, Expiration, ExpiryChange, UpdateCaller};
use sophic_auth_client::pb::auth_service_client::AuthServiceClient;
use tempfile::TempDir;
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Status};

use super::headers::greeting_and;
use super::refusal::refused;
use super::resets::frame;
use crate::stores::{Database, Fixture, on_every_store};
use crate::waits::{eventually, within};

on_every_store! {
    a_client_certificate_authenticates_a_caller,
    a_changed_certificate_name_is_in_force_at_once,
    a_certificate_of_no_caller_is_refused,
    the_first_name_of_a_certificate_that_a_caller_has_decides,
    a_certificate_does_not_excuse_an_invalid_header,
    a_certificate_of_another_authority_gets_no_connection,
    certificates_may_be_required_of_all,
    certificates_are_replaced_while_the_server_runs,
    an_expired_certificate_ends_its_connection_and_no_session_resumes_it,
    a_silent_connection_is_closed_before_and_after_its_handshake,
}

/// The certificate authority of a test, and the files of a server that it certifies.
struct Authority {
    folder: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("an authority");
        let folder = TempDir::new().expect("a folder for temporary files");
        let authority = Self { folder, issuer };
        std::fs::write(authority.path("ca.pem"), authority.pem()).expect("a file");
        authority.write_server();
        authority
    }

    fn pem(&self) -> String {
        self.issuer.pem()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a new certificate and key of the server.
    fn write_server(&self) {
        let (certificate, key) =
            self.issue(&[SanType::DnsName("localhost".try_into().expect("a name"))]);
        std::fs::write(self.path("server.pem"), certificate).expect("a file");
        std::fs::write(self.path("server.key"), key).expect("a file");
    }

    fn issue(&self, names: &[SanType]) -> (String, String) {
        self.issue_until(names, None)
    }

    fn issue_until(&self, names: &[SanType], end: Option<OffsetDateTime>) -> (String, String) {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.subject_alt_names = names.to_vec();
        params.not_after = end.unwrap_or(params.not_after);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }

    /// A client identity with this URI in its certificate.
    fn identity(&self, uri: &str) -> Identity {
        let other = SanType::DnsName("other.internal".try_into().expect("a name"));
        let uri = SanType::URI(uri.try_into().expect("a URI"));
        let (certificate, key) = self.issue(&[other, uri]);
        Identity::from_pem(certificate, key)
    }

    fn files(&self) -> TlsFiles {
        TlsFiles {
            certificate: self.path("server.pem"),
            key: self.path("server.key"),
            client_ca: Some(self.path("ca.pem")),
            client_certificates: ClientCertificates::Optional,
        }
    }
}

/// A server with TLS, and its certificate authority.
struct Secure {
    authority: Authority,
    running: Running,
    database: Arc<Database>,
}

impl Fixture for Secure {
    async fn set_up(database: Arc<Database>) -> Self {
        Self::start(database, |_| {}).await
    }

    async fn tear_down(_: &Database) {}
}

impl Secure {
    async fn start(database: Arc<Database>, change: impl FnOnce(&mut TlsFiles)) -> Self {
        let authority = Authority::new();
        let mut files = authority.files();
        change(&mut files);
        let running = server::start(config(&database, files)).await.expect("the server starts");
        assert!(running.grpc_url().starts_with("https://"));
        Self { authority, running, database }
    }

    async fn make_caller(&self, san: &str) -> Option<String> {
        let request = CreateCaller {
            name: "gateway".to_owned(),
            permissions: vec![Permission::Introspect.to_string()],
            certificate_san: san.to_owned(),
            ..CreateCaller::default()
        };
        let operator = Context::operator("test");
        let (_, token) =
            self.running.service.create_caller(operator, request).await.expect("it is made");
        token.map(|token| token.expose().to_owned())
    }

    /// Introspects an empty token with this certificate and this header.
    async fn call(
        &self,
        identity: Option<Identity>,
        authorization: Option<&str>,
    ) -> Result<IntrospectResponse, Status> {
        let mut tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(self.authority.pem()))
            .domain_name("localhost");
        if let Some(identity) = identity {
            tls = tls.identity(identity);
        }
        let endpoint = Endpoint::from_shared(self.running.grpc_url()).expect("a URL");
        let endpoint = endpoint.tls_config(tls).expect("a configuration");
        let channel = endpoint.connect().await.map_err(|error| Status::from_error(error.into()))?;
        let mut request = Request::new(IntrospectRequest::default());
        if let Some(value) = authorization {
            let value = value.parse().expect("a header");
            request.metadata_mut().insert("authorization", value);
        }
        Ok(AuthServiceClient::new(channel).introspect(request).await?.into_inner())
    }
}

fn config(database: &Database, files: TlsFiles) -> Config {
    let loopback = "127.0.0.1:0".parse().expect("an address");
    Config { tls: Some(files), ..Config::new(database.location(), loopback, loopback) }
}

const SAN: &str = "spiffe://sophic/gateway";

async fn a_client_certificate_authenticates_a_caller(s: Secure) {
    s.make_caller(SAN).await;
    let identity = s.authority.identity(SAN);
    s.call(Some(identity.clone()), None).await.expect("it is known");
    let operator = Context::operator("test");
    let ended = s.running.service.revoke_caller(operator, "gateway".to_owned()).await;
    ended.expect("it is revoked");
    let outcome = s.call(Some(identity), None).await;
    assert_eq!(refused(outcome), (Code::Unauthenticated, "CALLER_UNKNOWN".to_owned()));
    s.running.stop().await;
}

async fn a_changed_certificate_name_is_in_force_at_once(s: Secure) {
    s.make_caller(SAN).await;
    let (old, new) = (s.authority.identity(SAN), s.authority.identity("spiffe://sophic/edge"));
    let unknown = (Code::Unauthenticated, "CALLER_UNKNOWN".to_owned());
    s.call(Some(old.clone()), None).await.expect("it is known");
    // Every server remembers that the new name is of nobody.
    assert_eq!(refused(s.call(Some(new.clone()), None).await), unknown);
    let change = UpdateCaller {
        caller: "gateway".to_owned(),
        certificate_san: "spiffe://sophic/edge".to_owned(),
        ..UpdateCaller::default()
    };
    let operator = Context::operator("test");
    s.running.service.update_caller(operator.clone(), change).await.expect("it is changed");
    assert_eq!(refused(s.call(Some(old), None).await), unknown);
    s.call(Some(new.clone()), None).await.expect("it is known by the new name");
    // By its certificate too it is refused once it has expired.
    let expiry = Some(ExpiryChange::Set(Expiration::After(std::time::Duration::from_micros(1))));
    let change = UpdateCaller { caller: "gateway".to_owned(), expiry, ..UpdateCaller::default() };
    s.running.service.update_caller(operator, change).await.expect("it is changed");
    let expired = (Code::Unauthenticated, "CALLER_EXPIRED".to_owned());
    assert_eq!(refused(s.call(Some(new), None).await), expired);
    s.running.stop().await;
}

async fn a_certificate_of_no_caller_is_refused(s: Secure) {
    s.make_caller(SAN).await;
    let unknown = (Code::Unauthenticated, "CALLER_UNKNOWN".to_owned());
    for uri in ["spiffe://sophic/other", "spiffe://sophic/gatewayx", "SPIFFE://sophic/gateway"] {
        let outcome = s.call(Some(s.authority.identity(uri)), None).await;
        assert_eq!(refused(outcome), unknown, "{uri}");
    }
    // Without a certificate, and without a token.
    let missing = (Code::Unauthenticated, "CALLER_MISSING".to_owned());
    assert_eq!(refused(s.call(None, None).await), missing);
    s.running.stop().await;
}

async fn the_first_name_of_a_certificate_that_a_caller_has_decides(s: Secure) {
    let dns = |name: &str| SanType::DnsName(name.try_into().expect("a name"));
    let uri = SanType::URI(SAN.try_into().expect("a URI"));
    // A name of a caller need not be a valid DNS name.
    let address = "10.0.0.1";
    s.make_caller(SAN).await;
    let request = CreateCaller {
        name: "other".to_owned(),
        permissions: vec![Permission::AuditRead.to_string()],
        certificate_san: address.to_owned(),
        ..CreateCaller::default()
    };
    let operator = Context::operator("test");
    s.running.service.create_caller(operator, request).await.expect("it is made");
    let call = async |names: &[SanType]| {
        let (certificate, key) = s.authority.issue(names);
        s.call(Some(Identity::from_pem(certificate, key)), None).await
    };
    let denied = (Code::PermissionDenied, "PERMISSION_MISSING".to_owned());
    call(&[dns("nobody.internal"), uri.clone(), dns(address)]).await.expect("the gateway");
    assert_eq!(refused(call(&[dns(address), uri]).await), denied);
    s.running.stop().await;
}

async fn a_certificate_does_not_excuse_an_invalid_header(s: Secure) {
    s.make_caller(SAN).await;
    let outcome = s.call(Some(s.authority.identity(SAN)), Some("Bearer nonsense")).await;
    assert_eq!(refused(outcome).0, Code::Unauthenticated);
    s.running.stop().await;
}

async fn a_certificate_of_another_authority_gets_no_connection(s: Secure) {
    s.make_caller(SAN).await;
    let stranger = Authority::new().identity(SAN);
    let status = s.call(Some(stranger), None).await.expect_err("it is not believed");
    assert!(!matches!(status.code(), Code::Ok | Code::Unauthenticated), "{status:?}");
    // A client that trusts another authority does not accept the server either.
    let mut other = s;
    other.authority = Authority::new();
    other.call(None, None).await.expect_err("it is not believed");
    other.running.stop().await;
}

async fn certificates_may_be_required_of_all(s: Secure) {
    let Secure { database, running, .. } = s;
    running.stop().await;
    let required = |files: &mut TlsFiles| files.client_certificates = ClientCertificates::Required;
    let strict = Secure::start(database, required).await;
    let token = strict.make_caller("").await.expect("a token");
    let authorization = format!("Bearer {token}");
    let without = strict.call(None, Some(&authorization)).await.expect_err("no connection");
    assert!(!matches!(without.code(), Code::Ok | Code::Unauthenticated), "{without:?}");
    let identity = strict.authority.identity("spiffe://sophic/anybody");
    strict.call(Some(identity), Some(&authorization)).await.expect("with both");
    strict.running.stop().await;
}

async fn certificates_are_replaced_while_the_server_runs(s: Secure) {
    let token = s.make_caller("").await.expect("a token");
    let authorization = format!("Bearer {token}");
    s.call(None, Some(&authorization)).await.expect("it is good");
    // Files that do not load leave the old ones in use.
    std::fs::write(s.authority.path("server.pem"), "-----BEGIN NONSENSE-----").expect("a file");
    s.running.reload_tls().expect_err("it does not load");
    s.call(None, Some(&authorization)).await.expect("the old one is still in use");
    // A new authority, and a certificate by it.
    let next = Authority::new();
    for name in ["server.pem", "server.key", "ca.pem"] {
        std::fs::copy(next.path(name), s.authority.path(name)).expect("a copy");
    }
    s.running.reload_tls().expect("it loads");
    s.call(None, Some(&authorization)).await.expect_err("the old authority is gone");
    let s = Secure { authority: next, ..s };
    s.call(None, Some(&authorization)).await.expect("the new one is in use");
    s.running.stop().await;
}

type Encrypted = tokio_rustls::client::TlsStream<TcpStream>;

/// Settings of a client that trusts the authority and remembers its sessions.
fn client(
    authority: &Authority,
    version: &'static rustls::SupportedProtocolVersion,
    identity: Option<(String, String)>,
) -> Arc<rustls::ClientConfig> {
    let read = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).expect("PEM");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(read(&authority.pem())).expect("a root");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider);
    let builder = builder.with_protocol_versions(&[version]).expect("versions");
    let builder = builder.with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
            builder.with_client_auth_cert(vec![read(&certificate)], key).expect("an identity")
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

/// Makes a handshake, and sends nothing after it.
async fn handshake(
    config: &Arc<rustls::ClientConfig>,
    to: SocketAddr,
) -> std::io::Result<Encrypted> {
    let stream = TcpStream::connect(to).await.expect("the port accepts");
    let name = "localhost".try_into().expect("a name");
    tokio_rustls::TlsConnector::from(Arc::clone(config)).connect(name, stream).await
}

/// Makes a handshake and greets by HTTP/2. Returns the connection and the type of the server's first frame.
async fn greet(
    config: &Arc<rustls::ClientConfig>,
    to: SocketAddr,
) -> std::io::Result<(Encrypted, u8)> {
    let mut stream = handshake(config, to).await?;
    stream.write_all(&greeting_and(&[])).await?;
    let first = next_frame(&mut stream).await?;
    Ok((stream, first))
}

/// Reads an HTTP/2 frame, and returns its type.
async fn next_frame(stream: &mut Encrypted) -> std::io::Result<u8> {
    let mut head = [0; 9];
    within("the server sends a frame", stream.read_exact(&mut head)).await?;
    let size = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; usize::try_from(size).expect("it fits")];
    within("the frame is whole", stream.read_exact(&mut payload)).await?;
    Ok(head[3])
}

async fn encrypted(s: &Secure, to: SocketAddr) -> Encrypted {
    let config = client(&s.authority, &rustls::version::TLS13, None);
    handshake(&config, to).await.expect("a handshake")
}

async fn an_expired_certificate_ends_its_connection_and_no_session_resumes_it(s: Secure) {
    const GOAWAY: u8 = 7;
    let Secure { database, running, authority } = s;
    running.stop().await;
    let mut config = config(&database, authority.files());
    config.connection_age_max = Duration::ZERO;
    let running = server::start(config).await.expect("the server starts");
    let san = SanType::URI(SAN.try_into().expect("a URI"));
    let end = OffsetDateTime::now_utc() + Duration::from_secs(8);
    let identity = authority.issue_until(&[san], Some(end));
    let mut open = Vec::new();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        for port in [running.grpc, running.http] {
            let config = client(&authority, version, Some(identity.clone()));
            let (stream, _) = greet(&config, port).await.expect("the certificate is valid");
            let (again, _) = greet(&config, port).await.expect("the certificate is valid");
            assert_eq!(again.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
            open.push((config, port, stream));
        }
    }
    for (config, port, mut stream) in open {
        within("the server asks the connection to end", async {
            while next_frame(&mut stream).await.expect("a frame") != GOAWAY {}
        })
        .await;
        assert!(OffsetDateTime::now_utc() >= end - Duration::from_secs(1));
        eventually("the certificate is refused", async || greet(&config, port).await.is_err())
            .await;
    }
    running.stop().await;
}

async fn a_silent_connection_is_closed_before_and_after_its_handshake(s: Secure) {
    let Secure { database, running, authority } = s;
    running.stop().await;
    let mut config = config(&database, authority.files());
    config.handshake_timeout = Duration::from_millis(500);
    let running = server::start(config).await.expect("the server starts");
    let s = Secure { authority, running, database };
    for port in [s.running.grpc, s.running.http] {
        let mut silent = TcpStream::connect(port).await.expect("the port accepts");
        let mut unfinished = encrypted(&s, port).await;
        let hello = greeting_and(&[frame(1, 0, 1, &[0x83])]);
        unfinished.write_all(&hello).await.expect("it is sent");
        let mut encrypted = encrypted(&s, port).await;
        let (mut nothing, mut rest) = (Vec::new(), Vec::new());
        within("the server ends them", async {
            // The connection was closed or reset.
            let _ = silent.read_to_end(&mut nothing).await;
            let _ = encrypted.read_to_end(&mut rest).await;
            let _ = unfinished.read_to_end(&mut rest).await;
        })
        .await;
    }
    s.running.stop().await;
}

async fn refusal(files: TlsFiles) -> String {
    let database = Database::sqlite();
    let error = server::start(config(&database, files)).await.map(drop).expect_err("refused");
    assert!(matches!(error, StartError::Tls(_)), "{error}");
    error.to_string()
}

#[tokio::test]
async fn unusable_certificate_files_are_named() {
    let (authority, other) = (Authority::new(), Authority::new());
    let files = || authority.files();
    let text = refusal(TlsFiles { key: other.path("server.key"), ..files() }).await;
    assert!(text.contains("server.pem") && text.contains("server.key"), "{text}");
    let missing = authority.path("missing.pem");
    let text = refusal(TlsFiles { certificate: missing.clone(), ..files() }).await;
    assert!(text.contains("missing.pem"), "{text}");
    let text = refusal(TlsFiles { key: missing.clone(), ..files() }).await;
    assert!(text.contains("missing.pem"), "{text}");
    let text = refusal(TlsFiles { client_ca: Some(missing), ..files() }).await;
    assert!(text.contains("missing.pem"), "{text}");
    let empty = authority.path("empty.pem");
    std::fs::write(&empty, "").expect("a file");
    for certificate in [empty.as_path(), Path::new("/dev/null")] {
        let text = refusal(TlsFiles { certificate: certificate.to_owned(), ..files() }).await;
        assert!(text.contains("no certificate"), "{text}");
    }
    let text = refusal(TlsFiles { key: authority.path("server.pem"), ..files() }).await;
    assert!(text.contains("server.pem"), "{text}");
}

#[tokio::test]
async fn a_server_without_tls_listens_only_on_loopback_by_default() {
    let database = Database::sqlite();
    let loopback: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    for world in ["0.0.0.0:0", "[::]:0"] {
        let world: SocketAddr = world.parse().expect("an address");
        for (listen, http) in [(world, loopback), (loopback, world)] {
            let started = server::start(Config::new(database.location(), listen, http)).await;
            let error = started.map(drop).expect_err("it is refused");
            assert!(matches!(error, StartError::Insecure(address) if address == world));
            assert!(error.to_string().contains("--insecure"), "{error}");
        }
    }
    let world: SocketAddr = "0.0.0.0:0".parse().expect("an address");
    let config = Config::new(database.location(), world, loopback);
    let running = server::start(Config { insecure: true, ..config }).await.expect("it starts");
    running.stop().await;
    let authority = Authority::new();
    let config = Config { listen: world, ..config_of(&database, &authority) };
    server::start(config).await.expect("with TLS it may").stop().await;
}

fn config_of(database: &Database, authority: &Authority) -> Config {
    config(database, authority.files())
}
