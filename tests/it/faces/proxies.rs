//! Real nginx, Caddy and Envoy, each with the configuration of its page in `docs/`.

use std::net::SocketAddr;

use tempfile::TempDir;
use tokio::process::Command;

use super::page::{SERVICE_TOKEN, filled};
use super::process::{Process, free_address, program, venv};
use super::scene::Scene;
use super::table::Row;
use super::upstream::Upstream;
use super::wire::{Call, Reply};
use sophic_auth::grpc::pb::Scope;

/// A proxy with an upstream behind it.
pub(crate) struct Proxy {
    pub(crate) name: &'static str,
    pub(crate) process: Process,
    pub(crate) upstream: Upstream,
}

const NAMES: [&str; 3] = ["nginx", "caddy", "envoy"];

impl Proxy {
    /// Starts each proxy in front of this server.
    pub(crate) async fn all(scene: &Scene) -> Vec<Self> {
        let mut proxies = Vec::new();
        for name in NAMES {
            proxies.push(Self::start(name, scene, &scene.caller_token).await);
        }
        proxies
    }

    /// Starts one proxy with this service token.
    pub(crate) async fn start(name: &'static str, scene: &Scene, token: &str) -> Self {
        let upstream = Upstream::start().await;
        let address = free_address();
        let folder = TempDir::new().expect("a folder for temporary files");
        let start = Start { scene, token, address, upstream: upstream.address, folder };
        let process = match name {
            "nginx" => start.nginx().await,
            "caddy" => start.caddy().await,
            "envoy" => start.envoy().await,
            _ => panic!("no such proxy"),
        };
        Self { name, process, upstream }
    }

    pub(crate) async fn send(&self, call: &Call) -> Reply {
        call.send(self.process.address).await
    }

    /// The request of a row of the table.
    pub(crate) async fn present(&self, row: &Row) -> Reply {
        let call = match row.scopes {
            [Scope::Capture] => Call::body("/api/ingest/cli", "text/plain", b"captured"),
            [Scope::Admin] => Call::get("/api/admin/keys"),
            _ => Call::get("/api/v1/documents"),
        };
        self.send(&row.presented_by(call)).await
    }
}

impl Row {
    /// With the row's token and workspace.
    pub(crate) fn presented_by(&self, mut call: Call) -> Call {
        if !self.token.is_empty() {
            call = call.header("authorization", &format!("Bearer {}", self.token));
        }
        if !self.workspace.is_empty() {
            call = call.header("x-sophic-workspace", self.workspace);
        }
        call
    }
}

struct Start<'a> {
    scene: &'a Scene,
    token: &'a str,
    address: SocketAddr,
    upstream: SocketAddr,
    folder: TempDir,
}

impl Start<'_> {
    async fn nginx(self) -> Process {
        let server = filled(
            "nginx.md",
            "nginx",
            &[
                ("127.0.0.1:8080", self.scene.http().to_string()),
                ("127.0.0.1:9000", self.upstream.to_string()),
                ("127.0.0.1:8000", self.address.to_string()),
                (SERVICE_TOKEN, self.token.to_owned()),
            ],
        );
        let path = self.folder.path().display();
        // Settings that a package would have installed, which are not part of the page. Without a master process there
        // is no worker that could outlive a SIGKILL.
        let config = format!(
            "daemon off;\nmaster_process off;\npid {path}/pid;\nerror_log stderr;\n\
             events {{}}\nhttp {{\naccess_log off;\nclient_body_temp_path {path}/body;\nproxy_temp_path {path}/proxy;\n\
             fastcgi_temp_path {path}/fastcgi;\nuwsgi_temp_path {path}/uwsgi;\nscgi_temp_path {path}/scgi;\n{server}\n}}\n",
        );
        let file = self.folder.path().join("nginx.conf");
        std::fs::write(&file, config).expect("the configuration is written");
        let mut command =
            Command::new(program("nginx", &["/usr/sbin", "/usr/bin", "/usr/local/sbin"]));
        command.arg("-p").arg(self.folder.path()).arg("-e").arg("stderr").arg("-c").arg(&file);
        Process::start(command, self.folder, self.address).await
    }

    async fn caddy(self) -> Process {
        let sites = filled(
            "caddy.md",
            "caddy",
            &[
                ("127.0.0.1:8080", self.scene.http().to_string()),
                ("127.0.0.1:9000", self.upstream.to_string()),
                ("http://:8000", format!("http://:{}", self.address.port())),
                (SERVICE_TOKEN, self.token.to_owned()),
            ],
        );
        let config = format!("{{\n\tadmin off\n}}\n{sites}\n");
        let file = self.folder.path().join("Caddyfile");
        std::fs::write(&file, config).expect("the configuration is written");
        let mut command = Command::new(program("caddy", &["/usr/bin", "/usr/local/bin"]));
        command.args(["run", "--adapter", "caddyfile", "--config"]).arg(&file);
        for variable in ["HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"] {
            command.env(variable, self.folder.path());
        }
        Process::start(command, self.folder, self.address).await
    }

    async fn envoy(self) -> Process {
        let port = |address: SocketAddr| format!("port_value: {} ", address.port());
        let config = filled(
            "envoy.md",
            "yaml",
            &[
                ("port_value: 50051 ", port(self.scene.h.running.grpc)),
                ("port_value: 9000 ", port(self.upstream)),
                ("port_value: 8000 ", port(self.address)),
                (SERVICE_TOKEN, self.token.to_owned()),
            ],
        );
        let file = self.folder.path().join("envoy.yaml");
        std::fs::write(&file, config).expect("the configuration is written");
        let mut packages =
            std::fs::read_dir(venv().join("lib")).expect("the venv has a folder lib");
        let python = packages.next().expect("it has a Python in it").expect("it can be read");
        let binary = python.path().join("site-packages/envoy/_bin/envoy");
        assert!(binary.exists(), "no {binary:?}: run scripts/test, which installs it");
        let mut command = Command::new(binary);
        command.args(["--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"]);
        command.arg("-c").arg(&file);
        Process::start(command, self.folder, self.address).await
    }
}
