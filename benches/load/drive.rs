//! The load generator: a number of connections, each with a number of calls in flight. The next call is sent when one
//! is answered (closed loop), or at a fixed rate (`--rate`). Every answer is checked, and wrong ones are counted.
//!
//! It runs on one thread and computes nothing during the run except a random index into encoded requests, because it
//! must use less CPU than the servers that it measures. `generator_cpu` in the report is the share of its core that it
//! used.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::http2::{self, Encoded, Event};
use crate::tally::{Tally, float, thread_cpu};
use crate::tokens::{self, FLOOD, REVOKED, UNKNOWN};

/// `TOKEN_UNKNOWN` and `TOKEN_REVOKED` of `Denial`.
const DENIED_UNKNOWN: u8 = 2;
const DENIED_REVOKED: u8 = 3;
/// How long to wait at the end for calls in flight.
const DRAIN: Duration = Duration::from_secs(5);
/// One of this many active answers is searched for the last characters of its token.
const SEARCH_EVERY: u64 = 16;

/// What to send to which server.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Address of the server.
    #[arg(long)]
    address: SocketAddr,
    /// Service token of the caller. The peers accept any.
    #[arg(long, default_value = "none")]
    caller_token: String,
    #[arg(long, default_value_t = 10)]
    connections: usize,
    /// Calls in flight on each connection.
    #[arg(long, default_value_t = 1)]
    streams: usize,
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Number of live tokens, used in random order.
    #[arg(long, default_value_t = 100_000)]
    tokens: u64,
    /// Percentage of calls with revoked tokens.
    #[arg(long, default_value_t = 0)]
    revoked: u64,
    /// Percentage of calls with unknown tokens, of which there are as many as revoked ones.
    #[arg(long, default_value_t = 0)]
    unknown: u64,
    /// Send well-formed made-up tokens, each once, starting at this index.
    #[arg(long)]
    flood: Option<u64>,
    /// Send each live token once, in order, then the revoked and unknown ones if any. Fills a server's memory.
    #[arg(long)]
    once: bool,
    /// Index at which to start that order.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Calls per second over all connections, instead of a closed loop.
    #[arg(long)]
    rate: Option<f64>,
    /// The server is a peer. Its answers to keys and to personal access tokens have these lengths in bytes.
    #[arg(long, num_args = 2, value_names = ["KEY", "PAT"])]
    peer: Option<Vec<usize>>,
}

/// The expected answer.
#[derive(Debug, Clone, Copy)]
enum Expected {
    Allowed([u8; 4]),
    Denied(u8),
    Length(usize),
}

/// State that all connections share.
struct Plan {
    args: Args,
    live: Encoded,
    revoked: Encoded,
    unknown: Encoded,
    first_block: Vec<u8>,
    tally: Mutex<Tally>,
    /// Progress of `--once` and `--flood`.
    next: Mutex<u64>,
    begin: Instant,
    end: Instant,
}

struct Slot {
    stream: u32,
    sent: Instant,
    want: Expected,
    /// Beginning of an answer that comes in several frames. The server sends the last byte of some answers alone.
    partial: Vec<u8>,
    /// Whether the message was right. `None` before it has arrived.
    answered: Option<bool>,
}

struct Connection {
    plan: Arc<Plan>,
    slots: Vec<Slot>,
    next_stream: u32,
    seed: u64,
    sent: u64,
    scratch: Vec<u8>,
}

