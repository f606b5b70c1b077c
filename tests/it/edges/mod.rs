//! Conditions outside the process: full disks, stuck readers, failing output, replaced files.

mod denied;
mod full_disk;
mod replaced;
mod restored;
mod stuck_log;
mod unprinted;

use std::process::Child;

use sophic_auth::grpc::pb::{CreateKeyRequest, IntrospectRequest, Scope};
use sophic_auth_client::pb::auth_service_client::AuthServiceClient;
use tonic::{Request, Status};
use tonic_types::StatusExt as _;

use crate::waits::{self, eventually, within};

const SERVE: &str = "serve --listen 127.0.0.1:0 --http-listen 127.0.0.1:0 --output json";

/// A process that is killed at the end of the test.
struct KilledOnDrop(Child);

impl Drop for KilledOnDrop {
    fn drop(&mut self) {
        let _ = self.0.kill();
        // The process has been killed, so this wait ends.
        waits::wait_for_exit(&mut self.0);
    }
}

/// Returns the HTTP status of a page.
async fn page(http: &str, path: &str) -> u16 {
    answer(http, path).await.0
}

/// Returns the HTTP status and the body of a page.
async fn answer(http: &str, path: &str) -> (u16, String) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let address = http.strip_prefix("http://").expect("a URL");
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("it accepts");
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("it reads");
    let mut answer = String::new();
    within("an answer", stream.read_to_string(&mut answer)).await.expect("it answers");
    let status = answer.split(' ').nth(1).expect("a status").parse().expect("a number");
    (status, answer.split_once("\r\n\r\n").expect("a body").1.to_owned())
}

/// Waits until introspections are ready, and health reports that management works, or that it does not.
async fn until_management(http: &str, works: bool) {
    let not = if works { "" } else { "not " };
    let wanted = (200, format!("ready\nmanagement: {not}ready\n"));
    eventually(&wanted.1, async || answer(http, "/readyz").await == wanted).await;
}

/// A client of the server with this service token.
struct Remote {
    client: AuthServiceClient<tonic::transport::Channel>,
    token: String,
}

impl Remote {
    async fn connect(grpc: &str, token: &str) -> Self {
        let client = AuthServiceClient::connect(grpc.to_owned()).await.expect("it accepts");
        Self { client, token: token.to_owned() }
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let value = format!("Bearer {}", self.token).parse().expect("a header");
        request.metadata_mut().insert("authorization", value);
        request
    }

    async fn make_key(&self, name: &str) -> Result<(), Status> {
        let request = CreateKeyRequest {
            workspace: "acme".to_owned(),
            name: name.to_owned(),
            scopes: vec![Scope::Read as i32],
            ..Default::default()
        };
        self.client.clone().create_key(self.request(request)).await.map(drop)
    }

    async fn is_active(&self, token: &str) -> Result<bool, Status> {
        let request = IntrospectRequest { token: token.to_owned(), ..Default::default() };
        let answer = self.client.clone().introspect(self.request(request)).await?;
        Ok(answer.into_inner().active)
    }
}

/// Returns the `ErrorInfo` reason of an error.
fn reason(status: &Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}
