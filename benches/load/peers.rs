//! Servers to compare the service with: a tonic server that only echoes, and a hyper server that does nothing. Both
//! answer with as many bytes as the service, for a key and for a personal access token.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tonic::codegen::BoxFuture;
use tonic_prost::ProstCodec;

/// Offset of the byte that distinguishes a key from a personal access token in the message of a request.
const LETTER: usize = 7;

/// Where to listen, and how long the answers are.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Length in bytes of the message for a key.
    #[arg(long)]
    key_bytes: usize,
    /// Length in bytes of the message for a personal access token.
    #[arg(long)]
    pat_bytes: usize,
}

async fn listen(args: &Args) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(args.listen).await?;
    crate::print(&serde_json::json!({"grpc": listener.local_addr()?}).to_string())?;
    Ok(listener)
}

/// An `IntrospectRequest` decodes as this. The token is its first field, and the others are skipped.
#[derive(Clone, PartialEq, prost::Message)]
struct Echo {
    #[prost(bytes = "bytes", tag = "1")]
    payload: Bytes,
}

/// Answers with a configured number of bytes.
#[derive(Clone)]
struct Echoes {
    key: Bytes,
    pat: Bytes,
}

impl tonic::server::UnaryService<Echo> for Echoes {
    type Response = Echo;
    type Future = BoxFuture<tonic::Response<Echo>, tonic::Status>;

    fn call(&mut self, request: tonic::Request<Echo>) -> Self::Future {
        let key = request.get_ref().payload.get(LETTER) == Some(&b'k');
        let payload = if key { self.key.clone() } else { self.pat.clone() };
        Box::pin(async move { Ok(tonic::Response::new(Echo { payload })) })
    }
}

impl tower::Service<Request<tonic::body::Body>> for Echoes {
    type Response = Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> Self::Future {
        let echoes = self.clone();
        // Like generated code.
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(ProstCodec::<Echo, Echo>::default());
            Ok(grpc.unary(echoes, request).await)
        })
    }
}

impl tonic::server::NamedService for Echoes {
    const NAME: &'static str = "sophic.auth.v1.AuthService";
}

/// Runs the tonic server with tonic's defaults.
pub(crate) async fn echo(args: Args) -> anyhow::Result<Value> {
    let listener = listen(&args).await?;
    let incoming = tonic::transport::server::TcpIncoming::from(listener).with_nodelay(Some(true));
    let filled = |bytes: usize| Bytes::from(vec![b'x'; payload_of(bytes)]);
    let echoes = Echoes { key: filled(args.key_bytes), pat: filled(args.pat_bytes) };
    tonic::transport::Server::builder().add_service(echoes).serve_with_incoming(incoming).await?;
    Ok(Value::Null)
}

/// Returns the payload length for a message of this length: less its tag and length prefix.
fn payload_of(bytes: usize) -> usize {
    if bytes < 130 { bytes.saturating_sub(2) } else { bytes - 3 }
}

/// A body of one DATA frame and trailers.
struct Reply {
    data: Option<Bytes>,
    trailers: Option<HeaderMap>,
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = self.data.take().map(Frame::data);
        let frame = data.or_else(|| self.trailers.take().map(Frame::trailers));
        Poll::Ready(frame.map(Ok))
    }
}

/// Runs the hyper server: the minimum that answers gRPC.
pub(crate) async fn bare(args: Args) -> anyhow::Result<Value> {
    let listener = listen(&args).await?;
    let (key, pat) = (framed(args.key_bytes), framed(args.pat_bytes));
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (key, pat) = (key.clone(), pat.clone());
        let service = service_fn(move |request| answer(request, key.clone(), pat.clone()));
        connections.spawn(
            hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service),
        );
    }
}

async fn answer(
    request: Request<Incoming>,
    key: Bytes,
    pat: Bytes,
) -> Result<Response<Reply>, hyper::Error> {
    let body = request.into_body().collect().await?.to_bytes();
    let data = if body.get(5 + 2 + LETTER) == Some(&b'k') { key } else { pat };
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let mut response = Response::new(Reply { data: Some(data), trailers: Some(trailers) });
    let content_type = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(http::header::CONTENT_TYPE, content_type);
    Ok(response)
}

/// Returns a gRPC message of this many bytes.
fn framed(bytes: usize) -> Bytes {
    let mut framed = vec![0];
    framed.extend(u32::try_from(bytes).unwrap_or(u32::MAX).to_be_bytes());
    framed.resize(5 + bytes, b'x');
    framed.into()
}
