//! Handwritten HTTP/1.1, for requests that no client sends: repeated headers, tabs, unnormalised paths.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::waits::within;

/// A request, as sent over the wire.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    method: &'static str,
    target: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

/// The response.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Call {
    pub(crate) fn get(target: &str) -> Self {
        Self { method: "GET", target: target.to_owned(), headers: Vec::new(), body: Vec::new() }
    }

    /// A request with a form.
    pub(crate) fn form(target: &str, fields: &[(&str, &str)]) -> Self {
        let pairs: Vec<_> =
            fields.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        Self::body(target, "application/x-www-form-urlencoded", pairs.join("&").as_bytes())
    }

    /// A request with a body.
    pub(crate) fn body(target: &str, media_type: &str, body: &[u8]) -> Self {
        let call = Self { method: "POST", body: body.to_vec(), ..Self::get(target) };
        let call = call.header("content-length", &body.len().to_string());
        if media_type.is_empty() { call } else { call.header("content-type", media_type) }
    }

    pub(crate) fn method(mut self, method: &'static str) -> Self {
        self.method = method;
        self
    }

    /// Adds a header, and keeps others of the same name.
    pub(crate) fn header(self, name: &str, value: &str) -> Self {
        self.raw_header(name, value.as_bytes())
    }

    pub(crate) fn raw_header(mut self, name: &str, value: &[u8]) -> Self {
        self.headers.push((name.to_owned(), value.to_vec()));
        self
    }

    /// Sends the request, and reads the whole response.
    pub(crate) async fn send(&self, to: SocketAddr) -> Reply {
        let mut stream = TcpStream::connect(to).await.expect("the port accepts");
        let mut bytes = format!(
            "{} {} HTTP/1.1\r\nhost: {to}\r\nconnection: close\r\n",
            self.method, self.target
        )
        .into_bytes();
        for (name, value) in &self.headers {
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&self.body);
        // A peer that refused because of the headers may have closed already.
        let _ = stream.write_all(&bytes).await;
        let mut answer = Vec::new();
        if within("an answer", stream.read_to_end(&mut answer)).await.is_err() {
            assert!(!answer.is_empty(), "the connection was reset without an answer");
        }
        Reply::parse(&answer)
    }
}

impl Reply {
    fn parse(answer: &[u8]) -> Self {
        let text = String::from_utf8_lossy(answer);
        let (head, body) =
            text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).expect("a status line");
        let headers: Vec<_> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let chunked =
            headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked");
        let body = if chunked { dechunked(body) } else { body.to_owned() };
        Self { status: status.parse().expect("a number"), headers, body }
    }

    /// The values of a header, joined. Empty if it is absent.
    pub(crate) fn header(&self, name: &str) -> String {
        let values = self.headers.iter().filter(|(n, _)| n == name);
        values.map(|(_, value)| value.as_str()).collect::<Vec<_>>().join(" | ")
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

fn dechunked(body: &str) -> String {
    let mut rest = body;
    let mut whole = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).expect("a chunk's size");
        if size == 0 {
            break;
        }
        whole.push_str(&after[..size]);
        rest = &after[size + 2..];
    }
    whole
}

/// Encodes text for a form.
fn encoded(value: &str) -> String {
    let byte = |byte: u8| {
        if byte.is_ascii_alphanumeric() {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    };
    value.bytes().map(byte).collect()
}