/// Runs the load and returns the report.
pub(crate) async fn run(args: Args) -> anyhow::Result<Value> {
    let extra = |percent: u64| if percent > 0 { args.tokens / 20 } else { 0 };
    let live = Encoded::of(0..args.tokens);
    let revoked = Encoded::of(REVOKED..REVOKED + extra(args.revoked));
    let unknown = Encoded::of(UNKNOWN..UNKNOWN + extra(args.unknown));
    let first_block = http2::first_block(&args.address.to_string(), &args.caller_token);
    let mut streams = Vec::new();
    for _ in 0..args.connections {
        let mut stream = TcpStream::connect(args.address).await.context("connecting")?;
        stream.set_nodelay(true)?;
        stream.write_all(&http2::preface()).await?;
        streams.push(stream);
    }
    let begin = Instant::now();
    let longest =
        if args.once { Duration::from_hours(1) } else { Duration::from_secs_f64(args.seconds) };
    let next = Mutex::new(args.flood.unwrap_or(args.from));
    let tally = Mutex::new(Tally::new()?);
    let end = begin + longest;
    let plan =
        Arc::new(Plan { args, live, revoked, unknown, first_block, tally, next, begin, end });
    let before = thread_cpu();
    let mut tasks = JoinSet::new();
    for (place, stream) in streams.into_iter().enumerate() {
        let seed = 0x00c0_ffee + place as u64 * 7_919;
        let connection = Connection {
            plan: Arc::clone(&plan),
            slots: Vec::new(),
            next_stream: 1,
            seed,
            sent: 0,
            scratch: Vec::new(),
        };
        tasks.spawn(connection.run(stream));
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    let took = begin.elapsed().min(longest);
    let mut report = plan.tally.lock().report(took);
    let cpu = thread_cpu().saturating_sub(before);
    report["generator_cpu"] = json!(cpu.as_secs_f64() / took.as_secs_f64());
    Ok(report)
}

impl Connection {
    async fn run(mut self, mut stream: TcpStream) -> anyhow::Result<()> {
        let plan = Arc::clone(&self.plan);
        let mut reader = http2::Reader::default();
        let (mut input, mut out) = (Vec::with_capacity(64 * 1024), Vec::with_capacity(64 * 1024));
        let mut more = true;
        loop {
            let now = Instant::now();
            more = more && now < plan.end;
            while more && self.slots.len() < plan.args.streams && self.is_due(now) {
                more = self.ask(&mut out, now);
            }
            if !out.is_empty() {
                stream.write_all(&out).await?;
                out.clear();
            }
            if !more && self.slots.is_empty() {
                return Ok(());
            }
            let wait = self.wait(now, more);
            let read = match tokio::time::timeout(wait, stream.read_buf(&mut input)).await {
                Ok(read) => read?,
                Err(_) if more => continue,
                Err(_) => {
                    plan.tally.lock().broken += self.slots.len() as u64;
                    return Ok(());
                }
            };
            anyhow::ensure!(read > 0, "the server closed the connection");
            let now = Instant::now();
            let mut given_up = false;
            let used = reader.read(&input, &mut out, |event| match event {
                Event::Data(stream, data, ends) => self.answered(stream, data, ends, now),
                Event::End(stream) => self.ended(stream, now),
                Event::Reset(stream) => self.broke(stream),
                Event::GoAway => given_up = true,
            });
            anyhow::ensure!(!given_up, "the server gave the connection up");
            input.drain(..used);
        }
    }

    /// Returns how long to wait for bytes. With a rate, that is until the next call is due.
    fn wait(&self, now: Instant, more: bool) -> Duration {
        if !more {
            return (self.plan.end + DRAIN).saturating_duration_since(now);
        }
        if self.plan.args.rate.is_some() && self.slots.len() < self.plan.args.streams {
            return self.due_at().saturating_duration_since(now);
        }
        Duration::from_mins(1)
    }

    fn due_at(&self) -> Instant {
        let Some(rate) = self.plan.args.rate else { return self.plan.begin };
        let own = rate / float(self.plan.args.connections as u64);
        self.plan.begin + Duration::from_secs_f64(float(self.sent) / own)
    }

    fn is_due(&self, now: Instant) -> bool {
        self.plan.args.rate.is_none() || self.due_at() <= now
    }

    /// Sends one more call. Returns `false` if none are left.
    fn ask(&mut self, out: &mut Vec<u8>, now: Instant) -> bool {
        let plan = Arc::clone(&self.plan);
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        let Some((encoded, want)) = self.choose(&plan, &mut scratch) else { return false };
        let stream = self.next_stream;
        let first = (stream == 1).then_some(&*plan.first_block);
        http2::send(out, encoded, stream, first);
        self.next_stream += 2;
        self.sent += 1;
        self.slots.push(Slot { stream, sent: now, want, partial: Vec::new(), answered: None });
        self.scratch = scratch;
        true
    }

    fn choose<'a>(
        &mut self,
        plan: &'a Plan,
        scratch: &'a mut Vec<u8>,
    ) -> Option<(&'a [u8], Expected)> {
        if plan.args.flood.is_some() {
            let index = next(plan);
            http2::encode(scratch, FLOOD + index);
            return Some((scratch, Expected::Denied(DENIED_UNKNOWN)));
        }
        let (kind, at) = if plan.args.once { in_order(plan)? } else { self.at_random(plan) };
        Some(match kind {
            DENIED_UNKNOWN => (plan.unknown.get(at), Expected::Denied(DENIED_UNKNOWN)),
            DENIED_REVOKED => (plan.revoked.get(at), Expected::Denied(DENIED_REVOKED)),
            _ => (plan.live.get(at), plan.want_live(at)),
        })
    }

    fn at_random(&mut self, plan: &Plan) -> (u8, usize) {
        let bits = tokens::mixed(&mut self.seed);
        let (percent, place) = ((bits >> 32) % 100, bits & 0xffff_ffff);
        let (kind, among) = if percent < plan.args.unknown {
            (DENIED_UNKNOWN, &plan.unknown)
        } else if percent < plan.args.unknown + plan.args.revoked {
            (DENIED_REVOKED, &plan.revoked)
        } else {
            (0, &plan.live)
        };
        (kind, usize::try_from(place).unwrap_or_default() % among.len())
    }

    fn answered(&mut self, stream: u32, data: &[u8], ends: bool, now: Instant) {
        let searched = self.sent.is_multiple_of(SEARCH_EVERY);
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.stream == stream)
            && !data.is_empty()
        {
            // Nearly every answer is one frame, and nothing is copied.
            let mut joined = std::mem::take(&mut slot.partial);
            if !joined.is_empty() || (is_partial(data) && !ends) {
                joined.extend_from_slice(data);
                if is_partial(&joined) && !ends {
                    slot.partial = joined;
                    return;
                }
            }
            let data = if joined.is_empty() { data } else { &joined };
            // A second message is wrong too.
            let right = slot.answered.is_none() && slot.want.is(data, searched);
            slot.answered = Some(right);
            if !right {
                let mut tally = self.plan.tally.lock();
                tally.example.get_or_insert_with(|| format!("{:?}: {data:02x?}", slot.want));
            }
        }
        if ends {
            self.ended(stream, now);
        }
    }

    fn ended(&mut self, stream: u32, now: Instant) {
        let Some(at) = self.slots.iter().position(|slot| slot.stream == stream) else { return };
        let slot = self.slots.swap_remove(at);
        let mut tally = self.plan.tally.lock();
        match slot.answered {
            Some(true) if now <= self.plan.end => tally.record(now - slot.sent),
            Some(true) => tally.late += 1,
            Some(false) => tally.mismatches += 1,
            None => tally.refusals += 1,
        }
    }

    fn broke(&mut self, stream: u32) {
        self.slots.retain(|slot| slot.stream != stream);
        self.plan.tally.lock().broken += 1;
    }
}

