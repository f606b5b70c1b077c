//! The client over TLS: the CAs that it trusts, and a client certificate in place of a token.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use sophic_auth::model::Permission;
use sophic_auth::server::{self, ClientCertificates, Config, TlsFiles};
use sophic_auth::service::{Context, CreateCaller};
use sophic_auth_client::{Client, Denial, ErrorKind, Presented};

use super::stage::{NOBODYS_KEY, STRANGER, watching};
use crate::stores::Database;

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn issuer() -> Issuer {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    CertifiedIssuer::self_signed(params, key).expect("an authority")
}

/// Issues a certificate for this name, and returns it with its key.
fn issue(issuer: &Issuer, name: SanType) -> (String, String) {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.subject_alt_names = vec![name];
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, issuer).expect("a certificate");
    (certificate.pem(), key.serialize_pem())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_authenticates_with_a_certificate_and_trusts_its_ca() {
    const SAN: &str = "spiffe://sophic/gateway";
    let (issuer, folder) = (issuer(), tempfile::tempdir().expect("a folder"));
    let path = |name: &str| folder.path().join(name);
    let loopback = SanType::IpAddress("127.0.0.1".parse().expect("an address"));
    let (certificate, key) = issue(&issuer, loopback);
    for (name, pem) in [("ca.pem", issuer.pem()), ("cert.pem", certificate), ("key.pem", key)] {
        std::fs::write(path(name), pem).expect("a file");
    }
    let database = Arc::new(Database::sqlite());
    let listen = "127.0.0.1:0".parse().expect("an address");
    let mut config = Config::new(database.location(), listen, listen);
    config.tls = Some(TlsFiles {
        certificate: path("cert.pem"),
        key: path("key.pem"),
        client_ca: Some(path("ca.pem")),
        client_certificates: ClientCertificates::Optional,
    });
    let running = server::start(config).await.expect("it starts");
    let request = CreateCaller {
        name: "gateway".to_owned(),
        permissions: vec![Permission::Introspect.to_string()],
        certificate_san: SAN.to_owned(),
        ..CreateCaller::default()
    };
    running.service.create_caller(Context::operator("test"), request).await.expect("a caller");

    let (certificate, key) = issue(&issuer, SanType::URI(SAN.try_into().expect("a URI")));
    let builder = Client::builder(running.grpc_url())
        .ca_certificate(issuer.pem())
        .client_certificate(certificate, key);
    // It follows changes over TLS too.
    let (client, _) = watching(builder).await;
    let answer = client.introspect(&Presented::new(NOBODYS_KEY)).await.expect("an answer");
    assert_eq!(answer.denial(), Some(Denial::TokenUnknown));

    // A client certificate that no caller has, and a server whose CA the client does not trust.
    let nobody = Client::builder(running.grpc_url())
        .ca_certificate(issuer.pem())
        .caller_token(STRANGER)
        .without_cache();
    let nobody = nobody.build().expect("a client");
    let error = nobody.introspect(&Presented::new(NOBODYS_KEY)).await.expect_err("it is nobody");
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
    let fooled = Client::builder(running.grpc_url()).caller_token(STRANGER).without_cache();
    let fooled = fooled.build().expect("a client");
    let error = fooled.introspect(&Presented::new(NOBODYS_KEY)).await.expect_err("no connection");
    assert!(error.is_outage(), "{error:?}");
}
