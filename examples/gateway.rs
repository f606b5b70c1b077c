//! A small version of Sophic's endpoints behind the tower layer. Each workspace has a few documents in memory.
//!
//!     SOPHIC_AUTH_ENDPOINT=http://127.0.0.1:… SOPHIC_AUTH_CALLER_TOKEN=sophic_svc_… cargo run --release --example gateway
//!
//! `sophic-auth dev` prints that command with its values filled in. `docs/rust.md` explains the important lines.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use clap::{Parser, ValueEnum};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sophic_auth_client::{AuthLayer, Client, Introspection, Principal, Scopes};
use tokio::net::TcpListener;

/// Maximum size of one captured text in bytes.
const CAPTURE_BYTES_MAX: usize = 64 * 1024;
/// Maximum number of documents in a workspace, so that the example cannot exhaust memory.
const DOCUMENTS_MAX: usize = 1_000;

#[derive(Parser)]
#[command(about = "A small version of Sophic's endpoints, behind sophic-auth")]
struct Args {
    /// Address to listen on; port 0 picks a free port
    #[arg(long, default_value = "127.0.0.1:8090")]
    listen: SocketAddr,
    /// Output format of the line with the address
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    Table,
    Json,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let client = Client::from_env()?.build()?;
    let listener = TcpListener::bind(args.listen).await.context("cannot listen")?;
    let url = format!("http://{}", listener.local_addr()?);
    let line = match args.output {
        Output::Json => json!({ "gateway": url }).to_string(),
        Output::Table => format!("the gateway listens on {url}"),
    };
    #[expect(clippy::print_stdout, reason = "an example has no other voice")]
    {
        println!("{line}");
    }
    let stop = async {
        // If the signal cannot be handled, the program runs until it is killed.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let service = app(client).into_make_service_with_connect_info::<SocketAddr>();
    Ok(axum::serve(listener, service).with_graceful_shutdown(stop).await?)
}

/// Returns the whole service.
///
/// The layer wraps each route rather than matching paths. A request is therefore authorized for the route that the
/// router chose, however the path is spelled. An unknown path is not found.
pub(crate) fn app(client: Client) -> Router {
    // docs: begin axum
    let auth = AuthLayer::http(client);
    let reading = Router::new()
        .route("/api/v1/documents", get(documents))
        .route("/api/v1/search", get(search))
        .route("/api/v1/grep", get(grep))
        .route_layer(auth.clone().require(Scopes::READ));
    let capturing = Router::new()
        .route("/api/ingest/cli", post(capture))
        .route_layer(auth.require(Scopes::CAPTURE));
    // docs: end
    reading
        .merge(capturing)
        .fallback(|| async { problem(StatusCode::NOT_FOUND, "there is nothing here") })
        .layer(DefaultBodyLimit::max(CAPTURE_BYTES_MAX))
        .with_state(Library::default())
}

/// The documents of each workspace, by workspace id.
#[derive(Clone, Default)]
struct Library(Arc<Mutex<HashMap<String, Vec<Document>>>>);

/// A text, and the user who captured it.
#[derive(Clone, Serialize)]
struct Document {
    id: usize,
    title: String,
    text: String,
    /// `None` for the initial documents.
    captured_by: Option<Author>,
}

#[derive(Clone, Serialize)]
struct Author {
    user_id: String,
    display_name: String,
}

impl Library {
    /// Runs `work` on the documents of the workspace that the request acts in.
    fn with<R>(&self, who: &Introspection, work: impl FnOnce(&mut Vec<Document>) -> R) -> R {
        let workspace = who.workspace().map(|workspace| workspace.id.clone()).unwrap_or_default();
        let mut library = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        work(library.entry(workspace).or_insert_with(first_documents))
    }
}

/// Returns the initial documents of a workspace.
fn first_documents() -> Vec<Document> {
    let texts = [
        ("Welcome", "This workspace is yours.\nWhat you capture is found here."),
        ("Keys and tokens", "A key reads for a workspace.\nA personal access token acts for you."),
        ("Searching", "Search finds words.\nGrep finds lines by a regular expression."),
    ];
    let document = |(id, (title, text)): (usize, (&str, &str))| Document {
        id: id + 1,
        title: title.to_owned(),
        text: text.to_owned(),
        captured_by: None,
    };
    texts.into_iter().enumerate().map(document).collect()
}

// docs: begin handler
async fn documents(State(library): State<Library>, who: Extension<Introspection>) -> Response {
    let documents = library.with(&who, |documents| documents.clone());
    Json(json!({ "workspace": slug(&who), "documents": documents })).into_response()
}
// docs: end

#[derive(Deserialize)]
struct Search {
    q: String,
}

/// Finds documents that contain the words, ignoring case.
async fn search(
    State(library): State<Library>,
    who: Extension<Introspection>,
    Query(Search { q }): Query<Search>,
) -> Response {
    let words: Vec<_> = q.split_whitespace().map(str::to_lowercase).collect();
    let fits = |document: &&Document| {
        let text = format!("{}\n{}", document.title, document.text).to_lowercase();
        words.iter().all(|word| text.contains(word))
    };
    let found: Vec<_> =
        library.with(&who, |documents| documents.iter().filter(fits).cloned().collect());
    Json(json!({ "workspace": slug(&who), "documents": found })).into_response()
}

#[derive(Deserialize)]
struct Grep {
    pattern: String,
}

/// Finds lines that match a regular expression.
async fn grep(
    State(library): State<Library>,
    who: Extension<Introspection>,
    Query(Grep { pattern }): Query<Grep>,
) -> Response {
    // Matching takes time proportional to pattern and text. The size limit bounds its memory.
    let Ok(pattern) = regex::RegexBuilder::new(&pattern).size_limit(1 << 20).build() else {
        return problem(StatusCode::BAD_REQUEST, "the pattern is not a regular expression");
    };
    let lines = |document: &Document| {
        let (id, title) = (document.id, document.title.clone());
        let lines: Vec<_> = document.text.lines().enumerate().collect();
        let fitting = lines.iter().filter(|(_, line)| pattern.is_match(line));
        fitting
            .map(|(n, line)| json!({"document": id, "title": title, "line": n + 1, "text": line}))
            .collect::<Vec<_>>()
    };
    let found: Vec<_> = library.with(&who, |documents| documents.iter().flat_map(lines).collect());
    Json(json!({ "workspace": slug(&who), "lines": found })).into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Capture {
    title: String,
    text: String,
}

/// Stores a text for the user whose token the request has. A key never gets here, since `capture` requires a user.
async fn capture(
    State(library): State<Library>,
    who: Extension<Introspection>,
    Json(Capture { title, text }): Json<Capture>,
) -> Response {
    let Some(Principal::User(user)) = who.principal() else {
        return problem(StatusCode::FORBIDDEN, "what is captured needs a user");
    };
    let author = Author { user_id: user.id.clone(), display_name: user.display_name.clone() };
    let captured = library.with(&who, |documents| {
        let id = documents.len() + 1;
        let document = Document { id, title, text, captured_by: Some(author) };
        (id <= DOCUMENTS_MAX).then(|| {
            documents.push(document.clone());
            document
        })
    });
    match captured {
        Some(document) => {
            let body = json!({ "workspace": slug(&who), "document": document });
            (StatusCode::CREATED, Json(body)).into_response()
        }
        None => problem(StatusCode::INSUFFICIENT_STORAGE, "this workspace is full"),
    }
}

fn slug(who: &Introspection) -> &str {
    who.workspace().map(|workspace| workspace.slug.as_str()).unwrap_or_default()
}

/// Refuses as the layer does (RFC 9457).
fn problem(status: StatusCode, detail: &str) -> Response {
    let body = json!({
        "type": "about:blank",
        "title": status.canonical_reason().unwrap_or_default(),
        "status": status.as_u16(),
        "detail": detail,
    });
    (status, [(CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response()
}