impl Plan {
    fn want_live(&self, at: usize) -> Expected {
        if let Some(lengths) = &self.args.peer {
            return Expected::Length(lengths[at % 2]);
        }
        let token = http2::token_of(self.live.get(at));
        token.map_or(Expected::Length(0), |token| Expected::Allowed(tokens::tail(&token)))
    }
}

fn next(plan: &Plan) -> u64 {
    let mut next = plan.next.lock();
    *next += 1;
    *next - 1
}

/// Returns the next token in order.
fn in_order(plan: &Plan) -> Option<(u8, usize)> {
    let mut at = usize::try_from(next(plan)).ok()?;
    for (kind, among) in
        [(0, &plan.live), (DENIED_REVOKED, &plan.revoked), (DENIED_UNKNOWN, &plan.unknown)]
    {
        if at < among.len() {
            return Some((kind, at));
        }
        at -= among.len();
    }
    None
}

impl Expected {
    /// Returns whether this gRPC message is the expected answer.
    fn is(self, data: &[u8], searched: bool) -> bool {
        let Some((0, length, message)) = split_frame(data) else { return false };
        if length != message.len() {
            return false;
        }
        let verdict = verdict(message);
        match self {
            Self::Length(length) => length == message.len(),
            Self::Denied(denial) => verdict == (false, false, denial),
            Self::Allowed(tail) => {
                let own = !searched || message.windows(4).any(|part| part == tail);
                verdict == (true, true, 0) && own
            }
        }
    }
}

/// Splits a gRPC message into its compression flag, its announced length, and its bytes so far.
fn split_frame(data: &[u8]) -> Option<(u8, usize, &[u8])> {
    let (&[flag, length @ ..], message) = data.split_first_chunk::<5>()?;
    Some((flag, u32::from_be_bytes(length) as usize, message))
}

/// Whether a gRPC message has more bytes than these.
fn is_partial(data: &[u8]) -> bool {
    split_frame(data).is_none_or(|(_, length, message)| message.len() < length)
}

/// Reads `active`, `allowed` and `denial` of an `IntrospectResponse`. They are its first fields, and each is omitted if
/// zero.
fn verdict(message: &[u8]) -> (bool, bool, u8) {
    let mut fields = [0; 4];
    for pair in message.chunks_exact(2) {
        match pair[0] {
            tag @ (0x08 | 0x10 | 0x18) => fields[usize::from(tag >> 3)] = pair[1],
            _ => break,
        }
    }
    (fields[1] == 1, fields[2] == 1, fields[3])
}
