//! Calls through tonic's client, where the cost of the client does not matter or is the same for all servers: the probe
//! and the batches.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::{Buf as _, BufMut as _, Bytes};
use parking_lot::Mutex;
use prost::Message as _;
use serde_json::{Value, json};
use sophic_auth::grpc::pb;
use sophic_auth_client::pb::auth_service_client::AuthServiceClient;
use tokio::task::JoinSet;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::tally::{Tally, float};
use crate::tokens;

/// Interceptor that adds the caller's service token.
#[derive(Debug, Clone)]
pub(crate) struct CallerToken(tonic::metadata::AsciiMetadataValue);

impl Interceptor for CallerToken {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// A client of the service with the token of one caller.
pub(crate) type Client = AuthServiceClient<InterceptedService<Channel, CallerToken>>;

/// Connects to a server.
pub(crate) async fn connect(address: SocketAddr, caller_token: &str) -> anyhow::Result<Client> {
    let endpoint = Channel::from_shared(format!("http://{address}"))?;
    let channel = endpoint.connect().await.with_context(|| format!("connecting to {address}"))?;
    Ok(AuthServiceClient::with_interceptor(channel, caller_token_of(caller_token)?))
}

fn caller_token_of(caller_token: &str) -> anyhow::Result<CallerToken> {
    Ok(CallerToken(format!("Bearer {caller_token}").parse()?))
}

/// The server to call, and the caller.
#[derive(Debug, clap::Args)]
pub(crate) struct Target {
    #[arg(long)]
    address: SocketAddr,
    #[arg(long)]
    caller_token: String,
}

impl Target {
    /// Connects to the server.
    pub(crate) async fn connect(&self) -> anyhow::Result<Client> {
        connect(self.address, &self.caller_token).await
    }
}

/// Introspects the first key and the first personal access token, and returns the lengths of the answers.
pub(crate) async fn probe(target: Target) -> anyhow::Result<Value> {
    let mut client = target.connect().await?;
    let mut lengths = Vec::new();
    for index in [0, 1] {
        let request = pb::IntrospectRequest::decode(&*tokens::request(index))?;
        let response = client.introspect(request).await?.into_inner();
        anyhow::ensure!(response.active && response.allowed, "index {index}: {response:?}");
        lengths.push(response.encoded_len());
    }
    let request = tokens::request(0).len();
    Ok(json!({"key_bytes": lengths[0], "pat_bytes": lengths[1], "request_bytes": request}))
}

/// Codec for raw bytes. A client that decoded a thousand answers would use more CPU than the server that made them.
#[derive(Debug, Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}

/// What to introspect in batches.
#[derive(Debug, clap::Args)]
pub(crate) struct BatchArgs {
    #[command(flatten)]
    target: Target,
    /// Number of connections, each with one call in flight.
    #[arg(long, default_value_t = 1)]
    connections: usize,
    /// Number of tokens in a call.
    #[arg(long, default_value_t = 1_000)]
    size: u64,
    /// Number of live tokens to choose from.
    #[arg(long, default_value_t = 100_000)]
    tokens: u64,
    /// Duration in seconds. 0 sends each token once, in order.
    #[arg(long, default_value_t = 0.0)]
    seconds: f64,
}

struct Batches {
    path: http::uri::PathAndQuery,
    requests: Vec<(u64, Bytes)>,
    next: Mutex<usize>,
    tally: Mutex<Tally>,
    answered: Mutex<u64>,
    once: bool,
    end: Instant,
}

/// Measures batches. In the report, `rate` counts tokens, and the times are those of calls.
pub(crate) async fn batch(args: BatchArgs) -> anyhow::Result<Value> {
    let requests = requests(&args);
    let begin = Instant::now();
    let once = args.seconds <= 0.0;
    let longest =
        if once { Duration::from_hours(1) } else { Duration::from_secs_f64(args.seconds) };
    let batches = Arc::new(Batches {
        path: http::uri::PathAndQuery::from_static("/sophic.auth.v1.AuthService/BatchIntrospect"),
        requests,
        next: Mutex::new(0),
        tally: Mutex::new(Tally::new()?),
        answered: Mutex::new(0),
        once,
        end: begin + longest,
    });
    let mut tasks = JoinSet::new();
    for _ in 0..args.connections {
        let endpoint = Channel::from_shared(format!("http://{}", args.target.address))?
            .initial_stream_window_size(4 << 20)
            .initial_connection_window_size(16 << 20);
        let channel = endpoint.connect().await?;
        let service = InterceptedService::new(channel, caller_token_of(&args.target.caller_token)?);
        let grpc = tonic::client::Grpc::new(service);
        tasks.spawn(ask(grpc.max_decoding_message_size(64 << 20), Arc::clone(&batches)));
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    let took = begin.elapsed().min(longest);
    let mut report = batches.tally.lock().report(took);
    let answered = *batches.answered.lock();
    report["calls_rate"] = report["rate"].take();
    report["tokens"] = json!(answered);
    report["rate"] = json!(float(answered) / took.as_secs_f64());
    Ok(report)
}

/// Returns calls with every token once. The stride between tokens keeps neighbours in the store apart.
fn requests(args: &BatchArgs) -> Vec<(u64, Bytes)> {
    let calls = args.tokens.div_ceil(args.size);
    (0..calls)
        .map(|call| {
            let mut message = Vec::new();
            let indexes = (call..args.tokens).step_by(usize::try_from(calls).unwrap_or(1));
            let mut size = 0;
            for index in indexes {
                let request = tokens::request(index);
                // Each request is shorter than 128 bytes, so its length takes one byte.
                message.extend([0x0a, tokens::byte(request.len())]);
                message.extend(request);
                size += 1;
            }
            (size, message.into())
        })
        .collect()
}

async fn ask(
    mut grpc: tonic::client::Grpc<InterceptedService<Channel, CallerToken>>,
    batches: Arc<Batches>,
) -> anyhow::Result<()> {
    loop {
        let sent = Instant::now();
        if sent >= batches.end {
            return Ok(());
        }
        let at = {
            let mut next = batches.next.lock();
            *next += 1;
            *next - 1
        };
        if batches.once && at >= batches.requests.len() {
            return Ok(());
        }
        let (size, message) = &batches.requests[at % batches.requests.len()];
        grpc.ready().await?;
        let path = batches.path.clone();
        let response = grpc.unary(Request::new(message.clone()), path, Raw).await?.into_inner();
        let now = Instant::now();
        let allowed = allowed(&response);
        let mut tally = batches.tally.lock();
        if allowed != Some(*size) {
            tally.mismatches += 1;
            tally.example.get_or_insert_with(|| format!("{allowed:?} of {size} were allowed"));
        } else if now <= batches.end {
            tally.record(now - sent);
            *batches.answered.lock() += size;
        }
    }
}

/// Returns how many answers say active and allowed, or `None` if one does not or cannot be decoded.
fn allowed(mut responses: &[u8]) -> Option<u64> {
    let mut count = 0;
    while !responses.is_empty() {
        if responses.get_u8() != 0x0a {
            return None;
        }
        let length = usize::try_from(prost::encoding::decode_varint(&mut responses).ok()?).ok()?;
        let answer = responses.split_off(..length)?;
        if !answer.starts_with(&[0x08, 1, 0x10, 1]) {
            return None;
        }
        count += 1;
    }
    Some(count)
}
