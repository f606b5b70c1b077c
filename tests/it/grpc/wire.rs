//! Handwritten HTTP/2, for requests that no gRPC client sends.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use tokio::net::TcpStream;
use tonic::Status;

use crate::harness::Harness;
use crate::waits::within;

/// A request: method, headers and the bytes of its body.
pub(crate) struct Frames {
    pub(crate) method: Method,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
    /// Whether the body ends after these bytes.
    ends: bool,
    /// Whether trailers end the body.
    trailers: bool,
}

impl Frames {
    /// Sets these messages, each in its own frame, as in gRPC.
    pub(crate) fn of(messages: &[&[u8]]) -> Self {
        let mut body = Vec::new();
        for message in messages {
            body.push(0);
            let length = u32::try_from(message.len()).expect("a short message");
            body.extend(length.to_be_bytes());
            body.extend(*message);
        }
        Self::raw(body)
    }

    /// Sets these bytes.
    pub(crate) fn raw(body: impl Into<Vec<u8>>) -> Self {
        let headers = [("content-type", "application/grpc"), ("te", "trailers")];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.into()));
        Self {
            method: Method::POST,
            headers: headers.into(),
            body: body.into(),
            ends: true,
            trailers: false,
        }
    }

    /// Adds a header.
    pub(crate) fn with(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    /// Removes a header.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(other, _)| other != name);
        self
    }

    /// Leaves the body unfinished.
    pub(crate) fn without_end(mut self) -> Self {
        self.ends = false;
        self
    }

    /// Ends the body with trailers, so that its last DATA frame does not end the stream.
    pub(crate) fn with_trailers(mut self) -> Self {
        (self.ends, self.trailers) = (false, true);
        self
    }

    /// Sets `authorization`, if there is one.
    pub(crate) fn with_authorization(self, value: Option<String>) -> Self {
        match value {
            Some(value) => self.with("authorization", value),
            None => self,
        }
    }
}

/// The response.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) http: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    trailers: Option<HeaderMap>,
}

impl Answer {
    /// The gRPC status, from the trailers, or from the headers if there is no body.
    pub(crate) fn status(&self) -> Status {
        let from = self.trailers.as_ref().unwrap_or(&self.headers);
        Status::from_header_map(from).unwrap_or_else(|| panic!("no status: {self:?}"))
    }
}

/// Sends the request on a new connection.
pub(crate) async fn send(h: &Harness, path: &str, frames: Frames) -> Answer {
    try_send(h, path, frames).await.expect("an answer")
}

/// Sends the request. An error if the server ends the stream or the connection instead of answering.
pub(crate) async fn try_send(h: &Harness, path: &str, frames: Frames) -> Result<Answer, h2::Error> {
    let stream = TcpStream::connect(h.running.grpc).await.expect("the server accepts");
    let (client, connection) = h2::client::handshake(stream).await?;
    let driver = tokio::task::spawn(connection);
    let mut client = client.ready().await?;
    let uri = format!("http://{}{path}", h.running.grpc);
    let mut request =
        Request::builder().method(frames.method).uri(uri).body(()).expect("a request");
    for (name, value) in frames.headers {
        let name: http::HeaderName = name.parse().expect("a header's name");
        let value = http::HeaderValue::from_bytes(&value).expect("a header's value");
        request.headers_mut().append(name, value);
    }
    let (response, mut sender) =
        client.send_request(request, frames.ends && frames.body.is_empty())?;
    if !frames.body.is_empty() {
        // The server may have answered already, and stopped reading.
        let _ = sender.send_data(Bytes::from(frames.body), frames.ends);
    }
    if frames.trailers {
        let _ = sender.send_trailers(HeaderMap::new());
    }
    let (head, mut body) = within("an answer", response).await?.into_parts();
    let mut bytes = Vec::new();
    let trailers = within("the end of the body", async {
        while let Some(data) = body.data().await {
            let data = data?;
            let _ = body.flow_control().release_capacity(data.len());
            bytes.extend(data);
        }
        body.trailers().await
    });
    let trailers = trailers.await?;
    driver.abort();
    Ok(Answer { http: head.status, headers: head.headers, body: bytes, trailers })
}

/// Sends the request, and returns the gRPC status.
pub(crate) async fn status(h: &Harness, path: &str, frames: Frames) -> Status {
    send(h, path, frames).await.status()
}
