//! A service of a later release refuses with a denial that today's clients do not know: each takes it for a refusal.

use axum::response::IntoResponse as _;
use http_body_util::StreamBody;
use hyper::body::Frame;
use prost::Message as _;
use serde_json::Value;
use sophic_auth::grpc::pb::IntrospectResponse;
use sophic_auth_client::{Client, Denial, Presented, Scopes};
use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use super::other_languages::Language;
use super::stage::{NOBODYS_KEY, STRANGER};

/// A number that no denial has.
const LATER_DENIAL: i32 = 9_999;

/// Serves an `Introspect` that refuses every token with [`LATER_DENIAL`], and returns its URL.
async fn serve() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let url = format!("http://{}", listener.local_addr().expect("it has an address"));
    let answer = async || {
        let response = IntrospectResponse {
            active: true,
            denial: LATER_DENIAL,
            http_status: 403,
            www_authenticate: "Bearer realm=\"sophic\"".to_owned(),
            ..Default::default()
        }
        .encode_to_vec();
        let length = u32::try_from(response.len()).expect("it is short").to_be_bytes();
        let message = [&[0][..], &length, &response].concat();
        let trailers = [("grpc-status".parse().expect("a name"), "0".parse().expect("a value"))];
        let frames = [
            Frame::data(bytes::Bytes::from(message)),
            Frame::trailers(trailers.into_iter().collect()),
        ];
        let frames = frames.map(Ok::<_, std::convert::Infallible>);
        let body = axum::body::Body::new(StreamBody::new(tokio_stream::iter(frames)));
        ([("content-type", "application/grpc")], body).into_response()
    };
    let introspect = axum::routing::post(answer);
    let app = axum::Router::new().route("/sophic.auth.v1.AuthService/Introspect", introspect);
    let server = Server::builder().add_routes(tonic::service::Routes::from(app));
    #[expect(clippy::disallowed_methods, reason = "it ends with the test's runtime")]
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    url
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_denial_that_no_client_knows_is_a_refusal_in_every_language() {
    let url = serve().await;
    let client = Client::builder(&url).caller_token(STRANGER).without_cache().build();
    let presented = Presented::new(NOBODYS_KEY).requiring(Scopes::READ);
    let answer = client.expect("a client").introspect(&presented).await.expect("an answer");
    assert_eq!((answer.is_allowed(), answer.denial()), (false, Some(Denial::Unspecified)));
    assert_eq!(answer.http_status(), 403);
    let asked = tokio::task::spawn_blocking(move || {
        for language in [Language::python(), Language::node()] {
            let output = language.ask((&url, STRANGER), NOBODYS_KEY, "acme", &["read"]);
            let errors = String::from_utf8_lossy(&output.stderr);
            let answer: Value = serde_json::from_slice(&output.stdout)
                .unwrap_or_else(|_| panic!("{}: no answer but {errors}", language.name));
            assert_eq!(output.status.code(), Some(1), "{}: {answer}", language.name);
            assert_eq!(answer["permitted"], false, "{}: {answer}", language.name);
            assert_eq!(answer["denial"], format!("UNKNOWN_{LATER_DENIAL}"), "{answer}");
        }
    });
    asked.await.expect("it does not panic");
}
