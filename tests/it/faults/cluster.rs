//! A Postgres cluster that a test may crash. It is started as `scripts/test` starts the shared one.

use std::process::Stdio;

use sqlx::{Connection as _, PgConnection, Row as _};
use tokio::process::Command;

use crate::waits::within;

/// A cluster that runs as an ordinary user in a temporary directory, which is removed with it.
pub(super) struct Cluster {
    pub(super) url: String,
    /// The variables that `scripts/lib/postgres.sh` needs.
    variables: [(&'static str, String); 3],
}

impl Cluster {
    pub(super) async fn start() -> Self {
        let script = "postgres_start -c fsync=off && \
            printf '%s\\n' \"$POSTGRES_BIN\" \"$POSTGRES_DIR\" \"$POSTGRES_USER\" \"$SOPHIC_AUTH_TEST_POSTGRES_URL\"";
        let output = within("the cluster starts", bash(script).output()).await.expect("bash runs");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "Postgres does not start: {errors}");
        let mut lines = text.lines().map(str::to_owned);
        let mut line = || lines.next().expect("four lines");
        let variables =
            [("POSTGRES_BIN", line()), ("POSTGRES_DIR", line()), ("POSTGRES_USER", line())];
        Self { variables, url: line() }
    }

    /// Restarts the cluster. `fast` breaks every connection; `immediate` is a crash too.
    pub(super) async fn restart(&self, how: &str) {
        self.run(&format!("postgres_restart {how}")).await;
    }

    /// Starts a synchronous standby, and returns its port.
    pub(super) async fn standby(&self) -> u16 {
        self.run("postgres_standby").await.trim().parse().expect("a port")
    }

    /// Promotes the standby at this port. The old primary returns as a standby that applies nothing new.
    pub(super) async fn switch_over(&self, standby: u16) {
        self.run(&format!("postgres_switch_over {standby}")).await;
    }

    /// Runs a function of `scripts/lib/postgres.sh` on the cluster, and returns its output.
    async fn run(&self, script: &str) -> String {
        let mut command = bash(script);
        command.env("SOPHIC_AUTH_TEST_POSTGRES_URL", &self.url).envs(self.variables.clone());
        let output = within(script, command.output()).await.expect("bash runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// Terminates the connections of servers: the listening ones, or all.
    pub(super) async fn cut(&self, only_listeners: bool) -> i64 {
        let mut connection = PgConnection::connect(&self.url).await.expect("it answers");
        let row = sqlx::query(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
             WHERE application_name = 'sophic-auth' AND (NOT $1 OR query LIKE 'LISTEN%')",
        )
        .bind(only_listeners)
        .fetch_one(&mut connection)
        .await;
        row.expect("it is done").get(0)
    }

    /// Returns the number of registered replicas.
    pub(super) async fn replicas(&self) -> i64 {
        let mut connection = PgConnection::connect(&self.url).await.expect("it answers");
        let row = sqlx::query("SELECT count(*) FROM replicas WHERE end_time IS NULL")
            .fetch_one(&mut connection)
            .await;
        row.expect("a count").get(0)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let mut command = std::process::Command::new("bash");
        command.args(["-c", &with_library("postgres_stop")]).envs(self.variables.clone());
        let _ = command.stdin(Stdio::null()).status();
    }
}

fn bash(script: &str) -> Command {
    let mut command = Command::new("bash");
    command.args(["-c", &with_library(script)]).stdin(Stdio::null());
    command
}

fn with_library(script: &str) -> String {
    format!(". '{}/scripts/lib/postgres.sh' && {script}", env!("CARGO_MANIFEST_DIR"))
}
